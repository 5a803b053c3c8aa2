"""Rules become verdicts, and each verdict names its rule."""

import pytest

from mcpchat.core.policy import Policy, PolicyResult, parse_rules
from mcpchat.core.tools import Annotations, ToolSpec


def spec(label: str, *, trusted: bool = False, **hints: bool) -> ToolSpec:
    server, name = label.split(".")
    return ToolSpec(server=server, name=name, schema={}, annotations=Annotations(**hints), trusted=trusted)


ALL = Policy(
    rules=(
        *parse_rules("allow", ["*"]),
        *parse_rules("ask", ["mail.*"]),
        *parse_rules("deny", ["mail.delete"], "--deny"),
    )
)


@pytest.mark.parametrize(
    ("label", "verdict"),
    [
        ("files.read", PolicyResult(action="allow", rule="config: allow *", max_scope="session")),
        ("mail.send", PolicyResult(action="ask", rule="config: ask mail.*", max_scope="session")),
        ("mail.delete", PolicyResult(action="deny", rule="--deny: deny mail.delete", max_scope="session")),
    ],
)
def test_the_strictest_matching_rule_wins(label: str, verdict: PolicyResult) -> None:
    assert ALL.evaluate(spec(label), {}) == verdict


def test_a_grant_answers_a_question_and_never_a_deny() -> None:
    granted = ALL.with_overrides("*", source="--yes")
    assert granted.evaluate(spec("mail.send"), {}) == PolicyResult(action="allow", rule="--yes")
    assert granted.evaluate(spec("mail.delete"), {}).action == "deny"


@pytest.mark.parametrize(
    ("tool", "action"),
    [
        (spec("a.b"), "ask"),
        (spec("a.b", read_only=True), "ask"),
        (spec("a.b", read_only=True, trusted=True), "allow"),
        (spec("a.b", read_only=True, trusted=True, destructive=True), "ask"),
        (spec("a.b", trusted=True), "ask"),
    ],
)
def test_without_a_rule_only_a_trusted_servers_reading_runs_unasked(tool: ToolSpec, action: str) -> None:
    assert Policy().evaluate(tool, {}).action == action


def test_the_default_decides_where_nothing_matches() -> None:
    assert Policy(default="allow").evaluate(spec("a.b"), {}).action == "allow"
    assert Policy(default="allow").evaluate(spec("a.b", destructive=True), {}).action == "ask"
    assert Policy(default="deny").evaluate(spec("a.b", read_only=True, trusted=True), {}).action == "deny"
