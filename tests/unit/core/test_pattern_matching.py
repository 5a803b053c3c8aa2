"""Patterns in detail: what a condition reads in the arguments, how a pattern is written, and its error messages."""

import re
from typing import Any

import pytest

from mcpchat.core.patterns import Condition, Pattern, parse_pattern

MAX_LENGTH = 100_000
EMAIL = "a@example.com"
# Both alternatives match each letter, so a match that fails needs 2^60 attempts.
SLOW_REGEX, SLOW_TEXT = "(a|a)*c?$", "a" * 60 + "!"


def allows(pattern: str, arguments: dict[str, Any], tool: str = "box.write") -> bool:
    return parse_pattern(pattern).matches(tool, arguments, match_all=True)


def restricts(pattern: str, arguments: dict[str, Any], tool: str = "box.write") -> bool:
    return parse_pattern(pattern).matches(tool, arguments, match_all=False)


@pytest.mark.parametrize(
    ("pattern", "arguments", "is_allowed"),
    [
        ("box(command=git status)", {"command": "rm -rf ~; git status"}, False),
        ("box(command~=git status)", {"command": "GIT STATUS"}, False),
        ("box(command=git status)", {"command": "GIT STATUS"}, False),
        ("box(path=*)", {"path": "a/../b"}, True),  # * allows every value, so it hides nothing
        ("box(path=*)", {"path": None}, False),
        ("box(count=3)", {"count": 3.0}, True),
        ("box(count=3.0)", {"count": 3.0}, True),
        ("box(force=1)", {"force": True}, False),
        ("box(force=true)", {"force": True}, True),
        (f"box(to={EMAIL})", {"to": {EMAIL: [EMAIL]}}, True),
    ],
    ids=str,
)
def test_an_allow_compares_each_whole_value(pattern: str, arguments: dict[str, Any], is_allowed: bool) -> None:
    assert allows(pattern, arguments) is is_allowed


@pytest.mark.parametrize(
    ("path", "arguments", "is_allowed"),
    [
        ("mails.to", {"mails": [{"to": EMAIL}, {"to": EMAIL}]}, True),
        ("mails.to", {"mails": [[{"to": EMAIL}], [{"to": EMAIL}]]}, True),
        ("mails.to", {"mails": [{"to": EMAIL}, "a text"]}, False),
        ("mails.to", {"mails": "to nobody"}, False),
        ("a.b.c", {"a.b": {"c": EMAIL}}, True),
        ("a.b.c", {"a": {"b.c": EMAIL}}, True),
        ("a.b.c", {"a": {"b": {"c": EMAIL}}}, True),
        ("a.b.c", {"ab": {"c": EMAIL}, "a": {"bc": EMAIL}}, False),
        ("m.to", {"m.to": EMAIL, "m": {"cc": "eve@evil.test"}}, False),
        ("mails.m.to", {"mails": [{"m.to": EMAIL, "m": []}]}, True),
        ("mails.m.to", {"mails": [{"m": []}, {"m": {"to": EMAIL}}]}, False),
    ],
    ids=str,
)
def test_a_path_of_names_finds_every_value(path: str, arguments: dict[str, Any], is_allowed: bool) -> None:
    assert allows(f"box({path}=*@example.com)", arguments) is is_allowed


@pytest.mark.parametrize(
    ("pattern", "arguments", "is_restricted"),
    [
        ("box(m.to=*@evil.test)", {"m": [{"to": "eve@evil.test"}, {"cc": EMAIL}]}, True),
        ("box(to=evil.test)", {"to": "notevil.test"}, False),
        ("box(text=*two words*)", {"text": "here are two words"}, True),
        ("box(path=/etc/*)", {"path": "etc/passwd"}, False),
        ("box(amount=1)", {"amount": 1.5}, False),
        ("box(force=1)", {"force": True}, False),
        ("box(to=*)", {"to": None}, False),
        ("box(text=)", {"text": ""}, True),
        ("box(text=)", {"text": "a, b"}, False),
        ("box(text=.)", {"text": "the end "}, False),
        ("box(to=*evil*)", {"": {"to": "evil"}}, False),
    ],
    ids=str,
)
def test_a_restriction_compares_each_word(pattern: str, arguments: dict[str, Any], is_restricted: bool) -> None:
    assert restricts(pattern, arguments) is is_restricted


