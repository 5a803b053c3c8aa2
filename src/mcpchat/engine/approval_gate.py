"""The decision about one tool call: first the policy, then earlier answers, then the user."""

import asyncio
import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from mcpchat.core.policy import ApprovalRequest, Decision, Policy, PolicyResult, WaitingCall
from mcpchat.core.protocols import Approvals, UserDialog
from mcpchat.core.tools import InvalidArguments, ToolSpec, parse_arguments
from mcpchat.errors import StoreError

Arguments = Mapping[str, Any]
ArgumentValidator = Callable[[ToolSpec, Arguments], str]


@dataclass(eq=False)
class _WaitingRequest:
    """A call that waits for its prompt. ``is_allowed`` is set once the answer to another prompt allows it."""

    spec: ToolSpec
    arguments: dict[str, Any]
    result: PolicyResult
    is_allowed: bool = False


class ApprovalGate:
    """Decides on the calls of one session, and remembers the user's grants.

    ``approvals`` saves each "always"; ``check`` validates arguments that the user changed, and returns the error or
    an empty string; ``warn`` receives the message if an approval cannot be saved.
    """

    def __init__(
        self,
        policy: Policy,
        asker: UserDialog,
        *,
        approvals: Approvals,
        check: ArgumentValidator,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.policy = policy
        self._asker = asker
        self._approvals = approvals
        self._check = check
        self._warn = warn
        self._prompt_lock = asyncio.Lock()
        self._waiting: list[_WaitingRequest] = []
        self._session_grants: dict[tuple[str, str, str], str] = {}  # the tool's name, by its key and the rule

    async def decide(self, spec: ToolSpec, arguments: Arguments) -> tuple[Decision, Arguments]:
        """Decide whether the call may run, and with which arguments: the user may change them.

        The decision's ``arguments`` is the JSON text of changed arguments, empty if they are unchanged.
        """
        result = self._evaluate(spec, arguments)
        if result.action == "ask":
            request = _WaitingRequest(spec, copy.deepcopy(dict(arguments)), result)
            self._waiting.append(request)
            try:
                await self._prompt_lock.acquire()
            finally:
                self._waiting.remove(request)
            try:
                # An answer to an earlier prompt may cover this call too.
                if request.is_allowed:
                    return Decision(allowed=True, by="user", remember="step"), arguments
                result = self._evaluate(spec, arguments)
                if result.action == "ask":
                    return await self._ask_user(spec, arguments, result)
            finally:
                self._prompt_lock.release()
        return Decision(allowed=result.action == "allow", by="policy", reason=result.rule), arguments

    @property
    def session_grants(self) -> list[str]:
        """The names of the tools that the user allowed until the session ends."""
        return sorted(set(self._session_grants.values()))

    def revoke_session_grants(self, is_revoked: Callable[[str], bool]) -> list[str]:
        """Ask again about the tools whose names ``is_revoked`` matches. Returns their names."""
        revoked = [name for name in self.session_grants if is_revoked(name)]
        self._session_grants = {key: name for key, name in self._session_grants.items() if name not in revoked}
        return revoked

    async def confirm_more_steps(self, rounds: int) -> bool:
        """Ask the user whether the model may make more rounds of tool calls."""
        async with self._prompt_lock:
            return await self._asker.confirm_continue(rounds)

    def _evaluate(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> PolicyResult:
        result = self.policy.evaluate(spec, arguments)
        if result.action != "ask" or result.max_scope == "once":
            return result
        if (*_tool_key(spec), result.rule) in self._session_grants:
            return PolicyResult(action="allow", rule="answered: for this session")
        if result.max_scope == "always" and (date := self._approvals.approved_on(spec)):
            return PolicyResult(action="allow", rule=f"answered: always, on {date}")
        return result

    async def _ask_user(self, spec: ToolSpec, arguments: Arguments, result: PolicyResult) -> tuple[Decision, Arguments]:
        """Ask the user. Arguments that the user changes are validated like the model's own, and shown again."""
        await asyncio.sleep(0)  # let the other calls of this step reach their prompts
        others = [other for other in self._waiting if other.result.max_scope != "once"]
        others = others if result.max_scope != "once" else []
        request = ApprovalRequest(
            tool=spec,
            arguments=copy.deepcopy(dict(arguments)),
            rule=result.rule,
            max_scope=result.max_scope,
            pending=len(self._waiting),
            others=tuple(WaitingCall(tool=other.spec, arguments=other.arguments) for other in others),
        )
        while True:
            decision = await self._asker.approve(request)
            if decision.arguments:
                request = self._apply_edit(request, decision.arguments, arguments)
            elif not decision.allowed or not request.error:
                break
        if decision.allowed:
            if decision.remember == "step" and request.others:
                for other in others:
                    other.is_allowed = True
            self._remember_grant(request, decision)
            if request.original_arguments is not None:
                return replace(decision, arguments=json.dumps(request.arguments, ensure_ascii=False)), request.arguments
        return decision, arguments

    def _apply_edit(self, request: ApprovalRequest, text: str, original: Arguments) -> ApprovalRequest:
        try:
            arguments = parse_arguments(text)
        except InvalidArguments as error:
            return replace(request, error=str(error))
        result = self.policy.evaluate(request.tool, arguments)
        problem = self._check(request.tool, arguments)
        if result.action == "deny":
            problem = f"not allowed: {result.rule}"
        return replace(
            request,
            arguments=arguments,
            original_arguments=original if arguments != original else None,
            error=problem,
            others=(),
        )

    def _remember_grant(self, request: ApprovalRequest, decision: Decision) -> None:
        """Remember the answer for calls that the same rule asks about, not for those of another rule."""
        spec = request.tool
        if decision.remember not in {"session", "always"}:
            return
        self._session_grants[(*_tool_key(spec), request.rule)] = spec.qualified_name
        if decision.remember == "always":
            try:
                self._approvals.approve_always(spec)
            except StoreError as error:
                self._warn(f"{spec.qualified_name} is allowed for this session only: {error.message}")


def _tool_key(spec: ToolSpec) -> tuple[str, str]:
    return spec.server, spec.fingerprint
