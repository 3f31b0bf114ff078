"""What is worth knowing of the host beside a measurement: nothing that tells whose it is.

Leaves: a dictionary for JSON, of what could be found out. No host name, no user, no paths.
"""

import os
import platform
import re
from pathlib import Path

ROOT = Path("/")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


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
        "caches": _caches(root) or None,
        "memory_bytes": _memory_bytes(root),
        "system": _system(),
        "python": platform.python_version(),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _cpu_model(root: Path) -> str | None:
    match = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or None


def _system() -> str:
    """The system and the first two numbers of its release; the rest may hold a name that somebody gave it."""
    release = re.match(r"\d+(\.\d+)?", platform.release())
    return f"{platform.system()} {release.group()}" if release else platform.system()


def _memory_bytes(root: Path) -> int | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _caches(root: Path) -> list[dict[str, object]]:
    found = [_cache(folder) for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*"))]
    return [cache for cache in found if cache is not None]


def _cache(folder: Path) -> dict[str, object] | None:
    level, kind, size = (_text(folder / name).strip() for name in ("level", "type", "size"))
    amount = re.fullmatch(r"(\d+)([KMG]?)", size)
    if not level.isdigit() or amount is None:
        return None
    cache: dict[str, object] = {"level": int(level), "type": kind, "bytes": int(amount[1]) * _UNITS[amount[2]]}
    sharing = _core_count(_text(folder / "shared_cpu_list").strip())
    return cache if sharing is None else {**cache, "shared_by_cores": sharing}


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
