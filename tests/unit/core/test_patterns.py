"""Rules with conditions: an allow must match the whole value, a deny any part of it."""

from typing import Any

import pytest

from mcpchat.core.patterns import parse_pattern
from mcpchat.core.policy import Policy, parse_rules
from tests.support.fakes import make_tool

WRITE = make_tool("write", read_only=False)


def action(rule: str, pattern: str, **arguments: Any) -> str:
    return Policy(rules=parse_rules(rule, [pattern])).evaluate(WRITE, arguments).action  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "arguments", "allowed"),
    [
        ("box.write", {}, True),
        ("box", {}, True),
        ("*.read", {}, False),
        ("box.write(path=/tmp/*)", {"path": "/tmp/a/b"}, True),
        ("box.write(path=/tmp/*)", {"path": "/etc/passwd"}, False),
        ("box.write(path=/tmp/*)", {"path": "/tmp/../etc/passwd"}, False),
        ("box.write(path=/tmp/*)", {"path": "/tmp/a\\..\\b"}, False),
        ("box.write(path=/tmp/*)", {}, False),
        ("box.write(path=/tmp/*)", {"path": None}, False),
        ("box.write(to=*@example.com)", {"to": ["a@example.com", "b@example.com"]}, True),
        ("box.write(to=*@example.com)", {"to": ["a@example.com", "eve@evil.test"]}, False),
        ("box.write(to=*@example.com)", {"to": []}, False),
        ("box.write(to=*@example.com, subject=Report*)", {"to": "a@example.com", "subject": "Report 3"}, True),
        ("box.write(to=*@example.com, subject=Report*)", {"to": "a@example.com", "subject": "Hi"}, False),
        ("box.write(command~=git (status|diff))", {"command": "git diff"}, True),
        ("box.write(command~=git (status|diff))", {"command": "git diff; rm -rf ~"}, False),
        ("box.write(id~=[a-z]{1,3})", {"id": "abc"}, True),
        ("box.write(count=3)", {"count": 3}, True),
        ("box.write(force=false)", {"force": True}, False),
        ("box.write(mail.to=*@example.com)", {"mail": {"to": "a@example.com"}}, True),
        ("box.write(mails.to=*@example.com)", {"mails": [{"to": "a@example.com"}, {"to": "x@evil.test"}]}, False),
        ("box.write(text=x*)", {"text": "x" * 200_000}, False),
        ("box.write(path~=/tmp/.*)", {"path": "/tmp/../etc/passwd"}, False),
        ("box.write(path=notes*)", {"path": "notes/../../etc/passwd"}, False),
        ("box.write(to=*@example.com)", {"to": {"eve@evil.test": "a@example.com"}}, False),
        ("box.write(m.to=*@example.com)", {"m.to": "a@example.com", "m": {"to": "eve@evil.test"}}, False),
        ("box.write(m.to=*@example.com)", {"m": [{"to": "a@example.com"}, {"To": "eve@evil.test"}]}, False),
        (r"box.write(text~=(a|a)*b)", {"text": "a" * 60}, False),
    ],
    ids=str,
)
def test_an_allow_must_match_the_whole_value(pattern: str, arguments: dict[str, Any], allowed: bool) -> None:
    assert (action("allow", pattern, **arguments) == "allow") is allowed


@pytest.mark.parametrize(
    ("pattern", "arguments", "is_denied"),
    [
        ("box.write(to=*@evil.test)", {"to": ["a@example.com", "eve@EVIL.test"]}, True),
        ("box.write(to=*@evil.test)", {"to": "a@example.com"}, False),
        ("box.write(to=*@evil.test)", {}, False),
        (r"box.write(command~=\bsudo\b)", {"command": "cd /; sudo rm x"}, True),
        (r"box.write(command~=\bsudo\b)", {"command": "pseudo"}, False),
        ("box.write(body=*secret*)", {"body": {"parts": ["a", "the secret"]}}, True),
        ("box.write(text~=x)", {"text": "y" * 200_000}, True),
        ("box.write(path=/etc/*)", {"path": "//etc/passwd"}, True),
        ("box.write(path=/etc/*)", {"path": "/tmp/../etc/passwd"}, True),
        ("box.write(to=*@evil.test)", {"to": "Eve <eve@evil.test>, a@example.com"}, True),
        ("box.write(to=*evil*)", {"to": {"eve@evil.test": 1}}, True),
        ("box.write(m.to=*@evil.test)", {"m.to": "a@example.com", "m": {"to": "eve@evil.test"}}, True),
        ("box.write(amount=1000)", {"amount": 1000.0}, True),
        ("box.write(command~=sudo)", {"command": "SUDO rm"}, True),
        ("Box.Write", {}, True),
    ],
    ids=str,
)
def test_a_deny_matches_any_part_of_the_value(pattern: str, arguments: dict[str, Any], is_denied: bool) -> None:
    assert (action("deny", pattern, **arguments) == "deny") is is_denied


def test_the_verdict_names_the_rule_with_its_conditions() -> None:
    policy = Policy(rules=parse_rules("deny", ["box.write(path~=^/etc)"], "agent mail"))
    assert policy.evaluate(WRITE, {"path": "/etc/x"}).rule == "agent mail: deny box.write(path~=^/etc)"


def test_a_grant_of_the_run_needs_its_condition() -> None:
    policy = Policy().with_overrides("box.write(path=/tmp/*)", source="--allow")
    assert policy.evaluate(WRITE, {"path": "/tmp/x"}).rule == "--allow box.write(path=/tmp/*)"
    assert policy.evaluate(WRITE, {"path": "/x"}).action == "ask"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a pattern"),
        ("box write", "is not a pattern"),
        ("box.write(", "is not a pattern"),
        ("box.write(path)", "is not a condition"),
        ("box.write(path~=[)", "is not a regular expression"),
    ],
)
def test_an_invalid_pattern_is_reported(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_pattern(text)


def test_a_pattern_is_formatted_as_parsed() -> None:
    text = "box.write(to=*@example.com, subject~=^Re: .{1,3}$)"
    assert str(parse_pattern(text)) == text
