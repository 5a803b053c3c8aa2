"""Tests of the approval prompt in a real terminal: its text, and the effect of each answer."""

import json
import sys
from pathlib import Path

import pytest

from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, text, tool_call
from tests.support.scripted_mcp import ScriptedServer, modified_tool

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER, ESCAPE, DOWN = "\r", "\x1b", "\x1b[B"


@pytest.fixture
def server(tmp_path: Path, fake_openai: FakeOpenAI) -> ScriptedServer:
    scripted_server = ScriptedServer(tmp_path, fake_openai)
    scripted_server.set_script(tools=[modified_tool(title="Say it", annotations={})], title="The Box")
    return scripted_server


def tool_messages(server: ScriptedServer) -> list[str]:
    return [message["content"] for message in server.fake_openai.requests[-1]["messages"] if message["role"] == "tool"]


def test_the_prompt_names_server_tool_and_rule(server: ScriptedServer) -> None:
    server.configure(extra_config='[approvals]\nask = ["box.say(text~=hello)"]\n')
    server.fake_openai.replies = [tool_call("box__say", '{"text": "hello"}'), text("ok")]
    with server.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("[y]es")
        assert "box wants to run say   (config: ask box.say(text~=hello))" in screen
        assert '"The Box", "Say it", annotations: none (not trusted)' in screen
        assert "text  hello" in screen
        assert "[a]lways" not in screen  # an answer cannot override a written rule
        assert "this [s]ession" in screen
        terminal.send("y")
        terminal.wait_for("ok")
        assert terminal.wait_exit() == 0


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"readOnlyHint": True, "openWorldHint": True}, "changes nothing, reaches external systems"),
        ({"readOnlyHint": False, "destructiveHint": True}, "changes things, may destroy or send"),
        ({"destructiveHint": False, "idempotentHint": True}, "destroys nothing, idempotent"),
    ],
    ids=["reads", "destroys", "adds"],
)
def test_annotations_are_shown_as_not_trusted(
    server: ScriptedServer, annotations: dict[str, bool], expected: str
) -> None:
    server.set_script(tools=[modified_tool(annotations=annotations)])
    server.fake_openai.replies = [tool_call("box__say", "{}"), text("ok")]
    with server.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("[y]es")
        assert f"annotations: {expected} (not trusted)" in screen
        assert ("[a]lways" in screen) is ("destroy or send" not in screen)


def test_always_is_kept_listed_used_and_revoked(server: ScriptedServer) -> None:
    call = tool_call("box__say", '{"text": "hi"}')
    server.fake_openai.replies = [call, text("ok")]
    with server.terminal("ask", "go", columns=110) as terminal:
        terminal.wait_for("[a]lways this tool")
        terminal.send("a")
        assert terminal.wait_exit() == 0
    table = server.run("approvals")
    assert table.stdout.startswith("box.say  since 20")
    assert server.run("call", "box.say", "text=x").returncode == 0
    server.fake_openai.replies = [call, text("ok")]
    assert server.run("ask", "go").returncode == 0
    assert server.run("call", "box.say", "text=x", "--deny", "box.say").returncode == 6
    assert server.run("approvals", "revoke", "box.sya").returncode == 2
    revoked = server.run("approvals", "revoke", "box.say")
    assert (revoked.returncode, revoked.stderr) == (0, "box.say asks again\n")
    assert server.run("call", "box.say", "text=x").returncode == 6
    assert server.run("approvals", "list", "-o", "json").stdout == "[]\n"


def test_always_does_not_apply_to_another_server_with_its_name(server: ScriptedServer) -> None:
    server.fake_openai.replies = [tool_call("box__say", "{}"), text("ok")]
    with server.terminal("ask", "go", columns=110) as terminal:
        terminal.wait_for("[a]lways")
        terminal.send("a")
        terminal.wait_exit()
    server.configure("env = { OTHER = '1' }")
    assert server.run("call", "box.say").returncode == 6
    assert "of a server whose configuration changed" in server.run("approvals").stdout


def test_for_this_session_holds_until_the_chat_ends(server: ScriptedServer) -> None:
    call = tool_call("box__say", "{}")
    server.fake_openai.replies = [call, text("First."), call, text("Second.")]
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        terminal.wait_for("this [s]ession")
        terminal.send("s")
        terminal.wait_for("First.")
        terminal.send("go" + ENTER)
        terminal.wait_for("Second.")
        assert terminal.text.count("wants to run") == 1
        assert "✓ allowed for this session" in terminal.text
    assert server.run("approvals").stdout == ""


