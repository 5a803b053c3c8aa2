"""May this tool run? Rules become a verdict, and the verdict names its rule."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from mcpchat.core.patterns import Pattern, parse_pattern
from mcpchat.core.tools import ToolSpec

Action = Literal["allow", "ask", "deny"]
_STRICTEST_FIRST: tuple[Action, ...] = ("deny", "ask", "allow")
YES_SOURCE = "--yes"


class Rule(Struct, frozen=True, kw_only=True):
    """``source`` says where the rule was written ("config", "agent mail", "--deny")."""

    action: Action
    pattern: Pattern
    source: str = "config"

    def __str__(self) -> str:
        return f"{self.source}: {self.action} {self.pattern}"

    def matches(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> bool:
        return self.pattern.matches(tool.qualified_name, arguments, match_all=self.action == "allow")


class PolicyResult(Struct, frozen=True, kw_only=True):
    """``lasting`` is how long a person's yes to what asks may hold: for this call, the session, or for good."""

    action: Action
    rule: str
    max_scope: Literal["once", "session", "always"] = "always"


class Decision(Struct, frozen=True, kw_only=True):
    """The answer to one call. ``by`` is who gave it: a rule ("policy") or a person ("user").

    ``remember`` has it stand for the tool's next calls. ``arguments`` are what the person made of the call's, as JSON;
    empty where they left them alone.
    """

    allowed: bool
    by: Literal["policy", "user"]
    reason: str = ""
    remember: Literal["", "session", "always"] = ""
    arguments: str = ""


class ApprovalRequest(Struct, frozen=True, kw_only=True):
    """What a person is asked before a call: ``arguments`` are what it would run with.

    ``before`` are the model's own, where the person changed them; ``problem`` is why those changed do not do.
    ``waiting`` is how many more questions of the same step stand behind this one.
    """

    tool: ToolSpec
    arguments: dict[str, Any]
    rule: str
    max_scope: Literal["once", "session", "always"] = "always"
    original_arguments: dict[str, Any] | None = None
    error: str = ""
    pending: int = 0


class Policy(Struct, frozen=True, kw_only=True):
    """The strictest matching rule wins. ``granted`` answers yes to what would ask, and never to a deny."""

    rules: tuple[Rule, ...] = ()
    default: Action = "ask"
    overrides: tuple[Rule, ...] = ()

    def evaluate(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> PolicyResult:
        result = self._evaluate_rules(tool, arguments)
        if result.action == "ask":
            for override in self.overrides:
                if override.matches(tool, arguments):
                    source = (
                        override.source if override.source == YES_SOURCE else f"{override.source} {override.pattern}"
                    )
                    return PolicyResult(action="allow", rule=source)
        return result

    def _evaluate_rules(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> PolicyResult:
        matching = [rule for rule in self.rules if rule.matches(tool, arguments)]
        for action in _STRICTEST_FIRST:
            for rule in matching:
                if rule.action == action:
                    # What the person wrote down outlives what they answered.
                    return PolicyResult(action=action, rule=str(rule), max_scope=_max_scope(tool, by_rule=True))
        if tool.annotations.destructive and self.default != "deny":
            return PolicyResult(action="ask", rule="default: destructive tools ask", max_scope="once")
        if tool.read_only and self.default != "deny":
            return PolicyResult(action="allow", rule="default: read-only tools of trusted servers are allowed")
        return PolicyResult(
            action=self.default, rule=f"default: {self.default}", max_scope=_max_scope(tool, by_rule=False)
        )

    def with_overrides(self, *patterns: str, source: str) -> "Policy":
        """This policy, with what would ask answered by yes for these patterns. Raises ValueError."""
        overrides = parse_rules("allow", patterns, source)
        return msgspec.structs.replace(self, overrides=(*self.overrides, *overrides))


def _max_scope(tool: ToolSpec, *, by_rule: bool) -> Literal["once", "session", "always"]:
    # What destroys or sends asks each time: a yes to one mail is none to the next.
    if tool.annotations.destructive is True:
        return "once"
    return "session" if by_rule else "always"


def parse_rules(action: Action, patterns: Iterable[str], source: str = "config") -> tuple[Rule, ...]:
    """Raises ValueError for what is no pattern."""
    return tuple(Rule(action=action, pattern=parse_pattern(text), source=source) for text in patterns)
