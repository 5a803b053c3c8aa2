"""The decision about one call: the policy first, then the person."""

import asyncio

from mcpchat.core.approvals import Decision, Policy
from mcpchat.core.messages import ToolCall
from mcpchat.core.ports import Asker
from mcpchat.core.tools import ToolSpec


class Gate:
    """Decides on calls for one session, and remembers what the person granted for its length."""

    def __init__(self, policy: Policy, asker: Asker) -> None:
        self.policy = policy
        self._asker = asker
        self._one_question = asyncio.Lock()

    async def decide(self, spec: ToolSpec, call: ToolCall) -> Decision:
        verdict = self.policy.verdict(spec)
        if verdict.action == "ask":
            async with self._one_question:
                # An answer given while this call waited for its turn may cover it.
                verdict = self.policy.verdict(spec)
                if verdict.action == "ask":
                    decision = await self._asker.approve(spec, call, verdict.rule)
                    if decision.remember:
                        self.policy = self.policy.granting(decision.remember, source="answered: always")
                    return decision
        return Decision(allowed=verdict.action == "allow", by="policy", reason=verdict.rule)

    async def go_on(self, rounds: int) -> bool:
        """Whether the model may go on after so many rounds of tool calls: only a person can say so."""
        async with self._one_question:
            return await self._asker.go_on(rounds)
