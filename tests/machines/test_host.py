"""Machine files: what is written comes back, and what cannot be a machine is refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.machines.host import Bandwidth, Level, Machine, Peak, machine_path, read_machine
from tests.machines.example import example

GOLDEN = """\
# A machine as polyfuse sees it. docs/use/machine.md says what each key means and how it is measured.

format = "polyfuse-machine"
version = 1
name = "Example 9000"
compiler = "gcc (Example) 12.2.0"
flags = ["-O3", "-march=native"]
cores = 2
clock_ghz = 3.5
cache_line_bytes = 64
vector_bytes = 32

[[peaks]]
vector_bytes = 64
gflop_per_second = 11.5
fma_per_cycle = 0.1

[[peaks]]
vector_bytes = 32
gflop_per_second = 112.0
fma_per_cycle = 2.0

[[levels]]
name = "L1"
capacity_bytes = 32768
shared_by_cores = 1
one_core = { read_gb_per_second = 200.0, write_gb_per_second = 100.0, copy_gb_per_second = 210.5 }
all_cores = { read_gb_per_second = 400.0, write_gb_per_second = 200.0, copy_gb_per_second = 421.0 }

[[levels]]
name = "DRAM"
capacity_bytes = 8589934592
shared_by_cores = 2
one_core = { read_gb_per_second = 30.0, write_gb_per_second = 20.0, copy_gb_per_second = 25.0 }
all_cores = { read_gb_per_second = 50.0, write_gb_per_second = 30.0, copy_gb_per_second = 40.0 }
"""

printable = st.text(min_size=1).filter(str.isprintable)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


def refusal(text: str) -> str:
    """The message about a text: one line, with something to do."""
    with pytest.raises(InvalidInput) as caught:
        Machine.from_toml(text)
    message = str(caught.value)
    assert message.startswith("machine file") and len(message.splitlines()) == 1 and "; " in message
    return message


def changed(line: str, by: str) -> str:
    """The golden file with one line, its first of that text, replaced."""
    assert f"{line}\n" in GOLDEN
    return GOLDEN.replace(f"{line}\n", f"{by}\n" if by else "", 1)


def test_file_is_as_documented() -> None:
    assert example().to_toml() == GOLDEN
    assert Machine.from_toml(GOLDEN) == example()


@given(printable, st.lists(printable), positive, st.integers(1, 2**63 - 1))
def test_every_machine_comes_back(name: str, flags: list[str], rate: float, capacity: int) -> None:
    level = Level(name, capacity, 1, Bandwidth(rate, rate, rate), Bandwidth(1.0, rate, 1e300))
    peaks = (Peak(32, rate, 5e-324),)
    machine = replace(example(), name=name, flags=tuple(flags), clock_ghz=rate, levels=(level,), peaks=peaks)
    assert Machine.from_toml(machine.to_toml()) == machine


def test_whole_numbers_do_for_rates() -> None:
    assert Machine.from_toml(changed("clock_ghz = 3.5", "clock_ghz = 3")).clock_ghz == 3.0


@pytest.mark.parametrize(
    ("line", "by", "message"),
    [
        ("version = 1", "version = 2", "expected format 'polyfuse-machine' version 1"),
        ("version = 1", "", "version null"),
        ('format = "polyfuse-machine"', "format = 1979-05-27", 'got "1979-05-27" version 1'),
        ("cores = 2", "cores = 2\nspeed = 3", "got an unknown 'speed'"),
        ("cores = 2", 'cores = 2\n"two\\nlines" = 3', r"got an unknown 'two\nlines'"),
        ("cores = 2", "", "got no 'cores'"),
        ("cores = 2", "cores = 2.5", "machine file.cores: expected a whole number, got 2.5"),
        ("cores = 2", "cores = true", "cores: expected a whole number, got true"),
        ("cores = 2", "cores = 0", "expected cores above 0 and finite, got 0"),
        ("cores = 2", "cores = 1979-05-27", 'cores: expected a whole number, got "1979-05-27"'),
        ("cores = 2", "cores = ", "expected TOML, got: Invalid value (at line 8"),
        ("cores = 2", "cores = 2\ncores = 2", "expected TOML, got: Cannot overwrite a value"),
        ("cores = 2", f"cores = {'[' * 5000}", "expected TOML, got: "),
        ("clock_ghz = 3.5", "clock_ghz = nan", "expected clock_ghz above 0 and finite, got nan"),
        ("clock_ghz = 3.5", "clock_ghz = inf", "expected clock_ghz above 0 and finite, got inf"),
        ("clock_ghz = 3.5", f"clock_ghz = {10**400}", "clock_ghz: expected a number below 1e308"),
        ("clock_ghz = 3.5", 'clock_ghz = "3.5"', 'clock_ghz: expected a number, got "3.5"'),
        ("vector_bytes = 32", "vector_bytes = 16", "expected vector_bytes to be one of its peaks (64, 32), got 16"),
        ("vector_bytes = 64", "vector_bytes = 32", "expected peaks to differ, got 32 twice"),
        ('name = "Example 9000"', 'name = ""', "expected a name of printable characters"),
        ('name = "Example 9000"', 'name = "a\\nb"', r"expected a name of printable characters, got 'a\nb'"),
        ('name = "L1"', 'name = "DRAM"', "expected levels to differ, got DRAM twice"),
        (
            "capacity_bytes = 32768",
            'capacity_bytes = "32K"',
            'levels[0].capacity_bytes: expected a whole number, got "32K"',
        ),
        ("capacity_bytes = 32768", "capacity_bytes = 8589934592", "got L1 of 8,589,934,592 B before DRAM"),
        ("fma_per_cycle = 2.0", "fma_per_cycle = -2.0", "peaks[1]: peak: expected fma_per_cycle above 0"),
        (
            "fma_per_cycle = 2.0",
            "",
            "peaks[1]: expected the keys vector_bytes, gflop_per_second, fma_per_cycle, got no",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(line: str, by: str, message: str) -> None:
    assert message in refusal(changed(line, by))


@pytest.mark.parametrize("text", ["", "levels = 3", GOLDEN.split("[[peaks]]")[0]])
def test_files_without_their_parts_are_refused(text: str) -> None:
    assert "expected" in refusal(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peaks": ()}, "expected peaks, got none"),
        ({"levels": ()}, "expected levels, got none"),
        ({"flags": ("-O3", "")}, "expected a flag of printable characters, got ''"),
        ({"compiler": "\ud800"}, "expected a compiler of printable characters"),
        ({"cache_line_bytes": 0}, "expected cache_line_bytes above 0"),
    ],
)
def test_impossible_machines_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(example(), **changes)


def test_parts_of_a_machine() -> None:
    machine = example()
    assert machine.peak == machine.peaks[1]
    assert [level.name for level in machine.caches] == ["L1"]
    assert machine.capacities == {"L1": 32768}
    assert machine.dram.name == "DRAM"


def test_the_file_of_this_user_is_named_by_a_variable_or_in_the_config_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYFUSE_MACHINE", "~/mine.toml")
    assert machine_path() == Path.home() / "mine.toml"
    monkeypatch.setenv("POLYFUSE_MACHINE", "")
    assert machine_path() == platformdirs.user_config_path("polyfuse") / "machine.toml"


def test_a_file_is_read_and_one_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.toml"
    monkeypatch.setenv("POLYFUSE_MACHINE", str(path))
    for given_path in (None, path):
        with pytest.raises(InvalidInput, match="there is none; run polyfuse machine --probe"):
            read_machine(given_path)
    path.write_text(GOLDEN)
    assert read_machine() == read_machine(path) == example()
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match=f"'{path}': expected a file of TOML, got: bytes that are no UTF-8"):
        read_machine()
    with pytest.raises(InvalidInput, match=f"'{tmp_path}': expected a file of TOML, got: Is a directory"):
        read_machine(tmp_path)
