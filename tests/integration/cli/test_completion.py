"""Tests of shell completion in real shells: it starts no server and never executes names from servers."""

import subprocess
import sys
from pathlib import Path

import pytest

from mcpchat.cli import completion
from tests.support.completion_home import write_completion_home
from tests.support.paths import MCPCHAT
from tests.support.processes import run_process

COMMANDS = completion.load_commands()


@pytest.fixture
def home(isolated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    write_completion_home(isolated)
    monkeypatch.chdir(tmp_path)
    return isolated


def completions(*args: str) -> list[str]:
    return [word for word, _ in completion.complete(args)]


def test_commands_options_and_values(home: Path) -> None:
    assert {"ask", "batch", "threads", "call"} <= set(completions(""))
    assert completions("thr") == ["threads"]
    assert completions("threads", "sh") == ["show"]
    assert "--model" in completions("ask", "--m")
    assert "--model" not in completions("ask", "-m", "x", "--m")
    assert "--allow" in completions("ask", "--allow", "x", "--al")
    assert completions("ask", "-o", "j") == ["json", "jsonl"]
    assert completions("call", "x.y", "--output=r") == ["--output=raw"]
    assert completions("--config", "nowhere", "thr") == ["threads"]
    assert completions("ask", "--", "--m") == []
    assert completions("servers", "nonsense", "") == []
    assert completions("servers", "add", "x", "--builtin", "g") == ["gmail"]
    assert completions("threads", "export", "--output", "") == ["markdown", "html", "json", "jsonl"]
    assert completions("auth", "login", "--store", "") == ["keyring", "file"]


def test_names_come_from_the_config_and_cached_catalogs(home: Path) -> None:
    assert completions("servers", "show", "") == ["notes", "company"]
    assert completions("ask", "-m", "") == ["local", "demo"]
    assert completions("-a", "") == ["librarian"]
    assert completions("ask", "-t", "") == ["review"]
    assert completions("call", "notes.") == ["notes.read_file"]
    assert completions("call", "notes.read_file", "") == ["path=", "mode=", "raw=", "odd="]
    assert completions("call", "notes.read_file", "path=x", "") == ["mode=", "raw=", "odd="]
    assert completions("call", "notes.read_file", "mode=") == ["mode=", "mode=r", "mode=rw"]
    assert completions("call", "notes.read_file", "mode=r", "raw=t") == ["raw=true"]
    assert completions("read", "notes:") == ["notes:file:///todo.md"]
    assert completions("prompt", "notes:s") == ["notes:summary"]
    assert completions("prompt", "notes:summary", "") == ["style="]
    assert completion.format_candidates(["batch", ""]) == "FILES\t\n"
    assert "\x1b" not in completion.format_candidates(["call", "notes.read_file", ""])


def test_threads_are_offered_by_id(home: Path) -> None:
    run_process([MCPCHAT, "ask", "-m", "demo", "2*3"]).check_returncode()
    ((word, hint),) = completion.complete(["threads", "show", ""])
    assert (len(word), hint) == (8, "2*3")
    assert completions("ask", "--thread", word[:2]) == [word]


def test_an_invalid_config_only_removes_the_names(home: Path) -> None:
    (home / ".config/mcpchat/config.toml").write_text("servers = 3\n[[[")
    assert completions("servers", "show", "") == ["calculator"]
    assert completions("thr") == ["threads"]


def test_every_name_of_the_table_exists() -> None:
    parameters = {parameter[2] for command in COMMANDS.values() for parameter in command.options.values()}
    assert set(completion._OPTION_SOURCES) <= parameters
    arguments = {(path, argument.name) for path, command in COMMANDS.items() for argument in command.arguments}
    assert set(completion._ARGUMENT_SOURCES) <= arguments


def test_it_loads_no_parser_or_sdk(home: Path) -> None:
    program = (
        "import sys; from mcpchat.__main__ import answer_quickly as run; run(['__complete', 'call', 'notes.']);"
        "print([name for name in ('typer', 'rich', 'mcp', 'openai', 'msgspec', 'asyncio') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert result.stdout == "notes.read_file\tReads\n[]\n"


def test_an_unknown_shell() -> None:
    result = run_process([MCPCHAT, "completion", "tcsh"])
    assert (result.returncode, "bash, zsh, fish" in result.stderr) == (2, True)
