"""Content that a model's server refuses: the thread goes on without it."""

import pytest

from mcpchat.core import events as ev
from mcpchat.core.messages import Message, Text, result_text, user_message
from mcpchat.core.protocols import SelectedModel
from mcpchat.engine.compaction import REFUSED
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.errors import ModelError
from tests.support.fakes import FakeToolbox, ScriptedModel, make_call, make_gate, model_step, preload_history

POISON = "a word that the filter dislikes"


class FilteringModel(ScriptedModel):
    """Refuses every request that has the poison in it."""

    async def stream(self, request):  # type: ignore[no-untyped-def]
        texts = [message.text for message in request.messages]
        texts += [result_text(result) for message in request.messages for result in message.results]
        if any(POISON in text for text in texts):
            self.requests.append(request)
            raise ModelError("the server answered 400: flagged by the filter", kind="bad_request", status=400)
        async for event in super().stream(request):
            yield event


def make_session(model: ScriptedModel) -> tuple[Session, list[ev.Event]]:
    events: list[ev.Event] = []
    session = Session(
        model=SelectedModel(name="m", adapter=model),
        toolbox=FakeToolbox({"echo": lambda a: POISON}),
        agent=ActiveAgent(gate=make_gate()),
        emit=events.append,
    )
    return session, events


def warnings(events: list[ev.Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, ev.Notice) and event.level == "warning"]


async def test_a_refused_result_is_left_out_once_and_for_all() -> None:
    model = FilteringModel(
        model_step("", make_call("box__echo")), model_step("I could not see it."), model_step("Yes.")
    )
    session, events = make_session(model)
    await session.send("go")
    assert result_text(model.requests[-1].messages[-1].results[0]) == REFUSED
    assert warnings(events) == [
        "left out what the model's server refused: the server answered 400: flagged by the filter. The thread keeps it"
    ]
    await session.send("and?")
    assert len(model.requests) == 5  # a call, the refused one twice, and two that pass
    assert result_text(session.history[2].results[0]) == POISON
    resumed, _ = make_session(FilteringModel(model_step("Still.")))
    preload_history(resumed, list(session.history))
    assert (await resumed.send("again")).stop == "end"


async def test_a_refused_question_fails_and_the_next_one_passes() -> None:
    model = FilteringModel(model_step("Yes."))
    session, events = make_session(model)
    with pytest.raises(ModelError, match="flagged"):
        await session.send(f"What is {POISON}?")
    assert warnings(events) == []
    await session.send("never mind")
    assert [message.text for message in model.requests[-1].messages] == [REFUSED, "never mind"]


async def test_refused_content_anywhere_in_the_history_is_left_out() -> None:
    model = FilteringModel(model_step("Yes."))
    session, _ = make_session(model)
    history = [user_message("one"), Message(role="assistant", parts=(Text(text=POISON),)), user_message("two")]
    preload_history(session, [*history, Message(role="assistant", parts=(Text(text="ok"),))])
    await session.send("three")
    assert model.requests[-1].messages[-1] == user_message("three")


async def test_an_error_that_is_not_about_the_content_is_raised() -> None:
    refusal = ModelError("temperature is out of range", kind="bad_request", status=400)
    model = ScriptedModel(*([refusal] for _ in range(9)))
    session, events = make_session(model)
    preload_history(session, [user_message("one"), Message(role="assistant", parts=(Text(text="ok"),))])
    with pytest.raises(ModelError, match="temperature"):
        await session.send("two")
    assert len(model.requests) == 3
    assert len(session.history) == 3
    assert warnings(events) == []


async def test_a_server_that_refuses_once_costs_no_content() -> None:
    refusal = ModelError("try again", kind="bad_request", status=400)
    model = ScriptedModel([refusal], model_step("Yes."))
    session, events = make_session(model)
    preload_history(session, [user_message("one"), Message(role="assistant", parts=(Text(text="ok"),))])
    await session.send("two")
    assert [message.text for message in model.requests[-1].messages] == ["one", "ok", "two"]
    assert warnings(events) == []


async def test_of_a_long_history_only_the_refused_part_is_left_out() -> None:
    history = []
    for number in range(12):
        answer = POISON if number == 4 else f"answer {number}"
        history += [user_message(f"{number}"), Message(role="assistant", parts=(Text(text=answer),))]
    model = FilteringModel(model_step("Yes."))
    session, _ = make_session(model)
    preload_history(session, history)
    await session.send("and?")
    sent = [message.text for message in model.requests[-1].messages]
    assert sent.count(REFUSED) <= 6
    assert {"answer 0", "answer 11"} <= set(sent)


@pytest.mark.parametrize(
    "error",
    [
        ModelError("answers with a web page", kind="bad_request"),
        ModelError("no such model", kind="bad_request", status=404),
        ModelError("redirects", kind="bad_request", status=302),
    ],
)
async def test_an_error_of_the_address_is_raised_at_once(error: ModelError) -> None:
    model = ScriptedModel([error])
    session, _ = make_session(model)
    with pytest.raises(ModelError):
        await session.send("two")
    assert len(model.requests) == 1
