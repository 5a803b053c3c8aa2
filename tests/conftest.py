"""Fixtures for every test: no API keys, a separate home directory, no connections beyond loopback. Starts nothing."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.command_line import CommandLine
from tests.support.fake_batch_api import FakeBatchApi
from tests.support.fake_openai import FakeOpenAI
from tests.support.paths import GUARD, QUIRKY
from tests.support.postgres import NOT_INSTALLED, Postgres, find_programs
from tests.support.scripted_mcp import ScriptedServer
from tests.support.stores import close_stores

# Few examples while one works, many in CI. Test machines are busy: no example fails because it took too long.
for profile, examples in (("dev", 25), ("ci", 150)):
    hypothesis.settings.register_profile(profile, max_examples=examples, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

MEASURED_VARIABLE = "TESTS_MEASURE_COVERAGE"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cov", None):
        os.environ[MEASURED_VARIABLE] = "1"  # also in forks of the fork server
    measuring = config.pluginmanager.getplugin("_cov")
    if hasattr(config, "workerinput") and measuring is not None and measuring.cov_controller is not None:
        # pytest-cov starts one measurement in each worker for the master too. Nothing reads it, and it would go on
        # during tests that are marked no_cover.
        measuring.cov_controller.cov.stop()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set a new HOME, and unset the variables that configure mcpchat or a real model."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        # COLUMNS and LINES would override the size of the test's terminal.
        if name.startswith(("OPENAI_", "MCPCHAT_", "XDG_")) or name in {"COLUMNS", "LINES"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", GUARD)
    # The CLI sets this for its process; it must not leak from one test into the next.
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "1")
    return home


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    yield
    close_stores()


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def fake_batch_api() -> Iterator[FakeBatchApi]:
    with FakeBatchApi() as fake:
        yield fake


@pytest.fixture
def batch_environ(fake_batch_api: FakeBatchApi, tmp_path: Path) -> dict[str, str]:
    """The environment of a batch at the fake API, without MCP servers."""
    (tmp_path / "c.toml").write_text("[servers.calculator]\nbuiltin = 'calculator'\nenabled = false\n")
    variables = {"OPENAI_BASE_URL": fake_batch_api.base_url, "MCPCHAT_MODEL": "m"}
    return {**os.environ, **variables, "MCPCHAT_CONFIG": str(tmp_path / "c.toml")}


@pytest.fixture
def chat_environ(fake_openai: FakeOpenAI, tmp_path: Path) -> dict[str, str]:
    """The environment of a chat with the fake API, without MCP servers."""
    (tmp_path / "c.toml").write_text("[servers.none]\nbuiltin = 'calculator'\nenabled = false\n")
    return {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m", "MCPCHAT_CONFIG": str(tmp_path / "c.toml")}


@pytest.fixture
def run(tmp_path: Path) -> CommandLine:
    """Run mcpchat in the test's process."""
    return CommandLine(tmp_path)


@pytest.fixture
def server(tmp_path: Path, fake_openai: FakeOpenAI) -> ScriptedServer:
    return ScriptedServer(tmp_path, fake_openai)


@pytest.fixture
def project(server: ScriptedServer) -> Path:
    """Return a folder with a project file whose server creates a file when it runs."""
    folder = server.folder / "project"
    folder.mkdir()
    (folder / "server.sh").write_text(f"touch ran\nexec {sys.executable} {QUIRKY}\n")
    (folder / ".mcpchat.toml").write_text(
        '[servers.theirs]\ncommand = "sh"\nargs = ["server.sh", "a b"]\nenv_pass = ["EDITOR"]\n'
        '[agents.theirs]\ninstructions = "Be brief"\n'
    )
    return folder


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