def test_arrow_keys_and_enter_choose_but_one_enter_does_not(server: ScriptedServer) -> None:
    server.fake_openai.replies = [tool_call("box__say", "{}"), text("Done.")]
    with server.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("no and [r]eason")
        assert "[a]lways this tool  yes, and never ask about it again" in " ".join(screen.split("\n"))
        assert "›" not in screen
        terminal.send(ENTER)
        terminal.wait_for("› [y]es")
        terminal.send(DOWN + ENTER)  # the second choice
        terminal.wait_for("Done.")
        assert "✓ allowed for this session" in terminal.text
        assert "[y]es" not in terminal.text


def test_waiting_calls_are_allowed_together_but_not_those_that_destroy(server: ScriptedServer) -> None:
    wipe = modified_tool(name="wipe", annotations={"destructiveHint": True})
    server.set_script(tools=[modified_tool(annotations={}), wipe])
    calls = [("say", "one"), ("say", "two"), ("wipe", "all"), ("say", "three")]
    chunks = [
        chunk(
            {
                "tool_calls": [
                    {
                        "index": n,
                        "id": f"c{n}",
                        "function": {"name": f"box__{name}", "arguments": json.dumps({"text": value})},
                    }
                ]
            }
        )
        for n, (name, value) in enumerate(calls)
    ]
    server.fake_openai.replies = [CannedResponse([*chunks, chunk({}, "tool_calls")]), text("Done.")]
    with server.terminal("ask", "go", columns=110, lines=40) as terminal:
        screen = terminal.wait_for("[A]ll 3")
        assert 'also: box say (not trusted)  text="two"\n    also: box say (not trusted)  text="three"\n' in screen
        assert "    1 more to approve after this one" in screen
        terminal.send("A")
        terminal.wait_for("✓ allowed once, with 2 other calls")
        terminal.wait_for("box wants to run wipe")
        screen = terminal.wait_for("[n]o")
        assert "[A]ll" not in screen
        terminal.send("n")
        terminal.wait_for("Done.")
    assert [("denied" in message) for message in tool_messages(server)] == [False, False, True, False]


def test_the_result_of_a_call_follows_its_own_question(server: ScriptedServer) -> None:
    calls = [{"index": n, "id": f"c{n}", "function": {"name": "box__say", "arguments": "{}"}} for n in range(2)]
    server.fake_openai.replies = [
        CannedResponse([chunk({"tool_calls": calls}), chunk({}, "tool_calls")]),
        text("Done."),
    ]
    with server.terminal("ask", "go", columns=110) as terminal:
        for count in (1, 2):
            terminal.wait_for("wants to run", count=count)
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("allowed once", count=count)
        screen = terminal.wait_for("Done.")
    lines = [line.split()[1] for line in screen.splitlines() if line.startswith("  ✓") or "wants to run" in line]
    assert lines == ["wants", "allowed", "box.say", "wants", "allowed", "box.say"]


def test_the_model_reads_the_reason_and_escape_returns_to_the_prompt(server: ScriptedServer) -> None:
    server.fake_openai.replies = [tool_call("box__say", "{}"), text("I see.")]
    with server.terminal("ask", "go", columns=110) as terminal:
        terminal.wait_for("no and [r]eason")
        terminal.send("r")
        terminal.wait_for("why not?")
        terminal.send(ESCAPE)
        terminal.wait_for("[y]es")
        terminal.send("r")
        terminal.wait_for("why not?", count=2)
        terminal.send("use the other folder" + ENTER)
        terminal.wait_for("I see.")
    assert tool_messages(server) == ["Error: denied by the user: use the other folder"]


