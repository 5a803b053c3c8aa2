"""Completion: the words that a Tab offers, in real shells; it starts nothing, and runs nothing that strangers named."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcpchat.cli import completion

CONFIG = """
[servers.notes]
command = "no-such-program"
[servers.company]
url = "https://mcp.example.com/mcp"
[model.local]
name = "qwen3"
base_url = "http://127.0.0.1:9/v1"
[agents.librarian]
description = "my notes"
"""
COMMANDS = completion.load_commands()
NASTY = "x$(touch ran);touch ran"


@pytest.fixture
def home(isolated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home with a config, and the list of one of its servers, in which strangers wrote what they like."""
    folder = isolated / ".config/mcpchat"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    (folder / "templates").mkdir()
    (folder / "templates" / "review.md").write_text("Review: $input")
    schema = {"properties": {"path": {"description": "Which\x1b[31m file"}, "mode": {}, NASTY: {}}}
    tools = [{"server": "notes", "name": "read_file", "description": "Reads", "schema": schema}]
    tools += [{"server": "notes", "name": name, "schema": {}} for name in (NASTY, "a b", "a\nb", "`x`")]
    catalog = {
        "tools": tools,
        "resources": [{"server": "notes", "uri": "file:///todo.md", "title": "Things"}],
        "prompts": [{"server": "notes", "name": "summary", "arguments": [{"name": "style"}]}],
    }
    cache = isolated / ".cache/mcpchat/servers"
    (cache / "0.json").write_text(json.dumps({"format": 3, "catalog": catalog}))
    (cache / "broken.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    return isolated


def offered(*words: str) -> list[str]:
    return [word for word, _ in completion.complete(words)]


def test_commands_options_and_their_values(home: Path) -> None:
    assert {"ask", "batch", "threads", "call"} <= set(offered(""))
    assert offered("thr") == ["threads"]
    assert offered("threads", "sh") == ["show"]
    assert "--model" in offered("ask", "--m")
    assert "--model" not in offered("ask", "-m", "x", "--m")
    assert "--allow" in offered("ask", "--allow", "x", "--al")
    assert offered("ask", "-o", "j") == ["json", "jsonl"]
    assert offered("call", "x.y", "--output=r") == ["--output=raw"]
    assert offered("--config", "nowhere", "thr") == ["threads"]
    assert offered("ask", "--", "--m") == []
    assert offered("servers", "nonsense", "") == []


def test_names_come_from_the_config_and_from_what_servers_listed(home: Path) -> None:
    assert offered("servers", "show", "") == ["notes", "company"]
    assert offered("ask", "-m", "") == ["local", "demo"]
    assert offered("-a", "") == ["librarian"]
    assert offered("ask", "-t", "") == ["review"]
    assert offered("call", "notes.") == ["notes.read_file"]
    assert offered("call", "notes.read_file", "") == ["path=", "mode="]
    assert offered("call", "notes.read_file", "path=x", "") == ["mode="]
    assert offered("read", "notes:") == ["notes:file:///todo.md"]
    assert offered("prompt", "notes:s") == ["notes:summary"]
    assert offered("prompt", "notes:summary", "") == ["style="]
    assert completion.format_candidates(["batch", ""]) == "FILES\t\n"
    assert "\x1b" not in completion.format_candidates(["call", "notes.read_file", ""])


def test_threads_are_offered_by_their_ids(home: Path, mcpchat_command: str) -> None:
    subprocess.run([mcpchat_command, "ask", "-m", "demo", "2*3"], check=True, capture_output=True, timeout=50)
    ((word, told),) = completion.complete(["threads", "show", ""])
    assert (len(word), told) == (8, "2*3")
    assert offered("ask", "--thread", word[:2]) == [word]


def test_a_config_that_is_wrong_costs_no_more_than_the_names(home: Path) -> None:
    (home / ".config/mcpchat/config.toml").write_text("servers = 3\n[[[")
    assert offered("servers", "show", "") == ["calculator"]
    assert offered("thr") == ["threads"]


def test_every_name_that_the_table_speaks_of_is_there() -> None:
    known = {parameter[2] for command in COMMANDS.values() for parameter in command.options.values()}
    assert set(completion._OPTION_SOURCES) <= known
    arguments = {(path, argument.name) for path, command in COMMANDS.items() for argument in command.arguments}
    assert set(completion._ARGUMENT_SOURCES) <= arguments


def test_it_loads_no_parser_and_no_sdk(home: Path) -> None:
    program = (
        "import sys; from mcpchat.__main__ import answer_quickly as run; run(['__complete', 'call', 'notes.']);"
        "print([name for name in ('typer', 'rich', 'mcp', 'openai', 'msgspec', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert done.stdout == "notes.read_file\tReads\n[]\n"


LINES = [
    ("mcpchat thr", "threads"),
    ("mcpchat call notes.r", "notes.read_file"),
    ("mcpchat call notes.read_file pa", "path="),
    ("mcpchat read notes:f", "notes:file:///todo.md"),
    ("mcpchat ask --model=lo", "--model=local"),
    ("mcpchat batch REQ", "REQUESTS.jsonl"),
    ("mcpchat call notes.read_file path=@REQ", "path=@REQUESTS.jsonl"),
]


@pytest.mark.parametrize(("line", "wanted"), LINES)
def test_bash_completes_with_its_own_word_breaks(home: Path, line: str, wanted: str) -> None:
    Path("REQUESTS.jsonl").write_text("")
    stem = line.rsplit(" ", 1)[1]
    cut = max(stem.rfind(mark) for mark in "=:@") + 1
    program = (
        f"{completion.read_script('bash')}\nCOMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _mcpchat\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=with_command(), timeout=50)
    assert done.stdout.splitlines() == [wanted[cut:]], done.stderr


def test_bash_offers_nothing_that_would_run(home: Path, tmp_path: Path) -> None:
    program = (
        f'{completion.read_script("bash")}\nfor COMP_LINE in "mcpchat call notes." "mcpchat call notes.read_file "; do\n'
        'COMP_POINT=${#COMP_LINE}; _mcpchat; for word in "${COMPREPLY[@]}"; do eval "true $word"; done; done'
    )
    subprocess.run(["bash", "-c", program], env=with_command(), check=True, timeout=50)
    assert list(tmp_path.iterdir()) == []


def with_command() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return found


def test_fish_completes(home: Path) -> None:
    program = f"{completion.read_script('fish')}\ncomplete -C 'mcpchat call notes.r'\ncomplete -C 'mcpchat thr'"
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c", program], capture_output=True, text=True, env=with_command(), timeout=50
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["notes.read_file", "threads"], done.stderr


def test_zsh_completes(home: Path, tmp_path: Path) -> None:
    from tests.terminal import Terminal

    (home / ".zshrc").write_text(
        f"PS1='ready> '\nautoload -Uz compinit && compinit -u\n{completion.read_script('zsh')}"
    )
    with Terminal([shell("zsh"), "-i"], environ={**with_command(), "HOME": str(home)}) as terminal:
        terminal.wait_for("ready>")
        terminal.send("mcpchat call notes.r\t")
        terminal.wait_for("notes.read_file")
        terminal.send("pa\t")
        terminal.wait_for("path=")


def test_a_shell_that_is_none(mcpchat_command: str) -> None:
    done = subprocess.run([mcpchat_command, "completion", "tcsh"], capture_output=True, text=True, timeout=50)
    assert (done.returncode, "bash, zsh, fish" in done.stderr) == (2, True)


def test_the_manual_page_is_one(tmp_path: Path) -> None:
    page = Path(__file__).parent.parent / "docs/mcpchat.1"
    text = page.read_text()
    assert text.startswith(".TH MCPCHAT 1")
    assert {f".SH MCPCHAT {name.upper()}".rstrip() for name in COMMANDS} <= set(text.splitlines())
    if shutil.which("man"):
        done = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True, timeout=50)
        assert (done.returncode, done.stderr) == (0, "")
