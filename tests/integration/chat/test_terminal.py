"""The chat and ask in a real terminal."""

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, text, tool_call
from tests.support.paths import FULL_FEATURED, MCPCHAT, QUIRKY
from tests.support.processes import server_table
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
Start = Callable[..., Terminal]


@pytest.fixture
def start() -> Start:
    def start(*arguments: str, **options: object) -> Terminal:
        return Terminal([MCPCHAT, *arguments], **options)  # type: ignore[arg-type]

    return start


def settings(double: FakeOpenAI, tmp_path: Path, config: str = "") -> dict[str, str]:
    (tmp_path / "c.toml").write_text(config)
    return {"OPENAI_BASE_URL": double.base_url, "MCPCHAT_MODEL": "m", "MCPCHAT_CONFIG": str(tmp_path / "c.toml")}


def test_a_demo_chat_calculates_lists_and_exits(start: Start) -> None:
    with start("--model", "demo") as terminal:
        terminal.wait_for("demo · calculator · /help")
        terminal.send("What is 1234 * 5678?" + ENTER)
        screen = terminal.wait_for("calculator.calculate(1234 * 5678) = 7006652")
        assert "not a language model" in screen
        assert re.search(r'✓ calculator\.calculate {2}expression="1234 \* 567', screen)
        terminal.send("/tools" + ENTER)
        terminal.wait_for("calculator.convert")
        terminal.send("/servers" + ENTER)
        screen = terminal.wait_for("transport")
        assert re.search(r"calculator +ready +stdio +3", screen)
        terminal.send("/help" + ENTER)
        screen = terminal.wait_for("/exit   ")
        for name in ("/help", "/tools", "/servers", "/model", "/new", "/exit"):
            assert name in screen
        terminal.send("/modle x" + ENTER)
        terminal.wait_for("no command /modle; did you mean /model?")
        terminal.send("/exit" + ENTER)
        assert terminal.wait_exit() == 0


def test_ctrl_d_exits_and_ctrl_c_clears_the_line_then_exits(start: Start) -> None:
    with start("-m", "demo") as terminal:
        terminal.wait_for("\n>")
        terminal.send("half a thought")
        terminal.wait_for("half a thought")
        terminal.send(CTRL_C)
        terminal.wait_for_absence("half a thought")
        terminal.send(CTRL_D)
        assert terminal.wait_exit() == 0
    with start("-m", "demo") as terminal:
        terminal.wait_for("\n>")
        terminal.send(CTRL_C)
        terminal.wait_for("Ctrl-C again, or Ctrl-D, leaves")
        terminal.send(CTRL_C)
        assert terminal.wait_exit() == 0


def test_commands_are_completed(start: Start) -> None:
    with start("-m", "demo") as terminal:
        terminal.wait_for("\n>")
        terminal.send("/se")
        terminal.wait_for("server states; add, remove, refresh")
        terminal.send("\t" + ENTER)
        terminal.wait_for("transport")


