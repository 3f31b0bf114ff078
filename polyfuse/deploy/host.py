"""Facts of the host that are kept with a measurement; none of them identifies its owner.

Leaves: a dictionary for JSON, of what could be found out. No host name, no user, no paths.
"""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class Cache:
    """A cache as Linux describes it; what it does not say is None."""

    level: int
    type: str
    bytes: int
    shared_by_cores: int | None
    line_bytes: int | None


def host_facts(root: Path = ROOT) -> dict[str, object]:
    """CPU model, architecture, cores, caches, memory, system and Python.

    Keys: cpu, architecture, cores, usable_cores (those this process may run on), caches (level, type, bytes, and the
    cores that share one; Linux only), memory_bytes (Linux only), system, python. What cannot be found out has no key.
    `root` is where /proc and /sys are.
    """
    facts: dict[str, object | None] = {
        "cpu": _cpu_model(root),
        "architecture": platform.machine() or None,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "caches": [
            {name: fact for name, fact in vars(cache).items() if fact is not None and name != "line_bytes"}
            for cache in caches(root)
        ]
        or None,
        "memory_bytes": memory_bytes(root),
        "system": _system(),
        "python": platform.python_version(),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def processor() -> str:
    """The CPU model and the architecture: what measurements on this host hold for."""
    facts = host_facts()
    return f"{facts.get('cpu', 'unknown')}, {facts.get('architecture', 'unknown')}"


def caches(root: Path = ROOT) -> list[Cache]:
    """The caches of the first core; none where there is no Linux to ask."""
    found = [_cache(folder) for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*"))]
    return [cache for cache in found if cache is not None]


def memory_bytes(root: Path = ROOT) -> int | None:
    """All memory of the host."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def working_cores(root: Path = ROOT) -> list[int]:
    """A CPU number for each core this process may use: one of its hardware threads, and no more than its quota."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = {cpu: _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in allowed}
    first = {siblings[cpu].strip() or str(cpu): cpu for cpu in reversed(allowed)}
    cores = sorted(first.values())
    quota = re.match(r"(\d+) (\d+)", _text(root / "sys/fs/cgroup/cpu.max"))
    return cores if quota is None else cores[: max(1, int(quota[1]) // max(1, int(quota[2])))]


def _cpu_model(root: Path) -> str | None:
    match = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or None


def _system() -> str:
    """The system and the first two numbers of its release; the rest may hold a name that somebody gave it."""
    release = re.match(r"\d+(\.\d+)?", platform.release())
    return f"{platform.system()} {release.group()}" if release else platform.system()


def _cache(folder: Path) -> Cache | None:
    level, kind, size = (_text(folder / name).strip() for name in ("level", "type", "size"))
    amount = re.fullmatch(r"(\d+)([KMG]?)", size)
    if not level.isdigit() or amount is None:
        return None
    line = _text(folder / "coherency_line_size").strip()
    return Cache(
        level=int(level),
        type=kind,
        bytes=int(amount[1]) * _UNITS[amount[2]],
        shared_by_cores=_core_count(_text(folder / "shared_cpu_list").strip()),
        line_bytes=int(line) if line.isdigit() else None,
    )


def _core_count(cpu_list: str) -> int | None:
    """How many cores a kernel list such as "0-3,8" names."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in cpu_list.split(",")]
    counts = [int(part[2] or part[1]) - int(part[1]) + 1 for part in parts if part is not None]
    return sum(counts) if counts and len(counts) == len(parts) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
