"""Tests of the demo model: its choice of tool, arguments, and answers."""

from typing import Any

import pytest

from mcpchat.core.messages import Message, Text, ToolResult, user_message
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.core.tools import ToolSpec
from mcpchat.models.demo import DemoModel, fill_arguments, find_expression, rank_tools


def tool_spec(label: str, description: str, required: tuple[str, ...] = (), **properties: Any) -> ToolSpec:
    server, name = label.split(".")
    schema = {"type": "object", "properties": properties, "required": list(required or properties)}
    return ToolSpec(server=server, name=name, description=description, schema=schema)


STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
CALCULATE = tool_spec("calc.calculate", "Evaluate an arithmetic expression", expression=STRING)
STATISTICS = tool_spec("calc.statistics", "Count, mean (average) of numbers", values={"type": "array", "items": NUMBER})
CONVERT = tool_spec("calc.convert", "Convert a value between units", value=NUMBER, from_unit=STRING, to_unit=STRING)
ECHO = tool_spec("every.echo", "Echoes back the input string", message=STRING)
ADD = tool_spec("every.get-sum", "Returns the sum of two numbers", a=NUMBER, b=NUMBER)
READ = tool_spec("files.read_text_file", "Read a file's contents as text", ("path",), path=STRING, head=INTEGER)
WEATHER = tool_spec(
    "w.forecast",
    "The weather of a city",
    ("city",),
    city=STRING,
    unit={"type": "string", "enum": ["celsius", "kelvin"]},
)
TIME = tool_spec("time.get_current_time", "Get current time in a timezone", timezone=STRING)
FETCH = tool_spec("web.fetch", "Fetches a URL", url={"type": "string", "format": "uri"})
TOOLS = (CALCULATE, STATISTICS, CONVERT, ECHO, ADD, READ, WEATHER, TIME, FETCH)


@pytest.mark.parametrize(
    ("question", "tool", "arguments"),
    [
        ("What is 1234 * 5678?", CALCULATE, {"expression": "1234 * 5678"}),
        ("2 to the power of 10?", CALCULATE, {"expression": "2 ** 10"}),
        ("What is the average of 1, 2 and 3.5?", STATISTICS, {"values": [1, 2, 3.5]}),
        ("Convert 12 km to miles", CONVERT, {"value": 12, "from_unit": "km", "to_unit": "miles"}),
        ("How much is 100 °F in °C?", CONVERT, {"value": 100, "from_unit": "°F", "to_unit": "°C"}),
        ('Echo "hello there"', ECHO, {"message": "hello there"}),
        ("the sum of 3 and 4 please", ADD, {"a": 3, "b": 4}),
        ("read the file /etc/hosts", READ, {"path": "/etc/hosts"}),
        ("read notes.md, head=3", READ, {"path": "notes.md", "head": 3}),
        ("What is the weather in Oslo, in kelvin?", WEATHER, {"city": "Oslo", "unit": "kelvin"}),
        ("what is the current time in Europe/Paris", TIME, {"timezone": "Europe/Paris"}),
        ("fetch https://example.com/a?b=1", FETCH, {"url": "https://example.com/a?b=1"}),
        ("use every.echo with message=hi", ECHO, {"message": "hi"}),
    ],
)
def test_the_words_of_a_question_select_a_tool_and_arguments(
    question: str, tool: ToolSpec, arguments: dict[str, Any]
) -> None:
    best = next(tool for tool in rank_tools(question, TOOLS) if fill_arguments(question, tool) is not None)
    assert (best.qualified_name, fill_arguments(question, best)) == (tool.qualified_name, arguments)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("sqrt(16) + 2?", "sqrt(16) + 2"),
        ("15% of 80", "15/100*80"),
        ("the square root of 2", "sqrt(2)"),
        ("(2+3)*4.", "(2+3)*4"),
        ("In 2024, what is 5-3?", "5-3"),
        ("version 1.2.3?", ""),
        ("hello", ""),
    ],
)
def test_arithmetic_is_found_in_a_sentence(question: str, expected: str) -> None:
    assert find_expression(question) == expected


async def ask(*messages: Message, tools: tuple[ToolSpec, ...] = TOOLS) -> list[ModelEvent]:
    return [event async for event in DemoModel().stream(ModelRequest(model="demo", messages=messages, tools=tools))]


async def test_it_streams_deltas_and_ends_with_a_full_message() -> None:
    *deltas, last = await ask(user_message("hello"))
    assert isinstance(last, ResponseDone)
    assert "".join(event.text for event in deltas if not isinstance(event, ToolCallStarted)) == last.message.text  # type: ignore[union-attr]
    assert "calc.calculate" in last.message.text


async def test_it_calls_then_reports_the_result() -> None:
    first, last = await ask(user_message("What is 2 * 3?"))
    assert first == ToolCallStarted(name="calc__calculate")
    assert isinstance(last, ResponseDone)
    call = last.message.calls[0]
    structured = ToolResult(call_id=call.id, parts=(Text(text="{...}"),), structured={"result": 6})
    answer = (await ask(user_message("What is 2 * 3?"), last.message, Message(role="tool", parts=(structured,))))[-1]
    assert isinstance(answer, ResponseDone)
    assert answer.message.text == "calc.calculate(2 * 3) = 6"
    error = ToolResult(call_id=call.id, parts=(Text(text="no disk"),), is_error=True)
    answer = (await ask(user_message("What is 2 * 3?"), last.message, Message(role="tool", parts=(error,))))[-1]
    assert isinstance(answer, ResponseDone)
    assert answer.message.text == "calc.calculate failed: no disk"


async def test_without_tools_it_says_so() -> None:
    last = (await ask(user_message("hello"), tools=()))[-1]
    assert isinstance(last, ResponseDone)
    assert "There is no tool to call" in last.message.text


def test_a_tool_that_changes_something_needs_a_word_for_it() -> None:
    folder = {"path": STRING}
    listing = tool_spec("files.list_directory", "List the files of a directory", **folder)
    creating = tool_spec(
        "files.create_directory", "Create a new directory, or ensure that a directory exists", **folder
    )
    tools = (creating, listing)
    assert [tool.name for tool in rank_tools("list the files in /tmp", tools)] == ["list_directory"]
    assert [tool.name for tool in rank_tools("What is in the directory /tmp?", tools)] == ["list_directory"]
    assert rank_tools("make a directory /tmp/new", tools)[0].name == "create_directory"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is 17% of 2,340?", "17/100*2340"),
        ("1,234,567 + 1", "1234567 + 1"),
        ("max(100,200)", "max(100,200)"),
        ("12,34 + 1", "12,34 + 1"),
    ],
)
def test_thousands_may_be_separated(question: str, expected: str) -> None:
    assert find_expression(question) == expected


async def test_it_does_not_repeat_that_it_is_a_demo_and_names_no_tool_of_mcpchat_itself() -> None:
    own = tool_spec("mcpchat.read_result", "Read more of a result", call=STRING)
    done = (await ask(user_message("Sing!"), tools=(own, CALCULATE)))[-1]
    assert isinstance(done, ResponseDone)
    assert "not a language model" not in done.message.text
    assert "mcpchat." not in done.message.text
    assert "calc.calculate" in done.message.text


async def test_the_same_question_gets_the_same_answer() -> None:
    assert await ask(user_message("What is 2 * 3?")) == await ask(user_message("What is 2 * 3?"))