def test_ctrl_c_cancels_the_answer_not_the_chat(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Once upon a time"})], hang=True), text("All is well.")]
    with start(environ=settings(fake_openai, tmp_path)) as terminal:
        terminal.wait_for("\n>")
        terminal.send("tell" + ENTER)
        terminal.wait_for("Once upon a time")
        terminal.send(CTRL_C)
        screen = terminal.wait_for("cancelled")
        assert screen.count("Once upon a time") == 1
        terminal.wait_for("\n>", count=2)
        terminal.send("again" + ENTER)
        terminal.wait_for("All is well.")
        terminal.send(CTRL_D)
        assert terminal.wait_exit() == 0
    assert [(message["role"], message["content"]) for message in fake_openai.requests[1]["messages"][1:]] == [
        ("user", "tell"),
        ("assistant", "Once upon a time"),
        ("user", "again"),
    ]


def test_ctrl_c_cancels_a_running_tool(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}", "slow"]\ntrust = true\n'
    fake_openai.replies = [tool_call("box__echo", '{"text": "x"}'), text("All is well.")]
    with start(environ=settings(fake_openai, tmp_path, config)) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        terminal.wait_for("1 tool runs")
        terminal.send(CTRL_C)
        screen = terminal.wait_for("cancelled", count=2)
        assert "✗ box.echo" in screen
        terminal.send("again" + ENTER)
        terminal.wait_for("All is well.")
    result = fake_openai.requests[1]["messages"][2]
    assert (result["role"], result["content"]) == ("tool", "Error: cancelled by the user")


def test_an_approval_is_answered_by_a_key(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'
    write = tool_call("box__write", '{"text": "two\\nlines"}')
    fake_openai.replies = [write, text("First."), write, text("Second."), write, text("Third.")]
    with start(environ=settings(fake_openai, tmp_path, config)) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        screen = terminal.wait_for("[y]es")
        assert "box wants to run write" in screen
        assert "default: ask" in screen
        terminal.send("n")
        terminal.wait_for("First.")
        terminal.send("go" + ENTER)
        terminal.wait_for("[y]es")
        terminal.send("a")
        terminal.wait_for("Second.")
        terminal.send("go" + ENTER)
        screen = terminal.wait_for("Third.")
        marked = [line.split()[:2] for line in screen.splitlines() if line.startswith(("  ✓", "  ✗"))]
        assert marked == [
            ["✗", "denied"], ["✗", "box.write"], ["✓", "allowed"], ["✓", "box.write"], ["✓", "box.write"],
        ]  # fmt: skip
        assert screen.count("wants to run") == 2


def test_early_input_answers_no_prompt_and_is_kept(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'
    write = tool_call("box__write", '{"text": "x"}')
    write.gate = threading.Event()
    fake_openai.replies = [write, text("I see."), text("Yes.")]
    with start(environ=settings(fake_openai, tmp_path, config)) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER + "y")  # sent together, like a paste: the prompt also reads the y
        terminal.wait_for("\n> y")
        terminal.send("es, please")  # and these while the model generates
        terminal.wait_for("> yes, please")
        write.gate.set()
        terminal.wait_for("[y]es")
        terminal.settle()
        assert "box.write" not in terminal.text
        assert "es, please" not in terminal.text
        terminal.send("n")
        terminal.wait_for("I see.")
        terminal.wait_for("> yes, please")
        terminal.send(ENTER)
        terminal.wait_for("Yes.")
    assert fake_openai.requests[-1]["messages"][-1] == {"role": "user", "content": "yes, please"}


def test_a_model_error_does_not_end_the_chat(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    from tests.support.fake_openai import error

    fake_openai.replies = [error(401, "bad key"), text("Better.")]
    with start(environ=settings(fake_openai, tmp_path)) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        screen = terminal.wait_for("error: the model's server answered 401: bad key")
        assert "check the key" in screen
        terminal.send("again" + ENTER)
        terminal.wait_for("Better.")


def test_a_server_failure_does_not_break_the_prompt(start: Start, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[servers.bad]\ncommand = "bash"\nargs = ["-c", "echo no disk >&2; exit 1"]\n')
    with start("-m", "demo", environ={"MCPCHAT_CONFIG": str(tmp_path / "c.toml")}) as terminal:
        screen = terminal.wait_for("server bad is down: it exited at once with exit code 1")
        assert "no disk" in screen
        terminal.send("hello" + ENTER)
        terminal.wait_for("There is no tool to call")


def test_markdown_is_rendered_in_order_and_once(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    document = "# Title\n\nSome **bold** words.\n\n- one\n- two\n\n```python\nprint('hi')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nThe end."
    pieces = [document[i : i + 5] for i in range(0, len(document), 5)]
    fake_openai.replies = [CannedResponse([*(chunk({"content": p}) for p in pieces), chunk({}, "stop")], pause=0.01)]
    with start("ask", "x", environ=settings(fake_openai, tmp_path)) as terminal:
        assert terminal.wait_exit() == 0
        screen = terminal.text
    for expected in ("Title", "Some bold words.", "one", "two", "print('hi')", "The end."):
        assert screen.count(expected) == 1, screen
    assert (
        screen.index("Title")
        < screen.index("bold")
        < screen.index("one")
        < screen.index("print")
        < screen.index("The end")
    )
    assert "**" not in screen
    assert "```" not in screen


def test_a_tall_answer_is_complete_in_the_scrollback(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    lines = [f"line {n}" for n in range(60)]
    document = "```\n" + "\n".join(lines) + "\n```\n"
    fake_openai.replies = [
        CannedResponse([*(chunk({"content": f"{p}\n"}) for p in document.splitlines()), chunk({}, "stop")], pause=0.01)
    ]
    with start("ask", "x", environ=settings(fake_openai, tmp_path), lines=12) as terminal:
        assert terminal.wait_exit() == 0
        visible = re.findall(r"line \d+", terminal.text)
    assert visible[-60:] == lines


def test_escapes_from_the_model_never_reach_the_terminal(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [text("a\x1b]0;owned\x07b \x1b[2J c \x9b31m d [click](https://evil.example)")]
    with start("ask", "x", environ=settings(fake_openai, tmp_path)) as terminal:
        assert terminal.wait_exit() == 0
    assert b"\x1b]0;" not in terminal.raw
    assert b"\x1b[2J" not in terminal.raw
    assert b"\x1b]8;" not in terminal.raw
    assert "https://evil.example" in terminal.text


def test_html_is_shown_as_text(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [text("Use List<String> and <br> too.\n\n<div>\nhidden\n</div>\n\nend")]
    with start("ask", "x", environ=settings(fake_openai, tmp_path)) as terminal:
        assert terminal.wait_exit() == 0
    for expected in ("Use List<String> and <br> too.", "<div>", "hidden", "end"):
        assert expected in terminal.text


def test_ctrl_c_at_a_prompt_cancels_the_turn(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'
    fake_openai.replies = [tool_call("box__write", '{"text": "x"}'), text("All is well.")]
    with start(environ=settings(fake_openai, tmp_path, config)) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        terminal.wait_for("[y]es")
        terminal.send(CTRL_C)
        screen = terminal.wait_for("\n  cancelled")  # the turn, not only the question
        assert "denied" not in screen
        terminal.send("again" + ENTER)
        terminal.wait_for("All is well.")
    assert fake_openai.requests[1]["messages"][2]["content"] == "Error: cancelled by the user"


def test_no_color_means_no_colour(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [text("`code` and **bold**")]
    with start("ask", "x", "--no-color", environ=settings(fake_openai, tmp_path)) as terminal:
        assert terminal.wait_exit() == 0
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]", terminal.raw)


def test_piped_output_stays_plain_while_the_terminal_shows_the_tools(start: Start) -> None:
    reader, writer = os.pipe()
    with start("ask", "-m", "demo", "2*3", stdout=writer) as terminal:
        os.close(writer)
        assert terminal.wait_exit() == 0
        screen = terminal.text
    with os.fdopen(reader) as out:
        assert out.read() == "calculator.calculate(2*3) = 6\n"
    assert "ok: calculator.calculate" in screen


def test_the_history_file_is_private(start: Start, isolated: Path) -> None:
    with start("-m", "demo") as terminal:
        terminal.wait_for("\n>")
        terminal.send("remember me" + ENTER)
        terminal.wait_for("No tool fits")
        terminal.send(CTRL_D)
        terminal.wait_exit()
    (history,) = isolated.rglob("history")
    assert history.stat().st_mode & 0o777 == 0o600
    with start("-m", "demo") as terminal:
        terminal.wait_for("\n>")
        terminal.send("\x1b[A")
        terminal.wait_for("remember me")


# --- requests from servers, resources and prompts ---------------------------------------------------------------

ALLOWED = '[approvals]\ndefault = "allow"\n'
ESCAPE = "\x1b"


def test_resources_prompts_and_logs_in_a_chat(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    environ = settings(fake_openai, tmp_path, server_table("box", FULL_FEATURED))
    with start(environ=environ, columns=100, lines=60) as terminal:
        terminal.wait_for("\n>")
        terminal.send("/servers box" + ENTER)
        terminal.wait_for("box:note://today")
        terminal.wait_for("name= [style=]")
        terminal.send("/servers nobody" + ENTER)
        terminal.wait_for("error: no server nobody")
        terminal.send("/logs box" + ENTER)
        terminal.wait_for("box has logged nothing")
        terminal.send("/logs nobody" + ENTER)
        terminal.wait_for("usage: /logs SERVER, one of box")
        terminal.send("/servers refresh" + ENTER)
        terminal.wait_for("7 tools on offer")
        terminal.send("what is in @box:note://today ?" + ENTER)
        terminal.wait_for("Hello.")
        terminal.send("/box:greet style=x" + ENTER)
        terminal.wait_for("box:greet needs name")
        style_count = terminal.text.count("style=")
        terminal.send('/box:greet name="Ann Lee" sty')
        terminal.wait_for("style=", count=style_count + 1)  # in the menu
        terminal.send("\t")
        terminal.wait_for('Lee" style=')
        terminal.send("ku")
        terminal.wait_for("kurt")
        terminal.send("\t")
        terminal.wait_for("style=kurt")
        terminal.send(ENTER)
        terminal.wait_for("user: Greet Ann Lee in a kurt way.")
        terminal.wait_for("Hello.", count=2)
        terminal.send("/box:gret" + ENTER)
        terminal.wait_for("no prompt /box:gret; did you mean /box:greet?")
        terminal.send("/exit" + ENTER)
        assert terminal.wait_exit() == 0
    user_messages = [
        message["content"] for message in fake_openai.requests[-1]["messages"] if message["role"] == "user"
    ]
    assert user_messages == [
        "what is in @box:note://today ?\n\n[box:note://today]\nbuy milk",
        "Greet Ann Lee in a kurt way.",
    ]


def test_a_form_is_checked_edited_and_sent(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [tool_call("box__order", "{}"), text("Ordered.")]
    with start(
        "ask", "Order!", environ=settings(fake_openai, tmp_path, server_table("box", FULL_FEATURED) + ALLOWED)
    ) as terminal:
        terminal.wait_for("box asks you: Which size?")
        terminal.wait_for("    :")
        terminal.send("large" + ENTER)
        terminal.wait_for("expected a whole number")
        terminal.send("\x7f" * 5 + "41" + ENTER)
        terminal.wait_for("[s]end to box  [e]dit  [d]ecline")
        terminal.send("e")
        terminal.wait_for(": 41", count=2)
        terminal.send("\x7f2" + ENTER)
        terminal.wait_for("[s]end to box")
        terminal.send("s")
        terminal.wait_for("Ordered.")
        assert terminal.wait_exit() == 0
    assert fake_openai.requests[1]["messages"][-1]["content"] == "size 42"


@pytest.mark.parametrize(("key", "expected"), [(ESCAPE, "no order: decline"), (CTRL_D, "no order: decline")])
def test_a_form_is_declined_by_a_key(
    start: Start, fake_openai: FakeOpenAI, tmp_path: Path, key: str, expected: str
) -> None:
    fake_openai.replies = [tool_call("box__order", "{}"), text("Well.")]
    with start(
        "ask", "Order!", environ=settings(fake_openai, tmp_path, server_table("box", FULL_FEATURED) + ALLOWED)
    ) as terminal:
        terminal.wait_for("    :")
        terminal.send(key)
        terminal.wait_for("Well.")
        assert terminal.wait_exit() == 0
    assert fake_openai.requests[1]["messages"][-1]["content"] == expected


def test_ctrl_c_at_a_form_cancels_the_turn(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [tool_call("box__order", "{}"), text("Well.")]
    with start(
        "ask", "Order!", environ=settings(fake_openai, tmp_path, server_table("box", FULL_FEATURED) + ALLOWED)
    ) as terminal:
        terminal.wait_for("    :")
        terminal.send(CTRL_C)
        assert terminal.wait_exit() == 130
    assert len(fake_openai.requests) == 1


def test_samples_and_roots_need_approval(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = (
        server_table("box", FULL_FEATURED)
        + f'protocol = "2025-11-25"\nsampling = true\nroots = ["{tmp_path}"]\n'
        + ALLOWED
    )
    fake_openai.replies = [
        tool_call("box__think", "{}"),
        text("Because."),
        tool_call("box__folders", "{}"),
        text("Done."),
    ]
    with start("ask", "Go", environ=settings(fake_openai, tmp_path, config), columns=120) as terminal:
        terminal.wait_for("box wants to ask m (at most 50 tokens)")
        terminal.wait_for("user: Why?")
        terminal.wait_for("[y]es  [n]o")
        terminal.send("y")
        terminal.wait_for("box wants to have this answer")
        terminal.wait_for("[y]es  [n]o")
        terminal.send("y")
        terminal.wait_for("box wants to know of these folders")
        terminal.wait_for("[y]es  [n]o")
        terminal.send("n")
        terminal.wait_for("Done.")
        assert terminal.wait_exit() == 0
    results = [message["content"] for message in fake_openai.requests[-1]["messages"] if message["role"] == "tool"]
    assert results == ["m says: Because.", "none"]


def test_a_url_is_opened_only_after_consent(start: Start, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    (tmp_path / "c.toml").write_text(f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}", "visit"]\n')
    arguments = ("call", "box.write", "text=x", "--yes", "--config", str(tmp_path / "c.toml"))
    for key, expected in (("d", "visited: decline"), ("o", "visited: accept")):
        with start(*arguments, environ={"BROWSER": str(browser)}) as terminal:
            terminal.wait_for("box asks you: Log in, please")
            terminal.wait_for("https://example.com/login?a=1&b=%20")
            terminal.wait_for("[o]pen it in the browser  [d]ecline")
            assert not (tmp_path / "opened").exists()
            terminal.send(key)
            terminal.wait_for(expected)
            assert terminal.wait_exit() == 0
    assert (tmp_path / "opened").read_text() == "https://example.com/login?a=1&b=%20\n"


@pytest.mark.parametrize("to_file", [False, True])
def test_while_a_person_waits_for_ask_the_terminal_shows_it(
    fake_openai: FakeOpenAI, tmp_path: Path, to_file: bool
) -> None:
    slow = text("Hello.")
    slow.gate = threading.Event()
    fake_openai.replies = [slow]
    out = tmp_path / "out"
    stdout = os.open(out, os.O_WRONLY | os.O_CREAT) if to_file else None
    environ = settings(fake_openai, tmp_path)
    with Terminal([MCPCHAT, "ask", "hi"], environ=environ, stdout=stdout) as terminal:
        terminal.wait_for("waiting for the model · 1 s")
        slow.gate.set()
        assert terminal.wait_exit() == 0
        assert terminal.text == ("" if to_file else "Hello.")
    assert not to_file or out.read_text() == "Hello.\n"


def test_keys_during_an_answer_tear_no_line(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    answer = text(*(f"word{n} " for n in range(40)))
    answer.gate, answer.gate_at = threading.Event(), 20
    fake_openai.replies = [answer]
    with start("ask", "go", environ=settings(fake_openai, tmp_path, "")) as terminal:
        terminal.wait_for("word10")
        terminal.settle()
        terminal.send("typed" + ENTER + ENTER)
        terminal.settle()
        answer.gate.set()
        assert terminal.wait_exit() == 0
        assert "typed" not in terminal.text
        assert re.findall(r"word\d+", terminal.text) == [f"word{n}" for n in range(40)]


def test_ctrl_c_during_an_answer_tears_no_line(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [CannedResponse(text(*(f"word{n} " for n in range(20))).chunks[:-2], hang=True)]
    with start("ask", "go", environ=settings(fake_openai, tmp_path, "")) as terminal:
        terminal.wait_for("word19")
        terminal.send(CTRL_C)
        assert terminal.wait_exit() == 130
        assert "^C" not in terminal.text
        assert re.findall(r"word\d+", terminal.text) == [f"word{n}" for n in range(20)]


def test_an_answer_that_is_not_streamed_is_rendered_too(start: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    answer = text("It is **", "bold", "**.")
    answer.gate, answer.gate_at = threading.Event(), 2
    fake_openai.replies = [answer]
    with start("ask", "--no-stream", "go", environ=settings(fake_openai, tmp_path, "")) as terminal:
        terminal.wait_for("waiting for the model")
        assert "It is" not in terminal.text
        answer.gate.set()
        assert terminal.wait_exit() == 0
        assert terminal.text.count("It is bold.") == 1
