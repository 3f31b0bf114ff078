"""The process of one contender: `python -m polyfuse.bench.peers.worker CORES`, which only polyfuse starts.

Lines of JSON enter on standard input, one answer to each leaves on standard output:

    {"do": "prepare", "module": ..., "folder": ..., "number": 0, "settings": {...}}
        ->  {"layout": ..., "detail": ..., "first_seconds": 0.02}
    {"do": "run", "calls": 5}
        ->  {"cpu_seconds": 0.01, "wall_seconds": 0.01}

`folder` holds the network and its inputs; outputs are left there as outputs-NUMBER.npz. An answer with the key "error"
says in one line what went wrong. What a library prints on standard output goes to standard error instead. The process
ends with its input.
"""

import ctypes
import gc
import importlib
import json
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from polyfuse.bench.peers.contender import PeerSettings, Prepared

DIE_WITH_PARENT = 1
LONGEST_MESSAGE = 400


def main() -> None:
    """Answer until there are no more questions."""
    stay_on([int(core) for core in sys.argv[1].split(",") if core])
    die_with_parent()
    for answer in answers(sys.stdin, own_channel()):
        del answer


def answers(questions: TextIO, channel: TextIO) -> Iterator[dict[str, object]]:
    """Answer each question on the channel."""
    prepared: Prepared | None = None
    for line in questions:
        try:
            question = json.loads(line)
            if question["do"] == "prepare":
                prepared, answer = prepare(question)
            elif prepared is None:
                raise RuntimeError("nothing is prepared")
            else:
                answer = timed(prepared, question["calls"])
        except Exception as error:
            answer = {"error": one_line(error)}
        channel.write(json.dumps(answer) + "\n")
        channel.flush()
        yield answer


def prepare(question: dict[str, Any]) -> tuple[Prepared, dict[str, object]]:
    """Make a network ready, run it once and leave its outputs."""
    folder = Path(question["folder"])
    network = pickle.loads((folder / "network.pickle").read_bytes())
    with np.load(folder / "inputs.npz") as stored:
        inputs = {name: stored[name] for name in stored}
    prepared: Prepared = importlib.import_module(question["module"]).prepare(
        network, inputs, PeerSettings(**question["settings"])
    )
    del network
    start = time.perf_counter()
    prepared.run()
    first_seconds = time.perf_counter() - start
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in prepared.outputs().items()}
    np.savez(folder / f"outputs-{question['number']}.npz", **arrays)
    gc.collect()
    give_back_memory()
    gc.freeze()
    gc.disable()
    return prepared, {"layout": prepared.layout, "detail": prepared.detail, "first_seconds": first_seconds}


def give_back_memory() -> None:
    """Return what was needed to prepare to the system: the other contenders are prepared while this one waits."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def timed(prepared: Prepared, calls: int) -> dict[str, object]:
    """CPU time of all threads and wall time of so many calls in a row, after one that is not timed."""
    run = prepared.run
    run()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        run()
    return {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}


def one_line(error: BaseException) -> str:
    """What an exception says, in one line of reasonable length."""
    text = " ".join(str(error).split())
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."


def own_channel() -> TextIO:
    """Standard output for answers alone: what others print there goes to standard error from now on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def stay_on(cores: list[int]) -> None:
    """Keep this process, and all threads it starts, on these cores where the system allows it."""
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cores)


def die_with_parent() -> None:
    """End when polyfuse is killed, also in the middle of a run; on Linux."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    main()
