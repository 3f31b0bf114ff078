"""Addresses in one piece of memory for what lives at different times."""
