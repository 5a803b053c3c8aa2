"""Tests of the approval gate: rules, stored answers, the user's answers and edited arguments."""

import asyncio
import json

from msgspec.structs import replace

from mcpchat.core import events as ev
from mcpchat.core.messages import Text, ToolCall
from mcpchat.core.policy import ApprovalRequest, Decision, Policy, parse_rules
from mcpchat.core.protocols import SelectedModel
from mcpchat.core.tools import Annotations, ToolSpec
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.turn import TurnLimits
from mcpchat.errors import StoreError
from tests.support.fakes import (
    ALLOW,
    DENY,
    FakeToolbox,
    MemoryApprovals,
    ScriptedDialog,
    ScriptedModel,
    make_call,
    make_gate,
    make_tool,
    model_step,
)

WRITE = make_tool("write", read_only=False)
WIPE = make_tool("wipe", read_only=False)
CALL = make_call(WRITE.model_name, '{"text": "a"}')


async def decide(gate: ApprovalGate, spec: ToolSpec, call: ToolCall) -> Decision:
    """Return the gate's decision on the call with its parsed arguments."""
    decision, _ = await gate.decide(spec, json.loads(call.arguments))
    return decision


def allow(remember: str = "") -> Decision:
    return Decision(allowed=True, by="user", remember=remember)  # type: ignore[arg-type]


def edit_arguments(**arguments: object) -> Decision:
    return Decision(allowed=False, by="user", arguments=json.dumps(arguments))


async def test_always_applies_to_one_tool_until_its_definition_changes() -> None:
    approvals = MemoryApprovals()
    asker = ScriptedDialog(allow("always"))
    assert (await decide(make_gate(dialog=asker, approvals=approvals), WRITE, CALL)).allowed
    next_gate = make_gate(dialog=ScriptedDialog(DENY, DENY), approvals=approvals)
    assert (await decide(next_gate, WRITE, CALL)).reason == "answered: always, on 2026-11-26"
    assert await decide(next_gate, WIPE, CALL) == DENY
    new_tool = make_tool("write", read_only=False, description="Now writes to your mail")
    assert await decide(next_gate, new_tool, CALL) == DENY


async def test_a_session_approval_is_not_saved() -> None:
    approvals = MemoryApprovals()
    gate = make_gate(dialog=ScriptedDialog(allow("session")), approvals=approvals)
    assert (await decide(gate, WRITE, CALL)).allowed
    assert (await decide(gate, WRITE, CALL)).reason == "answered: for this session"
    assert approvals.approved == {}


async def test_an_answer_never_overrides_an_ask_rule_or_allows_a_destructive_tool() -> None:
    approvals = MemoryApprovals()
    approvals.approve_always(WRITE)
    ask_policy = Policy(rules=parse_rules("ask", ["box.*"]))
    asker = ScriptedDialog(DENY, DENY)
    assert await decide(make_gate(ask_policy, asker, approvals=approvals), WRITE, CALL) == DENY
    wipe = make_tool("wipe", read_only=False)
    destructive = ToolCall(id="c", name=wipe.model_name, arguments="{}")
    wipe = replace(wipe, annotations=Annotations(destructive=True))
    approvals.approve_always(wipe)
    assert await decide(make_gate(None, asker, approvals=approvals), wipe, destructive) == DENY
    assert [question.max_scope for question in asker.approval_requests] == ["session", "once"]


async def test_an_answer_applies_to_one_rule() -> None:
    policy = Policy(rules=parse_rules("ask", ["box.write(text=*boss*)"]))
    gate = make_gate(policy, ScriptedDialog(allow("always"), DENY), approvals=MemoryApprovals())
    assert (await decide(gate, WRITE, CALL)).allowed
    assert (await decide(gate, WRITE, CALL)).allowed
    assert await decide(gate, WRITE, make_call(WRITE.model_name, '{"text": "to the boss"}')) == DENY


async def test_an_approval_that_cannot_be_saved_is_for_the_session() -> None:
    notices: list[str] = []
    approvals = MemoryApprovals(error=StoreError("cannot write approvals.json: disk full"))
    gate = make_gate(dialog=ScriptedDialog(allow("always")), approvals=approvals, warn=notices.append)
    assert (await decide(gate, WRITE, CALL)).allowed
    assert (await decide(gate, WRITE, CALL)).allowed
    assert notices == ["box.write is allowed for this session only: cannot write approvals.json: disk full"]


async def test_changed_arguments_are_shown_with_the_models_and_are_the_ones_that_run() -> None:
    asker = ScriptedDialog(edit_arguments(text="b"), allow())
    decision = await decide(make_gate(dialog=asker), WRITE, CALL)
    assert decision == Decision(allowed=True, by="user", arguments='{"text": "b"}')
    assert asker.approval_requests == [
        ApprovalRequest(tool=WRITE, arguments={"text": "a"}, rule="default: ask"),
        ApprovalRequest(tool=WRITE, arguments={"text": "b"}, rule="default: ask", original_arguments={"text": "a"}),
    ]


