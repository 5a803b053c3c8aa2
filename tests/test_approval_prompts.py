"""The question before a call, in a real terminal: what it shows, and what each answer does."""

import json
import sys
from pathlib import Path

import pytest

from tests.fake_openai import FakeOpenAI, text, tool_call
from tests.scripted_mcp import ScriptedServer, modified_tool

ENTER, ESCAPE = "\r", "\x1b"


@pytest.fixture
def box(mcpchat_command: str, tmp_path: Path, fake_openai: FakeOpenAI) -> ScriptedServer:
    made = ScriptedServer(mcpchat_command, tmp_path, fake_openai)
    made.set_script(tools=[modified_tool(title="Say it", annotations={})], title="The Box")
    return made


def results(box: ScriptedServer) -> list[str]:
    return [m["content"] for m in box.fake_openai.requests[-1]["messages"] if m["role"] == "tool"]


def test_the_question_says_who_wants_what_and_which_rule_asks(box: ScriptedServer) -> None:
    box.configure(extra_config='[approvals]\nask = ["box.say(text~=hello)"]\n')
    box.fake_openai.replies = [tool_call("box__say", '{"text": "hello"}'), text("ok")]
    with box.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("[y]es")
        assert "box wants to run say   (config: ask box.say(text~=hello))" in screen
        assert '"The Box", "Say it", annotations: none (not trusted)' in screen
        assert "text  hello" in screen
        assert "[a]lways" not in screen  # a written rule outlives an answer
        assert "this [s]ession" in screen
        terminal.send("y")
        terminal.wait_for("ok")
        assert terminal.wait_exit() == 0


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"readOnlyHint": True, "openWorldHint": True}, "changes nothing, reaches external systems"),
        ({"readOnlyHint": False, "destructiveHint": True}, "changes things, may destroy or send"),
        ({"destructiveHint": False, "idempotentHint": True}, "destroys nothing, idempotent"),
    ],
    ids=["reads", "destroys", "adds"],
)
def test_what_the_server_claims_is_said_as_its_claim(
    box: ScriptedServer, annotations: dict[str, bool], said: str
) -> None:
    box.set_script(tools=[modified_tool(annotations=annotations)])
    box.fake_openai.replies = [tool_call("box__say", "{}"), text("ok")]
    with box.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("[y]es")
        assert f"annotations: {said} (not trusted)" in screen
        assert ("[a]lways" in screen) is ("destroy or send" not in screen)


def test_always_is_kept_listed_used_and_revoked(box: ScriptedServer) -> None:
    call = tool_call("box__say", '{"text": "hi"}')
    box.fake_openai.replies = [call, text("ok")]
    with box.terminal("ask", "go", columns=110) as terminal:
        terminal.wait_for("[a]lways this tool")
        terminal.send("a")
        assert terminal.wait_exit() == 0
    listed = box.run("approvals")
    assert listed.stdout.startswith("box.say  since 20")
    assert box.run("call", "box.say", "text=x").returncode == 0
    box.fake_openai.replies = [call, text("ok")]
    assert box.run("ask", "go").returncode == 0
    assert box.run("call", "box.say", "text=x", "--deny", "box.say").returncode == 6
    assert box.run("approvals", "revoke", "box.sya").returncode == 2
    revoked = box.run("approvals", "revoke", "box.say")
    assert (revoked.returncode, revoked.stderr) == (0, "box.say asks again\n")
    assert box.run("call", "box.say", "text=x").returncode == 6
    assert box.run("approvals", "list", "-o", "json").stdout == "[]\n"


def test_always_is_of_one_server_and_not_of_another_by_its_name(box: ScriptedServer) -> None:
    box.fake_openai.replies = [tool_call("box__say", "{}"), text("ok")]
    with box.terminal("ask", "go", columns=110) as terminal:
        terminal.wait_for("[a]lways")
        terminal.send("a")
        terminal.wait_exit()
    box.configure("env = { OTHER = '1' }")
    assert box.run("call", "box.say").returncode == 6
    assert "of a server whose configuration changed" in box.run("approvals").stdout


def test_for_this_session_holds_until_the_chat_ends(box: ScriptedServer) -> None:
    call = tool_call("box__say", "{}")
    box.fake_openai.replies = [call, text("First."), call, text("Second.")]
    with box.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        terminal.wait_for("this [s]ession")
        terminal.send("s")
        terminal.wait_for("First.")
        terminal.send("go" + ENTER)
        terminal.wait_for("Second.")
        assert terminal.text.count("[y]es") == 1
    assert box.run("approvals").stdout == ""


