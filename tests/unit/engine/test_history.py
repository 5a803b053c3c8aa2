"""Tests of the history: after any failure or cancel, the next request is valid for every server."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.core.messages import (
    Compaction,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    error_result,
    user_message,
)
from mcpchat.core.protocols import ModelOptions, SelectedModel
from mcpchat.engine.history import NOT_RUN, normalize_history
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.turn import TurnLimits
from mcpchat.errors import McpChatError, ServerError
from tests.support import openai_rules
from tests.support.fake_openai import DONE, call_item, chunk, event, message_item, reasoning_item, response
from tests.support.fakes import FakeToolbox, make_call, make_gate, make_tool
from tests.support.next_request import check_next_request
from tests.support.recorded_streams import SSE_HEADERS, RecordedTransport

TOOL = "box__echo"


def assistant(text: str = "", *calls: ToolCall, **fields: Any) -> Message:
    return Message(role="assistant", parts=(*((Text(text=text),) if text else ()), *calls), **fields)


def tool_results(*ids: str) -> Message:
    return Message(role="tool", parts=tuple(ToolResult(call_id=call_id, parts=(Text(text="ok"),)) for call_id in ids))


def test_a_valid_history_is_unchanged() -> None:
    history = (
        user_message("hi"),
        assistant("", make_call(TOOL, call_id="a")),
        tool_results("a"),
        assistant("done"),
        user_message("more"),
    )
    assert normalize_history(history) == history


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(
            [user_message("hi"), assistant("", make_call(TOOL, call_id="a")), user_message("more")],
            [user_message("hi"), assistant("", make_call(TOOL, call_id="a")),
             Message(role="tool", parts=(error_result("a", NOT_RUN),)), user_message("more")],
            id="an open call is answered",
        ),
        pytest.param([user_message("hi"), tool_results("z"), user_message("more")], [user_message("hi"), user_message("more")], id="an orphan is dropped"),
        pytest.param(
            [user_message("hi"), assistant("", make_call(TOOL, call_id="")), tool_results("")],
            [user_message("hi"), assistant("", make_call(TOOL, call_id="mended000")), tool_results("mended000")],
            id="an empty id is replaced, with its result's",
        ),
        pytest.param(
            [user_message("a"), assistant("", make_call(TOOL, call_id="x")), tool_results("x"),
             user_message("b"), assistant("", make_call(TOOL, call_id="x")), tool_results("x")],
            [user_message("a"), assistant("", make_call(TOOL, call_id="x")), tool_results("x"),
             user_message("b"), assistant("", make_call(TOOL, call_id="mended001")), tool_results("mended001")],
            id="an id is used once",
        ),
        pytest.param(
            [user_message("a"), assistant("", make_call("no name!", '{"x": NaN}', "x")), tool_results("x")],
            [user_message("a"), assistant("", make_call("no_name_", "{}", "x")), tool_results("x")],
            id="names and arguments can be sent",
        ),
        pytest.param(
            [user_message("a"), assistant(""), Message(role="assistant", parts=(Reasoning(text="hm"),)), user_message(""), user_message("b")],
            [user_message("a"), user_message("b")],
            id="what is empty is dropped",
        ),
    ],
)  # fmt: skip
def test_an_invalid_history_is_repaired(history: list[Message], expected: list[Message]) -> None:
    assert list(normalize_history(history)) == expected
    assert normalize_history(expected) == tuple(expected)


# --- random histories --------------------------------------------------------------------------------------------

IDS = st.sampled_from(["", "a", "b", "call_1", "ü"])
NAMES = st.sampled_from([TOOL, "box__slow", "", "no such tool", "x" * 80])
ARGUMENTS = st.sampled_from(
    ["", "{}", "null", "[1]", '{"text": "x"}', '{"text": ', '"{\\"text\\": 1}"', "NaN", '{"a": NaN}']
)
TEXTS = st.sampled_from(["", "x", "two words", "half \ud83d", "‮"])
CALLS = st.builds(ToolCall, id=IDS, name=NAMES, arguments=ARGUMENTS)
RESULTS = st.builds(lambda call_id, text: ToolResult(call_id=call_id, parts=(Text(text=text),)), IDS, TEXTS)
PARTS = st.one_of(
    st.builds(Text, text=TEXTS),
    st.builds(Reasoning, text=TEXTS),
    CALLS,
    RESULTS,
    st.builds(Compaction, replaces=st.integers(0, 6), limit=st.just(50), summary=st.sampled_from(["", "so far"])),
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "tool", "system"]),
    parts=st.lists(PARTS, max_size=4).map(tuple),
)


@given(st.lists(MESSAGES, max_size=8))
def test_any_history_becomes_a_valid_request(history: list[Message]) -> None:
    check_next_request(history)


# --- random streams, failures and cancels ------------------------------------------------------------------------

INDEXES = st.sampled_from([0, 0, 1, 7, None])


@st.composite
def chat_pieces(draw: st.DrawFn) -> list[bytes]:
    pieces = []
    for _ in range(draw(st.integers(0, 5))):
        call: dict[str, Any] = {"function": {"name": draw(NAMES), "arguments": draw(ARGUMENTS)}, "id": draw(IDS)}
        if (index := draw(INDEXES)) is not None:
            call["index"] = index
        delta: Any = draw(
            st.sampled_from(
                [{"content": draw(TEXTS)}, {"reasoning_content": "hm"}, {"tool_calls": [call]}, None, {"refusal": "no"}]
            )
        )
        pieces.append(chunk(delta))
    end = draw(st.sampled_from(["stop", "stop", "tool_calls", "tool_calls", "length", "content_filter", "error", None]))
    pieces += [chunk({}, end)] if end else []
    broken_ends = [b"data: {oops\n\n", b'data: {"error": {"message": "died"}}\n\n', b"data: \n\n", b": hello\n\n"]
    return [*pieces, *draw(st.sampled_from([[DONE], [DONE], [], *([piece] for piece in broken_ends)]))]


@st.composite
def response_pieces(draw: st.DrawFn) -> list[bytes]:
    kinds = st.sampled_from(["message", "call", "call", "reasoning"])
    items = [
        {"message": message_item("two words"), "reasoning": reasoning_item()}.get(kind)
        or call_item(draw(NAMES), draw(ARGUMENTS), draw(IDS))
        for kind in draw(st.lists(kinds, max_size=4))
    ]
    if items and items[-1]["type"] == "reasoning":
        items.append(message_item("x"))  # an API never ends with reasoning
    status = draw(st.sampled_from(["completed", "completed", "incomplete", "failed"]))
    pieces = response(*items, status=status, error={"message": "died"} if status == "failed" else None)
    count = draw(st.sampled_from([len(pieces), len(pieces), len(pieces), len(pieces) - 1, 1]))
    return [*pieces[:count], *draw(st.sampled_from([[], [], [event("error", message="died")]]))]


class ValidatingTransport(RecordedTransport):
    """Validates each request; replays the pieces, then a plain answer."""

    def __init__(self, pieces: list[list[bytes]]) -> None:
        super().__init__()
        self.pieces = pieces
        self.errors: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        chat = request.url.path.endswith("/chat/completions")
        try:
            openai_rules.check_request(request.url.path, body)
        except AssertionError as error:
            self.errors.append(f"{error}: {json.dumps(body)[:2000]}")
        plain_answer = [chunk({"content": "."}, "stop"), DONE] if chat else response(message_item("."))
        body_pieces = self.pieces.pop(0) if self.pieces else plain_answer
        return httpx2.Response(200, headers=SSE_HEADERS, content=b"".join(body_pieces))


async def _slow(arguments: dict[str, Any]) -> str:
    for _ in range(4):
        await asyncio.sleep(0)
    return "ok " * 400


def _echo(arguments: dict[str, Any]) -> str:
    if arguments.get("text") == 1:
        raise ServerError("box went away")
    return "ok"


async def _run_actions(
    wire: ValidatingTransport, api: str, runs: list[tuple[str, int | None]], window: int | None
) -> list[Message]:
    """Run user actions, each optionally cancelled after some ticks of the loop; every request is validated."""

    async def known_window(tokens: int) -> int | None:
        return window

    choices = [
        SelectedModel(name="m", adapter=model, window=known_window, options=ModelOptions(max_output_tokens=9))
        for model in (wire.chat_model(retries=1), wire.responses_model(retries=1))
    ]
    session = Session(
        model=choices[0 if api == "chat" else 1],
        toolbox=FakeToolbox({"echo": _echo, "slow": _slow}, make_tool("echo"), make_tool("slow")),
        agent=ActiveAgent(gate=make_gate()),
        emit=lambda event: None,
        limits=TurnLimits(max_steps=2),
    )
    for action, tick in runs:
        if action == "switch":
            session.switch_model(choices[0 if session.model is choices[1] else 1])
        run_action: Any = {"retry": session.retry, "compact": session.compact}.get(action, lambda: session.send("go"))
        task: asyncio.Task[Any] = asyncio.create_task(run_action())
        if tick is not None:
            for _ in range(tick):
                await asyncio.sleep(0)
            task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcome, BaseException) and not isinstance(outcome, McpChatError | asyncio.CancelledError):
            raise outcome
    return session.history


ACTIONS = st.sampled_from(["send", "send", "retry", "compact", "switch"])
RUNS = st.lists(st.tuples(ACTIONS, st.one_of(st.none(), st.integers(0, 90))), min_size=1, max_size=5)


@pytest.mark.timeout(120)
@given(st.lists(chat_pieces(), max_size=6), RUNS, st.sampled_from([None, 400]))
def test_random_chat_streams_failures_and_cancels_leave_a_valid_history(
    pieces: list[list[bytes]], runs: list[tuple[str, int | None]], window: int | None
) -> None:
    wire = ValidatingTransport(pieces)
    history = asyncio.run(_run_actions(wire, "chat", runs, window))
    assert wire.errors == []
    check_next_request(history)


@pytest.mark.timeout(120)
@given(st.lists(response_pieces(), max_size=6), RUNS, st.sampled_from([None, 400]))
def test_random_response_streams_failures_and_cancels_leave_a_valid_history(
    pieces: list[list[bytes]], runs: list[tuple[str, int | None]], window: int | None
) -> None:
    wire = ValidatingTransport(pieces)
    history = asyncio.run(_run_actions(wire, "responses", runs, window))
    assert wire.errors == []
    check_next_request(history)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_cancel_at_every_await_leaves_a_valid_history(api: str) -> None:
    """One turn with two tools, cancelled after each number of ticks until the turn finishes."""
    calls = [{"index": index, "id": f"c{index}", "function": {"name": f"box__{name}", "arguments": '{"text": "x"}'}}
           for index, name in enumerate(("echo", "slow"))]  # fmt: skip
    step = [chunk({"content": "Let me see."}), chunk({"tool_calls": calls}), chunk({}, "tool_calls"), DONE]
    if api == "responses":
        items = (call_item(f"box__{name}", '{"text": "x"}', name) for name in ("echo", "slow"))
        step = response(reasoning_item(), *items)
    lengths = set()
    for _ in range(20):  # the order in which the tools' tasks run differs, and a cancel between them is rare
        for tick in range(1000):
            wire = ValidatingTransport([list(step)])
            history = asyncio.run(_run_actions(wire, api, [("send", tick)], None))
            assert wire.errors == []
            check_next_request(history)
            lengths.add(len(history))
            if len(history) == 4 and history[-1].text == ".":
                break
        else:
            pytest.fail("the turn never came to its end")
        if {0, 1, 3, 4} <= lengths:
            break
    assert {0, 1, 3, 4} <= lengths
