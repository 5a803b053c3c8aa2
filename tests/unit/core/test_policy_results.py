"""What the policy answers: the action, the rule that the user reads, and how long a yes may be remembered."""

import pytest

from mcpchat.core.policy import Policy, PolicyResult, parse_rules
from mcpchat.core.tools import Annotations, ToolSpec


def tool(*, trusted: bool = True, **hints: bool) -> ToolSpec:
    return ToolSpec(server="mail", name="send", schema={}, annotations=Annotations(**hints), trusted=trusted)


ASK = Policy(rules=parse_rules("ask", ["mail"]))
READ_ONLY = PolicyResult(action="allow", rule="default: read-only tools of trusted servers are allowed")


@pytest.mark.parametrize(
    ("policy", "spec", "expected"),
    [
        (Policy(), tool(), PolicyResult(action="ask", rule="default: ask", max_scope="always")),
        (Policy(), tool(destructive=False), PolicyResult(action="ask", rule="default: ask", max_scope="always")),
        (
            Policy(default="allow"),
            tool(destructive=True),
            PolicyResult(action="ask", rule="default: destructive tools ask", max_scope="once"),
        ),
        (Policy(), tool(read_only=True), READ_ONLY),
        (ASK, tool(), PolicyResult(action="ask", rule="config: ask mail", max_scope="session")),
        (ASK, tool(destructive=False), PolicyResult(action="ask", rule="config: ask mail", max_scope="session")),
        (ASK, tool(destructive=True), PolicyResult(action="ask", rule="config: ask mail", max_scope="once")),
    ],
    ids=str,
)
def test_the_action_names_its_rule_and_limits_what_is_remembered(
    policy: Policy, spec: ToolSpec, expected: PolicyResult
) -> None:
    assert policy.evaluate(spec, {}) == expected


@pytest.mark.parametrize("hints", [{}, {"read_only": True}, {"destructive": True}], ids=str)
def test_a_default_of_deny_holds_for_every_tool(hints: dict[str, bool]) -> None:
    result = Policy(default="deny").evaluate(tool(**hints), {})
    assert (result.action, result.rule) == ("deny", "default: deny")


def test_an_override_must_match_the_whole_value() -> None:
    policy = Policy().with_overrides("mail(path=/tmp/*)", source="--allow")
    assert policy.evaluate(tool(), {"path": "/tmp/a"}).action == "allow"
    assert policy.evaluate(tool(), {"path": "/etc/passwd, /tmp/a"}).action == "ask"


def test_overrides_add_up() -> None:
    policy = Policy().with_overrides("mail(to=a)", source="--allow").with_overrides("mail(to=b)", source="--allow")
    assert [policy.evaluate(tool(), {"to": to}).action for to in "abc"] == ["allow", "allow", "ask"]
