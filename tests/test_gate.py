"""Who decides on a call: rules, earlier answers, the person; and what the person makes of it."""

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
from tests.fakes import (
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
    """The decision on the call, as the gate makes it of the call's parsed arguments."""
    decision, _ = await gate.decide(spec, json.loads(call.arguments))
    return decision


def yes(remember: str = "") -> Decision:
    return Decision(allowed=True, by="user", remember=remember)  # type: ignore[arg-type]


def edit(**arguments: object) -> Decision:
    return Decision(allowed=False, by="user", arguments=json.dumps(arguments))


async def test_always_is_kept_for_that_tool_as_it_is_and_ends_with_its_definition() -> None:
    approvals = MemoryApprovals()
    asker = ScriptedDialog(yes("always"))
    assert (await decide(make_gate(dialog=asker, approvals=approvals), WRITE, CALL)).allowed
    later = make_gate(dialog=ScriptedDialog(DENY, DENY), approvals=approvals)
    assert (await decide(later, WRITE, CALL)).reason == "answered: always, on 2026-11-26"
    assert await decide(later, WIPE, CALL) == DENY
    changed = make_tool("write", read_only=False, description="Now writes to your mail")
    assert await decide(later, changed, CALL) == DENY


async def test_for_this_session_ends_with_it_and_is_not_kept() -> None:
    approvals = MemoryApprovals()
    gate = make_gate(dialog=ScriptedDialog(yes("session")), approvals=approvals)
    assert (await decide(gate, WRITE, CALL)).allowed
    assert (await decide(gate, WRITE, CALL)).reason == "answered: for this session"
    assert approvals.approved == {}


async def test_an_answer_never_outlives_a_rule_that_asks_and_never_covers_what_destroys() -> None:
    approvals = MemoryApprovals()
    approvals.approve_always(WRITE)
    asking = Policy(rules=parse_rules("ask", ["box.*"]))
    asker = ScriptedDialog(DENY, DENY)
    assert await decide(make_gate(asking, asker, approvals=approvals), WRITE, CALL) == DENY
    wipe = make_tool("wipe", read_only=False)
    destructive = ToolCall(id="c", name=wipe.model_name, arguments="{}")
    wipe = replace(wipe, annotations=Annotations(destructive=True))
    approvals.approve_always(wipe)
    assert await decide(make_gate(None, asker, approvals=approvals), wipe, destructive) == DENY
    assert [question.max_scope for question in asker.approval_requests] == ["session", "once"]


async def test_an_answer_to_one_rule_is_none_to_another() -> None:
    policy = Policy(rules=parse_rules("ask", ["box.write(text=*boss*)"]))
    gate = make_gate(policy, ScriptedDialog(yes("always"), DENY), approvals=MemoryApprovals())
    assert (await decide(gate, WRITE, CALL)).allowed
    assert (await decide(gate, WRITE, CALL)).allowed
    assert await decide(gate, WRITE, make_call(WRITE.model_name, '{"text": "to the boss"}')) == DENY


async def test_what_cannot_be_kept_holds_for_the_session_and_is_told() -> None:
    told: list[str] = []
    approvals = MemoryApprovals(error=StoreError("cannot write approvals.json: disk full"))
    gate = make_gate(dialog=ScriptedDialog(yes("always")), approvals=approvals, warn=told.append)
    assert (await decide(gate, WRITE, CALL)).allowed
    assert (await decide(gate, WRITE, CALL)).allowed
    assert told == ["box.write is allowed for this session only: cannot write approvals.json: disk full"]


async def test_changed_arguments_are_shown_again_beside_the_models_own_and_are_what_runs() -> None:
    asker = ScriptedDialog(edit(text="b"), yes())
    decision = await decide(make_gate(dialog=asker), WRITE, CALL)
    assert decision == Decision(allowed=True, by="user", arguments='{"text": "b"}')
    assert asker.approval_requests == [
        ApprovalRequest(tool=WRITE, arguments={"text": "a"}, rule="default: ask"),
        ApprovalRequest(tool=WRITE, arguments={"text": "b"}, rule="default: ask", original_arguments={"text": "a"}),
    ]


async def test_changed_arguments_that_a_rule_denies_or_the_schema_refuses_do_not_run() -> None:
    policy = Policy(rules=parse_rules("deny", ["box.write(text=*secret*)"]))
    asker = ScriptedDialog(edit(text="a secret"), yes(), edit(text=3), yes(), DENY)
    gate = make_gate(policy, asker, check=lambda spec, arguments: "text: a string" if arguments["text"] == 3 else "")
    assert await decide(gate, WRITE, CALL) == DENY
    assert [question.error for question in asker.approval_requests] == [
        "",
        "not allowed: config: deny box.write(text=*secret*)",
        "not allowed: config: deny box.write(text=*secret*)",
        "text: a string",
        "text: a string",
    ]


async def test_arguments_changed_into_no_json_are_asked_about_again() -> None:
    asker = ScriptedDialog(Decision(allowed=False, by="user", arguments="{oops"), DENY)
    assert await decide(make_gate(dialog=asker), WRITE, CALL) == DENY
    assert "not valid JSON" in asker.approval_requests[1].error


def session(toolbox: FakeToolbox, model: ScriptedModel, asker: ScriptedDialog) -> tuple[Session, list[ev.Event]]:
    seen: list[ev.Event] = []
    choice = SelectedModel(name="m", adapter=model)
    made = Session(model=choice, toolbox=toolbox, agent=ActiveAgent(gate=make_gate(dialog=asker)), emit=seen.append)
    return made, seen


async def test_the_tool_runs_with_the_changed_arguments_and_the_model_reads_that_it_did() -> None:
    toolbox = FakeToolbox({"write": lambda a: f"wrote {a['text']}"}, WRITE)
    model = ScriptedModel(model_step("", CALL), model_step("Done."))
    made, seen = session(toolbox, model, ScriptedDialog(edit(text="b"), yes()))
    await made.send("go")
    assert toolbox.calls == [("write", {"text": "b"})]
    note = '[the user changed this call\'s arguments to {"text": "b"}]'
    assert made.history[2].results[0].parts == (Text(text=note), Text(text="wrote b"))
    assert [e.call.arguments for e in seen if isinstance(e, ev.ToolStarted)] == ['{"text": "b"}']


async def test_a_no_with_a_reason_is_read_by_the_model() -> None:
    toolbox = FakeToolbox({"write": lambda a: "never"}, WRITE)
    refusal = Decision(allowed=False, by="user", reason="use the other folder")
    made, _ = session(toolbox, ScriptedModel(model_step("", CALL), model_step("Sorry.")), ScriptedDialog(refusal))
    await made.send("go")
    assert made.history[2].results[0].parts == (Text(text="denied by the user: use the other folder"),)


async def test_questions_come_one_after_the_other_and_calls_that_need_none_run_meanwhile() -> None:
    ran: list[str] = []

    class Slow(ScriptedDialog):
        open = 0
        most = 0

        async def approve(self, request: ApprovalRequest) -> Decision:
            self.open += 1
            self.most = max(self.most, self.open)
            while "read" not in ran:
                await asyncio.sleep(0)
            ran.append(f"asked, {request.pending} more")
            self.open -= 1
            return ALLOW

    def run(arguments: dict[str, str]) -> str:
        ran.append(arguments["text"])
        return "ok"

    toolbox = FakeToolbox({"write": run, "read": run}, WRITE, make_tool("read"))
    step = [make_call(WRITE.model_name, '{"text": "write"}', f"w{n}") for n in range(2)]
    model = ScriptedModel(model_step("", *step, make_call("box__read", '{"text": "read"}', "r")), model_step("Done."))
    asker = Slow()
    made, _ = session(toolbox, model, asker)
    await made.send("go")
    assert asker.most == 1
    assert ran[0] == "read"
    assert [line for line in ran if line.startswith("asked")] == ["asked, 1 more", "asked, 0 more"]


async def test_no_more_calls_run_in_a_turn_than_its_limit() -> None:
    toolbox = FakeToolbox({"read": lambda a: "ok"}, make_tool("read"))
    many = [make_call("box__read", json.dumps({"text": str(n)}), f"c{n}") for n in range(5)]
    model = ScriptedModel(model_step("", *many[:2]), model_step("", *many[2:]), model_step("What I have."))
    seen: list[ev.Event] = []
    made = Session(
        model=SelectedModel(name="m", adapter=model),
        toolbox=toolbox,
        agent=ActiveAgent(gate=make_gate()),
        emit=seen.append,
        limits=TurnLimits(max_calls=3),
    )
    finished = await made.send("go")
    assert finished.stop == "calls"
    assert len(toolbox.calls) == 3
    told = made.history[4].results[2].parts
    assert told == (Text(text="the limit of 3 calls in one turn is reached"),)
