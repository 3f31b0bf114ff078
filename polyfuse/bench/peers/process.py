"""The other end of a worker: its process, questions and answers, and what went wrong in one line.

A command enters; answers as dictionaries leave, or a `PeerError`. However it ends, the process and all it started end.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LONGEST_LINE = 1 << 16
GRACE_SECONDS = 5.0


class PeerError(Exception):
    """A contender cannot go on; the message is one line."""


class Worker:
    """A process that answers one line of JSON with another; `log` receives what else it prints."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._rest = b""
        self._ended = False
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,
            )

    def ask(self, question: Mapping[str, object], seconds: float) -> dict[str, object]:
        """The answer to a question.

        Errors: PeerError where the process dies, says nothing for so long, says no JSON, or answers with an error; it
        is ended then.
        """
        try:
            return self._answer(question, time.monotonic() + seconds, seconds)
        except PeerError:
            self.close()
            raise

    def _answer(self, question: Mapping[str, object], deadline: float, seconds: float) -> dict[str, object]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise PeerError(self._death()) from None
        line = self._line(deadline, seconds)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PeerError(f"answered {shown(line)} where JSON was expected")
        if "error" in answer:
            raise PeerError(shown_text(str(answer["error"])))
        return answer

    def _line(self, deadline: float, seconds: float) -> bytes:
        """The next line that the process writes."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise PeerError(f"gave no answer within {seconds:.0f} s")
                data = os.read(self._process.stdout.fileno(), LONGEST_LINE)
                if not data:
                    raise PeerError(self._death())
                self._rest += data
                if len(self._rest) > LONGEST_LINE:
                    raise PeerError(f"answered {shown(self._rest)} where JSON was expected")
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _death(self) -> str:
        """How the process ended, and the last that it said."""
        try:
            code = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its output"
        how = f"exited with {code}"
        if code < 0:
            with suppress(ValueError):
                how = f"died of {signal.Signals(-code).name}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"{how}: {shown_text(last)}" if last else how

    def close(self) -> None:
        """Kill the process and all it started, and wait for it; once."""
        if self._ended:
            return
        self._ended = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()


def worker_command(cores: Sequence[int]) -> list[str]:
    """The command of a worker that stays on these cores."""
    return [sys.executable, "-m", "polyfuse.bench.peers.worker", ",".join(map(str, cores))]


def shown(line: bytes) -> str:
    """The beginning of what was said, printable."""
    return repr(line[:60].decode("utf-8", "replace"))


def shown_text(text: str) -> str:
    """One printable line."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= 300 else f"{line[:300]}..."