def test_arguments_are_edited_by_line_and_the_change_is_shown_before_it_runs(server: ScriptedServer) -> None:
    arguments = {"text": "to eve", "count": 2}
    server.set_script(
        tools=[
            modified_tool(annotations={}, inputSchema={"type": "object", "properties": {"count": {"type": "integer"}}})
        ]
    )
    server.fake_openai.replies = [tool_call("box__say", json.dumps(arguments)), text("ok")]
    with server.terminal("ask", "go", columns=110, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("text: to eve")
        terminal.send("\x15to ann" + ENTER)
        terminal.wait_for("count: 2")
        terminal.send("\x15two" + ENTER)
        terminal.wait_for("rejected: ")
        terminal.wait_for("[e]dit")
        assert "[y]es" not in terminal.text
        terminal.send("e")
        terminal.wait_for("text: to ann", count=2)
        terminal.send(ENTER)
        terminal.wait_for("count: two")
        terminal.send("\x153" + ENTER)
        screen = terminal.wait_for("[y]es")
        last_prompt = screen.rpartition("wants to run")[2]
        for line in ("- text  to eve", "+ text  to ann", "- count  2", "+ count  3"):
            assert line in last_prompt
        terminal.send("y")
        assert terminal.wait_exit() == 0
    note = '[the user changed this call\'s arguments to {"text": "to ann", "count": 3}]'
    assert tool_messages(server) == [f'{note}\n{{"text": "to ann", "count": 3}}']


def test_arguments_are_edited_in_the_users_editor(server: ScriptedServer) -> None:
    editor = server.folder / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace('eve', 'ann'))"
    )
    server.fake_openai.replies = [tool_call("box__say", '{"text": "to eve"}'), text("ok")]
    with server.terminal("ask", "go", columns=110, environ={"VISUAL": f"{sys.executable} {editor}"}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("+ text  to ann")
        terminal.wait_for("[y]es")
        terminal.send("y")
        assert terminal.wait_exit() == 0
    assert tool_messages(server)[0].endswith('\n{"text": "to ann"}')


def test_a_denied_change_does_not_run(server: ScriptedServer) -> None:
    server.configure(extra_config='[approvals]\ndeny = ["box.say(text~=eve)"]\n')
    server.fake_openai.replies = [tool_call("box__say", '{"text": "to ann"}'), text("ok")]
    with server.terminal("ask", "go", columns=110, environ={"EDITOR": "", "VISUAL": ""}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("text: to ann")
        terminal.send("\x15to eve" + ENTER)
        terminal.wait_for("rejected: not allowed: config: deny box.say(text~=eve)")
        terminal.wait_for("[e]dit")
        terminal.send("n")
        terminal.wait_for("ok")
    assert tool_messages(server) == ["Error: denied by the user"]


def test_long_arguments_are_cut_short_ones_come_last_and_a_key_shows_all(server: ScriptedServer) -> None:
    body = "\n".join(f"line {n}" for n in range(200)) + "\nthe end of it"
    arguments = {"to": "ann@example.com", "body": body, "wide": "x" * 5000}
    server.fake_openai.replies = [tool_call("box__say", json.dumps(arguments)), text("ok")]
    with server.terminal("ask", "go", columns=100, lines=30) as terminal:
        screen = terminal.wait_for("[v]iew all")
        assert screen.count("characters ([v] shows all)") == 2
        assert "box wants to run say" in "\n".join(screen.splitlines()[-30:])  # everything on one screen
        assert screen.index("body") < screen.index("to  ann@example.com") < screen.index("[y]es")
        assert "│ the end of it" in screen  # text may hide there
        assert "line 100" not in screen
        terminal.send("v")
        terminal.wait_for("line 100")
        terminal.wait_for("[y]es")
        terminal.send("n")
        terminal.wait_for("ok")


def test_an_ask_in_a_script_is_exit_6_and_says_how_to_allow_it(server: ScriptedServer) -> None:
    server.fake_openai.replies = [tool_call("box__say", "{}"), text("I could not.")]
    result = server.run("ask", "go")
    assert (result.returncode, result.stdout) == (6, "I could not.\n")
    assert "default: ask, but this run is not interactive; allow it with --allow 'box.say'" in result.stderr


def test_an_agents_rules_apply_with_that_agent(server: ScriptedServer) -> None:
    server.configure(
        extra_config='[agents.careful.approvals]\ndeny = ["box.*"]\n[agents.free.approvals]\ndefault = "allow"\n'
    )
    call = tool_call("box__say", "{}")
    server.fake_openai.replies = [call, text("no"), call, text("yes")]
    result = server.run("ask", "go", "-a", "careful", "--yes")
    assert result.returncode == 6
    assert "agent careful: deny box.*" in result.stderr
    assert server.run("ask", "go", "-a", "free").returncode == 0


def test_an_invalid_pattern_is_an_error_of_command_line_or_file(server: ScriptedServer) -> None:
    assert "is not a regular expression" in server.run("call", "box.say", "--allow", "box.say(text~=[)").stderr
    server.configure(extra_config='[approvals]\nallow = ["box.say(text)"]\n')
    result = server.run("tools")
    assert result.returncode == 2
    assert "approvals.allow: 'box.say(text)': 'text' is not a condition; write argument=glob" in result.stderr


def test_typing_a_message_does_not_answer_a_prompt(server: ScriptedServer) -> None:
    call = tool_call("box__say", "{}")
    call.pause = 0.5
    server.fake_openai.replies = [call, text("I see."), text("Yes.")]
    with server.terminal(columns=110) as terminal:
        terminal.wait_for("\n>")
        terminal.send("go" + ENTER)
        input_text = ""
        while "box wants to run say" not in terminal.text or len(input_text) < 20:
            terminal.send("say"[len(input_text) % 3])
            input_text += "say"[len(input_text) % 3]
            terminal.read(0.1)
        terminal.wait_for("[y]es")
        assert "box.say" not in terminal.text
        terminal.send("n")
        terminal.wait_for(f"> {input_text}")
    assert server.run("approvals").stdout == ""


def test_an_edit_of_a_long_text_shows_the_changed_lines(server: ScriptedServer) -> None:
    editor = server.folder / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace('line 60', 'LINE SIXTY'))"
    )
    body = "\n".join(f"line {n}" for n in range(80))
    server.fake_openai.replies = [tool_call("box__say", json.dumps({"text": body})), text("ok")]
    with server.terminal("ask", "go", columns=110, environ={"VISUAL": f"{sys.executable} {editor}"}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("+LINE SIXTY")
        assert "-line 60" in terminal.text
        terminal.wait_for("[y]es")
        terminal.send("n")
        terminal.wait_for("ok")


def test_invalid_json_can_be_fixed_and_an_empty_file_changes_nothing(server: ScriptedServer) -> None:
    editor = server.folder / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); t = p.read_text();\n"
        "p.write_text('' if 'two' in t else t.replace('oops', '\"two\"') if 'oops' in t else t.replace('\"one\"', 'oops'))"
    )
    server.fake_openai.replies = [tool_call("box__say", '{"text": "one"}'), text("ok")]
    with server.terminal("ask", "go", columns=110, environ={"VISUAL": f"{sys.executable} {editor}"}) as terminal:
        terminal.wait_for("[e]dit")
        terminal.send("e")
        terminal.wait_for("the arguments are not valid JSON")
        terminal.wait_for("[e]dit it again")
        terminal.send("e")
        terminal.wait_for("+ text  two")
        terminal.wait_for("[y]es")
        terminal.send("e")
        terminal.wait_for("the editor returned no text; nothing is changed")
        terminal.wait_for("[y]es")
        terminal.send("y")
        assert terminal.wait_exit() == 0
    assert tool_messages(server)[0].endswith('\n{"text": "two"}')


