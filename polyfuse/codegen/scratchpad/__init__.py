"""C for a machine with a planned on-chip memory, and the simulator that runs and checks it on any host."""
