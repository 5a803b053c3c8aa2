"""Tests of the installed command as a subprocess: streams, exit codes, signals, closed pipes."""

import json
import re
import sqlite3
import sys
import time
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, run_mcpchat, unpack
from tests.support.fake_openai import DONE, CannedResponse, FakeOpenAI, chunk, error, text, tool_call
from tests.support.paths import FULL_FEATURED, QUIRKY
from tests.support.processes import server_table

BOX_CONFIG = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'


def test_the_first_command_of_the_readme_answers_with_the_tools_result(run: CommandLine) -> None:
    code, out, err = unpack(run("ask", "--model", "demo", "What is 1234 * 5678?"))
    assert (code, out) == (0, "calculator.calculate(1234 * 5678) = 7006652\n")
    assert "not a language model" in err
    assert re.search(r'ok: calculator\.calculate .*expression="1234 \* 5678"', err)


def test_a_question_comes_from_args_stdin_or_both(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    for args, stdin, question in [
        (("a", "b"), "", "a b"),
        ((), "from stdin\n", "from stdin"),
        (("sum up:",), "line 1\nline 2\n", "sum up:\n\nline 1\nline 2"),
    ]:
        assert unpack(run("ask", *args, stdin=stdin, **model)) == (0, "Hello.\n", "")
        assert fake_openai.requests[-1]["messages"][1:] == [{"role": "user", "content": question}]
    assert unpack(run("ask", **model))[0] == 2


def test_the_model_gets_the_tools_and_its_calls_run(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call("calculator__calculate", '{"expression": "6*7"}'), text("It is ", "42.")]
    code, out, _ = unpack(run("ask", "6*7?", OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m"))
    assert (code, out) == (0, "It is 42.\n")
    first, second = fake_openai.requests
    names = [tool["function"]["name"] for tool in first["tools"]]
    assert names == [f"calculator__{name}" for name in ("calculate", "convert", "statistics")] + [
        "mcpchat__read_result"
    ]
    assert json.loads(second["messages"][-1]["content"]) == {"expression": "6*7", "result": 42}


def test_text_before_a_tool_call_is_not_the_answer(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    reply = CannedResponse(
        [chunk({"content": "Let me see."}), *tool_call("calculator__calculate", '{"expression": "1+1"}').chunks]
    )
    fake_openai.replies = [reply, text("2")]
    code, out, err = unpack(run("ask", "x", OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m"))
    assert (code, out) == (0, "2\n")
    assert "Let me see." in err
    fake_openai.replies = [reply, text("2")]
    assert unpack(run("ask", "-q", "x", OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m")) == (0, "2\n", "")


def test_json_lines_are_the_events_and_nothing_else(run: CommandLine) -> None:
    code, out, _ = unpack(run("ask", "-m", "demo", "-o", "jsonl", "2*3"))
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["type"] for event in events if event["type"] not in {"server.changed", "text.delta"}]
    assert code == 0
    assert kinds == [
        "turn.started", "notice", "message.added", "message.added", "tool.decided", "tool.started", "tool.finished",
        "message.added", "message.added", "turn.finished",
    ]  # fmt: skip
    assert {event["v"] for event in events} == {1}


def test_json_stays_one_object_when_the_exit_code_is_not_zero(run: CommandLine) -> None:
    result = run("ask", "-m", "demo", "-o", "json", "--deny", "*", "2*3")
    answer = json.loads(result.stdout)
    assert (result.returncode, answer["error"]["code"], answer["error"]["class"]) == (6, 6, "denied")
    result = run("call", "calculator.calculate", "expression=1/0", "-o", "json")
    assert (result.returncode, json.loads(result.stdout)["is_error"]) == (5, True)


def test_json_is_one_object(run: CommandLine) -> None:
    code, out, err = unpack(run("ask", "-m", "demo", "-o", "json", "2*3"))
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["answer"] == "calculator.calculate(2*3) = 6"
    assert answer["tools"][0]["arguments"] == {"expression": "2*3"}
    assert answer["stop"] == "end"


# --- exit codes -------------------------------------------------------------------------------------------------


def test_exit_2_without_a_model_names_three_ways(run: CommandLine) -> None:
    code, out, err = unpack(run("ask", "hi"))
    assert (code, out) == (2, "")
    for way in ("export OPENAI_API_KEY=", "http://127.0.0.1:", "--model demo"):
        assert way in err


def test_exit_2_for_an_invalid_config(run: CommandLine) -> None:
    code, _, err = unpack(run("tools", config='[servers.a]\ncomand = "x"'))
    assert code == 2
    assert re.search(r"c\.toml:2: servers\.a\.comand: unknown key; did you mean command\?", err)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--nope",), "no such option: --nope"),
        (("calls", "clean"), "no such command: clean; did you mean clear?"),
        (("warm", "nonsense"), "no such command: nonsense"),
        (("aks", "x"), "no such command: aks; did you mean ask?"),
        (("tools", "clculator"), "no server has this name; did you mean calculator?"),
        (("tools", "--format", "yaml"), "--format yaml: expected one of table, json, openai"),
        (("call", "calculator"), "'calculator' does not name a tool"),
        (("call", "calculator.calclate"), "no tool calculator.calclate; did you mean calculator.calculate?"),
        (("call", "calculator.calculate", "oops"), "'oops' is not KEY=VALUE"),
        (("call", "calculator.calculate", "expresion=2+2"), "calculator.calculate needs expression (not expresion)"),
        (("call", "calculator.convert", "value=1"), "calculator.convert needs from_unit, to_unit"),
        (("call", "calculator.statistics", "values=1,x"), "values=x: expected number"),
        (("ask", "-a", "nobody", "-m", "demo", "x"), "no agent is named 'nobody'"),
        (("tools", "--config", "/no/such.toml"), "no such config file: /no/such.toml"),
        (("chat",), "chat needs a terminal"),
        (("ask", "--max-steps", "x", "hi"), "--max-steps: expected a whole number\n  mcpchat ask --help shows how"),
        (("ask", "--timeout", "0", "hi"), "--timeout: expected at least 0.001"),
        (("ask", "--timeout", "soon", "hi"), "--timeout: expected a number"),
        (("ask", "--model"), "--model needs a value"),
        (("ask", "--yes=5", "hi"), "--yes takes no value"),
        (("ask", "--shema", "{}", "hi"), "no such option: --shema; did you mean --schema?"),
        (("call",), "SERVER.TOOL is missing"),
        (("login",), "no such command: login; it is mcpchat auth login"),
        (("exec", "hi"), "no such command: exec; it is mcpchat ask"),
        (("servers", "remove", "a", "b"), "not expected here: b"),
        (("ask", "-m", "demo"), "there is no question"),
    ],
)
def test_exit_2_for_an_invalid_command_line(run: CommandLine, args: tuple[str, ...], message: str) -> None:
    code, out, err = unpack(run(*args))
    assert (code, out) == (2, "")
    assert message in err


def test_without_command_and_terminal_it_says_what_to_do(run: CommandLine) -> None:
    code, out, err = unpack(run())
    assert (code, out) == (2, "")
    assert err == 'error: chat needs a terminal\n  in scripts: mcpchat ask "..."\n'


def test_options_before_the_command_apply(run: CommandLine, tmp_path: Path) -> None:
    assert unpack(run("-m", "demo", "ask", "2*3"))[:2] == (0, "calculator.calculate(2*3) = 6\n")
    (tmp_path / "c.toml").write_text("[modl]")
    for command in (["tools"], ["config", "show"], ["config", "validate"]):
        assert unpack(run("--config", str(tmp_path / "c.toml"), *command))[0] == 2


def test_markdown_is_unchanged_in_a_pipe(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("**a**")]
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    assert unpack(run("ask", "-o", "markdown", "x", **model)) == (0, "**a**\n", "")


def test_a_description_is_never_markup(run: CommandLine, tmp_path: Path) -> None:
    script = QUIRKY.read_text().replace("Echo a text", "Echo [/b] a [optional] [link=https://e.example]text")
    (tmp_path / "server.py").write_text(script)
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{tmp_path / "server.py"}"]\n'
    code, out, _ = unpack(run("tools", config=config))
    assert code == 0
    assert "Echo [/b] a [optional] [link=https://e.example]text" in out


def test_a_tool_newer_than_the_cached_list_is_found(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("")
    # A shell runs it, so that the command line names no file whose change mcpchat would detect.
    config = f'[servers.box]\ncommand = "bash"\nargs = ["-c", "exec {sys.executable} {QUIRKY} adds {tmp_path}/more"]\n'
    assert "box.fresh" not in run("tools", config=config).stdout
    (tmp_path / "more").write_text("fresh")
    code, out, err = unpack(run("call", "box.fresh", "text=x", "--yes", config=config))
    assert (code, out) == (6, "")  # the tool is found, but not yet approved
    assert "box.fresh was not run: it is new since you accepted it" in err
    assert run("trust", "review", "box", "--yes", config=config).returncode == 0
    assert unpack(run("call", "box.fresh", "text=x", "--yes", config=config)) == (0, "echo: x\n", "")
    assert "box.fresh" in run("tools", config=config).stdout


@pytest.mark.parametrize("key", ["sk-SECRET\nX: y", "sk-SECRETé"])
def test_a_key_invalid_in_a_header_is_rejected_and_hidden(run: CommandLine, key: str) -> None:
    result = run("ask", "x", OPENAI_API_KEY=key, OPENAI_BASE_URL="http://127.0.0.1:9/v1", MCPCHAT_MODEL="m")
    assert result.returncode == 2
    assert "OPENAI_API_KEY: the value has characters" in result.stderr
    assert "SECRET" not in result.stderr


@pytest.mark.parametrize(
    ("args", "environ", "message"),
    [
        (["ask", "x"], {"OPENAI_BASE_URL": "localhost:11434"}, "expected a URL that begins with"),
        (["ask", "-m", "demo", "--allow", "delete_file", "x"], {}, "no server is named 'delete_file'"),
        (["config", "init", "--config", "/proc/nowhere/c.toml"], {}, "cannot write /proc/nowhere/c.toml"),
    ],
)
def test_exit_2_for_other_invalid_input(
    run: CommandLine, args: list[str], environ: dict[str, str], message: str
) -> None:
    code, _, err = unpack(run(*args, **environ))
    assert code == 2
    assert message in err


def test_an_empty_config_variable_is_no_config(run: CommandLine) -> None:
    assert unpack(run("config", "show", MCPCHAT_CONFIG=""))[0] == 0


def test_exit_4_only_for_a_required_server_that_is_down(run: CommandLine) -> None:
    down = '[servers.down]\ncommand = "no-such-program"\n'
    code, out, err = unpack(run("tools", config=BOX_CONFIG + down))
    assert code == 0
    assert "box.echo" in out
    assert "warning: server down is down: no program named 'no-such-program' on PATH" in err
    code, _, err = unpack(run("ask", "-m", "demo", "x", config=BOX_CONFIG + down + "required = true\n"))
    assert code == 4
    assert "down: no program named 'no-such-program' on PATH" in err
    assert unpack(run("call", "down.x", config=BOX_CONFIG + down))[0] == 4
    code, out, _ = unpack(run("servers", config=BOX_CONFIG + down))
    assert code == 0
    assert re.search(r"box +ready +stdio +3", out)
    assert re.search(r"down +failed +stdio +- ", out)
    assert unpack(run("servers", config=BOX_CONFIG + down + "required = true\n"))[0] == 4


def test_exit_5_when_a_tool_called_by_hand_fails(run: CommandLine) -> None:
    code, out, err = unpack(run("call", "calculator.calculate", "expression=1/0"))
    assert (code, out) == (5, "")
    assert "division by zero" in err


def test_exit_6_for_an_ask_without_a_user(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    code, out, err = unpack(run("call", "box.write", "text=x", config=BOX_CONFIG))
    assert (code, out) == (6, "")
    assert "allow it with --allow 'box.write'" in err
    assert unpack(run("call", "box.write", "text=x", "--allow", "box.*", config=BOX_CONFIG)) == (0, "echo: x\n", "")
    assert unpack(run("call", "box.write", "text=x", "--yes", "--deny", "box", config=BOX_CONFIG))[0] == 6
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    fake_openai.replies = [tool_call("box__write", '{"text": "x"}'), text("I could not.")]
    code, out, _ = unpack(run("ask", "x", config=BOX_CONFIG, **model))
    assert (code, out) == (6, "I could not.\n")
    assert "denied by policy" in fake_openai.requests[1]["messages"][-1]["content"]
    fake_openai.replies = [tool_call("box__write", '{"text": "x"}'), text("Done.")]
    assert unpack(run("ask", "x", "--yes", config=BOX_CONFIG, **model))[:2] == (0, "Done.\n")


def test_exit_7_at_the_step_limit_with_an_answer(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    call = tool_call("calculator__calculate", '{"expression": "1+1"}')
    fake_openai.replies = [call, text("so far: 2")]
    config = "[limits]\nmax_steps = 1\n"
    code, out, err = unpack(run("ask", "x", config=config, OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m"))
    assert (code, out) == (7, "so far: 2\n")
    assert "the limit of tool rounds is reached" in err
    assert fake_openai.requests[1]["tool_choice"] == "none"


def test_exit_8_when_the_model_fails(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    fake_openai.replies = [error(401, "bad key")]
    code, out, err = unpack(run("ask", "x", **model))
    assert (code, out) == (8, "")
    assert "the model's server answered 401: bad key" in err
    assert "check the key" in err
    code, out, _ = unpack(run("ask", "x", "-o", "json", **model))
    assert json.loads(out) == {
        "v": 1,
        "type": "error",
        "class": "auth",
        "code": 8,
        "message": "the model's server answered 401: bad key",
        "hint": "check the key: api_key under [model] in the config (or OPENAI_API_KEY)",
    }
    fake_openai.replies = [CannedResponse([chunk({"content": "half an ans"})])]
    code, out, err = unpack(run("ask", "x", **model))
    assert (code, out) == (8, "half an ans\n")
    assert "the answer ends early: connection lost" in err


@pytest.mark.parametrize(
    ("pieces", "answer", "message"),
    [
        ([chunk({"content": "So"}), chunk({}, "content_filter")], "So\n", "content filter ended the answer"),
        ([chunk({"refusal": "No."}), chunk({}, "stop")], "No.\n", "the model refused to answer"),
    ],
)
def test_exit_8_for_a_refusal(
    run: CommandLine, fake_openai: FakeOpenAI, pieces: list[bytes], answer: str, message: str
) -> None:
    fake_openai.replies = [CannedResponse(pieces)]
    code, out, err = unpack(run("ask", "x", OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m"))
    assert (code, out) == (8, answer)
    assert message in err


def test_exit_7_for_an_answer_cut_at_the_limit(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("half an", finish="length")]
    code, out, err = unpack(run("ask", "x", OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m"))
    assert (code, out) == (7, "half an\n")
    assert "output limit" in err


def test_retries_are_seen(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [error(429, "slow down", **{"Retry-After": "0"}), text("ok")]
    code, out, err = unpack(run("ask", "x", OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m"))
    assert (code, out) == (0, "ok\n")
    assert "warning: the model's server answered 429: slow down; trying again in 0.5 s" in err


# --- the other commands -----------------------------------------------------------------------------------------


def test_tools_in_formats(run: CommandLine) -> None:
    _, table, _ = unpack(run("tools", config=BOX_CONFIG))
    assert re.search(r"^box\.echo +Echo a text *$", table, re.MULTILINE)
    _, signatures, _ = unpack(run("tools", "box", config=BOX_CONFIG))
    assert "echo(text: string)\n" in signatures
    tools = json.loads(unpack(run("tools", "--format", "json", config=BOX_CONFIG))[1])
    assert (tools[0]["tool"], tools[0]["exposed"]) == ("box.echo", "box__echo")
    functions = json.loads(unpack(run("tools", "--format", "openai", config=BOX_CONFIG))[1])
    assert functions[0]["function"]["name"] == "box__echo"


def test_tools_are_searched_by_words(run: CommandLine) -> None:
    code, out, err = unpack(run("tools", "miles", "to", "kilometres"))
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("calculator.convert ")
    (first, *_) = json.loads(run("tools", "unit", "conversion", "-o", "json").stdout)
    assert first["tool"] == "calculator.convert"
    assert unpack(run("tools", "zebra", "crossing")) == (0, "", "no tools\n")
    assert unpack(run("tools", "node.js"))[0] == unpack(run("tools", "nope.x"))[0] == 2
    assert run("tools", "convert.exe").stdout.splitlines()[1].startswith("calculator.convert ")
    code, _, err = unpack(run("tools", "zebra"))
    assert (code, "no tool is about 'zebra', and no server has this name" in err) == (2, True)
    assert "did you mean calculator?" in run("tools", "clculator").stderr


def test_the_page_of_a_tool_has_all_about_it(run: CommandLine) -> None:
    config = BOX_CONFIG + '[approvals]\ndeny = ["box.echo"]\n'
    run("call", "box.echo", "text=a", config=config)
    (page,) = json.loads(run("tools", "box.echo", "-o", "json").stdout)
    assert (page["tool"], page["signature"], page["decision"], page["rule"]) == (
        "box.echo", "echo(text: string)", "deny", "config: deny box.echo",
    )  # fmt: skip
    assert [parameter["name"] for parameter in page["parameters"]] == ["text"]
    assert page["call"] == "mcpchat call box.echo text=TEXT"
    assert page["pinned"] == time.strftime("%Y-%m-%d")
    shown = run("tools", "box.echo").stdout
    for line in ("is denied (config: deny box.echo)", f"since {page['pinned']}", "text  string, required"):
        assert line in shown


def test_a_call_without_a_required_argument_shows_what_the_tool_takes(run: CommandLine) -> None:
    code, out, err = unpack(run("call", "calculator.convert", "value=1"))
    assert (code, out) == (2, "")
    assert err.startswith("calculator.convert  Convert units\n")
    assert "from_unit  string, required" in err
    assert "error: calculator.convert needs from_unit, to_unit\n" in err


def test_a_tool_is_called_with_pairs_or_json(run: CommandLine) -> None:
    config = BOX_CONFIG + "trust = true\n"  # its echo tool claims to be read-only
    assert unpack(run("call", "box.echo", "text=a b", config=config)) == (0, "echo: a b\n", "")
    assert unpack(run("call", "box.echo", "--json", '{"text": "c"}', config=config)) == (0, "echo: c\n", "")
    result = json.loads(unpack(run("call", "box.echo", "text=d", "-o", "json", config=config))[1])
    assert result["parts"] == [{"type": "text", "text": "echo: d"}]


def test_an_agent_has_its_servers_and_instructions(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    config = BOX_CONFIG + (
        '[servers.calculator]\nbuiltin = "calculator"\n[agents.math]\ninstructions = "Count."\n'
        'servers = ["calculator"]\ntools = ["*.calculate"]\n'
    )
    run("ask", "-a", "math", "x", config=config, OPENAI_BASE_URL=fake_openai.base_url, MCPCHAT_MODEL="m")
    request = fake_openai.requests[0]
    system = request["messages"][0]["content"]
    assert system.startswith("Count.\n\n# Notes of the tool servers")
    assert "## calculator\nExact arithmetic" in system
    tools = [tool["function"]["name"] for tool in request["tools"]]
    assert tools == ["calculator__calculate", "mcpchat__read_result"]


def test_config_init_validate_show_path_and_schema(run: CommandLine, isolated: Path) -> None:
    path = unpack(run("config", "path"))[1].strip()
    assert path.startswith(str(isolated))
    assert unpack(run("config", "validate"))[0] == 2
    assert unpack(run("config", "init")) == (0, f"{path}\n", "")
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert unpack(run("config", "validate")) == (0, f"{path}: ok (1 servers, 0 agents)\n", "")
    code, _, err = unpack(run("config", "init"))
    assert code == 2
    assert "exists" in err
    settings = json.loads(unpack(run("config", "show", "-o", "json"))[1])
    assert settings["servers"]["calculator"]["builtin"] == "calculator"
    assert json.loads(unpack(run("config", "schema"))[1]) == json.loads(
        Path(path).with_name("mcpchat.schema.json").read_text()
    )


def test_the_config_is_shown_as_toml_without_defaults(run: CommandLine) -> None:
    config = '[model]\nname = "m"\nlist = { name = "x", base_url = "http://127.0.0.1/v1" }\n[servers.calculator]\nbuiltin = "calculator"\n'
    config += '[servers.box]\ncommand = "a"\nheaders = {}\n[agents.a]\ntools = ["x.*"]\n'
    shown = unpack(run("config", "show", config=config.replace("headers = {}\n", "")))[1]
    assert tomllib.loads(shown) == tomllib.loads(config.replace("headers = {}\n", ""))
    everything = tomllib.loads(unpack(run("config", "show", "--all"))[1])
    assert (everything["chat"]["keys"], everything["servers"]["box"]["command"]) == ("emacs", "a")
    assert unpack(run("config", "show", config=""))[1] == ""


def test_servers_are_added_disabled_and_removed(run: CommandLine, isolated: Path) -> None:
    code, out, err = unpack(run("servers", "add", "box", "--env", "A=b", "--", sys.executable, str(QUIRKY), "good"))
    assert (code, out) == (0, "")
    path = unpack(run("config", "path"))[1].strip()
    assert err == f"{path}: added box\nit offers 3 tools; mcpchat tools box lists them\n"
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert unpack(run("call", "box.echo", "text=hi", "--yes")) == (0, "echo: hi\n", "")
    assert (
        unpack(
            run(
                "servers", "add", "far", "https://x.example/mcp", "--no-check", "--header", "Authorization=Bearer env:T"
            )
        )[0]
        == 0
    )
    servers = json.loads(unpack(run("config", "show", "-o", "json"))[1])["servers"]
    assert list(servers) == ["calculator", "box", "far"]
    assert (servers["box"]["args"], servers["box"]["env"]) == ([str(QUIRKY), "good"], {"A": "b"})
    assert servers["far"]["headers"] == {"Authorization": "Bearer env:T"}
    assert unpack(run("servers", "disable", "far"))[0] == 0
    assert re.search(r"far +stopped", unpack(run("servers", "list"))[1])
    assert unpack(run("servers", "remove", "far"))[0] == 0
    for invalid_args in (
        ["add", "box", "x"],
        ["add", "b d", "x"],
        ["remove", "far"],
        ["add", "y", "--env", "A", "x"],
        ["add", "z"],
    ):
        assert unpack(run("servers", *invalid_args))[0] == 2
    assert list(json.loads(unpack(run("config", "show", "-o", "json"))[1])["servers"]) == ["calculator", "box"]


def test_an_added_server_is_checked_and_started_once(run: CommandLine, isolated: Path) -> None:
    bad = isolated / "bad.py"
    bad.write_text("def f(:\n")
    printing = isolated / "printing.py"
    printing.write_text("import sys\nprint('Welcome to the box', flush=True)\nfor line in sys.stdin: pass\n")
    config = "[timeouts]\nstart = 2\n"
    code, _, err = unpack(run("servers", "add", "bad", "--", sys.executable, str(bad), config=config))
    assert code == 0
    assert (
        "warning: it does not start: bad is down: it exited at once with exit code 1: SyntaxError: invalid syntax"
        in err
    )
    entry = json.dumps({"mcpServers": {"box": {"command": sys.executable, "args": [str(QUIRKY), "good"]}}})
    for extra in ((), ("--replace", "--trust", "--allow", "wipe")):
        code, _, err = unpack(run("servers", "add", "box", entry, *extra))
        assert (code, "it offers 3 tools" in err) == (0, True), err
    settings = json.loads(unpack(run("config", "show", "-o", "json"))[1])
    assert (settings["servers"]["box"]["trust"], settings["approvals"]["allow"]) == (True, ["box.wipe"])
    for args, message in (
        (["x", "--", "no-such-program"], "there is no program 'no-such-program' on PATH"),
        (["x", "--", "npx -y pkg"], "'npx -y pkg' is one word"),
        (["x", "--", "/no/such/program"], "there is no program /no/such/program"),
        (["x", "http://[x"], "the URL has no valid host"),
        (["x", '{"command":'], "the JSON is not valid from character 12 on"),
        (["x", "npx", "-y", "pkg"], "before a command write --: mcpchat servers add NAME -- COMMAND..."),
        (["x", "ftp://127.0.0.1/mcp"], "expected a URL that begins with https://"),
        (["box", entry], "there is a server named 'box' already"),
    ):
        code, _, err = unpack(run("servers", "add", *args))
        assert (code, message in err) == (2, True), err
    assert unpack(run("servers", "add", "x", "--no-check", "--", "no-such-program"))[0] == 0
    code, _, err = unpack(run("servers", "add", "loud", "--", sys.executable, str(printing)))
    assert "it wrote 'Welcome to the box' to stdout, which is no message of MCP" in err


def test_json_of_another_client_is_recognized_in_the_config(run: CommandLine) -> None:
    code, _, err = unpack(run("tools", config='{"mcpServers": {"box": {"command": "a"}}}'))
    assert (code, "this is JSON, and the config is TOML" in err) == (2, True)


def test_a_command_of_several_words_is_recognized(run: CommandLine) -> None:
    code, _, err = unpack(run("tools", "box", config='[servers.box]\ncommand = "npx -y pkg"\n'))
    assert (code, 'in the config: command = "npx", args = ["-y", "pkg"]' in err) == (4, True), err


def test_a_config_before_the_group_applies_to_auth(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("nonsense")
    for args in (("auth", "status"), ("auth", "login", "google"), ("servers", "list"), ("config", "show")):
        code, _, err = unpack(run("--config", str(tmp_path / "c.toml"), *args))
        assert (code, "not valid TOML" in err) == (2, True), args


def test_a_bundled_server_is_added_by_name(run: CommandLine, isolated: Path) -> None:
    code, _, err = unpack(run("servers", "add", "mail", "--builtin", "gmail", "--read-only", "--folder", str(isolated)))
    assert code == 0
    assert err.endswith("added mail; mcpchat auth login google signs in, then mcpchat tools mail asks what it offers\n")
    path = Path(unpack(run("config", "path"))[1].strip())
    entry = f'[servers.mail]\nbuiltin = "gmail"\nread_only = true\nfolders = ["{isolated}"]\n'
    assert path.read_text().endswith(entry)
    for invalid_args, message in (
        (["x", "--builtin", "gmial"], "did you mean gmail?"),
        (["x", "--builtin", "gmail", "https://x.example"], "expected one of URL, -- COMMAND... and --builtin NAME"),
        (["x", "https://x.example", "--read-only"], 'only valid with builtin = "calendar", "drive", "gmail", "sheets"'),
        (["x", "--builtin", "sheets", "--folder", str(isolated)], 'only valid with builtin = "drive", "gmail"'),
        (["x", "--builtin", "drive", "--folder", "nowhere"], "--folder nowhere: there is no such folder"),
    ):
        code, _, err = unpack(run("servers", "add", *invalid_args))
        assert (code, message in err) == (2, True), err
    assert path.read_text().endswith(entry)


def test_a_custom_url_without_a_model_lists_its_models(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    code, _, err = unpack(run("ask", "x", OPENAI_BASE_URL=fake_openai.base_url))
    assert code == 2
    assert "has: large, small" in err


def test_a_key_reference_is_sent_but_never_shown(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    config = f'[model]\nname = "m"\nbase_url = "{fake_openai.base_url}"\napi_key = "env:MY_KEY"\n'
    assert unpack(run("ask", "x", config=config, MY_KEY="sk-123456789"))[0] == 0
    assert fake_openai.headers[0]["authorization"] == "Bearer sk-123456789"
    assert "sk-123456789" not in run("config", "show", config=config, MY_KEY="sk-123456789").stdout
    code, _, err = unpack(run("ask", "x", config=config))
    assert code == 2
    assert "model.api_key: the environment variable MY_KEY is not set" in err
    code, _, err = unpack(run("ask", "x", config=config.replace("env:MY_KEY", "keyring:openai")))
    assert code == 2
    assert "model.api_key: there is no keyring" in err


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run_mcpchat("tools", "--config", "/no/such.toml", "--debug", text=True).stderr


# --- server details ---------------------------------------------------------------------------------------------


@pytest.fixture
def capable_config() -> str:
    settings = 'exclude = ["t*", "b?sy"]\n[approvals]\ndefault = "allow"\n'
    return server_table("box", FULL_FEATURED) + settings


def test_servers_show_prints_everything_of_a_server(run: CommandLine, isolated: Path, capable_config: str) -> None:
    code, out, err = unpack(run("servers", "show", "box", config=capable_config))
    assert (code, err) == (0, "")
    for expected in (
        "name          All of it 7", "protocol      2026-07-28", "completions", "instructions  Count slowly.",
        "7 tools, 1 resource, 1 resource template, 1 prompt", "5 tools: *, without t*, b?sy", "box.log",
    ):  # fmt: skip
        assert expected in out
    server = json.loads(unpack(run("servers", "show", "box", "-o", "json", config=capable_config))[1])
    assert (server["info"]["revision"], server["state"], len(server["tools"])) == ("2026-07-28", "ready", 5)
    assert not any(line != line.rstrip() for line in out.splitlines())
    code, out, err = unpack(run("servers", "show", "bx", config=capable_config))
    assert (code, out) == (2, "")
    assert "did you mean box?" in err


def test_a_servers_log_is_shown_and_private(run: CommandLine, isolated: Path) -> None:
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}", "noisy"]\n'
    assert unpack(run("servers", "logs", "box", config=config)) == (0, "", "box has logged nothing\n")
    run("tools", config=config)
    lines = [line.partition(" ")[2] for line in run("servers", "logs", "box", config=config).stdout.splitlines()]
    noise = ["warning: \x1b[2Jnoise", "Welcome to the noisy server!", "\x1b[31mred\x1b[0m", "{not json}"]
    assert sorted(lines) == sorted(noise)  # of stderr, and what is no message on stdout
    log = isolated / ".local/state/mcpchat/logs/box.log"
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_resources_are_listed_read_and_attached(run: CommandLine, fake_openai: FakeOpenAI, capable_config: str) -> None:
    table = unpack(run("read", config=capable_config))[1]
    assert "box:note://today" in table
    assert "box:note://{day}/all" in table
    assert unpack(run("read", "box:note://friday/all", config=capable_config))[1] == "notes of friday\n"
    assert unpack(run("read", "note://today", config=capable_config)) == (0, "buy milk\n", "")
    code, _, err = unpack(run("read", "box:note://no", config=capable_config))
    assert (code, "box did not read note://no" in err) == (5, True)
    code, _, err = unpack(run("read", "note://nowhere", config=capable_config))
    assert (code, "no server lists note://nowhere" in err) == (2, True)
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    run("ask", "Sum up @box:note://today.", config=capable_config, stdin="and not @box:note://friday/all", **model)
    question = fake_openai.requests[-1]["messages"][-1]["content"]
    assert question.startswith("Sum up @box:note://today.\n\nand not @box:note://friday/all\n\n[box:note://today]\n")
    assert "buy milk" in question
    assert "notes of friday" not in question


def test_prompts_are_rendered(run: CommandLine, capable_config: str) -> None:
    assert "box:greet  name= [style=]" in unpack(run("prompt", config=capable_config))[1]
    output = unpack(run("prompt", "box:greet", "name=Ann", "style=odd", config=capable_config))
    assert output == (0, "user: Greet Ann in a odd way.\n", "")
    as_json = json.loads(run("prompt", "box:greet", "name=Ann", "-o", "json", config=capable_config).stdout)
    assert as_json[0]["parts"][0]["text"] == "Greet Ann in a kind way."
    for args, message in [
        (("box:gret",), "no prompt box:gret; did you mean box:greet?"),
        (("greet",), "'greet' does not name a prompt"),
        (("box:greet", "name"), "'name' is not KEY=VALUE"),
    ]:
        code, _, err = unpack(run("prompt", *args, config=capable_config))
        assert (code, message in err) == (2, True), err


def test_a_long_result_is_saved_for_the_model(
    run: CommandLine, fake_openai: FakeOpenAI, isolated: Path, capable_config: str
) -> None:
    fake_openai.replies = [tool_call("box__big", '{"size": 100000}'), text("Long.")]
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    run("ask", "go", config=capable_config.replace('"b?sy"', '"none"'), **model)
    result = fake_openai.requests[1]["messages"][-1]["content"]
    key = re.search(r'mcpchat__read_result\(id="(\w+)"', result)
    assert key is not None
    with closing(sqlite3.connect(isolated / ".local/share/mcpchat/threads.db")) as database, database:
        (content,) = database.execute("SELECT data FROM blobs WHERE hash LIKE ?", (f"{key[1]}%",)).fetchone()
    database.close()
    assert content == b"x" * 100_000
    arguments = json.dumps({"id": key[1], "offset": 99_990})
    fake_openai.replies = [tool_call("mcpchat__read_result", arguments), text("Read.")]
    run("ask", "-c", "on", config=capable_config, **model)
    assert (
        fake_openai.requests[3]["messages"][-1]["content"]
        == "x" * 10 + "\n[characters 99,990 to 100,000 of 100,000, the end]"
    )


def test_arguments_that_violate_the_schema_go_back_to_the_model(
    run: CommandLine, fake_openai: FakeOpenAI, capable_config: str
) -> None:
    fake_openai.replies = [tool_call("box__big", '{"size": "ten"}'), text("Well.")]
    run(
        "ask",
        "go",
        config=capable_config.replace('"b?sy"', '"none"'),
        OPENAI_BASE_URL=fake_openai.base_url,
        MCPCHAT_MODEL="m",
    )
    assert (
        'size: "ten" is not of type "integer"; it takes size (required)'
        in fake_openai.requests[1]["messages"][-1]["content"]
    )
    code, _, err = unpack(
        run("call", "box.big", "--json", '{"size": "x"}', config=capable_config.replace('"b?sy"', '"none"'))
    )
    assert (code, 'size: "x" is not of type "integer"' in err) == (2, True)


def test_the_cost_of_tools_is_listed_the_largest_first(run: CommandLine) -> None:
    lines = run("tools", "--cost").stdout.splitlines()
    numbers = [int(line.split()[-1].replace(",", "")) for line in lines[1:]]
    assert lines[-1].startswith("all of calculator")
    assert numbers[:-1] == sorted(numbers[:-1], reverse=True)
    assert (sum(numbers[:-1]), 300 < numbers[-1] < 600) == (numbers[-1], True)
    document = json.loads(run("tools", "--cost", "-o", "json").stdout)
    assert (document["tokens"], document["servers"]) == (numbers[-1], {"calculator": numbers[-1]})
    assert unpack(run("tools", "--cost", "-o", "openai"))[0] == 2


def test_the_cost_of_tools_is_counted_by_the_models_server(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.counts_tokens = True
    fake_openai.models = [{"id": "m", "max_model_len": 8000}]
    price = "price = {input = 2.0, cached = 0.5, output = 8.0}"
    config = f'[model]\nname = "m"\nbase_url = "{fake_openai.base_url}"\n{price}\n'
    *_, request, money = run("tools", "--cost", config=config).stdout.splitlines()
    bare, full = fake_openai.requests
    assert ("tools" in bare, len(full["tools"]), "notes of the tool" in full["instructions"].lower()) == (
        False,
        3,
        True,
    )
    tokens = len(json.dumps(full)) // 4 - len(json.dumps(bare)) // 4
    assert request == (
        f"each request to m: 3 tools, {tokens:,} tokens, counted by its server, {tokens / 8000:.1%} of its window of 8,000"
    )
    assert (
        money == f"100 requests: ${tokens * 2 / 10_000:.4f}, or ${tokens / 20_000:.4f} if the provider's cache has them"
    )
    document = json.loads(run("tools", "--cost", "-o", "json", config=config).stdout)["request"]
    assert document == {
        "model": "m", "tools": 3, "tokens": tokens, "counted": True, "searched": False, "window": 8000,
        "cost": round(tokens * 2 / 10_000, 6), "cached_cost": round(tokens / 20_000, 6),
    }  # fmt: skip
    fake_openai.counts_tokens, fake_openai.replies = False, [error(404, "no such path")]
    assert ": 3 tools, about " in run("tools", "--cost", config=config).stdout
    result = run("tools", "--cost", config=config.replace(price, "").replace("[model]", 'tool_search = "on"\n[model]'))
    assert "2 tools; it searches the others, about" in result.stdout
    assert "100 requests" not in result.stdout  # a local model costs nothing


def test_the_input_of_a_turn_is_split(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 1}
    call = tool_call("calculator__calculate", '{"expression": "6*7"}')
    fake_openai.replies = [
        CannedResponse([*call.chunks[:-1], chunk({}, "stop", usage=usage), call.chunks[-1]]),
        CannedResponse([chunk({"content": "42"}, "stop", usage=usage), DONE]),
    ]
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    split = json.loads(run("ask", "6*7?", "-o", "json", **model).stdout)["usage"]["input_split"]
    assert split["instructions"] + split["tools"] + split["history"] + sum(split["results"].values()) == 2000
    assert split["tools"] > split["instructions"] > split["results"]["calculator"] > 0
    line = run("ask", "6*7?", "--stats", **model).stderr.splitlines()[-1]
    assert re.fullmatch(r"  in: about \d+ instructions, \d+ tool definitions, \d+ messages", line)


def test_tools_are_found_by_their_meaning(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    config = (
        f'tool_search_embeddings = "e"\n[model.e]\nname = "small-embeddings"\nbase_url = "{fake_openai.base_url}"\n'
    )
    found = run("tools", "compute", "this", "expression", config=config)
    assert "calculator.calculate" in found.stdout.splitlines()[1]
    assert {request["model"] for request in fake_openai.requests} == {"small-embeddings"}
    assert fake_openai.requests[0]["input"] == ["compute this expression"]
    count = len(fake_openai.requests)
    run("tools", "compute", "this", "expression", config=config)
    assert len(fake_openai.requests) == count + 1  # the tools' vectors are kept
    without_key = run("tools", "send", "mail", config='tool_search_embeddings = "e@nosuch"\n').stderr
    warning, *rest = without_key.splitlines()
    assert warning.endswith("by their words alone: no key is set for the embeddings of e@nosuch")
    assert rest == ["no tools"]
    run("tools", "compute", config=config)
    fake_openai.embeds, fake_openai.replies = False, [error(500, "out of memory")]
    failed = run("tools", "compute", "this", "expression", config=config)
    assert failed.stdout.splitlines()[1].startswith("calculator.calculate")
    assert failed.stderr.count("tools are searched by their words alone: ") == 1
