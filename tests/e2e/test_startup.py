"""Start-up time: the stored help is current, and heavy libraries are not imported."""

import os
import subprocess
import sys

import pytest

HEAVY = ("openai", "mcp", "mcp_types", "prompt_toolkit", "keyring", "google", "pydantic", "httpx2", "rich")


def modules_loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))}
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50, env=environ
    )
    return set(completed.stdout.splitlines()[-1].split())


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert modules_loaded_by("import mcpchat.cli.main").isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"], ["config", "init", "-h"]])
def test_help_and_version_need_no_parser(arguments: list[str]) -> None:
    code = f"sys.argv = ['mcpchat', *{arguments}]\nfrom mcpchat.__main__ import main\nmain()"
    assert modules_loaded_by(code).isdisjoint((*HEAVY, "typer", "msgspec", "asyncio", "re"))


def test_listing_cached_tools_and_the_demo_do_not_import_the_sdks() -> None:
    run = "from mcpchat.cli import main\nassert main.run({}) == 0"
    modules_loaded_by(run.format(["tools"]))  # fills the cache
    assert modules_loaded_by(run.format(["tools", "--format", "json"])).isdisjoint(
        {"openai", "mcp", "prompt_toolkit", "keyring"}
    )
    loaded = modules_loaded_by(run.format(["ask", "-m", "demo", "hello"]))
    assert loaded.isdisjoint({"openai", "mcp", "prompt_toolkit", "keyring"})


def test_asking_a_model_with_cached_tools_does_not_import_the_mcp_sdk() -> None:
    from tests.support.fake_openai import FakeOpenAI

    with FakeOpenAI() as double:
        code = (
            f"import os; os.environ |= {{'OPENAI_BASE_URL': '{double.base_url}', 'MCPCHAT_MODEL': 'm'}}\n"
            "from mcpchat.cli import main\nassert main.run(['{}']) == 0"
        )
        modules_loaded_by(code.replace("'{}'", "'tools'"))
        assert modules_loaded_by(code.replace("'{}'", "'ask', 'hello'")).isdisjoint({"mcp", "prompt_toolkit", "rich"})


def test_traces_that_are_off_load_nothing() -> None:
    code = "from mcpchat.cli import main\nassert main.run(['call', 'calculator.calculate', 'expression=1']) == 0"
    parts = "{'opentelemetry.sdk', 'opentelemetry.exporter', 'mcpchat.app.otel', 'requests'} & set(sys.modules)"
    assert "no_traces" in modules_loaded_by(f"{code}\nif not {parts}: sys.modules['no_traces'] = sys")


def test_the_prompt_appears_before_the_sdks_load() -> None:
    assert modules_loaded_by(
        "import mcpchat.cli.chat_app, mcpchat.ui.terminal.prompt_screen, mcpchat.ui.chat.completer, mcpchat.ui.prompts.dialog"
    ).isdisjoint({"openai", "mcp", "mcp_types", "keyring", "google", "pydantic", "httpx2"})
    arguments = (
        "import asyncio, pathlib\nfrom mcpchat.config.run import Paths, RunContext\nfrom mcpchat.config.schema import Config\nfrom mcpchat.models.selection import ModelSelector\n"
        "context = RunContext(config=Config(), environ={'OPENAI_BASE_URL': 'http://127.0.0.1:9/v1'}, paths=Paths(*[pathlib.Path('.')] * 4))\n"
        "models = ModelSelector(context, lazy=True)\nprint(asyncio.run(models.select('m')).endpoint)"
    )
    assert "openai" not in modules_loaded_by(arguments)
    assert "openai" in modules_loaded_by(f"{arguments}\nasyncio.run(models.preload())")


def test_the_stored_files_are_current() -> None:
    completed = subprocess.run(
        [sys.executable, "scripts/generate.py", "--check"], capture_output=True, text=True, timeout=50
    )
    assert (completed.returncode, completed.stdout) == (0, "")


def test_test_processes_cannot_connect_beyond_loopback() -> None:
    command = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 9), 1)"]
    assert "a test tried to reach" in subprocess.run(command, capture_output=True, text=True, timeout=50).stderr
