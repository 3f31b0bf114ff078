"""How a group is cut: the steps of its tiles, and what each needs, makes, loads and stores."""
