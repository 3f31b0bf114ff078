"""What is planned: operations on tensors, groups of them, and what they read along each axis, as tables."""
