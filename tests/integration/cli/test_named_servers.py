"""Servers without an entry in the config, and arguments as one JSON object."""

import json
import os
import sys
from pathlib import Path

from mcpchat.config.run import default_paths
from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.paths import FULL_FEATURED, MCPCHAT
from tests.support.processes import run_process

ADDED = f"box={sys.executable} {FULL_FEATURED}"


def test_a_named_server_is_there_for_one_run(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    names = [line.partition("(")[0] for line in run("tools", "--mcp", ADDED, "box").stdout.splitlines()]
    assert len(names) > 3
    assert unpack(run("call", "--mcp", ADDED, f"box.{names[0]}", "--help"))[0] == 0
    fake_openai.replies = [tool_call(f"box__{names[0]}", "{}"), text("Done.")]
    model = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    run("ask", "--mcp", ADDED, "--yes", "go", **model)
    offered = [tool["function"]["name"] for tool in fake_openai.requests[0]["tools"]]
    assert {f"box__{names[0]}", "calculator__calculate"} <= set(offered)
    assert unpack(run("call", "box.x"))[0] == 2  # the next run does not have it


def test_the_same_words_keep_the_server(run: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"one": {"command": sys.executable, "args": [str(FULL_FEATURED)]}}}))
    code, _, err = unpack(run("servers", "add", str(file)))
    assert (code, "added one" in err, "it offers" in err) == (0, True, True)
    assert unpack(run("servers", "add", "--no-check", "far=https://far.example/mcp"))[0] == 0
    assert unpack(run("servers", "add", "--no-check", "https://mcp.near.example/mcp"))[0] == 0
    servers = json.loads(run("config", "show", "-o", "json").stdout)["servers"]
    assert {"one", "far", "near"} <= set(servers)


def test_a_kept_server_has_no_secret_of_the_environment(run: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    for entry in ({"command": "x", "args": ["--token", "${TOKEN}"]}, {"url": "https://h.example/?key=${TOKEN}"}):
        file.write_text(json.dumps({"mcpServers": {"a": entry}}))
        code, _, err = unpack(
            run("servers", "add", "--no-check", str(file), config="# mine\n", TOKEN="hidden-value-123")
        )
        assert (code, "no variables" in err, "hidden-value" in err) == (2, True, False)
        assert "hidden-value" not in (tmp_path / "c.toml").read_text()


def test_what_another_client_has_disabled_is_not_started(run: CommandLine, tmp_path: Path) -> None:
    for setting in ({"disabled": True}, {"enabled": False}):
        entry = {"command": "sh", "args": ["-c", "touch ran"], **setting}
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"off": entry}}))
        run("tools", "--mcp", "mcp.json")
        assert "is disabled" in unpack(run("tools", "--mcp", "mcp.json", "off"))[2]
    assert not (tmp_path / "ran").exists()


def test_the_users_rules_hold_for_a_server_under_another_name(run: CommandLine) -> None:
    config = f'[servers.mine]\ncommand = "{sys.executable}"\nargs = ["{FULL_FEATURED}"]\n'
    rules = '[approvals]\ndefault = "allow"\ndeny = ["mine.folders"]\n'
    other = f"other=env A=1 {sys.executable} {FULL_FEATURED}"
    code, _, err = unpack(run("call", "--mcp", other, "other.folders", config=config + rules))
    assert (code, "deny" in err) == (6, True)


def test_the_typed_name_works_if_the_config_has_the_server_under_another(run: CommandLine) -> None:
    config = f'[servers.mine]\ncommand = "{sys.executable}"\nargs = ["{FULL_FEATURED}"]\n'
    assert unpack(run("call", "--mcp", ADDED, "box.big", "size=5", "--yes", config=config))[0] == 0
    assert unpack(run("tools", "--mcp", ADDED, "box.big"))[0] == 0
    assert unpack(run("read", "--mcp", ADDED, "box"))[0] == 0
    assert unpack(run("prompt", "--mcp", ADDED, "box"))[0] == 0


