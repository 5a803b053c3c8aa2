"""Slash commands and shell commands of the chat, in a real terminal."""

import json
import re
from pathlib import Path

import pytest

from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.scripted_mcp import ScriptedServer, modified_tool
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER, PASTE = "\r", "\x1b[200~{}\x1b[201~"


@pytest.fixture
def server(tmp_path: Path, fake_openai: FakeOpenAI) -> ScriptedServer:
    scripted_server = ScriptedServer(tmp_path, fake_openai)
    scripted_server.set_script(tools=[modified_tool(annotations={})])
    return scripted_server


def say(terminal: Terminal, line: str, expected: str, *, count: int = 1) -> str:
    terminal.send(line + ENTER)
    return terminal.wait_for(expected, count=count)


def test_what_was_allowed_is_listed_and_asked_about_again(server: ScriptedServer) -> None:
    call = tool_call("box__say", "{}")
    server.fake_openai.replies = [call, text("First."), call, text("Second."), call, text("Third.")]
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "/permissions", "you allowed no tool beyond a single call")
        say(terminal, "go", "this [s]ession")
        terminal.send("s")
        terminal.wait_for("First.")
        say(terminal, "/approvals", "box.say  for this session")
        say(terminal, "/approvals revoke box.*", "box.say asks again")
        say(terminal, "go", "this [s]ession")
        terminal.send("a")
        terminal.wait_for("Second.")
        say(terminal, "/approvals list", "box.say  always, since 20")
        say(terminal, "/approvals revoke box.say", "box.say asks again", count=2)
        say(terminal, "/approvals forget", "expected nothing, or revoke SERVER.TOOL")
        say(terminal, "go", "[n]o")
        terminal.send("n")
        terminal.wait_for("Third.")


def test_a_conversation_is_written_to_a_new_file(server: ScriptedServer, tmp_path: Path) -> None:
    with server.terminal(columns=200) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "hi", "Hello.")
        say(terminal, f"/export {tmp_path}/talk.md", "written to")
        say(terminal, f"/export {tmp_path}/talk.md", "it exists already")
        say(terminal, f"/export {tmp_path}/talk.html", "written to", count=2)
        say(terminal, "/export /nowhere/talk.md", "o such file or directory")
    assert "## Assistant" in (tmp_path / "talk.md").read_text()
    assert "<h2>Assistant" in (tmp_path / "talk.html").read_text()


def test_a_file_that_does_not_exist_is_asked_about(server: ScriptedServer) -> None:
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "read @nosuch.txt, @ann", "there is no file nosuch.txt; send it as text?")
        terminal.wait_for("[y]es  [n]o")
        terminal.send("n")
        terminal.wait_for("✗ no")
        terminal.wait_for("\n> read @nosuch.txt, @ann", count=2)  # back in the input line
        assert server.fake_openai.requests == []
        terminal.send(ENTER)
        terminal.wait_for("[y]es  [n]o")
        terminal.send("y")
        terminal.wait_for("Hello.")
    assert server.fake_openai.requests[-1]["messages"][-1]["content"] == "read @nosuch.txt, @ann"


def test_a_shell_commands_output_is_sent_only_if_asked_for(server: ScriptedServer) -> None:
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "!printf 'one\\ntwo\\n'; exit 3", "exit code 3")
        screen = terminal.wait_for("\n  !! sends this output with your next message")
        # A notice of the server, which starts meanwhile, may stand in between.
        assert re.search(r"\n  one\n(box: .*\n)?  two\n(box: .*\n)?  exit code 3\n", screen)
        say(terminal, "hi", "Hello.")
        assert "one" not in json.dumps(server.fake_openai.requests[-1]["messages"])
        say(terminal, "!!", "the output goes with the next message")
        say(terminal, "and now?", "Hello.", count=2)
        assert "one\ntwo\n[exit code 3]" in str(server.fake_openai.requests[-1]["messages"][-1]["content"])
        say(terminal, "!", "usage: !COMMAND")


