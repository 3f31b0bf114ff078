"""A peer that behaves as its first argument says: python fake_peer.py MODE FOLDER; FOLDER holds right.npz."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MODE, FOLDER = sys.argv[1], Path(sys.argv[2])
(FOLDER / f"{MODE}.pid").write_text(str(os.getpid()))


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def hang() -> None:
    """Wait, as does a child of one's own."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    (FOLDER / f"{MODE}-child.pid").write_text(str(child.pid))
    time.sleep(100)


def leave_outputs(target: Path) -> None:
    if MODE == "nothing":
        return
    if MODE == "cut":
        target.write_bytes((FOLDER / "right.npz").read_bytes()[:50])
        return
    shutil.copy(FOLDER / "right.npz", target)
    with np.load(FOLDER / "right.npz") as right:
        values = {name: right[name].copy() for name in right}
    name = next(iter(values))
    if MODE == "wrong":
        values[name].flat[3] += 0.5
    if MODE == "nan":
        values[name].flat[3] = np.nan
    if MODE == "shape":
        values[name] = values[name].ravel()
    if MODE == "names":
        values["another"] = values.pop(name)
    np.savez(target, **values)


for line in sys.stdin:
    question = json.loads(line)
    preparing = question["do"] == "prepare"
    if ("crash" if preparing else "crash_later") == MODE:
        print("the last words\nof a peer", file=sys.stderr)
        os.abort()
    elif MODE == "exit":
        sys.exit(3)
    elif MODE == "hang" or (MODE == "hang_later" and not preparing):
        hang()
    elif MODE == "garbage":
        print("Loading model \x1b[31m... done", flush=True)
    elif MODE == "endless":
        sys.stdout.write("x" * 1_000_000)
        sys.stdout.flush()
        time.sleep(100)
    elif MODE == "list":
        say([1, 2])
    elif MODE == "error":
        say({"error": "ValueError: no such\noperator " + "y" * 1000})
    elif preparing:
        leave_outputs(Path(question["folder"]) / f"outputs-{question['number']}.npz")
        say({"layout": "nchw", "detail": f"{question['settings']['threads']} threads"})
    elif MODE == "times":
        say({"cpu_seconds": "soon", "wall_seconds": -1})
    else:
        seconds = question["calls"] * (0.002 if MODE == "slow" else 0.001)
        say({"cpu_seconds": seconds, "wall_seconds": 2 * seconds})
