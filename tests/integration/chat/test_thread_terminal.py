"""Threads, branches and agents in a chat on a real terminal."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_openai import FakeOpenAI, text
from tests.support.scripted_mcp import ScriptedServer
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER = "\r"
ESC = "\x1b"


@pytest.fixture
def server(tmp_path: Path, fake_openai: FakeOpenAI) -> ScriptedServer:
    scripted = ScriptedServer(tmp_path, fake_openai)
    scripted.configure("", AGENTS)
    scripted.set_script(tools=[])
    return scripted


AGENTS = """
[agents.mail]
description = "my letters"
instructions = "Be kind."
model = "mail-model"
servers = []
"""


def say(terminal: Terminal, line: str, expected: str, count: int = 1) -> str:
    terminal.send(line + ENTER)
    return terminal.wait_for(expected, count=count)


def user_messages(server: ScriptedServer) -> list[Any]:
    return [message["content"] for message in server.fake_openai.requests[-1]["messages"] if message["role"] == "user"]


def test_undo_edit_and_branches_of_a_chat(server: ScriptedServer) -> None:
    server.fake_openai.replies = [text(f"answer {number}") for number in range(1, 6)]
    with server.terminal(columns=100, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "first", "answer 1")
        say(terminal, "second", "answer 2")
        say(terminal, "/undo", "taken back: second")
        say(terminal, "/threads branch", "   4  second")
        assert re.search(r"\*    2  first  20\d\d-\S+ \S+  here\n     4  second", terminal.text)
        say(terminal, "third", "answer 3")
        assert user_messages(server) == ["first", "third"]
        say(terminal, "/edit", "change it and press Enter")
        terminal.wait_for("\n> third")
        say(terminal, " and more", "answer 4")
        assert user_messages(server) == ["first", "third and more"]
        say(terminal, "/threads branch", "├─   4  second")
        assert re.search(r"\* └─   8  third and more .*here", terminal.text)
        say(terminal, "/threads branch 4", "answer 2", count=2)
        say(terminal, "on", "answer 5")
        assert user_messages(server) == ["first", "second", "on"]
        say(terminal, "/threads branch 99", "has no message 99")
        say(terminal, "/threads branch x", "expected a message's number")
        say(terminal, "/edit", "change it", count=2)
        terminal.wait_for("\n> on")
        terminal.send("\x15" + ENTER)  # the line is emptied: nothing changes
        say(terminal, "/undo", "taken back: on")
        say(terminal, "/exit", "")
        assert terminal.wait_exit() == 0
    tree = server.run("threads", "show", server.run("threads", "-o", "json").stdout.split('"id": "')[1][:8], "--tree")
    assert len(tree.stdout.splitlines()) == 5


def test_a_cancelled_edit_changes_nothing(server: ScriptedServer) -> None:
    server.fake_openai.replies = [text(f"answer {number}") for number in range(1, 6)]
    with server.terminal(columns=100, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "first", "answer 1")
        say(terminal, "/edit", "change it")
        terminal.wait_for("\n> first")
        terminal.send("\x03")
        terminal.settle()
        say(terminal, "second", "answer 2")
        assert user_messages(server) == ["first", "second"]
        say(terminal, "/edit", "change it", count=2)
        terminal.wait_for("\n> second", count=2)
        terminal.send(ENTER)
        terminal.wait_for("nothing was changed")
        (server.folder / "a.txt").write_text("see @box:secret://x now")
        say(terminal, f"/attach {server.folder / 'a.txt'}", "goes with the next")
        say(terminal, "sum this", "answer 3")
        say(terminal, "/edit", "change it", count=3)
        terminal.wait_for("\n> sum this", count=2)
        say(terminal, " up", "answer 4")
        content = server.fake_openai.requests[-1]["messages"][-1]["content"]
        question = content if isinstance(content, str) else "".join(part["text"] for part in content)
        assert question.startswith("sum this up")
        assert question.count("see @box:secret://x now") == 1
        say(terminal, "/undo 2", "taken back: second")
        say(terminal, f"/attach {server.folder / 'a.txt'}", "goes with the next", count=2)
        say(terminal, "/clear", "attachments removed")


def test_a_resumed_thread_keeps_the_agent_and_model_of_the_run(server: ScriptedServer) -> None:
    server.configure("", AGENTS + '[agents.lax]\napprovals = { default = "allow" }\n')
    server.fake_openai.replies = [text(f"answer {number}") for number in range(1, 6)]
    server.run("ask", "hello", "--title", "Lax", "-a", "lax")
    server.run("ask", "hello", "--title", "Gone", "-a", "lax")
    with server.terminal("-a", "mail", columns=100) as terminal:
        terminal.wait_for("mail · mail-model")
        terminal.wait_for("\n>")
        say(terminal, "/resume Lax", "agent mail · mail-model")
        say(terminal, "on", "answer 3")
        assert (server.fake_openai.requests[-1]["model"], server.fake_openai.requests[-1].get("tools")) == (
            "mail-model",
            None,
        )
    server.configure("", AGENTS)
    with server.terminal(columns=100) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "/agent mail", "agent: mail, on mail-model")
        say(terminal, "/agent -", "agent: none, on")
        say(terminal, "/resume Gone", "no agent is named 'lax'")
        terminal.wait_for("continuing with m")
        say(terminal, "on", "answer 4")


def test_an_edit_opens_the_users_editor(server: ScriptedServer) -> None:
    editor = server.folder / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/first/better/ "$1"\n')
    editor.chmod(0o755)
    server.fake_openai.replies = [text("answer 1"), text("answer 2")]
    with server.terminal(columns=100, environ={"EDITOR": str(editor), "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "first", "answer 1")
        say(terminal, "/edit", "answer 2")
        assert user_messages(server) == ["better"]
        say(terminal, "/edit", "nothing was changed")


def test_a_thread_is_resumed_by_option_name_or_prefix(server: ScriptedServer) -> None:
    server.fake_openai.replies = [text(f"answer {number}") for number in range(1, 5)]
    server.run("ask", "of apples", "--title", "Apples and pears")
    server.run("ask", "of mail", "--title", "Letters", "--agent", "mail")
    with server.terminal("-c", columns=100) as terminal:
        terminal.wait_for('"Letters" · 2 messages')
        assert "> of mail" in terminal.text
        assert "answer 2" in terminal.text
        terminal.wait_for("\n>")
        say(terminal, "/agent", "agent: mail")
        say(terminal, "/threads", "which?")
        terminal.wait_for("Apples and pears")
        terminal.send("aplper")
        terminal.settle()
        terminal.send(ENTER)
        terminal.wait_for('"Apples and pears" · 2 messages')
        say(terminal, "and?", "answer 3")
        assert user_messages(server) == ["of apples", "and?"]
        assert server.fake_openai.requests[-1]["model"] == "m"
        say(terminal, "/resume Letters", '"Letters" · 2 messages', count=2)
        say(terminal, "still?", "answer 4")
        assert server.fake_openai.requests[-1]["model"] == "mail-model"
        say(terminal, "/threads", "which?", count=2)
        terminal.wait_for("Apples and pears", count=2)
        terminal.settle()
        terminal.send(ESC)
        terminal.wait_for("the current conversation continues")
        say(terminal, "/resume Lettres", "did you mean Letters?")
        say(terminal, "/threads rename Post", 'renamed to "Post"')
        say(terminal, "/threads fork", "a fork of")
        say(terminal, "/exit", "")
        terminal.wait_exit()
    assert [line.split("  ")[2] for line in server.run("threads").stdout.splitlines()[1:]] == [
        "Post (fork)",
        "Post",
        "Apples and pears",
    ]


def test_agents_and_templates_are_selected_and_completed(server: ScriptedServer) -> None:
    (server.folder / "templates").mkdir()
    (server.folder / "templates" / "greet.md").write_text("Greet $who in ${language:-English}.")
    server.fake_openai.replies = [text("answer 1"), text("answer 2")]
    with server.terminal(columns=100) as terminal:
        terminal.wait_for("\n>")
        terminal.send("/agent ")
        terminal.wait_for("my letters")
        say(terminal, "mail", "agent: mail, on mail-model")
        say(terminal, "hello", "answer 1")
        system = server.fake_openai.requests[-1]["messages"][0]
        assert (system["content"], server.fake_openai.requests[-1].get("tools")) == ("Be kind.", None)
        say(terminal, "/agent nobody", "no agent is named 'nobody'")
        terminal.send("/template:greet ")
        terminal.wait_for("language=")
        say(terminal, 'who="Ann B"', "answer 2")
        assert user_messages(server) == ["hello", "Greet Ann B in English."]
        say(terminal, "/template:greet", "needs who")
        terminal.send("/tem")
        terminal.wait_for("your template")


def test_switching_agents_starts_and_stops_servers(server: ScriptedServer) -> None:
    server.configure("", AGENTS + '[agents.boxes]\nservers = ["box"]\n')
    server.set_script()
    server.fake_openai.replies = [text("answer 1"), text("answer 2"), text("answer 3")]
    with server.terminal("--agent", "mail", columns=100) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "one", "answer 1")
        assert server.fake_openai.requests[-1].get("tools") is None
        assert not _running_commands(server)
        say(terminal, "/agent boxes", "agent: boxes, on m")
        say(terminal, "two", "answer 2")
        assert "box__say" in server.offered_tools
        say(terminal, "/servers", "ready")
        assert _running_commands(server)
        say(terminal, "/agent mail", "agent: mail, on mail-model")
        assert not _running_commands(server)
        say(terminal, "three", "answer 3")
        assert server.fake_openai.requests[-1].get("tools") is None


def _running_commands(server: ScriptedServer) -> list[str]:
    """Return the commands of the running processes of the box server."""
    commands = []
    for process_folder in Path("/proc").iterdir():
        if process_folder.name.isdecimal():
            try:
                arguments = (process_folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(server.folder / "said.json").encode() in arguments and os.fsencode(b"scripted.py") in b" ".join(
                arguments
            ):
                commands.append(process_folder.name)
    return commands


def test_commands_report_that_a_chat_is_not_saved(server: ScriptedServer) -> None:
    server.fake_openai.replies = [text("answer 1"), text("answer 2")]
    with server.terminal("--no-save", columns=100) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "one", "answer 1")
        say(terminal, "/threads", "threads are not saved")
        say(terminal, "/undo", "taken back: one")
        say(terminal, "two", "answer 2")
        assert user_messages(server) == ["two"]
        say(terminal, "/exit", "")
        terminal.wait_exit()
    assert "no threads" in server.run("threads").stderr
