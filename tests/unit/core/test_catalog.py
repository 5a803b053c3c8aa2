"""Tests of the catalog: resource mentions, prompt arguments, completion, and tool names for models."""

import pytest

from mcpchat.core.catalog import Catalog, Prompt, PromptArgument, Resource, ResourceTemplate, parse_prompt_arguments
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.mentions import find_mentions
from mcpchat.errors import UsageError
from mcpchat.ui.chat.completion import PromptValueQuery, Suggestion, prompt_value_at_cursor, suggest

TODO = Resource(server="notes", uri="file:///todo.md", name="todo")
DOTTED = Resource(server="notes", uri="file:///end.", name="dotted")
DAY = ResourceTemplate(server="notes", uri="day://{date}/notes", name="a day")
SUMMARY = Prompt(
    server="notes",
    name="summary",
    description="Sum up",
    arguments=(PromptArgument(name="style", required=True), PromptArgument(name="length", description="in words")),
)
NOTES = {"notes": Catalog(resources=(TODO, DOTTED), templates=(DAY,), prompts=(SUMMARY,))}


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("what is in @notes:file:///todo.md?", [("notes", "file:///todo.md")]),
        ("@notes:a and (@notes:b) @notes:a", [("notes", "a")]),
        ("see @notes:file:///end.", [("notes", "file:///end.")]),
        ("mail ann@notes:x or @others:y", []),
        ("@notes: nothing", []),
    ],
)
def test_mentions_of_known_resources_are_found(text: str, mentions: list[tuple[str, str]]) -> None:
    assert find_mentions(text, NOTES) == mentions


def test_prompt_arguments_are_checked_by_name() -> None:
    assert parse_prompt_arguments(SUMMARY, ["style=a=b", "length="]) == {"style": "a=b", "length": ""}
    for pairs, error in [
        ([], "notes:summary needs style"),
        (["styl=x"], "no argument 'styl'; did you mean style"),
        (["oops"], "'oops' is not KEY=VALUE"),
    ]:
        with pytest.raises(UsageError, match=error) as raised:
            parse_prompt_arguments(SUMMARY, pairs)
        assert raised.value.hint == "notes:summary takes style (required), length"


COMMANDS = {"/tools": "the tools", "/nothing": ""}


@pytest.mark.parametrize(
    ("line", "suggestions"),
    [
        ("/n", [Suggestion("/nothing", 2, ""), Suggestion("/notes:summary", 2, "Sum up")]),
        ("/notes:summary ", [Suggestion("style=", 0, "required"), Suggestion("length=", 0, "in words")]),
        ("/notes:summary style=x le", [Suggestion("length=", 2, "in words")]),
        ("/notes:summary style=x", []),
        ("read @notes:file:///todo", [Suggestion("@notes:file:///todo.md", 19, "todo")]),
        ("@notes:day", [Suggestion("@notes:day://", 10, "day://{date}/notes  a day")]),
        ("/tools no", [Suggestion("notes", 2)]),
        ("plain", []),
    ],
)
def test_suggestions(line: str, suggestions: list[Suggestion]) -> None:
    assert suggest(line, COMMANDS, {"/tools": {"notes": ""}}, NOTES) == suggestions


def test_the_prompt_value_at_the_cursor() -> None:
    line = "/notes:summary style=short length=1"
    assert prompt_value_at_cursor(line, NOTES) == PromptValueQuery(SUMMARY, "length", "1", {"style": "short"})
    for other_line in ("/notes:summary ", "/tools a=b", "/notes:summary nope=1", "a=b"):
        assert prompt_value_at_cursor(other_line, NOTES) is None


def tool_spec(server: str, name: str) -> ToolSpec:
    return ToolSpec(server=server, name=name, schema={})


def test_exposed_names_are_short_valid_and_unique() -> None:
    names = ["a b", "a.b", "a-b", "a_b", "ä", "ö", "x" * 200, "x" * 201, "a__b", "_a", "", "日本語", "a/b", "A b"]
    names += [f"{'long' * 30}{n}" for n in range(2000)]
    tools = [tool_spec(server, name) for server in ("s", "s_", "s__a", "S", "x" * 40) for name in names]
    exposed = {tool.model_name for tool in tools}
    assert len(exposed) == len(tools)
    assert all(0 < len(name) <= 64 and set(name) <= set(_NAME_CHARACTERS) for name in exposed)


_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
