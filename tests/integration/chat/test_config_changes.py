"""A running chat uses what changes in its config."""

import sys
from pathlib import Path

import pytest

from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.paths import FULL_FEATURED, MCPCHAT, QUIRKY
from tests.support.processes import server_table
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER = "\r"


def say(terminal: Terminal, line: str, expected: str, *, count: int = 1) -> str:
    terminal.send(line + ENTER)
    return terminal.wait_for(expected, count=count)


def offered(fake: FakeOpenAI) -> set[str]:
    names = {tool["function"]["name"].partition("__")[0] for tool in fake.requests[-1].get("tools", [])}
    return names - {"mcpchat"}


def test_a_changed_file_holds_from_the_next_message_on(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    before = config.read_text()
    fake_openai.replies = [
        text("One."),
        text("Two."),
        text("Three."),
        tool_call("box__steps", '{"count": 1, "pause": 0}'),
        text("Four."),
    ]
    with Terminal([MCPCHAT], environ=chat_environ, columns=110) as terminal:
        terminal.wait_for("m · no servers")
        say(terminal, "one", "One.")
        assert offered(fake_openai) == set()
        box = server_table("box", FULL_FEATURED)
        config.write_text(before + box + '[agents.helper]\ndescription = "d"\ninstructions = "Be brief."\n')
        screen = say(terminal, "two", "Two.")
        assert "c.toml changed: added box; added agent helper" in screen
        assert offered(fake_openai) == {"box"}
        config.write_text(before + box + "[agents.helper]\ndescripton = 1\n")
        screen = say(terminal, "three", "Three.")
        assert "did you mean description?; the config" in screen.replace("\n", "")
        assert "the config from before stays in use" in screen
        assert offered(fake_openai) == {"box"}
        config.write_text(before + box + '[approvals]\ndeny = ["box.*"]\n')
        screen = say(terminal, "four", "Four.")
        assert "c.toml changed: removed agent helper; rules" in screen
        assert "denied" in screen
        assert screen.count("changed:") == 2


def test_servers_are_added_and_removed_in_the_chat(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    fake_openai.replies = [text("One."), text("Two.")]
    with Terminal([MCPCHAT], environ=chat_environ, columns=140) as terminal:
        terminal.wait_for("m · no servers")
        say(terminal, f"/servers add box -- {sys.executable} {QUIRKY} good", "c.toml changed: added box")
        terminal.wait_for("ready  stdio")
        say(terminal, "one", "One.")
        assert offered(fake_openai) == {"box"}
        assert "[servers.box]" in (tmp_path / "c.toml").read_text()
        say(terminal, f"/servers add box -- {sys.executable} x", "there is a server named 'box' already")
        say(terminal, "/servers add x -- no-such-program", "there is no program 'no-such-program' on PATH")
        say(terminal, "/servers add io.github.a/b", "in a shell: mcpchat servers add io.github.a/b")
        say(terminal, "/servers add", "which server?")
        say(terminal, "/servers remove box", "c.toml changed: removed box")
        say(terminal, "two", "Two.")
        assert offered(fake_openai) == set()
        assert "[servers.box]" not in (tmp_path / "c.toml").read_text()
        say(terminal, "/servers remove box", "the config has no server named 'box'")


def test_a_projects_server_ends_when_its_file_changes(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    project = folder / ".mcp.json"
    project.write_text(f'{{"mcpServers": {{"box": {{"command": "{sys.executable}", "args": ["{FULL_FEATURED}"]}}}}}}')
    fake_openai.replies = [text("One."), text("Two.")]
    with Terminal([MCPCHAT], environ=chat_environ, columns=140, cwd=folder) as terminal:
        terminal.wait_for("[n]o")
        terminal.send("y")
        terminal.wait_for("m · 1 server")
        say(terminal, "one", "One.")
        assert offered(fake_openai) == {"box"}
        project.write_text(project.read_text().replace("box", "other"))
        screen = say(terminal, "two", "Two.")
        assert "removed box" in screen
        assert offered(fake_openai) == set()


def test_a_grant_ends_with_its_server_and_rules_hold_in_spite_of_options(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    before = config.read_text()
    box = server_table("box", FULL_FEATURED)
    config.write_text(before + box)
    call = tool_call("box__steps", '{"count": 1, "pause": 0}')
    fake_openai.replies = [call, text("One."), call, text("Two."), call, text("Three."), call, text("Four.")]
    with Terminal([MCPCHAT, "--allow", "box.folders"], environ=chat_environ, columns=200) as terminal:
        terminal.wait_for("m · 1 server")
        say(terminal, "one", "this [s]ession")
        terminal.send("s")
        terminal.wait_for("One.")
        say(terminal, "two", "Two.")  # allowed for this session
        config.write_text(before + box + 'env = {A = "b"}\n')
        say(terminal, "three", "c.toml changed: changed box")
        terminal.wait_for("this [s]ession", count=1)
        terminal.send("n")
        terminal.wait_for("Three.")
        say(terminal, "/servers remove box", "c.toml changed: removed box")
        config.write_text(before + box + '[approvals]\ndeny = ["*"]\n')
        screen = say(terminal, "four", "Four.")
        assert "added box; rules" in screen
        assert "denied" in screen
        config.unlink()
        say(terminal, "five", "is gone; the config")


def test_the_rules_of_an_agent_stay_while_it_is_in_use(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    before = config.read_text() + server_table("box", FULL_FEATURED) + '[approvals]\ndefault = "allow"\n'
    config.write_text(before + '[agents.safe]\napprovals = {deny = ["box.*"]}\n')
    fake_openai.replies = [tool_call("box__steps", '{"count": 1, "pause": 0}'), text("One.")]
    with Terminal([MCPCHAT, "--agent", "safe"], environ=chat_environ, columns=110) as terminal:
        terminal.wait_for("safe · m")
        config.write_text(before)
        screen = say(terminal, "one", "One.")
        assert "this chat goes on with it as it was" in screen
        assert "denied" in screen
