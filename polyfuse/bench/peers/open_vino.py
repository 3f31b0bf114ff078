"""OpenVINO on the CPU: the model, one stream, single precision enforced, tensors of [n, c, h, w] set once."""

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from polyfuse.bench.peers.contender import PeerSettings, Prepared, Values
from polyfuse.bench.peers.models import model_bytes
from polyfuse.network.network import Network


def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
    """A compiled model; without the hint it may compute in bfloat16 where the CPU can."""
    openvino: Any = import_module("openvino")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model_bytes(network, settings)),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_NUM_THREADS": str(settings.threads),
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": "NO",
        },
    )
    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    if "f32" not in precision and "float32" not in precision and "'float'" not in precision:
        raise RuntimeError(f"computes in {precision}, not in single precision")
    request = compiled.create_infer_request()
    made = {tensor.name: np.empty(tensor.concrete_shape, np.float32) for tensor in network.outputs}
    for name, value in inputs.items():
        request.set_tensor(name, openvino.Tensor(np.ascontiguousarray(value), shared_memory=True))
    for name, value in made.items():
        request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
    return Prepared(partial(request.infer, share_outputs=True), lambda: made, "nchw")
