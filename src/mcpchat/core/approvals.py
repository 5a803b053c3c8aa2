"""May this tool run? Rules become a verdict, and the verdict names its rule."""

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from mcpchat.core.tools import ToolSpec, matches

Action = Literal["allow", "ask", "deny"]
_STRICTEST_FIRST: tuple[Action, ...] = ("deny", "ask", "allow")


class Rule(Struct, frozen=True, kw_only=True):
    """``source`` says where the rule was written ("config", "--deny")."""

    action: Action
    glob: str
    source: str = "config"

    def __str__(self) -> str:
        return f"{self.source}: {self.action} {self.glob}"


class Verdict(Struct, frozen=True, kw_only=True):
    action: Action
    rule: str


class Decision(Struct, frozen=True, kw_only=True):
    """The answer to one call. ``by`` is who gave it: a rule ("policy") or a person ("user").

    ``remember`` is a glob that is granted for the rest of the session, or empty.
    """

    allowed: bool
    by: Literal["policy", "user"]
    reason: str = ""
    remember: str = ""


class Policy(Struct, frozen=True, kw_only=True):
    """The strictest matching rule wins. ``granted`` globs answer yes to what would ask, and never to a deny."""

    rules: tuple[Rule, ...] = ()
    default: Action = "ask"
    granted: tuple[Rule, ...] = ()

    def verdict(self, tool: ToolSpec) -> Verdict:
        verdict = self._by_rules(tool)
        if verdict.action == "ask":
            for grant in self.granted:
                if matches(grant.glob, tool.label):
                    return Verdict(action="allow", rule=f"{grant.source} {grant.glob}")
        return verdict

    def _by_rules(self, tool: ToolSpec) -> Verdict:
        matching = [rule for rule in self.rules if matches(rule.glob, tool.label)]
        for action in _STRICTEST_FIRST:
            for rule in matching:
                if rule.action == action:
                    return Verdict(action=action, rule=str(rule))
        if tool.annotations.destructive and self.default != "deny":
            return Verdict(action="ask", rule="default: destructive tools ask")
        if tool.read_only and self.default != "deny":
            return Verdict(action="allow", rule="default: read-only tools of trusted servers are allowed")
        return Verdict(action=self.default, rule=f"default: {self.default}")

    def granting(self, *globs: str, source: str) -> "Policy":
        """This policy, with what would ask answered by yes for these globs."""
        grants = tuple(Rule(action="allow", glob=glob, source=source) for glob in globs)
        return msgspec.structs.replace(self, granted=(*self.granted, *grants))


def rules(action: Action, globs: Iterable[str], source: str = "config") -> tuple[Rule, ...]:
    return tuple(Rule(action=action, glob=glob, source=source) for glob in globs)
