"""The approval gate in detail: what a remembered answer covers, prompts that wait, and edited arguments."""

import asyncio
import json
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from mcpchat.core.policy import ApprovalRequest, Decision, Policy
from mcpchat.core.tools import Annotations, ToolSpec
from mcpchat.engine.approval_gate import ApprovalGate
from tests.support.fakes import ALLOW, DENY, MemoryApprovals, ScriptedDialog, make_gate, make_tool

WRITE = make_tool("write", read_only=False)
DESTRUCTIVE = replace(WRITE, annotations=Annotations(destructive=True))
FOR_SESSION = Decision(allowed=True, by="user", remember="session")
FOR_EVER = Decision(allowed=True, by="user", remember="always")


def edit(arguments: dict[str, Any]) -> Decision:
    return Decision(allowed=False, by="user", arguments=json.dumps(arguments))


async def decide(gate: ApprovalGate, spec: ToolSpec = WRITE) -> Decision:
    decision, _ = await gate.decide(spec, {"text": "a"})
    return decision


async def test_a_saved_approval_allows_the_call() -> None:
    approvals = MemoryApprovals()
    approvals.approve_always(WRITE)
    assert await decide(make_gate(approvals=approvals)) == Decision(
        allowed=True, by="policy", reason="answered: always, on 2026-11-26"
    )


async def test_a_saved_approval_does_not_override_a_default_of_deny() -> None:
    approvals = MemoryApprovals()
    approvals.approve_always(WRITE)
    gate = make_gate(Policy(default="deny"), approvals=approvals)
    assert await decide(gate) == Decision(allowed=False, by="policy", reason="default: deny")


@pytest.mark.parametrize("answer", [FOR_SESSION, FOR_EVER], ids=["session", "always"])
async def test_no_answer_covers_the_next_call_of_a_destructive_tool(answer: Decision) -> None:
    dialog = ScriptedDialog(answer, DENY)
    gate = make_gate(dialog=dialog)
    assert (await decide(gate, DESTRUCTIVE)).allowed
    assert await decide(gate, DESTRUCTIVE) == DENY


@pytest.mark.parametrize(
    "other",
    [make_tool("write", read_only=False, server="copy"), make_tool("write", read_only=False, description="It changed")],
    ids=["of another server", "with another definition"],
)
async def test_an_answer_for_the_session_does_not_cover_a_tool(other: ToolSpec) -> None:
    gate = make_gate(dialog=ScriptedDialog(FOR_SESSION, DENY))
    assert (await decide(gate)).allowed
    assert await decide(gate, other) == DENY
    assert (await decide(gate)).allowed


class OpenDialog(ScriptedDialog):
    """Shows one prompt at a time, which stays open until ``answer`` is called."""

    def __init__(self) -> None:
        super().__init__()
        self._answered = asyncio.Event()

    async def _wait(self) -> None:
        self._answered.clear()
        await self._answered.wait()

    async def answer(self) -> None:
        self._answered.set()
        await settle()

    async def approve(self, request: ApprovalRequest) -> Decision:
        self.prompts.append((request.pending,))
        await self._wait()
        return ALLOW

    async def confirm_continue(self, rounds: int) -> bool:
        self.prompts.append(("go on", rounds))
        await self._wait()
        return True


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_each_prompt_says_how_many_others_wait() -> None:
    dialog = OpenDialog()
    gate = make_gate(dialog=dialog)
    calls = [asyncio.create_task(decide(gate)) for _ in range(4)]
    await settle()
    calls[3].cancel()  # its user will never see a prompt for it
    await settle()
    for _ in range(3):
        await dialog.answer()
    assert dialog.prompts == [(3,), (1,), (0,)]
    assert [call.cancelled() for call in calls] == [False, False, False, True]


async def test_the_question_about_more_steps_waits_for_an_open_prompt() -> None:
    dialog = OpenDialog()
    gate = make_gate(dialog=dialog)
    call = asyncio.create_task(decide(gate))
    await settle()
    question = asyncio.create_task(gate.confirm_more_steps(25))
    await settle()
    assert dialog.prompts == [(0,)]
    await dialog.answer()
    assert dialog.prompts == [(0,), ("go on", 25)]
    await dialog.answer()
    assert (await call).allowed
    assert await question is True


async def test_arguments_that_are_changed_back_count_as_unchanged() -> None:
    dialog = ScriptedDialog(edit({"text": "b"}), edit({"text": "a"}), ALLOW)
    assert await decide(make_gate(dialog=dialog)) == ALLOW
    assert [request.original_arguments for request in dialog.approval_requests] == [None, {"text": "a"}, None]


async def test_changed_arguments_are_stored_as_readable_text() -> None:
    decision = await decide(make_gate(dialog=ScriptedDialog(edit({"text": "é"}), ALLOW)))
    assert decision.arguments == '{"text": "é"}'


async def test_a_dialog_cannot_change_the_arguments_of_the_call() -> None:
    class Changing(ScriptedDialog):
        async def approve(self, request: ApprovalRequest) -> Decision:
            request.arguments["to"].append("eve@evil.test")
            return ALLOW

    arguments = MappingProxyType({"to": ["a@example.com"]})
    _, allowed_arguments = await make_gate(dialog=Changing()).decide(WRITE, arguments)
    assert allowed_arguments == {"to": ["a@example.com"]}
