"""Forms of servers that scripts answer: --answer, --answers, and the answers of a batch's lines."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.paths import SERVERS


def config(together: int = 1) -> str:
    return (
        f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{SERVERS / "asker.py"}", "{together}"]\n'
        '[approvals]\ndefault = "allow"\n'
    )


@pytest.fixture
def run(fake_openai: FakeOpenAI, tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, fake_openai, base_config=config())


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": {"size": "large", **content}}


DECLINED = {"action": "decline"}


@pytest.mark.parametrize(
    ("args", "answer", "told"),
    [
        ((), DECLINED, "box asked: Who are you? (declined)"),
        (("--answer", "name=Ann"), accepted(name="Ann"), "(answered: name, size)"),
        (
            ("--answer", "name=Ann", "--answer", "count=3", "--answer", "box.colour=Blue"),
            accepted(name="Ann", count=3, colour="blue"),
            "(answered: name, count, colour, size)",
        ),
        (("--answer", "name=x=y"), accepted(name="x=y"), "(answered"),
        (("--answer", "name=Ann", "--answer", "box.name=Bob", "--answer", "other.name=Eve"), accepted(name="Bob"), ""),
        (("--answer", "name=Ann", "--answer", "count:=3"), accepted(name="Ann", count=3), "(answered"),
        (("--answer", "name=A"), DECLINED, "(declined: the given answer does not fit: name: at least 2 characters)"),
        (("--answer", "count=3"), DECLINED, "does not fit: name: it is required)"),
        (("--answer", "name=Ann", "--answer", "count=three"), DECLINED, "count: expected a whole number)"),
        (("--answer", "name=Ann", "--answer", "count:=9"), DECLINED, "count: 9 is greater than the maximum of 5)"),
        (("--answer", "name=Ann", "--answer", 'count:="3"'), DECLINED, 'count: "3" is not of type "integer")'),
        (("--answer", "name=Ann", "--answer", "colour=green"), DECLINED, "colour: expected one of red, blue)"),
        (("--answer", "nmae=Ann"), DECLINED, "box asks for name, count, colour, size: no answer was given beforehand"),
    ],
)
def test_a_call_is_answered_by_the_forms_schema(
    run: CommandLine, args: tuple[str, ...], answer: dict[str, Any], told: str
) -> None:
    code, out, err = unpack(run("call", "box.register", *args))
    assert (code, json.loads(out)) == (0, answer), err
    assert told in err


def test_a_file_has_answers_and_an_option_wins(run: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('{"name": "Bo", "count": 2, "box.colour": "red"}')
    _, out, _ = unpack(run("call", "box.register", "--answers", str(file), "--answer", "count=4"))
    assert json.loads(out) == accepted(name="Bo", count=4, colour="red")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--answer", "name"), "error: --answer name: expected FIELD=VALUE"),
        (("--answer", "=x"), "error: --answer =x: expected FIELD=VALUE"),
        (("--answer", "count:=1,"), "error: --answer count:=1,: not JSON"),
        (("--answers", "missing.json"), "error: --answers: cannot read missing.json: No such file"),
        (("--answers", "list.json"), "list.json: expected a JSON object of fields"),
    ],
)
def test_a_wrong_option_says_what_is_expected(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[1]")
    code, out, err = unpack(run("call", "box.register", *args))
    assert (code, out) == (2, "")
    assert message in err


def test_read_and_prompt_and_ask_are_answered(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    answer = ("--answer", "name=Ann")
    assert json.loads(unpack(run("read", "box:form:r", *answer))[1]) == accepted(name="Ann")
    assert json.loads(unpack(run("prompt", "box:p", *answer))[1].removeprefix("user: ")) == accepted(name="Ann")
    code, _, err = unpack(run("read", "box:form:r", "--answer", "name=A"))
    assert (code, "does not fit" in err) == (0, True), err
    fake_openai.replies = [tool_call("box__register", "{}"), text("Done.")]
    assert unpack(run("ask", "x", *answer))[:2] == (0, "Done.\n")
    assert json.loads(fake_openai.requests[-1]["messages"][-1]["content"]) == accepted(name="Ann")


def tool_results(fake_openai: FakeOpenAI) -> list[dict[str, Any]]:
    """What the model got, by the question's last word."""
    found = {}
    for request in fake_openai.requests:
        messages = request["messages"]
        if messages[-1]["role"] == "tool":
            question = next(message["content"] for message in messages if message["role"] == "user")
            found[question] = json.loads(messages[-1]["content"])
    return [found[question] for question in sorted(found)]


def test_each_line_of_a_batch_has_its_answers(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    lines = [
        {"prompt": "1", "answers": {"name": "Ann", "count": 1}},
        {"prompt": "2", "answers": {"name": "Bo", "count": 7}},
        {"prompt": "3"},
        {"prompt": "4", "answers": {"name": "Cy"}},
    ]
    fake_openai.replies = [tool_call("box__register", "{}"), text("Done.")] * 4
    code, out, err = unpack(run("batch", "-", "-j", "1", stdin="".join(f"{json.dumps(line)}\n" for line in lines)))
    assert (code, len(out.splitlines())) == (0, 4), err
    assert tool_results(fake_openai) == [accepted(name="Ann", count=1), DECLINED, DECLINED, accepted(name="Cy")]


def test_a_form_gets_no_answer_if_it_is_not_clear_whose_it_is(fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    """In the handshake revisions a form does not name its call: never give one line's answers to another's."""
    run = CommandLine(tmp_path, fake_openai, base_config=config(together=2))
    fake_openai.replies = [tool_call("box__register", "{}")] * 2 + [text("Done.")] * 2
    lines = '{"prompt": "1", "answers": {"name": "Ann"}}\n{"prompt": "2", "answers": {"name": "Bo"}}\n'
    code, _, err = unpack(run("batch", "-", "-j", "2", stdin=lines))
    assert code == 0, err
    first, second = tool_results(fake_openai)
    assert DECLINED in (first, second)  # the one that was asked while both calls were open
    assert first in (DECLINED, accepted(name="Ann"))
    assert second in (DECLINED, accepted(name="Bo"))
