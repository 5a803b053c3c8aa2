"""The chat in tmux, and in a terminal that is closed."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk
from tests.support.paths import MCPCHAT
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator["Tmux"]:
    terminal = Tmux(tmp_path / "tmux.sock")
    yield terminal
    terminal.run("kill-server")


class Tmux:
    """A terminal that wraps lines again after a resize and keeps the scrollback."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def run(self, *args: str) -> str:
        command = ["tmux", "-S", str(self._socket), *args]
        # Without env=, tmux would inherit COLUMNS and LINES, which GNU readline sets outside os.environ.
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        return result.stdout

    def start(self, command: str, environ: dict[str, str], columns: int, lines: int) -> None:
        variables = [arg for name, value in environ.items() for arg in ("-e", f"{name}={value}")]
        self.run("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), *variables, command)

    def resize(self, columns: int, lines: int) -> None:
        self.run("resize-window", "-x", str(columns), "-y", str(lines))

    def send(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def text(self) -> str:
        """Return the screen and the scrollback, with wrapped lines joined."""
        return self.run("capture-pane", "-p", "-J", "-S", "-")

    def wait_for(self, expected: str, count: int = 1) -> str:
        end = time.monotonic() + 20
        while (screen := self.text()).count(expected) < count:
            assert time.monotonic() < end, f"{expected!r} did not show. The screen:\n{screen}"
            time.sleep(0.05)
        return screen

    def wait_for_spinner(self) -> None:
        """Wait until the spinner has turned twice."""
        frames: set[str] = set()

        def has_turned() -> bool:
            frames.update(re.findall("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", self.text()))
            return len(frames) > 2

        wait_until(has_turned)

    def wait_for_sequence(self, *expected: str) -> str:
        """Wait until one screen shows these texts in this order; returns it.

        The input line is taken away and drawn again around what is printed, so a single text may be on a screen that is
        only half drawn.
        """
        pattern = re.compile(".*".join(re.escape(text) for text in expected), re.DOTALL)
        end = time.monotonic() + 20
        while not pattern.search(screen := self.text()):
            assert time.monotonic() < end, f"{expected!r} did not show. The screen:\n{screen}"
            time.sleep(0.05)
        return screen


def isolated_environ(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("XDG_", "HOME", "PATH"))} | environ


@pytest.mark.parametrize("command", ["chat", "ask"])
def test_a_resize_during_an_answer_loses_and_repeats_nothing(
    tmux: Tmux, chat_environ: dict[str, str], fake_openai: FakeOpenAI, command: str
) -> None:
    words = [f"word{n}" for n in range(160)]
    code = [f"line_{n} = {n}" for n in range(40)]
    answer = [f"{word} " for word in words] + ["\n\n```python\n"] + [f"{line}\n" for line in code] + ["```\n\nThe end."]
    # The window's widths, one after the other as when its edge is pulled, while the model has sent so much.
    widths = {30: [50], 70: [100, 40, 90, 33], 110: [60], 166: [100, 33], 181: [100, 90]}
    resized = threading.Semaphore(0)

    def stream() -> Iterator[bytes]:
        for number, piece in enumerate(answer):
            if number in widths:
                resized.acquire(timeout=30)
            yield chunk({"content": piece})
            time.sleep(0.01)
        yield chunk({}, "stop")

    fake_openai.replies = [CannedResponse(stream())]
    is_chat = command == "chat"
    tmux.start(
        MCPCHAT if is_chat else f"sh -c '{MCPCHAT} ask go; echo ended; sleep 60'",
        isolated_environ(chat_environ),
        80,
        16,
    )
    if is_chat:
        tmux.wait_for("m · no servers")
        tmux.send("go", "Enter")
    for number, columns in widths.items():
        tmux.wait_for(answer[number - 1].strip())
        if is_chat:
            tmux.wait_for_spinner()  # all of it is drawn
        for width in columns:
            tmux.resize(width, 16)
        resized.release()
    if is_chat:
        tmux.send("half a thought")
        screen = tmux.wait_for_sequence("The end.", "tokens", "> half a thought", "m · no servers")
    else:
        screen = tmux.wait_for("\nended")
    assert re.findall(r"word\d+", screen) == words
    assert re.findall(r"line_\d+ = \d+", screen) == code
    assert screen.count("The end.") == 1
    if not is_chat:
        return
    assert screen.count("> go") == screen.count("> half") == 1
    assert screen.count("· no servers") == 2  # the first and the last line
    tmux.send("C-l")
    wait_until(lambda: tmux.run("capture-pane", "-p").lstrip().startswith("> half a thought"))


def test_the_terminal_is_restored_for_the_shell(tmux: Tmux, chat_environ: dict[str, str]) -> None:
    shell = isolated_environ(chat_environ)
    tmux.start("env PS1='shell> ' bash --norc --noprofile -i", shell, 80, 24)
    tmux.wait_for("shell>")
    tmux.send(f"{MCPCHAT}", "Enter")
    tmux.wait_for("m · no servers")
    tmux.send("half a line", "C-z")
    tmux.wait_for("Stopped")
    tmux.send("stty -a | grep -o ' echo \\| icanon ' | tr -d '\\n'; fg", "Enter")
    screen = tmux.wait_for("> half a line")  # removed while the program was stopped
    assert " icanon  echo " in screen or " echo  icanon " in screen
    tmux.send("C-z")
    tmux.wait_for("Stopped", count=2)
    tmux.send("kill -TERM %1; fg", "Enter")
    tmux.wait_for("shell>", count=4)
    tmux.send("stty -a | grep -c ' echo .*\\|icanon'; echo code $?", "Enter")
    tmux.wait_for("code 0")
    tmux.send("type me", "C-u", "echo seen", "Enter")
    tmux.wait_for("\nseen")


def test_a_closed_terminal_ends_the_chat(chat_environ: dict[str, str]) -> None:
    with Terminal(["sh", "-c", f"trap '' HUP; exec {MCPCHAT}"], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        os.close(terminal._fd)  # like a closed window
        terminal.process.wait(timeout=20)
        terminal._fd = os.open(os.devnull, os.O_RDONLY)
