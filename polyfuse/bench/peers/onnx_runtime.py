"""onnxruntime: the model with all graph optimisations, on buffers that are bound once.

Its interface is [n, c, h, w]; inside it turns to blocks of channels where it likes (NCHWc).
"""

from importlib import import_module
from typing import Any

import numpy as np

from polyfuse.bench.peers.contender import PeerSettings, Prepared, Values
from polyfuse.bench.peers.models import model_bytes
from polyfuse.network.network import Network


def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
    """A session for a network; `run` computes into arrays that exist."""
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if settings.threads == 1 else "1")
    options.log_severity_level = 3
    model = model_bytes(network, settings)
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    given = {name: runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
    made = {
        tensor.name: runtime.OrtValue.ortvalue_from_shape_and_type(tensor.concrete_shape, np.float32)
        for tensor in network.outputs
    }
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in made.items():
        binding.bind_ortvalue_output(name, value)
    return Prepared(
        lambda: session.run_with_iobinding(binding),
        lambda: {name: value.numpy() for name, value in made.items()},
        "nchw",
    )
