"""Mentions of resources, arguments of prompts, what may come next on the line, and names for models."""

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
    ("text", "found"),
    [
        ("what is in @notes:file:///todo.md?", [("notes", "file:///todo.md")]),
        ("@notes:a and (@notes:b) @notes:a", [("notes", "a")]),
        ("see @notes:file:///end.", [("notes", "file:///end.")]),
        ("mail ann@notes:x or @others:y", []),
        ("@notes: nothing", []),
    ],
)
def test_resources_of_known_servers_are_found_in_a_text(text: str, found: list[tuple[str, str]]) -> None:
    assert find_mentions(text, NOTES) == found


def test_prompt_arguments_are_checked_by_name() -> None:
    assert parse_prompt_arguments(SUMMARY, ["style=a=b", "length="]) == {"style": "a=b", "length": ""}
    for pairs, told in [
        ([], "notes:summary needs style"),
        (["styl=x"], "no argument 'styl'; did you mean style"),
        (["oops"], "'oops' is not KEY=VALUE"),
    ]:
        with pytest.raises(UsageError, match=told) as caught:
            parse_prompt_arguments(SUMMARY, pairs)
        assert caught.value.hint == "notes:summary takes style (required), length"


COMMANDS = {"/tools": "the tools", "/nothing": ""}


@pytest.mark.parametrize(
    ("line", "suggested"),
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
def test_what_may_come_next(line: str, suggested: list[Suggestion]) -> None:
    assert suggest(line, COMMANDS, {"/tools": {"notes": ""}}, NOTES) == suggested


def test_the_value_that_a_server_may_complete() -> None:
    line = "/notes:summary style=short length=1"
    assert prompt_value_at_cursor(line, NOTES) == PromptValueQuery(SUMMARY, "length", "1", {"style": "short"})
    for other in ("/notes:summary ", "/tools a=b", "/notes:summary nope=1", "a=b"):
        assert prompt_value_at_cursor(other, NOTES) is None


def spec(server: str, name: str) -> ToolSpec:
    return ToolSpec(server=server, name=name, schema={})


def test_exposed_names_are_short_clean_and_never_the_same() -> None:
    names = ["a b", "a.b", "a-b", "a_b", "ä", "ö", "x" * 200, "x" * 201, "a__b", "_a", "", "日本語", "a/b", "A b"]
    names += [f"{'long' * 30}{n}" for n in range(2000)]
    specs = [spec(server, name) for server in ("s", "s_", "s__a", "S", "x" * 40) for name in names]
    exposed = {one.model_name for one in specs}
    assert len(exposed) == len(specs)
    assert all(0 < len(name) <= 64 and set(name) <= set(_ALLOWED) for name in exposed)


_ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
