"""What every test gets: no keys, a home of its own, and no way past loopback."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import tests.guard.sitecustomize  # the guard, for this process
from tests.fake_openai import FakeOpenAI
from tests.postgres import NOT_INSTALLED, Postgres, find_programs

# Machines are busy: no example fails for the time it took.
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("unhurried")

GUARD = str(Path(tests.guard.sitecustomize.__file__).parent)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def calculator_cached(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home in which the bundled calculator has been listed once, and the file that says so.

    Starting it takes seconds of CPU: a test that never calls it need not pay them.
    """
    home = tmp_path_factory.mktemp("known")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MCPCHAT_", "XDG_", "COV"))}
    listing = [sys.executable, "-m", "mcpchat", "tools"]
    subprocess.run(listing, env=environ | {"HOME": str(home)}, capture_output=True, check=True, timeout=120)
    (cache_file,) = home.rglob("servers/*.json")
    return home, cache_file


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    calculator_cached: tuple[Path, Path],
) -> Path:
    """A new HOME, in which the calculator is known, and none of the variables that would lead to a real model."""
    if request.node.get_closest_marker("unmeasured"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    home = tmp_path_factory.mktemp("home")
    known_home, cache_file = calculator_cached
    target = home / cache_file.relative_to(known_home)
    for folder in reversed([folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]):
        folder.mkdir(mode=0o700)
    shutil.copy(cache_file, target)
    for name in list(os.environ):
        # The size of a terminal is the terminal's to say.
        if name.startswith(("OPENAI_", "MCPCHAT_", "XDG_")) or name in {"COLUMNS", "LINES"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", GUARD)
    # What the CLI sets for the rest of its process must not leak from one test into the next.
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "1")
    return home


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of this process."""
    bin_directory = find_programs()
    if bin_directory is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NOT_INSTALLED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Postgres(bin_directory, port)
    yield server
    server.close()


@pytest.fixture
def mcpchat_command() -> str:
    """The console script of the environment that runs the tests."""
    return str(Path(sys.executable).with_name("mcpchat"))
