"""The steps of a plan as relations, and what isl proves of them."""
