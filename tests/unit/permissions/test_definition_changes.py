"""What a user reads about a changed definition, and which definitions count as changed."""

import pytest

from mcpchat.core.catalog import Catalog, ServerInfo
from mcpchat.core.tools import ToolSpec
from mcpchat.permissions.pins import DefinitionChange, ServerPins, accept, diff_pins, pin_catalog
from tests.support.fakes import make_tool


def pins(*tools: ToolSpec, instructions: str = "") -> ServerPins:
    return pin_catalog("box", Catalog(info=ServerInfo(instructions=instructions), tools=tools))


def change(before: str | None, after: str) -> DefinitionChange:
    return DefinitionChange(server="box", tool="", before=before, after=after)


@pytest.mark.parametrize(
    ("before", "after", "diff"),
    [
        (None, "one\ntwo", "+one\n+two"),
        ("", "one", "+one"),
        ("one\ntwo", "", "-one\n-two"),
        ("1\n2\n3\n4\nold\n5\n6\n7\n8", "1\n2\n3\n4\nnew\n5\n6\n7\n8", " 2\n 3\n 4\n-old\n+new\n 5\n 6\n 7"),
        ("same\nends in ---", "same\nends in @@", " same\n-ends in ---\n+ends in @@"),
        ("a", "a\u200b", "-a\n+a\\u{200b}"),
        ("kind", "kind\n++ send it all", " kind\n+++ send it all"),
        ("kind\n-- ask first", "kind", " kind\n--- ask first"),
        ("@@ a", "@@ b", "-@@ a\n+@@ b"),
    ],
)
def test_a_diff_shows_the_changed_lines_with_three_lines_around_them(before: str | None, after: str, diff: str) -> None:
    assert change(before, after).diff_text() == diff


@pytest.mark.parametrize(
    ("lines", "shown", "note"),
    [(400, 400, []), (401, 400, ["... 1 more lines"]), (2000, 400, ["... 1,600 more lines"])],
)
def test_a_long_diff_is_cut_with_a_note(lines: int, shown: int, note: list[str]) -> None:
    diff = change(None, "\n".join(map(str, range(lines)))).diff_text()
    assert diff.split("\n") == [*(f"+{number}" for number in range(shown)), *note]


@pytest.mark.parametrize(("before", "summary"), [(None, "is new"), ("", "has changed"), ("a", "has changed")])
def test_a_change_says_whether_the_definition_is_new(before: str | None, summary: str) -> None:
    assert change(before, "b").summary == summary


ECHO, NEW_ECHO, WRITE = make_tool("echo"), make_tool("echo", description="new"), make_tool("write")


def test_only_exposed_tools_count_as_changed() -> None:
    changes = diff_pins(pins(ECHO, WRITE), pins(NEW_ECHO), is_exposed=lambda name: name != "echo")
    assert changes == []
    assert [item.tool for item in diff_pins(pins(ECHO), pins(NEW_ECHO, WRITE), lambda name: name == "write")] == [
        "write"
    ]


def test_a_changed_tool_has_both_definitions() -> None:
    (item,) = diff_pins(pins(ECHO), pins(NEW_ECHO))
    assert (item.server, item.tool) == ("box", "echo")
    assert item.diff_text().count("\n+") == 1
    assert '+ "description": "new",' in item.diff_text()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Be kind", "Obey", [change("Be kind", "Obey")]),
        ("", "Obey", [change("", "Obey")]),
        ("Be kind", "Be kind", []),
        ("Be kind", "", []),
        ("Be kind", " \n", []),
    ],
)
def test_changed_instructions_are_a_change_unless_they_are_empty(
    old: str, new: str, expected: list[DefinitionChange]
) -> None:
    assert diff_pins(pins(instructions=old), pins(instructions=new)) == expected


def test_instructions_without_a_pin_are_new() -> None:
    assert diff_pins(ServerPins(server="box"), pins(instructions="Obey")) == [change(None, "Obey")]
    assert diff_pins(pins(instructions="Obey"), ServerPins(server="box")) == []


@pytest.mark.parametrize(("names", "instructions"), [({""}, "new"), (set(), "old"), ({"echo"}, "old")], ids=str)
def test_the_empty_name_accepts_the_instructions(names: set[str], instructions: str) -> None:
    accepted = accept(pins(instructions="old"), pins(instructions="new"), names)
    assert accepted.instructions is not None
    assert accepted.instructions.text == instructions
    assert bool(accepted.instructions.date) == bool(names & {""})  # when it was accepted


def test_a_tool_whose_secrets_are_redacted_is_compared_by_its_original_definition() -> None:
    redacted, other = make_tool("echo", origin="a" * 64), make_tool("echo", origin="b" * 64)
    assert diff_pins(pins(redacted), pins(redacted)) == []
    assert [item.tool for item in diff_pins(pins(redacted), pins(other))] == ["echo"]


def test_a_pinned_definition_is_readable_text_in_a_stable_order() -> None:
    text = pins(make_tool("echo", description="schön")).tools["echo"].text
    assert "schön" in text
    keys = [line.split('"')[1] for line in text.splitlines() if line.startswith(' "')]
    assert keys == sorted(keys)
