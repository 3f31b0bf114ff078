"""Machines as values and files: the host that is measured, accelerators with a managed on-chip memory."""