def test_a_reason_is_read_by_the_model_and_escape_goes_back_to_the_question(box: ScriptedServer) -> None:
    box.fake_openai.replies = [tool_call("box__say", "{}"), text("I see.")]
    with box.terminal("ask", "go", columns=110) as terminal:
        terminal.wait_for("no and [r]eason")
        terminal.send("r")
        terminal.wait_for("why not?")
        terminal.send(ESCAPE)
        terminal.wait_for("[y]es", count=2)
        terminal.send("r")
        terminal.wait_for("why not?", count=2)
        terminal.send("use the other folder" + ENTER)
        terminal.wait_for("I see.")
    assert results(box) == ["Error: denied by the user: use the other folder"]


def test_arguments_are_changed_line_by_line_and_the_change_is_shown_before_it_runs(box: ScriptedServer) -> None:
    arguments = {"text": "to eve", "count": 2}
    box.set_script(
        tools=[
            modified_tool(annotations={}, inputSchema={"type": "object", "properties": {"count": {"type": "integer"}}})
        ]
    )
    box.fake_openai.replies = [tool_call("box__say", json.dumps(arguments)), text("ok")]
    with box.terminal("ask", "go", columns=110, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("text: to eve")
        terminal.send("\x15to ann" + ENTER)
        terminal.wait_for("count: 2")
        terminal.send("\x15two" + ENTER)
        terminal.wait_for("  [n]o  [e]dit  no and", count=1)
        assert "[y]es" not in terminal.text.rpartition("rejected: ")[2]
        terminal.send("e")
        terminal.wait_for("text: to ann", count=2)
        terminal.send(ENTER)
        terminal.wait_for("count: two")
        terminal.send("\x153" + ENTER)
        screen = terminal.wait_for("[y]es", count=2)
        shown = screen.rpartition("wants to run")[2]
        for line in ("- text  to eve", "+ text  to ann", "- count  2", "+ count  3"):
            assert line in shown
        terminal.send("y")
        assert terminal.wait_exit() == 0
    note = '[the user changed this call\'s arguments to {"text": "to ann", "count": 3}]'
    assert results(box) == [f'{note}\n{{"text": "to ann", "count": 3}}']


def test_arguments_are_changed_in_the_persons_editor(box: ScriptedServer) -> None:
    editor = box.folder / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace('eve', 'ann'))"
    )
    box.fake_openai.replies = [tool_call("box__say", '{"text": "to eve"}'), text("ok")]
    with box.terminal("ask", "go", columns=110, environ={"VISUAL": f"{sys.executable} {editor}"}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("+ text  to ann")
        terminal.wait_for("[y]es", count=2)
        terminal.send("y")
        assert terminal.wait_exit() == 0
    assert results(box)[0].endswith('\n{"text": "to ann"}')


def test_a_denied_change_does_not_run(box: ScriptedServer) -> None:
    box.configure(extra_config='[approvals]\ndeny = ["box.say(text~=eve)"]\n')
    box.fake_openai.replies = [tool_call("box__say", '{"text": "to ann"}'), text("ok")]
    with box.terminal("ask", "go", columns=110, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("text: to ann")
        terminal.send("\x15to eve" + ENTER)
        terminal.wait_for("rejected: not allowed: config: deny box.say(text~=eve)")
        terminal.wait_for("[n]o  [e]dit")
        terminal.send("n")
        terminal.wait_for("ok")
    assert results(box) == ["Error: denied by the user"]


def test_long_arguments_are_cut_with_the_short_ones_at_the_keys_and_all_of_it_at_a_key(box: ScriptedServer) -> None:
    body = "\n".join(f"line {n}" for n in range(200)) + "\nthe end of it"
    arguments = {"to": "ann@example.com", "body": body, "wide": "x" * 5000}
    box.fake_openai.replies = [tool_call("box__say", json.dumps(arguments)), text("ok")]
    with box.terminal("ask", "go", columns=100, lines=30) as terminal:
        screen = terminal.wait_for("[v]iew all")
        assert screen.count("characters ([v] shows all)") == 2
        assert "box wants to run say" in "\n".join(screen.splitlines()[-30:])  # all of it on one screen
        assert screen.index("body") < screen.index("to  ann@example.com") < screen.index("[y]es")
        assert "│ the end of it" in screen  # where something may hide
        assert "line 100" not in screen
        terminal.send("v")
        terminal.wait_for("line 100")
        terminal.wait_for("[y]es", count=2)
        terminal.send("n")
        terminal.wait_for("ok")


def test_what_would_ask_in_a_script_says_how_to_allow_it_and_the_exit_code_tells(box: ScriptedServer) -> None:
    box.fake_openai.replies = [tool_call("box__say", "{}"), text("I could not.")]
    done = box.run("ask", "go")
    assert (done.returncode, done.stdout) == (6, "I could not.\n")
    assert "default: ask, but this run is not interactive; allow it with --allow 'box.say'" in done.stderr


def test_an_agents_own_rules_hold_with_that_agent(box: ScriptedServer) -> None:
    box.configure(
        extra_config='[agents.careful.approvals]\ndeny = ["box.*"]\n[agents.free.approvals]\ndefault = "allow"\n'
    )
    call = tool_call("box__say", "{}")
    box.fake_openai.replies = [call, text("no"), call, text("yes")]
    done = box.run("ask", "go", "-a", "careful", "--yes")
    assert done.returncode == 6
    assert "agent careful: deny box.*" in done.stderr
    assert box.run("ask", "go", "-a", "free").returncode == 0


def test_a_bad_pattern_is_an_error_of_the_command_line_or_of_the_file(box: ScriptedServer) -> None:
    assert "is not a regular expression" in box.run("call", "box.say", "--allow", "box.say(text~=[)").stderr
    box.configure(extra_config='[approvals]\nallow = ["box.say(text)"]\n')
    done = box.run("tools")
    assert done.returncode == 2
    assert "approvals.allow: 'box.say(text)': 'text' is not a condition; write argument=glob" in done.stderr


def test_who_is_in_the_middle_of_a_sentence_answers_no_question_by_it(box: ScriptedServer) -> None:
    call = tool_call("box__say", "{}")
    call.pause = 0.5
    box.fake_openai.replies = [call, text("I see."), text("Yes.")]
    with box.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        typed = ""
        while "box wants to run say" not in terminal.text or len(typed) < 20:
            terminal.send("say"[len(typed) % 3])
            typed += "say"[len(typed) % 3]
            terminal.read(0.1)
        terminal.wait_for("[y]es  [n]o")
        assert "box.say" not in terminal.text
        terminal.send("n")
        terminal.wait_for(f"> {typed}")
    assert box.run("approvals").stdout == ""


def test_a_long_text_that_was_edited_is_shown_by_the_lines_that_changed(box: ScriptedServer) -> None:
    editor = box.folder / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace('line 60', 'LINE SIXTY'))"
    )
    body = "\n".join(f"line {n}" for n in range(80))
    box.fake_openai.replies = [tool_call("box__say", json.dumps({"text": body})), text("ok")]
    with box.terminal("ask", "go", columns=110, environ={"VISUAL": f"{sys.executable} {editor}"}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("+LINE SIXTY")
        assert "-line 60" in terminal.text
        terminal.wait_for("[y]es", count=2)
        terminal.send("n")
        terminal.wait_for("ok")


def test_json_that_the_editor_broke_can_be_mended_and_an_empty_file_changes_nothing(box: ScriptedServer) -> None:
    editor = box.folder / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); t = p.read_text();\n"
        "p.write_text('' if 'two' in t else t.replace('oops', '\"two\"') if 'oops' in t else t.replace('\"one\"', 'oops'))"
    )
    box.fake_openai.replies = [tool_call("box__say", '{"text": "one"}'), text("ok")]
    with box.terminal("ask", "go", columns=110, environ={"VISUAL": f"{sys.executable} {editor}"}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("the arguments are not valid JSON")
        terminal.wait_for("[e]dit it again")
        terminal.send("e")
        terminal.wait_for("+ text  two")
        terminal.wait_for("[y]es", count=2)
        terminal.send("e")
        terminal.wait_for("the editor returned no text; nothing is changed")
        terminal.wait_for("[y]es", count=3)
        terminal.send("y")
        assert terminal.wait_exit() == 0
    assert results(box)[0].endswith('\n{"text": "two"}')


def test_what_is_invisible_or_could_be_something_else_is_told_apart(box: ScriptedServer) -> None:
    arguments = {"hidden": "a\u200bb", "number": 3, "text": "3", "empty": "", "blank": " x", "list": ["a"]}
    box.fake_openai.replies = [tool_call("box__say", json.dumps(arguments)), text("ok")]
    with box.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("[y]es")
        for line in ("hidden  a\\u{200b}b", "number  3", 'text  "3"', 'empty  ""', 'blank  " x"', 'list  ["a"]'):
            assert line in screen
        terminal.send("n")
        terminal.wait_for("ok")


def test_no_line_of_a_value_can_be_taken_for_an_argument_and_keys_are_not_broken(box: ScriptedServer) -> None:
    box.fake_openai.replies = [
        tool_call("box__say", json.dumps({"body": "x" * 50 + "\npath  /tmp/harmless"})),
        text("ok"),
    ]
    with box.terminal("ask", "go", columns=40) as terminal:
        screen = terminal.wait_for("no and [r]eason")
        assert "      │ path  /tmp/harmless" in screen
        lines = screen.partition("body")[2].splitlines()[1:]
        assert [line for line in lines if line and not line.startswith("  ")] == []
        terminal.send("n")
        terminal.wait_for("ok")
