"""Fixtures for every test: no API keys, a separate home directory, no connections beyond loopback."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import tests.guard.sitecustomize  # blocks connections in this process
from tests.fake_openai import FakeOpenAI
from tests.postgres import NOT_INSTALLED, Postgres, find_programs

# Test machines are busy: no example fails because it took too long.
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("unhurried")

GUARD = str(Path(tests.guard.sitecustomize.__file__).parent)


# Coverage measures the processes that these tests start: terminals, sign-ins, bundled servers. Measuring doubles their
# time, and what other tests start runs in the tests' own process too, so it is left out there.
MEASURED = {
    "test_approval_prompts.py",
    "test_chat.py",
    "test_dialogue.py",
    "test_drive.py",
    "test_gmail.py",
    "test_google_servers.py",
    "test_hub.py",
    "test_model_terminal.py",
    "test_provider_logins.py",
    "test_remote_logins.py",
    "test_sheets.py",
    "test_terminal.py",
    "test_thread_terminal.py",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def calculator_cached(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a home in which the bundled calculator has been listed once, and its cache file.

    Starting the calculator takes seconds of CPU; with the cache, tests that do not call it do not start it.
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
    """Set a new HOME in which the calculator is cached, and unset the variables that configure a real model."""
    if request.path.name not in MEASURED:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    home = tmp_path_factory.mktemp("home")
    known_home, cache_file = calculator_cached
    target = home / cache_file.relative_to(known_home)
    for folder in reversed([folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]):
        folder.mkdir(mode=0o700)
    shutil.copy(cache_file, target)
    for name in list(os.environ):
        # COLUMNS and LINES would override the size of the test's terminal.
        if name.startswith(("OPENAI_", "MCPCHAT_", "XDG_")) or name in {"COLUMNS", "LINES"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", GUARD)
    # The CLI sets this for its process; it must not leak from one test into the next.
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "1")
    return home


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process."""
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
    """The path of the console script in the environment that runs the tests."""
    return str(Path(sys.executable).with_name("mcpchat"))
