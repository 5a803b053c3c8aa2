"""Tests of the chat as the user sees it: an input line at the bottom, and output above it."""

import base64
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, slow_response, text, tool_call
from tests.support.paths import FULL_FEATURED, MCPCHAT, QUIRKY
from tests.support.processes import server_table
from tests.support.scripted_http import ScriptedHttpServer
from tests.support.task_logic import TaskLogic
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER, ESC, CTRL_C, CTRL_D, UP = "\r", "\x1b", "\x03", "\x04", "\x1b[A"
PASTE = "\x1b[200~{}\x1b[201~"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000040000000408020000002693092900000010494441547801636060f8cf8000480000001a00017c0b"
)


def user_messages(server: FakeOpenAI, request: int = -1) -> list[str]:
    return [message["content"] for message in server.requests[request]["messages"] if message["role"] == "user"]


def add_config(tmp_path: Path, config: str) -> None:
    with (tmp_path / "c.toml").open("a") as file:
        file.write(config)


def test_input_during_an_answer_is_queued_and_shown(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [slow_response(*(f"word{n} " for n in range(25))), text("Two."), text("Three.")]
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("one" + ENTER)
        terminal.wait_for("word3")
        terminal.send("two" + ENTER)
        terminal.wait_for("next: two")
        terminal.send("three")
        screen = terminal.wait_for("> three")
        assert screen.index("word3") < screen.index("next: two") < screen.index("> three") < screen.index("answering")
        assert len(fake_openai.requests) == 1
        terminal.wait_for("Two.")
        assert "next:" not in terminal.text
        terminal.send(ENTER)
        screen = terminal.wait_for("Three.")
    assert user_messages(fake_openai) == ["one", "two", "three"]
    assert re.findall(r"^> (\w+)$", screen, re.MULTILINE)[:3] == ["one", "two", "three"]
    assert re.findall(r"word\d+", screen) == [f"word{n}" for n in range(25)]


def test_a_cancelled_answer_returns_queued_messages(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Once"})], hang=True), text("Well.")]
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("one" + ENTER)
        terminal.wait_for("Once")
        terminal.send("two" + ENTER + "three" + ENTER)
        terminal.wait_for("next: three")
        terminal.send(UP)  # on an empty line: edit the queued messages
        terminal.wait_for("> two\n  three")
        terminal.send(ENTER)
        terminal.wait_for("next: two")
        terminal.send("four" + CTRL_C)
        terminal.wait_for("cancelled")
        terminal.wait_for("> two\n  three\n  four")
        terminal.send(ENTER)
        terminal.wait_for("Well.")
    assert user_messages(fake_openai) == ["one", "two\nthree\nfour"]


def test_a_notice_does_not_break_the_input_line(chat_environ: dict[str, str], tmp_path: Path) -> None:
    go_file = tmp_path / "go"
    program = f"import os, time, sys\nwhile not os.path.exists('{go_file}'): time.sleep(0.05)\nsys.exit('no disk')"
    add_config(tmp_path, f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["-c", """{program}"""]\n')
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("1 starting")
        terminal.send("a line that I am")
        terminal.wait_for("> a line that I am")
        go_file.touch()
        screen = terminal.wait_for("server bad is down")
        terminal.send(" typing")
        screen = terminal.wait_for("> a line that I am typing")
        assert screen.count("a line that") == 1
        assert screen.index("no disk") < screen.index("> a line")
        assert "bad is down" in screen[screen.index("> a line") :]  # in the status bar


def test_many_lines_are_one_message(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("one\\" + ENTER + "two" + ESC + ENTER + "three\nfour")
        terminal.wait_for("> one\n  two\n  three\n  four")
        terminal.send(PASTE.format("\rfive\r\nsix") + ENTER)
        terminal.wait_for("Hello.")
        terminal.send("more" + ENTER)
        terminal.wait_for("Hello.", count=2)
    assert user_messages(fake_openai) == ["one\ntwo\nthree\nfour\nfive\nsix", "more"]


def test_the_history_is_searched_and_suggested_in_the_next_session(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI
) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        for number, line in enumerate(("what is in the attic", "and the cellar"), 1):
            terminal.send(line + ENTER)
            terminal.wait_for("Hello.", count=number)
        terminal.send(CTRL_D)
        assert terminal.wait_exit() == 0
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("what i")
        terminal.wait_for("> what is in the attic")  # the suggestion in grey
        terminal.send("\x1b[C" + ENTER)
        terminal.wait_for("Hello.")
        terminal.send("\x12cell")
        terminal.wait_for("> and the cellar")
        terminal.send(ENTER)
        terminal.wait_for_absence("I-search")
        terminal.send(ENTER)
        terminal.wait_for("Hello.", count=2)
    assert user_messages(fake_openai) == ["what is in the attic", "and the cellar"]


def test_vi_keys_move_and_change(chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    add_config(tmp_path, '[chat]\nkeys = "vi"\n')
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("bad words" + ESC)
        terminal.settle(0.4)  # the program waits whether ESC begins a sequence
        terminal.send("0cegood" + ESC)
        terminal.wait_for("> good words")
        terminal.send(ENTER)
        terminal.wait_for("Hello.")
    assert user_messages(fake_openai) == ["good words"]


def test_input_is_edited_in_the_editor(chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf " from the editor" >> "$1"\n')
    editor.chmod(0o755)
    with Terminal([MCPCHAT], environ=chat_environ | {"EDITOR": str(editor), "VISUAL": ""}) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("words\x18\x05")
        terminal.wait_for("> words from the editor")
        terminal.send(ENTER)
        terminal.wait_for("Hello.")
    assert user_messages(fake_openai) == ["words from the editor"]


def test_files_are_completed_and_attached_and_pasted_names_are_not(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "notes about it.txt").write_text("buy milk")
    (tmp_path / "secret.txt").write_text("do not tell")
    with Terminal([MCPCHAT], environ=chat_environ, cwd=tmp_path, columns=100) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("what is in @no")
        terminal.wait_for('@"notes about it.txt"  file')
        terminal.send("\t" + ENTER)
        terminal.wait_for("attached notes about it.txt")
        terminal.wait_for("Hello.")
        assert "buy milk" in str(fake_openai.requests[-1]["messages"][-1]["content"])
        terminal.send("sum up: " + PASTE.format("see @secret.txt") + ENTER)
        terminal.wait_for("@secret.txt was pasted in: it is not attached")
        terminal.wait_for("Hello.", count=2)
        assert "do not tell" not in str(fake_openai.requests[-1])
        terminal.send("ask @nobody" + ENTER)
        terminal.wait_for("Hello.", count=3)
    assert user_messages(fake_openai)[-1] == "ask @nobody"


UP, CTRL_U, CTRL_Y = "\x1b[A", "\x15", "\x19"
GITHUB_TOKEN = "ghp_" + "a1B2" * 6


def test_a_pasted_mention_attaches_nothing_in_any_form_nor_when_it_is_sent_again(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path, isolated: Path
) -> None:
    (tmp_path / "secret.txt").write_text("do not tell")
    add_config(tmp_path, server_table("box", FULL_FEATURED))
    with Terminal([MCPCHAT], environ=chat_environ, cwd=tmp_path, columns=100) as terminal:
        terminal.wait_for("m · 1 server")
        pasted = 'read @"secret.txt" and @box:note://today'
        terminal.send(PASTE.format(pasted) + ENTER)
        terminal.wait_for('@"secret.txt" was pasted in: it is not attached (/attach secret.txt attaches it)')
        terminal.wait_for("@box:note://today was pasted in")
        terminal.wait_for("Hello.")
        terminal.send(UP)
        terminal.wait_for('> read "secret.txt" and box:note://today')
        terminal.send(ENTER)
        terminal.wait_for("Hello.", count=2)
        terminal.send(f"my token is {GITHUB_TOKEN}" + ENTER)
        terminal.wait_for("Hello.", count=3)
        terminal.send("/attach box:note://today" + ENTER)
        terminal.wait_for("goes with the next message")
        terminal.send("what is there?" + ENTER)
        terminal.wait_for("Hello.", count=4)
    assert "buy milk" in str(fake_openai.requests[-1]["messages"][-1])
    assert all("do not tell" not in str(request) for request in fake_openai.requests)
    assert all("buy milk" not in str(request) for request in fake_openai.requests[:-1])
    history = (isolated / ".local/state/mcpchat/history").read_text()
    assert 'read "secret.txt" and box:note://today' in history
    assert GITHUB_TOKEN not in history


def test_a_pasted_mention_attaches_nothing_when_its_line_comes_back(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path, isolated: Path
) -> None:
    (tmp_path / "secret.txt").write_text("do not tell")
    with Terminal([MCPCHAT], environ=chat_environ, cwd=tmp_path, columns=100) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send(PASTE.format("f1 @secret.txt") + ENTER)
        terminal.wait_for("Hello.")
        terminal.send("/edit" + ENTER)
        terminal.wait_for("> f1 @secret.txt", count=2)
        terminal.send(" w" + ENTER)
        terminal.wait_for("Hello.", count=2)
        terminal.send(PASTE.format("y1 @secret.txt") + CTRL_U + CTRL_Y + ENTER)
        terminal.wait_for("Hello.", count=3)
        terminal.send(CTRL_Y + ENTER)
        terminal.wait_for("Hello.", count=4)
        terminal.wait_for("@secret.txt was pasted in: it is not attached", count=4)
    assert "do not tell" not in str(fake_openai.requests)
    assert "@secret.txt" not in (isolated / ".local/state/mcpchat/history").read_text()


def test_in_line_mode_only_attach_attaches(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("buy milk")
    with Terminal([MCPCHAT, "--plain"], environ=chat_environ, cwd=tmp_path, columns=100) as terminal:
        terminal.wait_for("you:")
        terminal.send("read @notes.txt" + ENTER)
        terminal.wait_for("@notes.txt is not attached, because it may be pasted (/attach notes.txt attaches it)")
        terminal.wait_for("mcpchat: Hello.")
        terminal.send("/attach notes.txt" + ENTER)
        terminal.wait_for("goes with the next message")
        terminal.send("and now?" + ENTER)
        terminal.wait_for("mcpchat: Hello.", count=2)
    first, second = (str(request["messages"]) for request in fake_openai.requests)
    assert ("buy milk" in first, "buy milk" in second) == (False, True)


def test_a_line_that_is_typed_while_a_pager_runs_is_sent(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    """The terminal turns its Enter into Ctrl-J, which is a new line at the prompt."""
    reasoning = chunk({"reasoning_content": "Let me think."})
    fake_openai.replies = [CannedResponse([reasoning, chunk({"content": "One."}), chunk({}, "stop")]), text("Two.")]
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\ncat\necho shown\nsleep 1\n")
    pager.chmod(0o755)
    with Terminal([MCPCHAT], environ=chat_environ | {"PAGER": str(pager)}) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("one" + ENTER)
        terminal.wait_for("One.")
        terminal.send("/last" + ENTER)
        terminal.wait_for("shown")
        terminal.send("two" + ENTER)
        terminal.wait_for("Two.")
    assert user_messages(fake_openai) == ["one", "two"]


def test_what_is_typed_while_an_editor_runs_is_not_sent_with_its_text(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "edited draft " > "$1"\necho opened\nsleep 1\n')
    editor.chmod(0o755)
    with Terminal([MCPCHAT], environ=chat_environ | {"EDITOR": str(editor)}) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("draft\x18\x05")  # Ctrl-X Ctrl-E
        terminal.wait_for("opened")
        terminal.send(f"{UP}hmm\x7f{ENTER}")
        terminal.wait_for("> edited draft hm")
        time.sleep(0.3)
        assert fake_openai.requests == []
        terminal.send(ENTER)
        terminal.wait_for("Hello.")
    assert user_messages(fake_openai) == ["edited draft hm"]


def test_a_call_shows_progress_a_line_and_full_details_on_demand(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    add_config(
        tmp_path,
        server_table("box", FULL_FEATURED) + '[approvals]\ndefault = "allow"\n',
    )
    calls = [
        {
            "index": n,
            "id": f"c{n}",
            "function": {"name": "box__steps", "arguments": f'{{"count": {count}, "pause": 0.3}}'},
        }
        for n, count in enumerate((4, 6))
    ]
    fake_openai.replies = [CannedResponse([chunk({"tool_calls": calls}), chunk({}, "tool_calls")]), text("Counted.")]
    with Terminal([MCPCHAT], environ=chat_environ | {"PAGER": "cat"}) as terminal:
        terminal.wait_for("m · 1 server")
        terminal.send("count" + ENTER)
        screen = terminal.wait_for("· 2 of 6 step 2")
        assert len(re.findall(r"^  [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] box\.steps", screen, re.MULTILINE)) == 2
        assert "2 tools run" in screen
        screen = terminal.wait_for("Counted.")
        lines = [line for line in screen.splitlines() if "✓ box.steps" in line]
        assert len(lines) == 2
        assert all(re.search(r" \d\.\d s$", line) and len(line) <= 80 for line in lines)
        assert "of 6" not in screen
        terminal.send("/last 1" + ENTER)
        terminal.wait_for("  result:")
        assert '"count": 6' in terminal.text
        terminal.send("/last 9" + ENTER)
        terminal.wait_for("there were only 2 calls")


def test_reasoning_is_dim_and_folds(chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    pieces = [chunk({"reasoning_content": piece}) for piece in ("Let me ", "think.\nThe moon ", "is far away.")]
    fake_openai.replies = [CannedResponse([*pieces, chunk({"content": "Far."}), chunk({}, "stop")], pause=0.2)] * 3
    with Terminal([MCPCHAT], environ=chat_environ | {"PAGER": "cat"}) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("one" + ENTER)
        screen = terminal.wait_for("Far.")
        assert "  Let me think.\n  The moon is far away.\n\nFar." in screen
        assert re.search(rb"\x1b\[2;3m  Let me think", terminal.raw)
        terminal.send("\x14" + "two" + ENTER)
        terminal.wait_for("thought for")
        terminal.wait_for("Far.", count=2)
        assert terminal.text.count("Let me think") == 1
        terminal.send("/last" + ENTER)
        terminal.wait_for("Let me think", count=2)
    add_config(tmp_path, '[chat]\nreasoning = "fold"\n')
    with Terminal([MCPCHAT, "ask", "three"], environ=chat_environ) as terminal:
        assert terminal.wait_exit() == 0
        assert "thought for" in terminal.text
        assert "Let me think" not in terminal.text


@pytest.mark.parametrize("program", ["iTerm.app", "ghostty", ""])
def test_an_image_is_shown_or_described_if_the_terminal_cannot(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path, program: str
) -> None:
    server = tmp_path / "painter.py"
    server.write_text(
        "from mcp.server import MCPServer\nfrom mcp.server.mcpserver import Image\n"
        f"server = MCPServer('painter')\n@server.tool()\ndef paint() -> Image:\n    '''Paint.'''\n"
        f"    return Image(data={PNG!r}, format='png')\nserver.run()\n"
    )
    add_config(
        tmp_path,
        f'[servers.art]\ncommand = "{sys.executable}"\nargs = ["{server}"]\n[approvals]\ndefault = "allow"\n',
    )
    fake_openai.replies = [tool_call("art__paint", "{}"), text("Painted.")]
    with Terminal([MCPCHAT], environ=chat_environ | {"TERM_PROGRAM": program, "TMUX": ""}) as terminal:
        terminal.wait_for("m · 1 server")
        terminal.send("paint" + ENTER)
        screen = terminal.wait_for("Painted.")
    expected = {
        "iTerm.app": b"\x1b]1337;File=inline=1;width=1;height=1;",
        "ghostty": b"\x1b_Ga=T,f=100,q=2,c=1,r=1,m=0;iVBOR",
        "": b"image/png, 4 x 4, 1 kB",
    }
    assert expected[program] in terminal.raw
    assert ("image/png, 4 x 4" in screen) == (program == "")


def test_answer_and_code_are_copied_through_the_terminal(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("Do:\n\n```sh\nls -l\n```\n")]
    no_display = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    with Terminal([MCPCHAT], environ=chat_environ | no_display) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("/copy" + ENTER)
        terminal.wait_for("there is no answer yet")
        terminal.send("how" + ENTER)
        terminal.wait_for("ls -l")
        terminal.send("/copy" + ENTER)
        terminal.wait_for("copied 20 characters")
        terminal.send("/copy code" + ENTER)
        terminal.wait_for("copied 6 characters")
    assert b"\x1b]52;c;" + base64.b64encode(b"Do:\n\n```sh\nls -l\n```") + b"\x07" in terminal.raw
    assert b"\x1b]52;c;bHMgLWwK\x07" in terminal.raw


@pytest.mark.parametrize(("method", "sequence"), [("bell", b"\a"), ("desktop", b"\x1b]9;mcpchat"), ("off", b"")])
def test_a_long_turn_ends_with_a_notification(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path, method: str, sequence: bytes
) -> None:
    add_config(tmp_path, f'[chat]\nnotify = "{method}"\nnotify_after = 0.3\n')
    second = slow_response("d ", "e ", "f.", pause=0.3)
    second.gate, second.gate_at = threading.Event(), 2
    fake_openai.replies = [slow_response("a ", "b ", "c.", pause=0.3), second]
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("one" + ENTER)
        terminal.wait_for("a b c.")
        end = time.monotonic() + 20
        while sequence not in terminal.raw:
            assert time.monotonic() < end
            terminal.read(0.1)
        terminal.settle()
        start = len(terminal.raw)
        assert sequence or b"\a" not in terminal.raw
        terminal.send("two" + ENTER)
        terminal.wait_for("d e")
        terminal.send("I am here")
        terminal.wait_for("I am here")
        second.gate.set()
        terminal.wait_for("d e f.")
        terminal.settle()
        assert not sequence or sequence not in terminal.raw[start:]


def test_the_plain_chat_writes_each_line_once_with_its_speaker(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    add_config(tmp_path, server_table("box", FULL_FEATURED))
    fake_openai.replies = [
        CannedResponse(
            [chunk({"reasoning_content": "Hm.\n"}), chunk({"content": "One **two**\nthree"}), chunk({}, "stop")]
        ),
        tool_call("box__order", "{}"),
        text("Ordered."),
        CannedResponse([chunk({"content": "Long\nstory"})], hang=True),
    ]
    with Terminal([MCPCHAT, "--plain"], environ=chat_environ) as terminal:
        terminal.wait_for("you:")
        terminal.send("hi\\\rthere\r")
        terminal.wait_for("reasoning: Hm.\nmcpchat: One **two**\n  three\nyou:")
        terminal.send("order\r")
        terminal.wait_for("no and [r]eason")
        terminal.send("q\r")
        terminal.wait_for("warning: type one of y, s, a, e, n, r, and press Enter")
        terminal.send("y\r")
        terminal.wait_for("question: your answer:")
        terminal.send("large\r")
        terminal.wait_for("warning: ")
        terminal.send("42\r")
        terminal.wait_for("[d]ecline")
        terminal.send("s\r")
        terminal.wait_for("tool done: box.order  size 42")
        terminal.wait_for("mcpchat: Ordered.")
        terminal.send("go on\r")
        terminal.wait_for("mcpchat: Long")
        terminal.send(CTRL_C)
        terminal.wait_for("cancelled")
        terminal.send("/nothing\r")
        terminal.wait_for("no command /nothing")
        terminal.send(CTRL_C)
        terminal.wait_for("Ctrl-C again, or Ctrl-D, leaves")
        terminal.send(CTRL_D)
        assert terminal.wait_exit() == 0
    assert b"\x1b" not in terminal.raw
    assert user_messages(fake_openai, 0) == ["hi\nthere"]


def test_a_dumb_terminal_gets_the_plain_chat(chat_environ: dict[str, str]) -> None:
    with Terminal([MCPCHAT], environ=chat_environ | {"TERM": "dumb"}) as terminal:
        terminal.wait_for("you:")
        terminal.send("hi\r")
        terminal.wait_for("mcpchat: Hello.")
        terminal.send(CTRL_D)
        assert terminal.wait_exit() == 0
    assert b"\x1b" not in terminal.raw


def test_without_colour_and_unicode_on_forty_columns(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("# Head\n\n- item `x`\n\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nnaïve → end")]
    limits = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    with Terminal([MCPCHAT], environ=chat_environ | limits, columns=40) as terminal:
        terminal.wait_for("/help")
        terminal.send("show" + ENTER)
        screen = terminal.wait_for("end\n")
        terminal.send("/to")
        terminal.wait_for("the tools: all")
        terminal.send("\x15" + CTRL_D)
        assert terminal.wait_exit() == 0
    assert " - item x" in screen
    assert "| quote" in screen
    assert screen.isascii()
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", terminal.raw)


def test_a_first_run_explains_itself_and_works_at_once() -> None:
    with Terminal([MCPCHAT]) as terminal:
        screen = terminal.wait_for("\ndemo · ")
        assert len(screen[: screen.index("\n>")].splitlines()) <= 11
        for expected in (
            "No model is set up",
            "OPENAI_API_KEY",
            "/servers add",
            "mcpchat init",
            "on this machine",
            "/help",
        ):
            assert expected in screen
        terminal.send("What is 1234 * 5678?" + ENTER)
        terminal.wait_for("= 7006652")
        terminal.send(CTRL_D)
        assert terminal.wait_exit() == 0
    with Terminal([MCPCHAT, "-m", "gpt-5.5"]) as terminal:
        assert terminal.wait_exit() == 2


WRITES = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'


def test_input_typed_ahead_answers_no_plain_prompt(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    add_config(tmp_path, WRITES)
    write = tool_call("box__write", '{"text": "x"}')
    write.gate = threading.Event()
    fake_openai.replies = [write, text("I see."), text("Yes.")]
    with Terminal([MCPCHAT, "--plain"], environ=chat_environ) as terminal:
        terminal.wait_for("you:")
        terminal.settle()
        terminal.send("go\r")
        terminal.read(0.3)  # while the model answers
        terminal.send("yes, and always\ry\r")
        terminal.settle()
        write.gate.set()
        terminal.wait_for("no and [r]eason")
        terminal.settle()
        assert "tool done" not in terminal.text
        terminal.send("n\r")
        terminal.wait_for("mcpchat: I see.")
        terminal.wait_for("so far: yes, and always")
        terminal.send("\r")
        terminal.wait_for("mcpchat: Yes.")
    assert user_messages(fake_openai)[-1] == "yes, and always\ny"


def test_pasted_text_stays_marked_as_pasted(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("do not tell")
    add_config(tmp_path, WRITES)
    write = tool_call("box__write", '{"text": "x"}')
    first = text(*"abcdefghij")
    first.gate, first.gate_at = threading.Event(), 3
    fake_openai.replies = [first, text("Two."), write, text("Denied.")]
    with Terminal([MCPCHAT], environ=chat_environ, cwd=tmp_path) as terminal:
        terminal.wait_for("m · 1 server")
        terminal.send("one" + ENTER)
        terminal.wait_for("abc")
        terminal.send("two" + ENTER + "sum up: " + PASTE.format("see @secret.txt") + ENTER)
        terminal.wait_for("next: sum up: see @secret.txt")
        first.gate.set()
        terminal.wait_for("@secret.txt was pasted in")
        terminal.wait_for("[y]es")
        terminal.send("n")
        terminal.wait_for("Denied.")
        fake_openai.replies = [write, text("Again.")]
        terminal.send("four" + ENTER)
        terminal.wait_for("wants to run write", count=2)
        terminal.send("helo\x7flo " + PASTE.format("see @secret.txt"))  # before the prompt accepts keys
        terminal.wait_for("[y]es")
        terminal.send("n")
        terminal.wait_for("> hello see @secret.txt")
        terminal.send(ENTER)
        terminal.wait_for("@secret.txt was pasted in", count=2)
    assert all("do not tell" not in str(request) for request in fake_openai.requests)


def test_a_message_around_a_prompt_stays_whole(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    add_config(tmp_path, WRITES)
    answer = text("I ", "see.")
    answer.gate, answer.gate_at = threading.Event(), 1
    fake_openai.replies = [tool_call("box__write", '{"text": "x"}'), answer]
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · 1 server")
        terminal.send("go" + ENTER)
        terminal.wait_for("wants to run write")
        terminal.send("and then tell")
        terminal.wait_for("[y]es")
        terminal.send("y me")  # the key, and more text at the same time
        terminal.wait_for("> and then tell me")
        terminal.send(" more" + ENTER)
        terminal.wait_for("next: and then tell me more")
        answer.gate.set()


def test_ctrl_c_at_a_prompt_of_an_idle_chat_denies(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    server = tmp_path / "changing.py"
    body = "from mcp.server import MCPServer\nserver = MCPServer('v')\n@server.tool()\ndef look() -> str:\n    '''{}'''\n    return ''\nserver.run()\n"
    add_config(tmp_path, f'[servers.v]\ncommand = "{sys.executable}"\nargs = ["{server}"]\n')
    for question in ("Look.", "Look, and tell all."):
        server.write_text(body.format(question))
        with Terminal([MCPCHAT], environ=chat_environ) as terminal:
            terminal.wait_for("m · 1 server")
            if question != "Look.":
                terminal.wait_for("[y]es  [n]o")
                terminal.send(CTRL_C)
                terminal.wait_for("v.look is disabled")
                terminal.wait_for("\n>")
            else:
                terminal.wait_for("pinned at first use")
            terminal.send("hi" + ENTER)
            terminal.wait_for("Hello.")
            terminal.send(CTRL_D)
            assert terminal.wait_exit() == 0


def test_an_aborted_search_is_over(chat_environ: dict[str, str]) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("think of it" + ENTER)
        terminal.wait_for("Hello.")
        terminal.send("\x12think")
        terminal.wait_for("I-search")
        terminal.send(CTRL_C)
        terminal.wait_for_absence("I-search")
        terminal.send("\x15\x12it")
        terminal.wait_for("I-search backward: it")


def test_a_slash_is_a_command_only_at_the_start(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        for number, line in enumerate(("/usr/bin/env is a path", " /help is a word"), 1):
            terminal.send(line + ENTER)
            terminal.wait_for("Hello.", count=number)
        terminal.send(PASTE.format("/new\nis a word") + ENTER)
        terminal.wait_for("Hello.", count=3)
        terminal.send("/new now" + ENTER)
        terminal.wait_for("/new takes no argument")
    assert user_messages(fake_openai) == ["/usr/bin/env is a path", " /help is a word", "/new\nis a word"]


@pytest.mark.parametrize(
    ("report", "tint"),
    [("\x1b]11;rgb:0000/0000/0000\x1b\\", "36;36;36"), ("\x1b]11;rgb:ff/ff/ff\x07", "237;237;237")],
    ids=["dark", "light"],
)
def test_a_question_is_tinted_as_the_terminal_says(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, report: str, tint: str
) -> None:
    environ = chat_environ | {"COLORTERM": "truecolor"}
    with Terminal([MCPCHAT], environ=environ, columns=40) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send(f"what {report}is in the long question of two rows?")
        terminal.wait_for("  ws?")
        terminal.send(ENTER)
        screen = terminal.wait_for("Hello.")
        raw = terminal.raw.decode()
    assert "/help\n\n> what is in the long question of two\n  rows?\nHello.\n" in screen
    rows = re.findall(rf"\x1b\[[0-9;]*48;2;{tint}m\x1b\[K", raw)
    assert len(rows) == 2
    assert user_messages(fake_openai) == ["what is in the long question of two rows?"]


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "xterm"}, {"TERM": "xterm-256color"}])
def test_without_a_known_background_a_question_is_bold(chat_environ: dict[str, str], environ: dict[str, str]) -> None:
    with Terminal([MCPCHAT], environ=chat_environ | environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("what?" + ENTER)
        screen = terminal.wait_for("Hello.")
        assert b"48;" not in terminal.raw  # no background colour
        assert re.search(rb"\x1b\[1m what\?\x1b\[0m", terminal.raw)
    assert "\n\n> what?\nHello.\n" in screen


def test_a_turn_ends_in_a_line_of_what_it_took(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    add_config(tmp_path, '[servers.calculator]\nbuiltin = "calculator"\n')
    usage = chunk({}, "stop", usage={"prompt_tokens": 1000, "completion_tokens": 204, "total_tokens": 1204})
    fake_openai.replies = [
        tool_call("calculator__calculate", '{"expression": "1+1"}'),
        CannedResponse([chunk({"content": "It is 2."}), usage]),
    ]
    with Terminal([MCPCHAT], environ=chat_environ, columns=120) as terminal:
        terminal.wait_for("m · 1 server")
        terminal.send("what?" + ENTER)
        screen = terminal.wait_for(" tokens\n")
    assert re.search(
        r"\n\n> what\?\n  ✓ calculator\.calculate [^\n]+\n\nIt is 2\.\n  1 tool · \d+\.\d s · ~?[\d,]+ tokens\n",
        screen,
    )


def test_a_line_that_was_typed_before_the_chat_is_there_is_sent(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI
) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.send("early?" + ENTER)
        terminal.wait_for("Hello.")
    assert user_messages(fake_openai) == ["early?"]


def test_a_long_paste_is_folded_but_sent_whole(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    paste = "".join(f"line {n}\x07\u200b\n" for n in range(300))
    sent = paste.replace("\u200b", "")
    with Terminal([MCPCHAT], environ=chat_environ | {"PAGER": "cat"}, columns=100) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("sum up: " + PASTE.format(paste))
        terminal.wait_for("> sum up: [pasted: 300 lines, 3 kB]")
        terminal.send("\x7f")  # deletes the label as a whole
        terminal.wait_for_absence("[pasted")
        terminal.send(PASTE.format(paste) + " please" + ENTER)
        terminal.wait_for("Hello.")
        assert "> sum up: [pasted: 300 lines, 3 kB] please\n" in terminal.text
        assert "line 7" not in terminal.text
        terminal.send("\x0f")
        terminal.wait_for("line 299\u2407")  # the pager shows the paste, its control characters as signs
        terminal.send(UP)
        terminal.wait_for("please", count=2)
    assert user_messages(fake_openai) == [f"sum up: {sent} please"]


def test_the_background_report_stays_out_of_the_line_while_suggestions_are_open(chat_environ: dict[str, str]) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("/h")
        terminal.wait_for("list the commands")
        terminal.send("\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\")
        terminal.send("elp")
        terminal.wait_for("> /help")
        assert "rgb" not in terminal.text


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_ctrl_b_goes_on_without_a_task(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path, era: str
) -> None:
    logic = TaskLogic(era)
    fake_openai.replies = [
        tool_call("box__count", '{"to": 100000}'), text("Fine."), text("It has ended."), text("Yes."),
        tool_call("box__count", '{"to": 100000}'), text("Well."),
    ]  # fmt: skip
    with ScriptedHttpServer(logic.respond) as server:
        add_config(
            tmp_path, f'[servers.box]\nurl = "{server.url}"\nallow_http = true\n[approvals]\ndefault = "allow"\n'
        )
        with Terminal([MCPCHAT], environ=chat_environ, columns=120) as terminal:
            terminal.wait_for("m · 1 server")
            terminal.send("count" + ENTER)
            terminal.wait_for("1 tool runs as a task")
            assert "Ctrl-B goes on without it" in terminal.text
            terminal.send("\x02")
            terminal.wait_for("Fine.")
            terminal.send("half a line")
            terminal.wait_for("> half a line")
            logic.tasks["task-1"]["to"] = 0
            screen = terminal.wait_for("It has ended.")
            assert re.search(r"task \w{6} of box.count: completed", screen)
            terminal.wait_for("> half a line")  # what was typed is still there
            terminal.send(ENTER)
            terminal.wait_for("Yes.")
            terminal.send("count" + ENTER)
            terminal.wait_for("1 tool runs as a task")
            terminal.send("\x02")
            terminal.wait_for("Well.")
            terminal.send(CTRL_D)
            assert terminal.wait_exit() == 0
            assert re.search(r"task (\w{6}) of box.count goes on: mcpchat tasks \1 --wait", terminal.text)
    late = user_messages(fake_openai, 2)[-1]
    assert late.startswith("The task ")
    assert re.search(r"it is not from the user.\n<(result_\w{8})>\ncounted to 0\n</\1>", late)
    assert user_messages(fake_openai, 3)[-1] == "half a line"
    assert logic.tasks["task-2"]["status"] == "working"


def test_a_late_result_waits_for_its_conversation(
    chat_environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    logic = TaskLogic("legacy")
    fake_openai.replies = [tool_call("box__count", '{"to": 100000}'), text("Fine."), text("It has ended.")]
    with ScriptedHttpServer(logic.respond) as server:
        add_config(
            tmp_path, f'[servers.box]\nurl = "{server.url}"\nallow_http = true\n[approvals]\ndefault = "allow"\n'
        )
        with Terminal([MCPCHAT], environ=chat_environ, columns=120) as terminal:
            terminal.wait_for("m · 1 server")
            terminal.send("count" + ENTER)
            terminal.wait_for("1 tool runs as a task")
            terminal.send("\x02")
            terminal.wait_for("Fine.")
            terminal.send("/threads rename first" + ENTER)
            terminal.wait_for('renamed to "first"')
            terminal.send("/new" + ENTER)
            terminal.wait_for("new conversation")
            logic.tasks["task-1"]["to"] = 0
            terminal.wait_for("its result comes when its conversation is open again")
            assert len(fake_openai.requests) == 2
            terminal.send("/threads first" + ENTER)
            terminal.wait_for("It has ended.")
    assert user_messages(fake_openai, 2)[-1].startswith("The task ")


def test_ctrl_b_moves_the_cursor_without_a_task(chat_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with Terminal([MCPCHAT], environ=chat_environ) as terminal:
        terminal.wait_for("m · no servers")
        terminal.send("ac\x02b" + ENTER)
        terminal.wait_for("Hello.")
    assert user_messages(fake_openai) == ["abc"]
