"""Kernels: those of networks of images, and loops that are none."""

LOOPS = frozenset(
    [
        *("attention", "conv1d", "conv3d", "harris", "jacobi1d", "jacobi2d", "matmul_chain", "maxplus"),
        *("online_attention", "pyramid", "separable"),
    ]
)
"""Loops that are no networks of images: planned for no scratchpad, most of them no ONNX."""
