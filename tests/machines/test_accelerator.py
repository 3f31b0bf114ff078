"""Accelerator files: what is written comes back, what is shipped is whole, what cannot be is refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.choices import accelerators
from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import CLASSES, Accelerator, Memory, accelerator, host_accelerator
from tests.machines.example import example

SHIPPED = [name for name in accelerators() if name != "host-cache"]
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


def refusal(text: str) -> str:
    """The message about a text: one line, with something to do."""
    with pytest.raises(InvalidInput) as caught:
        Accelerator.from_toml(text)
    message = str(caught.value)
    assert message.startswith("accelerator file") and len(message.splitlines()) == 1 and "; " in message
    return message


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_machines_come_back_and_name_every_class(name: str) -> None:
    found = accelerator(name)
    assert found.name == name and tuple(found.rates) == CLASSES
    assert Accelerator.from_toml(found.to_toml()) == found
    assert all(set(rates) == set(found.mac_pj) for rates in found.rates.values())


@given(positive, st.booleans(), st.sampled_from([1, 2]), st.integers(1, 2**40))
def test_every_accelerator_comes_back(rate: float, double: bool, engines: int, capacity: int) -> None:
    machine = replace(
        accelerator("npu"),
        double_buffer=double,
        dma_engines=engines,
        capacity_bytes=capacity,
        offchip=Memory(rate, 0.0, rate),
        rates={cls: {"float32": rate} for cls in CLASSES},
        mac_pj={"float32": rate},
    )
    assert Accelerator.from_toml(machine.to_toml()) == machine


def test_balances_differ_in_off_chip_bandwidth_alone() -> None:
    balanced, bound = accelerator("npu"), accelerator("npu-memory-bound")
    assert bound.offchip.bytes_per_cycle < balanced.offchip.bytes_per_cycle
    assert replace(bound, name="npu", offchip=balanced.offchip) == balanced


def test_gemmini_and_eyeriss_are_as_published() -> None:
    gemmini, eyeriss = accelerator("gemmini"), accelerator("eyeriss")
    assert (gemmini.capacity_bytes, gemmini.accumulator_bytes, gemmini.rate("conv", "int8")) == (2**18, 2**16, 16 * 16)
    assert eyeriss.offchip.pj_per_byte == 200 and eyeriss.onchip.pj_per_byte == 6 + 2
    assert eyeriss.mac_pj["int8"] == 1 + 4 * 1


def test_host_is_made_of_the_machine_file() -> None:
    machine = example()
    host = host_accelerator(machine)
    assert host.capacity_bytes == machine.levels[0].capacity_bytes
    assert host.rate("conv", "float32") == pytest.approx(112.0 / 2 / 3.5)
    assert host.offchip.bytes_per_cycle == pytest.approx(25.0 / 3.5)
    assert accelerator("host-cache").name == "host-cache"


def test_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(accelerator("npu").with_capacity(4096).to_toml())
    assert accelerator(path) == accelerator("npu").with_capacity(4096) == accelerator(str(path))


def test_missing_file_says_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"expected a file or one of .*npu-memory-bound, there is none; correct"):
        accelerator("nope")


@pytest.mark.parametrize(
    ("line", "by", "says"),
    [
        ("lanes = 16", "lanes = 16\nwings = 2", "unknown 'wings'"),
        ("lanes = 16", "", "no 'lanes'"),
        ("lanes = 16", "lanes = 0", "lanes above 0"),
        ("double_buffer = true", "double_buffer = 1", "true or false"),
        ("dma_engines = 1", "dma_engines = 3", "1 or 2 dma_engines"),
        ("capacity_bytes = 524288", "capacity_bytes = true", "a whole number"),
        ("[rates.pool]", "[rates.pooling]", "unknown 'pooling'"),
        ("int8 = 256.0", "int4 = 256.0", "got 'int4'"),
        ("int8 = 256.0", "int8 = 0.0", "rates.conv.int8 above 0"),
        ("int8 = 0.2", "int8 = -1.0", "mac_pj.int8 of 0 or more"),
        ("latency_cycles = 64.0", "latency_cycles = -1.0", "latency_cycles of 0 or more"),
        ("int8 = 0.2", "", "mac_pj of every type that has a rate, got none of 'int8'"),
        ("version = 1", "version = 2", "version 2"),
        ("version = 1", "version = ", "expected TOML"),
    ],
)
def test_file_that_is_none_is_refused(line: str, by: str, says: str) -> None:
    text = accelerator("npu").to_toml()
    assert f"{line}\n" in text
    assert says in refusal(text.replace(f"{line}\n", f"{by}\n", 1))


def test_type_without_a_rate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a rate of conv in float32, got those of int8; plan"):
        accelerator("ethos-u65").rate("conv", "float32")


def test_transfer_takes_latency_and_bytes() -> None:
    assert accelerator("npu").transfer_cycles(1600) == 64 + 100
