"""The approval policy: decides by rules whether a tool call is allowed, denied or needs approval."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from mcpchat.core.patterns import Pattern, parse_pattern
from mcpchat.core.tools import OWN_SERVER, ToolSpec

Action = Literal["allow", "ask", "deny"]
_STRICTEST_FIRST: tuple[Action, ...] = ("deny", "ask", "allow")
YES_SOURCE = "--yes"


class Rule(Struct, frozen=True, kw_only=True):
    """``source`` names where the rule comes from ("config", "agent mail", "--deny")."""

    action: Action
    pattern: Pattern
    source: str = "config"

    def __str__(self) -> str:
        return f"{self.source}: {self.action} {self.pattern}"

    def matches(self, tool: ToolSpec, arguments: Mapping[str, Any], aliases: Iterable[str] = ()) -> bool:
        """Whether the rule is about this call. ``aliases`` are other names of the tool's server; they never allow."""
        if self.action == "allow":
            return self.pattern.matches(tool.qualified_name, arguments, match_all=True)
        names = (tool.qualified_name, *(f"{alias}.{tool.name}" for alias in aliases))
        return any(self.pattern.matches(name, arguments, match_all=False) for name in names)


class PolicyResult(Struct, frozen=True, kw_only=True):
    """The action for a call and the rule that led to it.

    If the action is "ask", ``max_scope`` is the longest scope for which the user's yes may be remembered.
    """

    action: Action
    rule: str
    max_scope: Literal["once", "session", "always"] = "always"


class Decision(Struct, frozen=True, kw_only=True):
    """The decision on one call, made by a rule ("policy") or by the user ("user").

    ``remember`` applies the decision to later calls of the tool, or with "step" to the other calls of the same step
    that were shown with it. ``arguments`` are the arguments as the user edited
    them, as JSON; empty if they are unchanged.
    """

    allowed: bool
    by: Literal["policy", "user"]
    reason: str = ""
    remember: Literal["", "step", "session", "always"] = ""
    arguments: str = ""


class WaitingCall(Struct, frozen=True, kw_only=True):
    """A call that also needs an answer."""

    tool: ToolSpec
    arguments: dict[str, Any]


class ApprovalRequest(Struct, frozen=True, kw_only=True):
    """A request to the user to approve a call with these ``arguments``.

    ``original_arguments`` are the model's own if the user has edited them; ``error`` says why the edited arguments are
    invalid. ``pending`` is the number of further requests of the same step; ``others`` are those of them that a
    decision with ``remember="step"`` would allow too: none of them destroys anything.
    """

    tool: ToolSpec
    arguments: dict[str, Any]
    rule: str
    max_scope: Literal["once", "session", "always"] = "always"
    original_arguments: dict[str, Any] | None = None
    error: str = ""
    pending: int = 0
    others: tuple[WaitingCall, ...] = ()


class Policy(Struct, frozen=True, kw_only=True):
    """The strictest matching rule wins. A match in ``overrides`` turns "ask" into "allow", but never "deny".

    ``aliases`` are other names of a server, by its name: rules that ask or deny for one of them apply to it too.
    """

    rules: tuple[Rule, ...] = ()
    default: Action = "ask"
    overrides: tuple[Rule, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = {}

    def evaluate(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> PolicyResult:
        """Find the action for a call of this tool with these arguments."""
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
        aliases = self.aliases.get(tool.server, ())
        matching = [rule for rule in self.rules if rule.matches(tool, arguments, aliases)]
        if tool.server == OWN_SERVER and tool.read_only:
            # They search tools and read stored results: only a rule that names them is about them.
            matching = [rule for rule in matching if str(rule.pattern).startswith(f"{OWN_SERVER}.")]
            if not matching:
                return PolicyResult(action="allow", rule="mcpchat's own tools without an effect are allowed")
        for action in _STRICTEST_FIRST:
            for rule in matching:
                if rule.action == action:
                    # A configured rule outlives the user's answers: those are valid for the session at most.
                    return PolicyResult(action=action, rule=str(rule), max_scope=_max_scope(tool, by_rule=True))
        if tool.annotations.destructive and self.default != "deny":
            return PolicyResult(action="ask", rule="default: destructive tools ask", max_scope="once")
        if tool.read_only and self.default != "deny":
            return PolicyResult(action="allow", rule="default: read-only tools of trusted servers are allowed")
        return PolicyResult(
            action=self.default, rule=f"default: {self.default}", max_scope=_max_scope(tool, by_rule=False)
        )

    def with_overrides(self, *patterns: str, source: str) -> "Policy":
        """A policy that also allows calls that match these patterns instead of asking.

        Raises ValueError if a pattern is invalid.
        """
        overrides = parse_rules("allow", patterns, source)
        return msgspec.structs.replace(self, overrides=(*self.overrides, *overrides))


def _max_scope(tool: ToolSpec, *, by_rule: bool) -> Literal["once", "session", "always"]:
    # Destructive tools ask each time: approval of one mail does not approve the next.
    if tool.annotations.destructive is True:
        return "once"
    return "session" if by_rule else "always"


def parse_rules(action: Action, patterns: Iterable[str], source: str = "config") -> tuple[Rule, ...]:
    """Parse patterns to rules with this action. Raises ValueError if a pattern is invalid."""
    return tuple(Rule(action=action, pattern=parse_pattern(text), source=source) for text in patterns)
