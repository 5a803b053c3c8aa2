"""Tests that approval rules produce the right result, and that each result names its rule."""

import pytest

from mcpchat.core.policy import Policy, PolicyResult, parse_rules
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS
from mcpchat.core.tools import Annotations, ToolSpec


def tool_spec(label: str, *, trusted: bool = False, **hints: bool) -> ToolSpec:
    server, name = label.split(".")
    return ToolSpec(server=server, name=name, schema={}, annotations=Annotations(**hints), trusted=trusted)


POLICY = Policy(
    rules=(
        *parse_rules("allow", ["*"]),
        *parse_rules("ask", ["mail.*"]),
        *parse_rules("deny", ["mail.delete"], "--deny"),
    )
)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("files.read", PolicyResult(action="allow", rule="config: allow *", max_scope="session")),
        ("mail.send", PolicyResult(action="ask", rule="config: ask mail.*", max_scope="session")),
        ("mail.delete", PolicyResult(action="deny", rule="--deny: deny mail.delete", max_scope="session")),
    ],
)
def test_the_strictest_matching_rule_wins(label: str, expected: PolicyResult) -> None:
    assert POLICY.evaluate(tool_spec(label), {}) == expected


def test_an_override_allows_an_ask_but_not_a_deny() -> None:
    policy = POLICY.with_overrides("*", source="--yes")
    assert policy.evaluate(tool_spec("mail.send"), {}) == PolicyResult(action="allow", rule="--yes")
    assert policy.evaluate(tool_spec("mail.delete"), {}).action == "deny"


@pytest.mark.parametrize(
    ("tool", "action"),
    [
        (tool_spec("a.b"), "ask"),
        (tool_spec("a.b", read_only=True), "ask"),
        (tool_spec("a.b", read_only=True, trusted=True), "allow"),
        (tool_spec("a.b", read_only=True, trusted=True, destructive=True), "ask"),
        (tool_spec("a.b", trusted=True), "ask"),
    ],
)
def test_without_rules_only_a_trusted_read_only_tool_is_allowed(tool: ToolSpec, action: str) -> None:
    assert Policy().evaluate(tool, {}).action == action


def test_the_default_applies_if_no_rule_matches() -> None:
    assert Policy(default="allow").evaluate(tool_spec("a.b"), {}).action == "allow"
    assert Policy(default="allow").evaluate(tool_spec("a.b", destructive=True), {}).action == "ask"
    assert Policy(default="deny").evaluate(tool_spec("a.b", read_only=True, trusted=True), {}).action == "deny"


@pytest.mark.parametrize(
    ("policy", "action"),
    [
        (Policy(default="deny"), "allow"),
        (Policy(rules=parse_rules("ask", ["*"])), "allow"),
        (Policy(rules=parse_rules("deny", ["*.search_tools"])), "allow"),
        (Policy(rules=parse_rules("deny", ["mcpchat.search_tools"])), "deny"),
        (Policy(rules=parse_rules("ask", ["mcpchat.*"])), "ask"),
    ],
)
def test_only_a_rule_that_names_them_is_about_our_own_tools_without_an_effect(policy: Policy, action: str) -> None:
    assert policy.evaluate(SEARCH_TOOLS, {"query": "x"}).action == action
    assert policy.evaluate(CALL_TOOL, {}).action != "allow"  # it is never run itself


def test_deny_and_ask_rules_apply_to_a_server_under_its_other_names_but_allow_rules_do_not() -> None:
    rules = (
        *parse_rules("deny", ["work.delete_*"]),
        *parse_rules("ask", ["work.share"]),
        *parse_rules("allow", ["work.*", "mine.share"]),
    )
    policy = Policy(rules=rules, aliases={"mine": ("work",)})
    labels = ("mine.delete_all", "mine.share", "mine.other", "work.other")
    actions = [policy.evaluate(tool_spec(label), {}).action for label in labels]
    assert actions == ["deny", "ask", "ask", "allow"]
