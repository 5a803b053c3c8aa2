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
from tests.double import ModelDouble
from tests.postgres import MISSING, Postgres, programs

# Machines are busy: no example fails for the time it took.
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("unhurried")

GUARD = str(Path(tests.guard.sitecustomize.__file__).parent)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def known_calculator(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home in which the bundled calculator has been listed once, and the file that says so.

    Starting it takes seconds of CPU: a test that never calls it need not pay them.
    """
    home = tmp_path_factory.mktemp("known")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MCPCHAT_", "XDG_", "COV"))}
    listing = [sys.executable, "-m", "mcpchat", "tools"]
    subprocess.run(listing, env=environ | {"HOME": str(home)}, capture_output=True, check=True, timeout=120)
    (kept,) = home.rglob("servers/*.json")
    return home, kept


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    known_calculator: tuple[Path, Path],
) -> Path:
    """A new HOME, in which the calculator is known, and none of the variables that would lead to a real model."""
    if request.node.get_closest_marker("unmeasured"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    home = tmp_path_factory.mktemp("home")
    known, kept = known_calculator
    there = home / kept.relative_to(known)
    for missing in reversed([one for one in (there.parent, *there.parent.parents) if not one.exists()]):
        missing.mkdir(mode=0o700)
    shutil.copy(kept, there)
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
def model_double() -> Iterator[ModelDouble]:
    with ModelDouble() as double:
        yield double


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of this process."""
    found = programs()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Postgres(found, port)
    yield server
    server.close()


@pytest.fixture
def installed() -> str:
    """The console script of the environment that runs the tests."""
    return str(Path(sys.executable).with_name("mcpchat"))