async def test_changed_arguments_that_a_rule_denies_or_the_schema_refuses_do_not_run() -> None:
    policy = Policy(rules=parse_rules("deny", ["box.write(text=*secret*)"]))
    asker = ScriptedDialog(edit_arguments(text="a secret"), allow(), edit_arguments(text=3), allow(), DENY)
    gate = make_gate(policy, asker, check=lambda spec, arguments: "text: a string" if arguments["text"] == 3 else "")
    assert await decide(gate, WRITE, CALL) == DENY
    assert [question.error for question in asker.approval_requests] == [
        "",
        "not allowed: config: deny box.write(text=*secret*)",
        "not allowed: config: deny box.write(text=*secret*)",
        "text: a string",
        "text: a string",
    ]


async def test_arguments_that_are_not_json_cause_a_new_prompt() -> None:
    asker = ScriptedDialog(Decision(allowed=False, by="user", arguments="{oops"), DENY)
    assert await decide(make_gate(dialog=asker), WRITE, CALL) == DENY
    assert "not valid JSON" in asker.approval_requests[1].error


def make_session(toolbox: FakeToolbox, model: ScriptedModel, asker: ScriptedDialog) -> tuple[Session, list[ev.Event]]:
    events: list[ev.Event] = []
    choice = SelectedModel(name="m", adapter=model)
    new_session = Session(
        model=choice, toolbox=toolbox, agent=ActiveAgent(gate=make_gate(dialog=asker)), emit=events.append
    )
    return new_session, events


async def test_the_tool_runs_with_the_changed_arguments_and_the_model_reads_that_it_did() -> None:
    toolbox = FakeToolbox({"write": lambda a: f"wrote {a['text']}"}, WRITE)
    model = ScriptedModel(model_step("", CALL), model_step("Done."))
    session, events = make_session(toolbox, model, ScriptedDialog(edit_arguments(text="b"), allow()))
    await session.send("go")
    assert toolbox.calls == [("write", {"text": "b"})]
    note = '[the user changed this call\'s arguments to {"text": "b"}]'
    assert session.history[2].results[0].parts == (Text(text=note), Text(text="wrote b"))
    assert [e.call.arguments for e in events if isinstance(e, ev.ToolStarted)] == ['{"text": "b"}']


async def test_the_model_reads_the_denial_reason() -> None:
    toolbox = FakeToolbox({"write": lambda a: "never"}, WRITE)
    refusal = Decision(allowed=False, by="user", reason="use the other folder")
    session, _ = make_session(
        toolbox, ScriptedModel(model_step("", CALL), model_step("Sorry.")), ScriptedDialog(refusal)
    )
    await session.send("go")
    assert session.history[2].results[0].parts == (Text(text="denied by the user: use the other folder"),)


async def test_prompts_are_sequential_and_calls_without_one_run_concurrently() -> None:
    log: list[str] = []

    class Slow(ScriptedDialog):
        active = 0
        peak = 0

        async def approve(self, request: ApprovalRequest) -> Decision:
            self.active += 1
            self.peak = max(self.peak, self.active)
            while "read" not in log:
                await asyncio.sleep(0)
            log.append(f"asked, {request.pending} more")
            self.active -= 1
            return ALLOW

    def run(arguments: dict[str, str]) -> str:
        log.append(arguments["text"])
        return "ok"

    toolbox = FakeToolbox({"write": run, "read": run}, WRITE, make_tool("read"))
    step = [make_call(WRITE.model_name, '{"text": "write"}', f"w{n}") for n in range(2)]
    model = ScriptedModel(model_step("", *step, make_call("box__read", '{"text": "read"}', "r")), model_step("Done."))
    asker = Slow()
    session, _ = make_session(toolbox, model, asker)
    await session.send("go")
    assert asker.peak == 1
    assert log[0] == "read"
    assert [line for line in log if line.startswith("asked")] == ["asked, 1 more", "asked, 0 more"]


async def test_a_turn_runs_no_more_calls_than_its_limit() -> None:
    toolbox = FakeToolbox({"read": lambda a: "ok"}, make_tool("read"))
    calls = [make_call("box__read", json.dumps({"text": str(n)}), f"c{n}") for n in range(5)]
    model = ScriptedModel(model_step("", *calls[:2]), model_step("", *calls[2:]), model_step("What I have."))
    events: list[ev.Event] = []
    session = Session(
        model=SelectedModel(name="m", adapter=model),
        toolbox=toolbox,
        agent=ActiveAgent(gate=make_gate()),
        emit=events.append,
        limits=TurnLimits(max_calls=3),
    )
    finished = await session.send("go")
    assert finished.stop == "calls"
    assert len(toolbox.calls) == 3
    parts = session.history[4].results[2].parts
    assert parts == (Text(text="the limit of 3 calls in one turn is reached"),)
