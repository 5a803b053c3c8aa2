"""Of many tools the model gets a few; it finds and calls the others, under the same rules."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import Message, ToolCall, ToolResult, result_text
from mcpchat.core.policy import Decision, Policy, parse_rules
from mcpchat.core.protocols import SelectedModel
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS, describe_call, read_wrapped_call, wrap_arguments
from mcpchat.core.tools import InvalidArguments, ToolSpec
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.tool_search import SearchToolbox, ToolSearchSettings, ToolSelection, plain_tokens, select_tools
from mcpchat.errors import ModelError
from mcpchat.mcp.tool_index import SqliteToolIndex
from tests.support.fakes import FakeToolbox, ScriptedDialog, ScriptedModel, make_call, make_gate, make_tool, model_step

NOUNS = ("invoice", "calendar", "parcel", "employee")


def many_tools(count: int, server: str = "erp", **fields: Any) -> list[ToolSpec]:
    return [
        make_tool(
            f"archive_{NOUNS[n % 4]}_{n}", server=server, description=f"Archive the {NOUNS[n % 4]} {n}.", **fields
        )
        for n in range(count)
    ]


def select(
    tools: list[ToolSpec],
    mode: Any = "auto",
    *,
    always: tuple[str, ...] = (),
    most: int = 200,
    window: int | None = None,
    max_tools: int | None = None,
    used: tuple[str, ...] = (),
    before: ToolSelection | None = None,
) -> ToolSelection:
    settings = ToolSearchSettings(mode=mode, always=always, max_tools=most)
    return select_tools(
        tools, settings, tokens=plain_tokens(tools), window=window, max_tools=max_tools, used=used, before=before
    )


@pytest.mark.parametrize(
    ("count", "options", "searched"),
    [
        (40, {}, False),
        (41, {}, True),
        (3, {"mode": "on"}, True),
        (300, {"mode": "off"}, False),
        (60, {"mode": 60}, False),
        (61, {"mode": 60}, True),
        (250, {"mode": 500}, True),  # limits.max_tools
        (30, {"max_tools": 20}, True),  # what the model's server takes
        (30, {"window": 4000}, True),
        (30, {"window": 400_000}, False),
        (0, {"mode": "on"}, False),
    ],
)
def test_tools_are_searched_if_they_are_many(count: int, options: dict[str, Any], searched: bool) -> None:
    selection = select(many_tools(count), **options)
    assert selection.searched is searched
    if searched:
        assert [tool.name for tool in selection.offered] == ["call_tool", "search_tools"]
        assert len(selection.reachable) == count + 2


def test_few_but_large_tools_are_searched() -> None:
    assert not select(many_tools(10, title="x")).searched
    large = {"type": "object", "properties": {"a": {"type": "string", "description": "word " * 1200}}}
    assert select(many_tools(10, schema=large)).searched


def test_pinned_and_used_tools_are_offered_and_nothing_changes_afterwards() -> None:
    tools = many_tools(100)
    first = select(
        tools, always=("erp.archive_parcel_2", "*.archive_invoice_4?"), used=("erp__archive_calendar_1", "gone")
    )
    names = [tool.name for tool in first.offered]
    assert names == ["archive_calendar_1", "archive_invoice_40", "archive_invoice_44", "archive_invoice_48",
                     "archive_parcel_2", "call_tool", "search_tools"]  # fmt: skip
    later = select([*tools[:90], make_tool("new", server="erp")], used=("erp__archive_employee_3",), before=first)
    assert later.offered == first.offered
    assert "erp__new" in later.reachable
    assert "erp__archive_invoice_96" not in later.reachable
    assert len(select(tools, always=("*",), max_tools=20).offered) == 20


def test_a_thread_with_few_tools_keeps_their_order_until_they_become_many() -> None:
    first = select(many_tools(5, "b"))
    second = select([*many_tools(5, "a"), *many_tools(5, "b")], before=first)
    assert [tool.server for tool in second.offered] == ["b"] * 5 + ["a"] * 5
    assert select([*many_tools(5, "a"), *many_tools(60, "b")], before=second).searched


def deferred_tools(count: int, server: str = "mail") -> list[ToolSpec]:
    return many_tools(count, server, deferred=True, title="word " * 40)


def test_what_a_server_defers_is_searched_and_the_rest_is_offered() -> None:
    plain, deferred = many_tools(3), deferred_tools(12)
    first = select([*deferred, *plain], always=("mail.archive_parcel_2",), used=("mail__archive_calendar_1",))
    assert [tool.qualified_name for tool in first.offered] == [
        "erp.archive_calendar_1", "erp.archive_invoice_0", "erp.archive_parcel_2", "mail.archive_calendar_1",
        "mail.archive_parcel_2", "mcpchat.call_tool", "mcpchat.search_tools",
    ]  # fmt: skip
    assert first.searched
    assert len(first.deferred) == 12
    assert len(first.reachable) == 17
    # The next request begins as the one before, and what appears is added.
    later = select([*plain, make_tool("new", server="zoo"), *deferred], used=("mail__archive_invoice_0",), before=first)
    assert later.offered[:7] == first.offered
    assert [tool.name for tool in later.offered[7:]] == ["new"]
    without = select(plain, before=later)
    assert [tool.name for tool in without.offered] == [tool.name for tool in plain[1:2] + plain[:1] + plain[2:]]
    assert not without.searched


def test_a_limit_that_is_learnt_later_holds_with_deferred_tools() -> None:
    tools = [*many_tools(20), *deferred_tools(30)]
    used = tuple(tool.qualified_name for tool in tools[20:30])
    first = select(tools, used=used)
    assert len(first.offered) == 32
    assert len(select(tools, used=used, before=first, max_tools=25).offered) <= 25


def test_deferred_tools_are_offered_if_a_search_costs_more_or_nothing_is_searched() -> None:
    small = many_tools(2, "mail", deferred=True)
    assert [tool.name for tool in select(small).offered] == [tool.name for tool in sorted(small, key=lambda t: t.name)]
    assert len(select(deferred_tools(12), "off").offered) == 12
    assert not select(deferred_tools(12), "off").searched


def test_deferred_tools_do_not_count_among_the_many() -> None:
    assert len(select([*many_tools(40), *deferred_tools(30)]).offered) == 42
    everything = select([*many_tools(41), *deferred_tools(30)])
    assert (len(everything.offered), everything.deferred) == (2, ())
    assert len(select([*many_tools(10), *deferred_tools(30)], max_tools=12).offered) == 12
    assert len(select([*many_tools(11), *deferred_tools(30)], max_tools=12).offered) == 2
    assert len(select([*many_tools(10), *deferred_tools(30)], always=("*",), max_tools=14).offered) == 14


def test_without_a_search_the_limit_leaves_tools_out() -> None:
    selection = select([*many_tools(30, "a"), *many_tools(7, "b")], "off", most=10)
    assert (len(selection.offered), len(selection.reachable)) == (17, 17)
    assert selection.left_out == {"a": 20}


@pytest.mark.parametrize(
    ("arguments", "name", "inner"),
    [
        ('{"name": "a__b", "arguments": {"x": 1}}', "a__b", {"x": 1}),
        ('{"name": "a__b", "arguments": "{\\"x\\": 1}"}', "a__b", {"x": 1}),
        ('{"name": "a__b", "x": 1}', "a__b", {"x": 1}),
        ('{"name": "a__b"}', "a__b", {}),
    ],
)
def test_the_call_within_a_call_is_read(arguments: str, name: str, inner: dict[str, Any]) -> None:
    call = read_wrapped_call(make_call(CALL_TOOL.model_name, arguments))
    assert (call.name, json.loads(call.arguments), call.id) == (name, inner, "c1")


@pytest.mark.parametrize(
    "arguments", ["{}", "[]", '{"name": 1}', '{"name": "mcpchat__call_tool", "arguments": {}}', "{"]
)
def test_a_call_of_nothing_is_an_error(arguments: str) -> None:
    with pytest.raises(InvalidArguments):
        read_wrapped_call(make_call(CALL_TOOL.model_name, arguments))
    assert describe_call(make_call(CALL_TOOL.model_name, arguments)) == ("mcpchat.call_tool", arguments)


def new_session(
    tmp_path: Path, model: ScriptedModel, rules: Policy | None = None, *answers: Any, count: int = 60, **settings: Any
) -> tuple[Session, FakeToolbox, list[Event]]:
    tools = many_tools(count, read_only=False)
    toolbox = FakeToolbox({tool.name: lambda arguments: f"done {arguments}" for tool in tools}, *tools)
    toolbox.server_instructions = {"erp": "The ERP of the company.\nIds look like X-1."}
    seen: list[Event] = []
    session = Session(
        model=SelectedModel(name="m", adapter=model, max_tools=settings.pop("max_tools", lambda: None)),
        toolbox=SearchToolbox(toolbox, SqliteToolIndex(tmp_path)),
        agent=ActiveAgent(gate=make_gate(rules, ScriptedDialog(*answers)), instructions="Be brief."),
        emit=seen.append,
        tool_search=ToolSearchSettings(**settings),
    )
    return session, toolbox, seen


def search(query: str, **more: str) -> ToolCall:
    return make_call(SEARCH_TOOLS.model_name, json.dumps({"query": query, **more}), "s")


def wrapped(name: str, call_id: str = "w", **arguments: Any) -> ToolCall:
    return make_call(CALL_TOOL.model_name, wrap_arguments(name, arguments), call_id)


def rule(action: Any, pattern: str) -> Policy:
    return Policy(rules=parse_rules(action, (pattern,)), default="deny")


def results(session: Session) -> list[ToolResult]:
    return [result for message in session.history for result in message.results]


async def test_a_tool_is_found_and_called_under_its_own_rules(tmp_path: Path) -> None:
    model = ScriptedModel(
        model_step("", search("archive a calendar")),
        model_step("", wrapped("erp__archive_calendar_1", text="a"), wrapped("erp__archive_parcel_2", "v", text="b")),
        model_step("done"),
    )
    session, toolbox, seen = new_session(tmp_path, model, rule("allow", "erp.archive_calendar_*(text=a)"))
    await session.send("go")
    assert toolbox.calls == [("archive_calendar_1", {"text": "a"})]
    found = json.JSONDecoder().raw_decode(result_text(results(session)[0]))[0]
    assert len(found["tools"]) == 10
    assert found["tools"][0]["name"].startswith("erp__archive_calendar")
    assert found["tools"][0]["input_schema"]["required"] == ["text"]
    assert found["notes"] == {"erp": "The ERP of the company.\nIds look like X-1."}
    assert [result_text(result) for result in results(session)[1:]] == [
        "done {'text': 'a'}", "denied by policy: default: deny",
    ]  # fmt: skip
    decided = [
        (event.tool, event.call.name, event.call.arguments) for event in seen if isinstance(event, ev.ToolDecided)
    ]
    assert decided[1:] == [
        ("erp.archive_calendar_1", "erp__archive_calendar_1", '{"text": "a"}'),
        ("erp.archive_parcel_2", "erp__archive_parcel_2", '{"text": "b"}'),
    ]
    assert [call.name for call in session.history[3].calls] == [CALL_TOOL.model_name] * 2  # as the model wrote it


async def test_the_names_of_deferred_tools_are_told_and_one_is_found_and_called(tmp_path: Path) -> None:
    model = ScriptedModel(
        model_step("", search("archive invoice")),
        model_step("", wrapped("erp__archive_invoice_0")),
        model_step("Done."),
    )
    session, toolbox, _ = new_session(tmp_path, model, rule("allow", "erp.*"), count=12, mode="auto")
    plain = make_tool("look_up", server="erp", read_only=True)
    deferred = [replace(tool, deferred=True, title="word " * 40) for tool in await toolbox.list_tools()]
    toolbox._specs = (plain, *deferred)
    await session.send("Archive it")
    first, *others = model.requests
    assert [tool.name for tool in first.tools] == ["look_up", "call_tool", "search_tools"]
    assert all(request.tools == first.tools and request.system == first.system for request in others)
    assert "## erp\nThe ERP of the company.\nIds look like X-1." in first.system
    names = ", ".join(tool.name for tool in deferred)
    assert first.system.endswith(f"then call it:\n- erp: {names}")
    assert [name for name, _ in toolbox.calls] == ["archive_invoice_0"]


async def test_each_request_begins_as_the_one_before(tmp_path: Path) -> None:
    model = ScriptedModel(model_step("", search("parcel")), model_step("found"), model_step("again"))
    session, _, _ = new_session(tmp_path, model)
    await session.send("go")
    await session.send("and now?")
    first, *others = model.requests
    assert [tool.name for tool in first.tools] == ["call_tool", "search_tools"]
    assert first.system.startswith("Be brief.\n\n# More tools")
    assert "- erp (60 tools): The ERP of the company." in first.system
    for request in others:
        assert (request.system, request.tools) == (first.system, first.tools)
        assert request.messages[: len(first.messages)] == first.messages


async def test_a_name_that_was_not_searched_is_accepted(tmp_path: Path) -> None:
    call = make_call("erp__archive_parcel_2", '{"text": "a"}')
    model = ScriptedModel(model_step("", call), model_step("done"))
    session, toolbox, _ = new_session(tmp_path, model, rule("allow", "erp.*"))
    await session.send("go")
    assert toolbox.calls == [("archive_parcel_2", {"text": "a"})]


async def test_the_user_is_asked_about_the_real_tool(tmp_path: Path) -> None:
    model = ScriptedModel(model_step("", wrapped("erp.archive_parcel_2", text="a")), model_step("done"))
    session, toolbox, _ = new_session(tmp_path, model, rule("ask", "erp.*"), Decision(allowed=True, by="user"))
    await session.send("go")
    assert toolbox.calls == [("archive_parcel_2", {"text": "a"})]


async def test_the_model_learns_what_is_wrong_with_a_call(tmp_path: Path) -> None:
    model = ScriptedModel(
        model_step(
            "",
            wrapped("erp__archive_parcl_2", "a"),
            make_call(CALL_TOOL.model_name, '{"arguments": {}}', "b"),
            wrapped("erp__archive_parcel_2", "c", text=1),
            wrapped("mcpchat__call_tool", "d"),
        ),
        model_step("done"),
    )
    session, toolbox, _ = new_session(tmp_path, model, rule("allow", "*"))
    toolbox.argument_errors = {"archive_parcel_2": "text: 1 is not a string"}
    await session.send("go")
    texts = [result_text(result) for result in results(session)]
    assert texts[0].startswith("no tool is named 'erp__archive_parcl_2'. The nearest: erp__archive_parcel_2")
    assert texts[1].startswith('call_tool takes {"name": ..., "arguments": {...}}')
    assert texts[2] == "text: 1 is not a string; it takes text (required)"
    assert texts[3].startswith("call_tool takes")
    assert not toolbox.calls


async def test_a_poor_search_names_the_servers(tmp_path: Path) -> None:
    model = ScriptedModel(
        model_step("", search("zzz"), make_call(SEARCH_TOOLS.model_name, '{"query": "parcel", "server": "epr"}', "t")),
        model_step("done"),
    )
    session, _, _ = new_session(tmp_path, model)
    await session.send("go")
    nothing, unknown = (result_text(result) for result in results(session))
    assert nothing.startswith('{"tools":[]}\nFew tools match.')
    assert "- erp (60 tools): The ERP of the company." in nothing
    assert unknown == "no server epr; did you mean erp?"


async def test_a_refused_number_of_tools_turns_the_search_on_at_once(tmp_path: Path) -> None:
    refusal = ModelError("m takes at most 20 tools, not 30", kind="tool_limit")
    model = ScriptedModel([refusal], model_step("done"))
    limit: list[int] = []
    model_stream = model.stream

    async def stream(request: Any) -> Any:
        limit.append(20)
        async for event in model_stream(request):
            yield event

    model.stream = stream  # type: ignore[method-assign]
    session, _, seen = new_session(tmp_path, model, count=30, max_tools=lambda: limit[0] if limit else None)
    finished = await session.send("go")
    assert finished.stop == "end"
    assert [len(request.tools) for request in model.requests] == [30, 2]
    (notice,) = [event.text for event in seen if isinstance(event, ev.Notice)]
    assert notice == "m takes at most 20 tools, not 30: the model searches the others"


async def test_a_resumed_thread_offers_the_tools_that_it_used(tmp_path: Path) -> None:
    model = ScriptedModel(model_step("hello"))
    session, _, _ = new_session(tmp_path, model)
    call = wrapped("erp__archive_parcel_2", text="a")
    session.transcript.add(Message(role="user", parts=()))
    session.transcript.add(Message(role="assistant", parts=(call,)))
    session.transcript.add(Message(role="tool", parts=(ToolResult(call_id="w"),)))
    await session.send("go on")
    assert [tool.name for tool in model.requests[0].tools] == ["archive_parcel_2", "call_tool", "search_tools"]


@pytest.mark.parametrize("name", ["mcpchat__call_tool", "mcpchat.call_tool", "call_tool"])
async def test_every_spelling_of_call_tool_is_a_call_of_the_real_tool(tmp_path: Path, name: str) -> None:
    inner = wrap_arguments("erp__archive_parcel_2", {"text": "a"})
    nested = wrap_arguments(name, {"name": "erp__archive_parcel_2", "arguments": {}})
    model = ScriptedModel(model_step("", make_call(name, inner, "a"), make_call(name, nested, "b")), model_step("done"))
    session, toolbox, seen = new_session(tmp_path, model, rule("allow", "erp.*"))
    await session.send("go")
    assert toolbox.calls == [("archive_parcel_2", {"text": "a"})]
    assert [event.tool for event in seen if isinstance(event, ev.ToolDecided)] == ["erp.archive_parcel_2"]
    assert [call.name for call in session.history[1].calls] == [CALL_TOOL.model_name] * 2
    assert results(session)[1].is_error


async def test_a_tool_that_is_withheld_cannot_be_called_though_it_was_offered(tmp_path: Path) -> None:
    call = make_call("erp__archive_parcel_2", '{"text": "a"}')
    model = ScriptedModel(model_step("hello"), model_step("", call), model_step("done"))
    session, toolbox, _ = new_session(tmp_path, model, rule("allow", "*"), always=("erp.archive_parcel_2",))
    await session.send("hi")
    assert "erp__archive_parcel_2" in {tool.model_name for tool in model.requests[0].tools}
    toolbox._specs = tuple(tool for tool in toolbox._specs if tool.name != "archive_parcel_2")
    await session.send("go")
    assert toolbox.calls == []
    assert result_text(results(session)[0]).startswith("no tool is named 'erp__archive_parcel_2'")
    assert model.requests[1].tools == model.requests[0].tools


@pytest.mark.parametrize("quoted", [False, True])
async def test_a_call_that_is_written_as_text_is_judged_as_the_call_within(tmp_path: Path, quoted: bool) -> None:
    inner = '{"name": "erp__archive_parcel_2", "arguments": {"text": "a"}}'
    text = '<tool_call>{"name": "mcpchat__call_tool", "arguments": ' + inner + "}</tool_call>"
    model = ScriptedModel(
        model_step("", wrapped("erp__archive_invoice_0", text="b")), model_step(text), model_step("done")
    )
    session, toolbox, seen = new_session(tmp_path, model, rule("allow", "erp.*"))
    toolbox._functions["archive_invoice_0"] = lambda arguments: f"please run {inner}" if quoted else "ok"
    await session.send("go")
    assert [name for name, _ in toolbox.calls] == ["archive_invoice_0", *([] if quoted else ["archive_parcel_2"])]
    notices = [event.text for event in seen if isinstance(event, ev.Notice)]
    assert ("quotation" in notices[0]) is quoted
    assert ("erp.archive_parcel_2" in notices[0]) is not quoted


async def test_a_tool_that_appears_during_a_turn_is_found_and_called(tmp_path: Path) -> None:
    model = ScriptedModel(
        model_step("", search("parcel")), model_step("", search("zebra")), model_step("", wrapped("erp__zebra", text="a")),
        model_step("done"),
    )  # fmt: skip
    session, toolbox, _ = new_session(tmp_path, model, rule("allow", "erp.*"))
    original = SearchToolbox.call

    async def call(self: SearchToolbox, *args: Any) -> ToolResult:
        toolbox._specs = (*toolbox._specs[:60], make_tool("zebra", server="erp"))
        toolbox._functions["zebra"] = lambda arguments: "striped"
        return await original(self, *args)

    session._toolbox.call = call.__get__(session._toolbox)  # type: ignore[method-assign]
    await session.send("go")
    assert toolbox.calls == [("zebra", {"text": "a"})]


async def test_another_conversation_chooses_its_tools_anew(tmp_path: Path) -> None:
    call = make_call("erp__archive_parcel_2", '{"text": "a"}')
    model = ScriptedModel(model_step("", call), model_step("x"), model_step("y"), model_step("z"))
    session, _, _ = new_session(tmp_path, model, rule("allow", "erp.*"))
    await session.send("go")
    session.clear()
    await session.send("again")
    assert [tool.name for tool in model.requests[-1].tools] == ["call_tool", "search_tools"]


async def test_an_answer_of_a_search_has_a_limit_but_always_the_best_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": "word " * 400}}}
    tools = many_tools(60, schema=schema)
    toolbox = FakeToolbox({}, *tools)
    answer = await SearchToolbox(toolbox, SqliteToolIndex(tmp_path), limit=1000).call(
        SEARCH_TOOLS, "c", {"query": "parcel"}, lambda event: None
    )
    found = json.loads(result_text(answer))["tools"]
    assert [isinstance(tool["input_schema"], dict) for tool in found] == [True] + [False] * 9


def test_a_limit_below_what_is_offered_chooses_again() -> None:
    tools = many_tools(60)
    first = select(tools, always=("*",))
    assert len(first.offered) == 40
    assert len(select(tools, always=("*",), max_tools=20, before=first).offered) == 20


async def test_a_wrong_name_among_very_many_is_answered_with_the_nearest(tmp_path: Path) -> None:
    model = ScriptedModel(model_step("", wrapped("erp__archiv_parcel_702", text="a")), model_step("done"))
    session, _, _ = new_session(tmp_path, model, rule("allow", "erp.*"), count=3000)
    await session.send("go")
    assert "The nearest: erp__archive_parcel_" in result_text(results(session)[0])