@pytest.mark.parametrize("separator", [*" \n,;<>()\"'"], ids=ascii)
def test_a_restriction_finds_a_word_between_separators(separator: str) -> None:
    assert restricts("box(path=/etc/*)", {"path": f"x{separator}/etc/passwd"})
    assert restricts("box(path=/etc/passwd)", {"path": f"/etc/passwd{separator}x"})


@pytest.mark.parametrize(("length", "is_searched"), [(MAX_LENGTH, True), (MAX_LENGTH + 1, False)])
def test_a_value_that_is_too_long_to_search_is_restricted_and_not_allowed(length: int, is_searched: bool) -> None:
    arguments = {"text": "x" * length}
    assert allows("box(text=x*)", arguments) is is_searched
    assert allows("box(text=*)", arguments)
    assert restricts("box(text=y)", arguments) is not is_searched


@pytest.mark.timeout(20)
def test_a_value_that_takes_too_long_to_match_is_restricted_and_not_allowed() -> None:
    assert not allows(f"box(text~={SLOW_REGEX})", {"text": SLOW_TEXT})
    assert restricts(f"box(text~={SLOW_REGEX})", {"text": SLOW_TEXT})


@pytest.mark.parametrize(
    ("glob", "tool", "is_allowed", "is_restricted"),
    [
        ("*write", "box.write", True, True),
        ("b*x", "box.write", False, False),  # a glob with * is compared with the whole name
        ("Box.write", "box.write", False, True),
        ("box.write", "box.WRITE", False, True),
        ("box.write", "box.wri\u200bte", False, True),
    ],
    ids=ascii,
)
def test_the_tools_that_a_glob_selects(glob: str, tool: str, is_allowed: bool, is_restricted: bool) -> None:
    assert (allows(glob, {}, tool), restricts(glob, {}, tool)) == (is_allowed, is_restricted)


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        (" box ", ()),
        ("box (to=a)", (("to", "a", False),)),
        ("box(to=a\nb)", (("to", "a\nb", False),)),
        ("box(to=)", (("to", "", False),)),
        ("box( to = a , cc ~= b )", (("to", "a", False), ("cc", "b", True))),
        ("box(to=a,m.to=b,reply-to=c,  x~=d)",
         (("to", "a", False), ("m.to", "b", False), ("reply-to", "c", False), ("x", "d", True))),
        ("box(reply-to=a)", (("reply-to", "a", False),)),
        ("box(to=a, b)", (("to", "a, b", False),)),
        ("box(to=a,=b)", (("to", "a,=b", False),)),
        ("box(to~=a,{1,2})", (("to", "a,{1,2}", True),)),
    ],
)  # fmt: skip
def test_a_pattern_is_parsed_to_its_conditions(text: str, conditions: tuple[tuple[str, str, bool], ...]) -> None:
    expected = (Condition(argument=name, pattern=pattern, regex=regex) for name, pattern, regex in conditions)
    assert parse_pattern(text) == Pattern(glob="box", conditions=tuple(expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("box write", "'box write' is not a pattern; write SERVER.TOOL or SERVER.TOOL(argument=glob)"),
        ("box()", "'box()': '' is not a condition; write argument=glob, argument~=regex or only"),
        ("box( to )", "'box( to )': 'to' is not a condition; write argument=glob, argument~=regex or only"),
        ("box(=a)", "'box(=a)': '=a' is not a condition; write argument=glob, argument~=regex or only"),
        (
            "box(to~=[)",
            "'box(to~=[)': '[' is not a regular expression: unterminated character set at position 1",
        ),
        (
            "box(to~=(?a)(?u)x)",
            "'box(to~=(?a)(?u)x)': '(?a)(?u)x' is not a regular expression: "
            "ASCII, LOCALE and UNICODE flags are mutually incompatible",
        ),
    ],
)
def test_the_message_about_an_invalid_pattern(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_pattern(text)


def test_a_regular_expression_that_is_nested_too_deeply_is_invalid() -> None:
    with pytest.raises(ValueError, match="is not a regular expression: maximum recursion depth"):
        parse_pattern(f"box(to~={'(' * 5000}{')' * 5000})")
