"""The decision about one call: the policy first, then what was answered before, then the person."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from mcpchat.core.messages import ToolCall
from mcpchat.core.policy import Decision, Policy, Question, Verdict
from mcpchat.core.protocols import Approvals, Asker
from mcpchat.core.tools import BadArguments, ToolSpec, parse_arguments
from mcpchat.errors import StoreError

Check = Callable[[ToolSpec, Mapping[str, Any]], str]


class Gate:
    """Decides on calls for one session, and remembers what the person granted.

    ``approvals`` keeps what they said "always" to; ``check`` says what is wrong with arguments that they changed;
    ``warn`` tells them what went wrong with keeping.
    """

    def __init__(
        self,
        policy: Policy,
        asker: Asker,
        *,
        approvals: Approvals,
        check: Check,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.policy = policy
        self._asker = asker
        self._approvals = approvals
        self._check = check
        self._warn = warn
        self._one_question = asyncio.Lock()
        self._waiting = 0
        self._in_session: set[tuple[str, str, str]] = set()

    async def decide(self, spec: ToolSpec, call: ToolCall) -> Decision:
        """Whether the call may run, and with which arguments."""
        arguments = parse_arguments(call.arguments)
        verdict = self._verdict(spec, arguments)
        if verdict.action == "ask":
            self._waiting += 1
            try:
                await self._one_question.acquire()
            finally:
                self._waiting -= 1
            try:
                # An answer given while this call waited for its turn may cover it.
                verdict = self._verdict(spec, arguments)
                if verdict.action == "ask":
                    return await self._ask(spec, arguments, verdict)
            finally:
                self._one_question.release()
        return Decision(allowed=verdict.action == "allow", by="policy", reason=verdict.rule)

    async def go_on(self, rounds: int) -> bool:
        """Whether the model may go on after so many rounds of tool calls: only a person can say so."""
        async with self._one_question:
            return await self._asker.go_on(rounds)

    def _verdict(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Verdict:
        verdict = self.policy.verdict(spec, arguments)
        if verdict.action != "ask" or verdict.lasting == "once":
            return verdict
        if (*_key(spec), verdict.rule) in self._in_session:
            return Verdict(action="allow", rule="answered: for this session")
        if verdict.lasting == "always" and (when := self._approvals.given(spec)):
            return Verdict(action="allow", rule=f"answered: always, on {when}")
        return verdict

    async def _ask(self, spec: ToolSpec, arguments: dict[str, Any], verdict: Verdict) -> Decision:
        """The person's answer. Arguments that they change are looked at like the model's own, and shown once more."""
        await asyncio.sleep(0)  # for the step's other calls to come to their questions
        question = Question(
            tool=spec, arguments=arguments, rule=verdict.rule, lasting=verdict.lasting, waiting=self._waiting
        )
        while True:
            decision = await self._asker.approve(question)
            if decision.arguments:
                question = self._edited(question, decision.arguments, arguments)
            elif not decision.allowed or not question.problem:
                break
        if decision.allowed:
            self._remember(question, decision)
            if question.before is not None:
                return replace(decision, arguments=json.dumps(question.arguments, ensure_ascii=False))
        return decision

    def _edited(self, question: Question, text: str, original: dict[str, Any]) -> Question:
        try:
            changed = parse_arguments(text)
        except BadArguments as error:
            return replace(question, problem=str(error))
        verdict = self.policy.verdict(question.tool, changed)
        problem = self._check(question.tool, changed)
        if verdict.action == "deny":
            problem = f"not allowed: {verdict.rule}"
        return replace(question, arguments=changed, before=original if changed != original else None, problem=problem)

    def _remember(self, question: Question, decision: Decision) -> None:
        """Keep the answer: to what this rule asks, and not to what another does."""
        spec = question.tool
        if not decision.remember:
            return
        self._in_session.add((*_key(spec), question.rule))
        if decision.remember == "always":
            try:
                self._approvals.give(spec)
            except StoreError as error:
                self._warn(f"{spec.label} is allowed for this session only: {error.message}")


def _key(spec: ToolSpec) -> tuple[str, str]:
    return spec.server, spec.fingerprint
