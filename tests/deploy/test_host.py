"""Facts about the host: read from a made-up /proc and /sys, and from the real ones."""

import getpass
import json
import os
import platform
from pathlib import Path

import pytest

from polyfuse.deploy.host import caches, host_facts, memory_bytes, working_cores


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_facts_are_read_from_proc_and_sys(tmp_path: Path) -> None:
    cache = "sys/devices/system/cpu/cpu0/cache"
    write(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Example 9000 \nprocessor\t: 1\n",
            "proc/meminfo": "MemTotal:       1000 kB\nMemFree: 1 kB\n",
            f"{cache}/index0/level": "1\n",
            f"{cache}/index0/type": "Data\n",
            f"{cache}/index0/size": "32K\n",
            f"{cache}/index0/shared_cpu_list": "0\n",
            f"{cache}/index1/level": "3\n",
            f"{cache}/index1/type": "Unified\n",
            f"{cache}/index1/size": "16M\n",
            f"{cache}/index1/shared_cpu_list": "0-3,8-11\n",
            f"{cache}/index1/coherency_line_size": "128\n",
            f"{cache}/index2/level": "4\n",
        },
    )
    facts = host_facts(tmp_path)
    assert facts["cpu"] == "Example 9000"
    assert facts["memory_bytes"] == 1_024_000
    assert facts["caches"] == [
        {"level": 1, "type": "Data", "bytes": 32768, "shared_by_cores": 1},
        {"level": 3, "type": "Unified", "bytes": 16777216, "shared_by_cores": 8},
    ]

    assert memory_bytes(tmp_path) == 1_024_000
    assert [(found.level, found.bytes, found.line_bytes) for found in caches(tmp_path)] == [
        (1, 32768, None),
        (3, 16777216, 128),
    ]


@pytest.mark.parametrize(
    ("siblings", "quota", "cores"),
    [
        ({}, None, [0, 2, 3, 5]),
        ({0: "0,3", 2: "2,5", 3: "0,3", 5: "2,5"}, None, [0, 2]),
        ({0: "0-1", 2: "2-3", 3: "2-3", 5: "4-5"}, None, [0, 2, 5]),
        ({}, "250000 100000", [0, 2]),
        ({}, "50000 100000", [0]),
        ({}, "max 100000", [0, 2, 3, 5]),
    ],
)
def test_working_cores_are_cores_within_what_the_process_may_use(
    siblings: dict[int, str], quota: str | None, cores: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3, 2, 0}, raising=False)
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    write(tmp_path, {topology.format(cpu): f"{text}\n" for cpu, text in siblings.items()})
    if quota is not None:
        write(tmp_path, {"sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert working_cores(tmp_path) == cores


def test_facts_that_cannot_be_found_out_are_left_out(tmp_path: Path) -> None:
    facts = host_facts(tmp_path)
    assert "caches" not in facts
    assert "memory_bytes" not in facts
    assert {"system", "python"} <= set(facts)


def test_facts_of_this_host_are_json_and_name_nobody() -> None:
    text = json.dumps(host_facts())
    assert json.loads(text) == host_facts()
    for name in (platform.node(), str(Path.home())):
        assert name not in text or len(name) < 3
    assert f'"{getpass.getuser()}"' not in text
