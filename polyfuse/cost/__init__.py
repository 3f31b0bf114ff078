"""Host time: from exact counts of work to seconds, with few numbers for a machine."""
