"""The object of planning: operations on tensors, groups of them, and their reads along each axis, as tables."""
