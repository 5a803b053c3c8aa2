"""The queue of lines that are sent while another is being handled."""

import asyncio

import pytest
from prompt_toolkit.completion import DummyCompleter
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from mcpchat.ui.terminal import prompt_screen
from mcpchat.ui.terminal.prompt_screen import PromptScreen


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> PromptScreen:
    monkeypatch.setattr(prompt_screen, "terminal_output", DummyOutput)
    return PromptScreen(
        lambda file: Console(file=file), history=InMemoryHistory(), completer=DummyCompleter(), interrupt=lambda: True
    )


def send(screen: PromptScreen, line: str) -> None:
    screen.buffer.text = line
    screen.submit()


def read_queue(screen: PromptScreen) -> list[str | None]:
    async def read() -> list[str | None]:
        lines = []
        while True:
            try:
                lines.append(await asyncio.wait_for(screen.next_line(), 0.01))
            except TimeoutError:
                return lines

    return asyncio.run(read())


async def make_busy(screen: PromptScreen) -> None:
    screen.set_busy(True)


def test_a_line_that_is_sent_after_ctrl_c_is_the_next_one(screen: PromptScreen) -> None:
    asyncio.run(make_busy(screen))
    send(screen, "one")
    send(screen, "two")
    screen.cancel_or_leave()
    send(screen, "three")
    screen.cancel_or_leave()  # an impatient second Ctrl-C is not a new one
    screen.recall_cancelled()
    assert screen.buffer.text == "one\ntwo"
    assert screen.queued_lines == ["three"]
    assert read_queue(screen) == ["three"]


def test_without_ctrl_c_all_lines_return(screen: PromptScreen) -> None:
    asyncio.run(make_busy(screen))
    send(screen, "one")
    screen.request_exit()
    screen.recall_cancelled()
    assert (screen.buffer.text, screen.queued_lines, screen.exit_requested) == ("one", [], False)
    assert read_queue(screen) == []


def test_up_after_ctrl_c_returns_all_lines_once(screen: PromptScreen) -> None:
    asyncio.run(make_busy(screen))
    send(screen, "one")
    screen.cancel_or_leave()
    send(screen, "two")
    screen.recall_queued()
    assert screen.buffer.text == "one\ntwo"
    screen.buffer.text = ""
    send(screen, "three")
    screen.recall_cancelled()
    assert read_queue(screen) == ["three"]


def test_leaving_is_asked_for_before_or_after_ctrl_c(screen: PromptScreen) -> None:
    asyncio.run(make_busy(screen))
    screen.request_exit()
    screen.cancel_or_leave()
    screen.recall_cancelled()
    assert not screen.exit_requested  # what was asked for before is cancelled too
    screen.request_exit()
    screen.recall_cancelled()
    assert screen.exit_requested
    assert read_queue(screen) == [None]