@pytest.mark.parametrize("keys", ["", "x\x7f", "\x7f"])
def test_a_pasted_line_runs_nothing_not_even_later(server: ScriptedServer, tmp_path: Path, keys: str) -> None:
    with server.terminal(columns=110, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("\n>")
        terminal.send(PASTE.format(f"!touch {tmp_path}/ran.") + keys + ENTER)
        terminal.wait_for("Hello.")
        terminal.send("\x1b[A" + ENTER)  # from the history
        terminal.wait_for("Hello.", count=2)
        say(terminal, "/edit", "change it and press Enter")
        terminal.send(" now" + ENTER)
        terminal.wait_for("Hello.", count=3)
        assert server.fake_openai.requests[-1]["messages"][-1]["content"].startswith("!touch")
    assert not list(tmp_path.glob("ran*"))


def test_a_line_that_was_pasted_before_the_chat_is_there_runs_and_attaches_nothing(
    server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("do not tell")
    for line in (f"!touch {tmp_path}/ran", f"read @{tmp_path}/note.txt"):
        with server.terminal(columns=110) as terminal:
            terminal.send(line + "\n")
            terminal.wait_for("Hello.")
    assert not (tmp_path / "ran").exists()
    assert "do not tell" not in str(server.fake_openai.requests)


def test_an_exported_conversation_is_private(server: ScriptedServer, tmp_path: Path) -> None:
    with server.terminal(columns=200) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "hi", "Hello.")
        say(terminal, f"/export {tmp_path}/talk.md", "written to")
    assert (tmp_path / "talk.md").stat().st_mode & 0o777 == 0o600


def test_a_damaged_label_of_a_paste_is_not_sent_unseen(server: ScriptedServer) -> None:
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        terminal.send(PASTE.format("line\n" * 300))
        terminal.wait_for("[pasted: 300 lines, 2 kB]")
        terminal.send("\x1b[D" * 3 + "x")  # within the label
        terminal.wait_for_absence("[pasted: 300 lines, 2 kB]")
        terminal.send(ENTER)
        terminal.wait_for("a folded paste was changed, and its text is missing")
        assert server.fake_openai.requests == []


def test_ctrl_c_stops_a_shell_command(server: ScriptedServer) -> None:
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "!echo begin; sleep 600; echo end", "  begin")
        terminal.send("\x03")
        terminal.wait_for("cancelled")
        say(terminal, "hi", "Hello.")


def test_a_tool_is_shown_with_its_parameters(server: ScriptedServer) -> None:
    schema = {
        "type": "object",
        "properties": {"to": {"type": "string", "description": "Who."}, "count": {"type": "integer", "default": 2}},
        "required": ["to"],
    }
    server.set_script(tools=[modified_tool(annotations={}, inputSchema=schema, description="Says it.")])
    server.configure(extra_config='[approvals]\nask = ["box.*"]\n')
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        assert "box.say" in say(terminal, "/tools says a text", "description")
        page = say(terminal, "/tools box.say", "to call it").rpartition("/tools box.say")[2]
    command_page = server.run("tools", "box.say").stdout
    for shown in (page, command_page):
        lines = [" ".join(line.split()) for line in shown.splitlines()]
        for line in (
            "Says it.", "to string, required", "Who.", "count int, default 2", "annotations none (not trusted)",
            "a call asks you (config: ask box.*)", "to call it mcpchat call box.say to=TO",
        ):  # fmt: skip
            assert line in lines
    assert json.loads(server.run("tools", "box.say", "-o", "json").stdout)[0]["tool"] == "box.say"
    unknown = server.run("tools", "box.sya")
    assert (unknown.returncode, unknown.stderr) == (2, "error: no tool box.sya; did you mean box.say?\n")


def test_the_chat_tells_how_a_project_file_stands(server: ScriptedServer, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    with server.terminal(columns=110, cwd=folder) as terminal:
        terminal.wait_for("\n>")
        say(terminal, "/trust", "there is no .mcpchat.toml in this folder or above")
