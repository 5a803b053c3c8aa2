"""What start-up must not cost: the stored help is right, and the heavy libraries stay out."""

import os
import subprocess
import sys

import pytest

HEAVY = ("openai", "mcp", "mcp_types", "prompt_toolkit", "keyring", "google", "pydantic", "httpx2", "rich")


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50, env=environ
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("import mcpchat.cli.main").isdisjoint(HEAVY)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["ask", "--help"], ["config", "init", "-h"]])
def test_help_and_version_need_not_even_a_parser(words: list[str]) -> None:
    code = f"sys.argv = ['mcpchat', *{words}]\nfrom mcpchat.__main__ import main\nmain()"
    assert loaded_by(code).isdisjoint((*HEAVY, "typer", "msgspec", "asyncio", "re"))


def test_listing_known_tools_and_asking_the_demo_without_a_tool_leave_the_sdks_alone() -> None:
    run = "from mcpchat.cli import main\nassert main.run({}) == 0"
    loaded_by(run.format(["tools"]))  # fills the cache
    assert loaded_by(run.format(["tools", "--format", "json"])).isdisjoint(
        {"openai", "mcp", "prompt_toolkit", "keyring"}
    )
    asked = loaded_by(run.format(["ask", "-m", "demo", "hello"]))
    assert asked.isdisjoint({"openai", "mcp", "prompt_toolkit", "keyring"})


def test_a_question_to_a_model_leaves_the_mcp_sdk_alone_while_the_tools_are_known() -> None:
    from tests.fake_openai import FakeOpenAI

    with FakeOpenAI() as double:
        code = (
            f"import os; os.environ |= {{'OPENAI_BASE_URL': '{double.base_url}', 'MCPCHAT_MODEL': 'm'}}\n"
            "from mcpchat.cli import main\nassert main.run(['{}']) == 0"
        )
        loaded_by(code.replace("'{}'", "'tools'"))
        assert loaded_by(code.replace("'{}'", "'ask', 'hello'")).isdisjoint({"mcp", "prompt_toolkit", "rich"})


def test_the_prompt_is_there_before_the_sdks_are() -> None:
    assert loaded_by(
        "import mcpchat.cli.commands.chat, mcpchat.ui.terminal.prompt_screen, mcpchat.ui.chat.completer, mcpchat.ui.prompts.dialog"
    ).isdisjoint({"openai", "mcp", "mcp_types", "keyring", "google", "pydantic", "httpx2"})
    chosen = (
        "import asyncio, pathlib\nfrom mcpchat.config.run import Paths, RunContext\nfrom mcpchat.config.schema import Config\nfrom mcpchat.models.selection import ModelSelector\n"
        "context = RunContext(config=Config(), environ={'OPENAI_BASE_URL': 'http://127.0.0.1:9/v1'}, paths=Paths(*[pathlib.Path('.')] * 4))\n"
        "models = ModelSelector(context, lazy=True)\nprint(asyncio.run(models.select('m')).endpoint)"
    )
    assert "openai" not in loaded_by(chosen)
    assert "openai" in loaded_by(f"{chosen}\nasyncio.run(models.preload())")


def test_the_stored_files_are_those_that_the_code_makes() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/generate.py", "--check"], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_no_process_of_a_test_can_reach_beyond_loopback() -> None:
    command = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 9), 1)"]
    assert "a test tried to reach" in subprocess.run(command, capture_output=True, text=True, timeout=50).stderr
