"""Costs of tiles: exact counts, scratchpad time and bounds; and the price that an objective makes of them."""
