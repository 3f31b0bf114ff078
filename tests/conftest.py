"""Fixtures of the whole suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import effort


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/codegen/golden/ again from what is generated"
    )


@pytest.fixture(scope="session", autouse=True)
def build_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The build cache of this session: never the user's own."""
    folder = tmp_path_factory.mktemp("build-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYFUSE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def opencl_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where PoCL keeps what it compiles in this session: never the user's own."""
    folder = tmp_path_factory.mktemp("opencl-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCL_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def machine_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this session's machine file would be: never the user's own."""
    path = tmp_path_factory.mktemp("config") / "machine.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYFUSE_MACHINE", str(path))
        yield path


@pytest.fixture(scope="session", autouse=True)
def tuned_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this session's tuned file would be, and beside it the profile file: never the user's own."""
    path = tmp_path_factory.mktemp("data") / "tuned.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYFUSE_TUNED", str(path))
        patch.setenv("POLYFUSE_PROFILES", str(path.with_name("profiles.json")))
        yield path


@pytest.fixture(scope="session", autouse=True)
def small_effort() -> Iterator[None]:
    """A fortieth of the effort that users get."""
    with pytest.MonkeyPatch.context() as patch:
        effort.use(patch, effort.SMALL)
        yield


@pytest.fixture
def full_effort(small_effort: None) -> Iterator[None]:
    """The effort that users get, for tests of certificates."""
    with pytest.MonkeyPatch.context() as patch:
        effort.use(patch, effort.FULL)
        yield
