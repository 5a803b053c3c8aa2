"""Completion in real shells, and the manual page."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcpchat.cli import completion
from tests.support.completion_home import write_completion_home
from tests.support.paths import DOCS

COMMANDS = completion.load_commands()


@pytest.fixture
def home(isolated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    write_completion_home(isolated)
    monkeypatch.chdir(tmp_path)
    return isolated


LINES = [
    ("mcpchat thr", "threads"),
    ("mcpchat call notes.r", "notes.read_file"),
    ("mcpchat call notes.read_file pa", "path="),
    ("mcpchat read notes:f", "notes:file:///todo.md"),
    ("mcpchat ask --model=lo", "--model=local"),
    ("mcpchat batch REQ", "REQUESTS.jsonl"),
    ("mcpchat call notes.read_file path=@REQ", "path=@REQUESTS.jsonl"),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_bash_completes_with_its_own_word_breaks(home: Path, line: str, expected: str) -> None:
    Path("REQUESTS.jsonl").write_text("")
    stem = line.rsplit(" ", 1)[1]
    prefix = max(stem.rfind(mark) for mark in "=:@") + 1
    program = (
        f"{completion.read_script('bash')}\nCOMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _mcpchat\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=with_command(), timeout=50)
    assert result.stdout.splitlines() == [expected[prefix:]], result.stderr


def test_bash_offers_nothing_executable(home: Path, tmp_path: Path) -> None:
    program = (
        f'{completion.read_script("bash")}\nfor COMP_LINE in "mcpchat call notes." "mcpchat call notes.read_file "; do\n'
        'COMP_POINT=${#COMP_LINE}; _mcpchat; for word in "${COMPREPLY[@]}"; do eval "true $word"; done; done'
    )
    subprocess.run(["bash", "-c", program], env=with_command(), check=True, timeout=50)
    assert list(tmp_path.iterdir()) == []


def with_command() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return path


def test_fish_completes(home: Path) -> None:
    program = f"{completion.read_script('fish')}\ncomplete -C 'mcpchat call notes.r'\ncomplete -C 'mcpchat thr'"
    result = subprocess.run(
        [shell("fish"), "--no-config", "-c", program], capture_output=True, text=True, env=with_command(), timeout=50
    )
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["notes.read_file", "threads"], result.stderr


def test_zsh_completes(home: Path, tmp_path: Path) -> None:
    from tests.support.terminal import Terminal

    (home / ".zshrc").write_text(
        f"PS1='ready> '\nautoload -Uz compinit && compinit -u\n{completion.read_script('zsh')}"
    )
    with Terminal([shell("zsh"), "-i"], environ={**with_command(), "HOME": str(home)}) as terminal:
        terminal.wait_for("ready>")
        terminal.send("mcpchat call notes.r\t")
        terminal.wait_for("notes.read_file")
        terminal.send("pa\t")
        terminal.wait_for("path=")


def test_the_manual_page(tmp_path: Path) -> None:
    page = DOCS / "mcpchat.1"
    text = page.read_text()
    assert text.startswith(".TH MCPCHAT 1")
    assert {f".SH MCPCHAT {name.upper()}".rstrip() for name in COMMANDS} <= set(text.splitlines())
    if shutil.which("man"):
        result = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True, timeout=50)
        assert (result.returncode, result.stderr) == (0, "")
