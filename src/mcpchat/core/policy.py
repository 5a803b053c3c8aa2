"""May this tool run? Rules become a verdict, and the verdict names its rule."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from mcpchat.core.patterns import Pattern, read_pattern
from mcpchat.core.tools import ToolSpec

Action = Literal["allow", "ask", "deny"]
_STRICTEST_FIRST: tuple[Action, ...] = ("deny", "ask", "allow")
YES = "--yes"


class Rule(Struct, frozen=True, kw_only=True):
    """``source`` says where the rule was written ("config", "agent mail", "--deny")."""

    action: Action
    pattern: Pattern
    source: str = "config"

    def __str__(self) -> str:
        return f"{self.source}: {self.action} {self.pattern}"

    def matches(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> bool:
        return self.pattern.matches(tool.label, arguments, by_all=self.action == "allow")


class Verdict(Struct, frozen=True, kw_only=True):
    """``lasting`` is how long a person's yes to what asks may hold: for this call, the session, or for good."""

    action: Action
    rule: str
    lasting: Literal["once", "session", "always"] = "always"


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


class Question(Struct, frozen=True, kw_only=True):
    """What a person is asked before a call: ``arguments`` are what it would run with.

    ``before`` are the model's own, where the person changed them; ``problem`` is why those changed do not do.
    ``waiting`` is how many more questions of the same step stand behind this one.
    """

    tool: ToolSpec
    arguments: dict[str, Any]
    rule: str
    lasting: Literal["once", "session", "always"] = "always"
    before: dict[str, Any] | None = None
    problem: str = ""
    waiting: int = 0


class Policy(Struct, frozen=True, kw_only=True):
    """The strictest matching rule wins. ``granted`` answers yes to what would ask, and never to a deny."""

    rules: tuple[Rule, ...] = ()
    default: Action = "ask"
    granted: tuple[Rule, ...] = ()

    def verdict(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> Verdict:
        verdict = self._by_rules(tool, arguments)
        if verdict.action == "ask":
            for grant in self.granted:
                if grant.matches(tool, arguments):
                    told = grant.source if grant.source == YES else f"{grant.source} {grant.pattern}"
                    return Verdict(action="allow", rule=told)
        return verdict

    def _by_rules(self, tool: ToolSpec, arguments: Mapping[str, Any]) -> Verdict:
        matching = [rule for rule in self.rules if rule.matches(tool, arguments)]
        for action in _STRICTEST_FIRST:
            for rule in matching:
                if rule.action == action:
                    # What the person wrote down outlives what they answered.
                    return Verdict(action=action, rule=str(rule), lasting=_lasting(tool, written=True))
        if tool.annotations.destructive and self.default != "deny":
            return Verdict(action="ask", rule="default: destructive tools ask", lasting="once")
        if tool.read_only and self.default != "deny":
            return Verdict(action="allow", rule="default: read-only tools of trusted servers are allowed")
        return Verdict(action=self.default, rule=f"default: {self.default}", lasting=_lasting(tool, written=False))

    def granting(self, *patterns: str, source: str) -> "Policy":
        """This policy, with what would ask answered by yes for these patterns. Raises ValueError."""
        grants = rules("allow", patterns, source)
        return msgspec.structs.replace(self, granted=(*self.granted, *grants))


def _lasting(tool: ToolSpec, *, written: bool) -> Literal["once", "session", "always"]:
    # What destroys or sends asks each time: a yes to one mail is none to the next.
    if tool.annotations.destructive is True:
        return "once"
    return "session" if written else "always"


def rules(action: Action, patterns: Iterable[str], source: str = "config") -> tuple[Rule, ...]:
    """Raises ValueError for what is no pattern."""
    return tuple(Rule(action=action, pattern=read_pattern(text), source=source) for text in patterns)
