"""mcpchat calls: what ask, call and batch leave in the log of calls."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.paths import QUIRKY


@pytest.fixture
def run(fake_openai: FakeOpenAI, tmp_path: Path) -> CommandLine:
    config = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n[approvals]\nallow = ["box.echo"]\n'
    return CommandLine(tmp_path, fake_openai, base_config=config)


def records(run: CommandLine, *args: str) -> list[dict[str, Any]]:
    code, out, err = unpack(run("calls", "-o", "json", *args))
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_calls_of_every_command_are_listed(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    assert unpack(run("call", "box.echo", "text=one"))[0] == 0
    assert unpack(run("call", "box.write", "text=two"))[0] == 6
    fake_openai.replies = [tool_call("box__echo", '{"text": "three"}'), text("Done.")] * 2
    run("ask", "x")
    run("batch", "-", stdin='{"prompt": "x"}\n')
    found = records(run)
    assert [(row["origin"], row["tool"], row["allowed"]) for row in found] == [
        ("call", "box.echo", True), ("call", "box.write", False), ("ask", "box.echo", True), ("batch", "box.echo", True)
    ]  # fmt: skip
    assert [json.loads(row["arguments"])["text"] for row in found] == ["one", "two", "three", "three"]
    assert found[2]["thread"]
    assert (found[0]["by"], found[0]["reason"]) == ("policy", "config: allow box.echo")
    assert found[0]["characters"] > 0
    assert found[0]["tokens"] > 0
    assert "not interactive" in found[1]["reason"]
    assert [row["at"] for row in found] == sorted(row["at"] for row in found)
    assert [row["tool"] for row in records(run, "--denied")] == ["box.write"]
    assert len(records(run, "--tool", "box.e*")) == 3
    assert len(records(run, "--server", "other")) == 0
    assert len(records(run, "--thread", found[2]["thread"][:8])) == 1
    assert len(records(run, "--since", "1h", "-n", "2")) == 2
    assert records(run, "--since", "2099-01-01") == []
    _, out, _ = unpack(run("calls"))
    assert "did not run" in out
    assert '{"text": "three"}' in out
    _, out, _ = unpack(run("calls", "-o", "csv"))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["tool"] for row in rows] == [row["tool"] for row in found]
    assert unpack(run("calls", "clear", "--yes"))[0] == 0
    assert unpack(run("calls"))[:2] == (0, "")


def test_a_failure_has_its_text_and_no_secret(run: CommandLine) -> None:
    secret = "sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    calculator = '[servers.calculator]\nbuiltin = "calculator"\n'
    assert unpack(run("call", "calculator.calculate", "expression=1/0", config=calculator))[0] == 5
    assert unpack(run("call", "box.echo", f"text={secret}"))[0] == 0
    [row] = records(run, "--failed")
    assert (row["tool"], row["allowed"]) == ("calculator.calculate", True)
    assert "division by zero" in row["error"]
    assert "[secret]" in records(run, "--server", "box")[0]["arguments"]


@pytest.mark.parametrize("args", [("--no-save",), ()])
def test_what_is_not_saved_leaves_no_call(run: CommandLine, fake_openai: FakeOpenAI, args: tuple[str, ...]) -> None:
    fake_openai.replies = [tool_call("box__echo", '{"text": "three"}'), text("Done.")]
    run("ask", "x", *args, config="" if args else "[threads]\nsave = false\n")
    assert records(run) == []