def test_invisible_and_ambiguous_characters_are_distinct(server: ScriptedServer) -> None:
    arguments = {"hidden": "a\u200bb", "number": 3, "text": "3", "empty": "", "blank": " x", "list": ["a"]}
    server.fake_openai.replies = [tool_call("box__say", json.dumps(arguments)), text("ok")]
    with server.terminal("ask", "go", columns=110) as terminal:
        screen = terminal.wait_for("[y]es")
        for line in ("hidden  a\\u{200b}b", "number  3", 'text  "3"', 'empty  ""', 'blank  " x"', 'list  ["a"]'):
            assert line in screen
        terminal.send("n")
        terminal.wait_for("ok")


def test_a_line_of_a_value_cannot_look_like_an_argument_and_keys_do_not_wrap(server: ScriptedServer) -> None:
    server.fake_openai.replies = [
        tool_call("box__say", json.dumps({"body": "x" * 50 + "\npath  /tmp/harmless"})),
        text("ok"),
    ]
    with server.terminal("ask", "go", columns=40) as terminal:
        screen = terminal.wait_for("no and [r]eason")
        assert "      │ path  /tmp/harmless" in screen
        lines = screen.partition("body")[2].splitlines()[1:]
        assert [line for line in lines if line and not line.startswith("  ")] == []
        terminal.send("n")
        terminal.wait_for("ok")
