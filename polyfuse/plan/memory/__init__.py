"""Addresses in one piece of memory for buffers with different live ranges."""
