"""The cheapest sequence of groups and pins, its baselines, and the exact model that judges it."""