def test_two_entries_for_one_server_have_their_own_names_and_pins(run: CommandLine, tmp_path: Path) -> None:
    entry = f'command = "{sys.executable}"\nargs = ["{FULL_FEATURED}"]\n'
    config = f"[servers.one]\n{entry}[servers.two]\n{entry}"
    for _ in range(2):  # the second time from the cache, which both share
        listed = json.loads(run("read", "-o", "json", config=config).stdout)
        assert {item["server"] for item in listed} == {"one", "two"}
        run("tools")
    pins = sorted((default_paths(os.environ).state / "pins").glob("*.json"))
    assert len(pins) == 2
    before = [path.stat().st_mtime_ns for path in pins]
    run("tools")
    assert [path.stat().st_mtime_ns for path in pins] == before


def test_the_changes_of_a_server_without_an_entry_are_reviewed(run: CommandLine, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(FULL_FEATURED.read_text())
    added = f"box={sys.executable} {script}"
    assert unpack(run("call", "--mcp", added, "box.big", "size=5", "--yes"))[0] == 0
    code, _, err = unpack(run("trust", "review", "box"))
    assert (code, "or with the same --mcp" in err) == (2, True)
    code, _, err = unpack(run("trust", "review", "box", "--mcp", added))
    assert (code, "no change to review" in err) == (0, True)


def test_an_address_that_does_not_answer_says_so(run: CommandLine) -> None:
    code, _, err = unpack(run("tools", "http://127.0.0.1:9/mcp"))
    assert (code, "127-0-0-1 is down" in err) == (4, True)
    code, _, err = unpack(run("call", "http://127.0.0.1:9/mcp"))
    assert (code, "does not name a tool" in err) == (2, True)


def test_a_wrong_name_is_an_error_of_every_command(run: CommandLine) -> None:
    for command in ((), ("chat",), ("tools",), ("call", "a.b"), ("read",), ("prompt",), ("ask", "x"), ("batch", "-")):
        code, _, err = unpack(run(*command, "--mcp", "nosuch", stdin="q\n", MCPCHAT_MODEL="demo"))
        assert (code, "nosuch: no such file" in err) == (2, True), command


def test_arguments_are_one_object(run: CommandLine) -> None:
    for args, stdin in (
        (('{"expression": "6*7"}',), ""),
        ((), '{"expression": "6*7"}'),
        (("--json", '{"expression": "6*7"}'), ""),
        (("expression=6*7",), "not read"),
    ):
        code, out, _ = unpack(run("call", "calculator.calculate", *args, "-o", "json", stdin=stdin))
        assert (code, json.loads(out)["structured"]["result"]) == (0, 42)


def test_arguments_in_two_ways_are_refused(run: CommandLine) -> None:
    for args in (('{"expression": "1"}', "expression=2"), ('{"expression": "1"}', "--json", "{}")):
        code, _, err = unpack(run("call", "calculator.calculate", *args))
        assert (code, "given twice" in err) == (2, True)


def test_arguments_that_are_piped_in_too_are_refused(tmp_path: Path) -> None:
    def call(*args: str, piped: str) -> tuple[int, str]:
        result = run_process([MCPCHAT, "call", "calculator.calculate", *args], input=piped, cwd=tmp_path)
        return result.returncode, result.stdout + result.stderr

    pairs = "expression=6*7"
    for words in ((pairs,), ('{"expression": "6*7"}',), ("--json", '{"expression": "6*7"}')):
        code, output = call(*words, piped='{"expression": "1"}')
        assert (code, "given twice" in output, "-n does not read" in output) == (2, True, True)
    assert call(pairs, "-n", piped='{"expression": "1"}')[0] == 0
    assert call(pairs, piped="the lines of a loop\n")[0] == 0
    assert "42" in call(pairs, piped="")[1]
    assert call("--json", "-", piped='{"expression": "6*7"}')[0] == 0


def test_a_pipe_is_looked_at_and_not_read(tmp_path: Path) -> None:
    script = f"printf 'one\\ntwo\\n' | {{ {MCPCHAT} call calculator.calculate expression=1 >/dev/null; cat; }}"
    assert run_process(["sh", "-c", script], cwd=tmp_path).stdout == "one\ntwo\n"


def test_what_is_piped_in_must_be_an_object(run: CommandLine) -> None:
    code, _, err = unpack(run("call", "calculator.calculate", stdin="[1]"))
    assert (code, "no JSON object" in err) == (2, True)
    code, _, err = unpack(run("call", "calculator.calculate", "-n", stdin='{"expression": "1"}'))
    assert (code, "needs expression" in err) == (2, True)
    assert "needs expression" in unpack(run("call", "calculator.calculate", stdin=" \n"))[2]
