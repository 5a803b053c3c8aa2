"""Threads, branches and agents in a chat, on a real terminal."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.fake_openai import FakeOpenAI, text
from tests.scripted_mcp import ScriptedServer
from tests.terminal import Terminal

ENTER = "\r"
ESC = "\x1b"


@pytest.fixture
def box(mcpchat_command: str, tmp_path: Path, fake_openai: FakeOpenAI) -> ScriptedServer:
    made = ScriptedServer(mcpchat_command, tmp_path, fake_openai)
    made.configure("", AGENTS)
    made.set_script(tools=[])
    return made


AGENTS = """
[agents.mail]
description = "my letters"
instructions = "Be kind."
model = "mail-model"
servers = []
"""


def say(terminal: Terminal, line: str, wanted: str, count: int = 1) -> str:
    terminal.send(line + ENTER)
    return terminal.wait_for(wanted, count=count)


def users(box: ScriptedServer) -> list[Any]:
    return [m["content"] for m in box.fake_openai.requests[-1]["messages"] if m["role"] == "user"]


def test_what_was_said_is_taken_back_said_otherwise_and_found_again(box: ScriptedServer) -> None:
    box.fake_openai.replies = [text(f"answer {number}") for number in range(1, 6)]
    with box.terminal(columns=100, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "first", "answer 1")
        say(terminal, "second", "answer 2")
        say(terminal, "/undo", "taken back: second")
        say(terminal, "/threads branch", "continues from here  answer 2")
        assert "*    2  2 messages" in terminal.text
        say(terminal, "third", "answer 3")
        assert users(box) == ["first", "third"]
        say(terminal, "/edit", "change it and press Enter")
        terminal.wait_for("\n> third")
        say(terminal, " and more", "answer 4")
        assert users(box) == ["first", "third and more"]
        say(terminal, "/threads branch", "branches off after 2  answer 2")
        say(terminal, "/threads branch 4", "answer 2", count=4)
        say(terminal, "on", "answer 5")
        assert users(box) == ["first", "second", "on"]
        say(terminal, "/threads branch 99", "has no message 99")
        say(terminal, "/threads branch x", "expected a message's number")
        say(terminal, "/edit", "change it", count=2)
        terminal.wait_for("\n> on")
        terminal.send("\x15" + ENTER)  # all of the line, gone: everything stays
        say(terminal, "/undo", "taken back: on")
        say(terminal, "/exit", "")
        assert terminal.wait_exit() == 0
    tree = box.run("threads", "show", box.run("threads", "-o", "json").stdout.split('"id": "')[1][:8], "--tree")
    assert len(tree.stdout.splitlines()) == 4


def test_an_edit_that_is_let_go_replaces_nothing(box: ScriptedServer) -> None:
    box.fake_openai.replies = [text(f"answer {number}") for number in range(1, 6)]
    with box.terminal(columns=100, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "first", "answer 1")
        say(terminal, "/edit", "change it")
        terminal.wait_for("\n> first")
        terminal.send("\x03")
        terminal.read(0.3)
        say(terminal, "second", "answer 2")
        assert users(box) == ["first", "second"]
        say(terminal, "/edit", "change it", count=2)
        terminal.wait_for("\n> second", count=2)
        terminal.send(ENTER)
        terminal.wait_for("nothing was changed")
        (box.folder / "a.txt").write_text("see @box:secret://x now")
        say(terminal, f"/attach {box.folder / 'a.txt'}", "goes with the next")
        say(terminal, "sum this", "answer 3")
        say(terminal, "/edit", "change it", count=3)
        terminal.wait_for("\n> sum this", count=2)
        say(terminal, " up", "answer 4")
        sent = box.fake_openai.requests[-1]["messages"][-1]["content"]
        whole = sent if isinstance(sent, str) else "".join(part["text"] for part in sent)
        assert whole.startswith("sum this up")
        assert whole.count("see @box:secret://x now") == 1
        say(terminal, "/undo 2", "taken back: second")
        say(terminal, f"/attach {box.folder / 'a.txt'}", "goes with the next", count=2)
        say(terminal, "/clear", "attachments removed")


def test_a_thread_that_is_gone_on_with_changes_neither_agent_nor_model_that_the_run_names(box: ScriptedServer) -> None:
    box.configure("", AGENTS + '[agents.lax]\napprovals = { default = "allow" }\n')
    box.fake_openai.replies = [text(f"answer {number}") for number in range(1, 6)]
    box.run("ask", "hello", "--title", "Lax", "-a", "lax")
    box.run("ask", "hello", "--title", "Gone", "-a", "lax")
    with box.terminal("-a", "mail", columns=100) as terminal:
        terminal.wait_for("mail · mail-model")
        terminal.wait_for("\n>")
        say(terminal, "/resume Lax", "agent mail · mail-model")
        say(terminal, "on", "answer 3")
        assert (box.fake_openai.requests[-1]["model"], box.fake_openai.requests[-1].get("tools")) == (
            "mail-model",
            None,
        )
    box.configure("", AGENTS)
    with box.terminal(columns=100) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "/agent mail", "agent: mail, on mail-model")
        say(terminal, "/agent -", "agent: none, on")
        say(terminal, "/resume Gone", "no agent is named 'lax'")
        terminal.wait_for("continuing with m")
        say(terminal, "on", "answer 4")


def test_an_edit_opens_the_persons_own_editor(box: ScriptedServer) -> None:
    editor = box.folder / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/first/better/ "$1"\n')
    editor.chmod(0o755)
    box.fake_openai.replies = [text("answer 1"), text("answer 2")]
    with box.terminal(columns=100, environ={"EDITOR": str(editor), "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "first", "answer 1")
        say(terminal, "/edit", "answer 2")
        assert users(box) == ["better"]
        say(terminal, "/edit", "nothing was changed")


def test_a_thread_is_gone_on_with_by_an_option_by_its_name_or_by_a_few_letters(box: ScriptedServer) -> None:
    box.fake_openai.replies = [text(f"answer {number}") for number in range(1, 5)]
    box.run("ask", "of apples", "--title", "Apples and pears")
    box.run("ask", "of mail", "--title", "Letters", "--agent", "mail")
    with box.terminal("-c", columns=100) as terminal:
        terminal.wait_for('"Letters" · 2 messages')
        assert "> of mail" in terminal.text
        assert "answer 2" in terminal.text
        terminal.wait_for("\n>")
        say(terminal, "/agent", "agent: mail")
        say(terminal, "/threads", "which?")
        terminal.wait_for("Apples and pears")
        terminal.send("aplper")
        terminal.read(0.5)
        terminal.send(ENTER)
        terminal.wait_for('"Apples and pears" · 2 messages')
        say(terminal, "and?", "answer 3")
        assert users(box) == ["of apples", "and?"]
        assert box.fake_openai.requests[-1]["model"] == "m"
        say(terminal, "/resume Letters", '"Letters" · 2 messages', count=2)
        say(terminal, "still?", "answer 4")
        assert box.fake_openai.requests[-1]["model"] == "mail-model"
        say(terminal, "/threads", "which?", count=2)
        terminal.wait_for("Apples and pears", count=2)
        terminal.send(ESC)
        terminal.wait_for("the current conversation continues")
        say(terminal, "/resume Lettres", "did you mean Letters?")
        say(terminal, "/threads rename Post", 'renamed to "Post"')
        say(terminal, "/threads fork", "a fork of")
        say(terminal, "/exit", "")
        terminal.wait_exit()
    assert [line.split("  ")[2] for line in box.run("threads").stdout.splitlines()[1:]] == [
        "Post (fork)",
        "Post",
        "Apples and pears",
    ]


def test_agents_and_templates_are_chosen_and_completed(box: ScriptedServer) -> None:
    (box.folder / "templates").mkdir()
    (box.folder / "templates" / "greet.md").write_text("Greet $who in ${language:-English}.")
    box.fake_openai.replies = [text("answer 1"), text("answer 2")]
    with box.terminal(columns=100) as terminal:
        terminal.wait_for("\n>")
        terminal.send("/agent ")
        terminal.wait_for("my letters")
        say(terminal, "mail", "agent: mail, on mail-model")
        say(terminal, "hello", "answer 1")
        system = box.fake_openai.requests[-1]["messages"][0]
        assert (system["content"], box.fake_openai.requests[-1].get("tools")) == ("Be kind.", None)
        say(terminal, "/agent nobody", "no agent is named 'nobody'")
        terminal.send("/template:greet ")
        terminal.wait_for("language=")
        say(terminal, 'who="Ann B"', "answer 2")
        assert users(box) == ["hello", "Greet Ann B in English."]
        say(terminal, "/template:greet", "needs who")
        terminal.send("/tem")
        terminal.wait_for("your template")


def test_switching_agents_starts_what_is_needed_and_stops_what_is_not(box: ScriptedServer) -> None:
    box.configure("", AGENTS + '[agents.boxes]\nservers = ["box"]\n')
    box.set_script()
    box.fake_openai.replies = [text("answer 1"), text("answer 2"), text("answer 3")]
    with box.terminal("--agent", "mail", columns=100) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "one", "answer 1")
        assert box.fake_openai.requests[-1].get("tools") is None
        assert not _running(box)
        say(terminal, "/agent boxes", "agent: boxes, on m")
        say(terminal, "two", "answer 2")
        assert "box__say" in box.offered_tools
        say(terminal, "/servers", "ready")
        assert _running(box)
        say(terminal, "/agent mail", "agent: mail, on mail-model")
        assert not _running(box)
        say(terminal, "three", "answer 3")
        assert box.fake_openai.requests[-1].get("tools") is None


def _running(box: ScriptedServer) -> list[str]:
    """The processes of the box's server."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(box.folder / "said.json").encode() in words and os.fsencode(b"scripted.py") in b" ".join(words):
                found.append(place.name)
    return found


def test_in_a_chat_that_saves_nothing_the_commands_say_so(box: ScriptedServer) -> None:
    box.fake_openai.replies = [text("answer 1"), text("answer 2")]
    with box.terminal("--no-save", columns=100) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "one", "answer 1")
        say(terminal, "/threads", "threads are not saved")
        say(terminal, "/undo", "taken back: one")
        say(terminal, "two", "answer 2")
        assert users(box) == ["two"]
        say(terminal, "/exit", "")
        terminal.wait_exit()
    assert "no threads" in box.run("threads").stderr
