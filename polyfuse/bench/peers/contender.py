"""Who takes part in a comparison with peers, and what one of them prepares.

A contender is a name, the module that runs it in a process of its own, and the packages that have to be there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from polyfuse.choices import SEARCH_SECONDS, RaceLayout
from polyfuse.errors import InvalidInput

Values = Mapping[str, NDArray[np.float32]]

FOLDER = "polyfuse.bench.peers"


@dataclass(frozen=True)
class PeerSettings:
    """What is asked of every contender alike; `search_seconds` is for those that try schedules, `options` for one.

    `model` is the file of the ONNX model that the network came from, None for one that was built.
    """

    threads: int = 1
    interface: RaceLayout = "preferred"
    search_seconds: float = SEARCH_SECONDS
    options: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network that is ready to run: `run` computes, without converting anything; `outputs` are [n, c, h, w] then.

    `layout` is how inputs and outputs lie in memory while it is timed; `detail` what was chosen, in a few words.
    """

    run: Callable[[], object]
    outputs: Callable[[], Values]
    layout: str
    detail: str = ""


@dataclass(frozen=True)
class Contender:
    """A name for people, the module with its `prepare(network, inputs, settings)`, and the packages that it needs.

    `options` go to the module as they are. The first package is the tool itself.
    """

    name: str
    module: str
    packages: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether all packages can be imported; nothing is imported to find out."""
        return all(find_spec(package) is not None for package in self.packages)

    @property
    def version(self) -> str:
        """The version of the tool; empty where there is none."""
        return version_of(self.packages[0]) if self.packages else ""


def version_of(package: str) -> str:
    """The version of a package; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


PEERS = (
    Contender("onnxruntime", f"{FOLDER}.onnx_runtime", ("onnxruntime",)),
    Contender("openvino", f"{FOLDER}.open_vino", ("openvino",)),
    Contender("torch-eager", f"{FOLDER}.torch_eager", ("torch",)),
    Contender("torch-inductor", f"{FOLDER}.torch_eager", ("torch",), {"compile": True}),
    Contender("ncnn", f"{FOLDER}.ncnn_net", ("ncnn", "pnnx")),
    Contender("halide", f"{FOLDER}.halide_tiles", ("halide",)),
)
"""The tools that polyfuse is compared with, in the order in which they are asked."""


def peers_named(text: str) -> tuple[Contender, ...]:
    """The peers of a list such as `onnxruntime,halide`; `all` for every one, `none` for none; `torch` is both.

    Errors: InvalidInput for a name that no peer has.

    >>> [peer.name for peer in peers_named("halide,torch")]
    ['torch-eager', 'torch-inductor', 'halide']
    """
    words = [word.strip() for word in text.split(",")]
    if words in (["all"], ["none"]):
        return PEERS if words == ["all"] else ()
    known = {peer.name for peer in PEERS} | {"torch"}
    for word in words:
        if word not in known:
            raise InvalidInput(
                f"peers: expected all, none or some of {', '.join(peer.name for peer in PEERS)} with commas between, "
                f"got {word!r}; correct the name"
            )
    return tuple(peer for peer in PEERS if peer.name in words or ("torch" in peer.packages and "torch" in words))


def how_to_install(peers: Iterable[Contender]) -> str:
    """The command that installs what they need.

    >>> how_to_install(PEERS[2:5])
    'pip install torch ncnn pnnx'
    """
    packages = dict.fromkeys(package for peer in peers for package in peer.packages)
    return f"pip install {' '.join(packages)}"
