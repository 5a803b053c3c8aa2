"""Lets a conversation go on whose content a provider refuses."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import Compaction, Message
from mcpchat.core.protocols import Compacted, ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.engine.compaction import iter_compactions, pending_from
from mcpchat.errors import ModelError

_NOT_ABOUT_CONTENT = frozenset({404, 405, 410, 501})  # the model or the address does not exist


def may_be_about_content(error: ModelError) -> bool:
    """Whether a refusal may be about what the messages contain."""
    return error.kind == "bad_request" and error.status not in _NOT_ABOUT_CONTENT


async def retry_without_refused(
    stream: Callable[[ModelRequest], AsyncGenerator[ModelEvent, None]],
    request: ModelRequest,
    history: Sequence[Message],
    refusal: ModelError,
) -> AsyncGenerator[ModelEvent, None]:
    """Stream the answer to a refused request without the content that the server may have refused.

    A content filter or a validator that dislikes one message refuses every later request too, because each one repeats
    it. If a request passes without some messages, a note for the history leaves them out from then on. Raises the
    ``refusal`` if none passes, and the ModelError of a request that passed and then failed.
    """
    for note in iter_suspects(history):
        is_accepted = False
        try:
            async with aclosing(stream(replace(request, messages=(*history, note)))) as events:
                async for event in events:
                    if not is_accepted and isinstance(event, _ANSWERS):
                        is_accepted = True
                        yield Compacted(message=note)
                        yield _build_notice(refusal)
                    yield event
            return
        except ModelError as error:
            if is_accepted or not may_be_about_content(error):
                raise
    raise refusal


_ANSWERS = (TextDelta, ReasoningDelta, ToolCallStarted, ResponseDone)


def _build_notice(refusal: ModelError) -> Notice:
    text = f"left out what the model's server refused: {refusal.message}. The thread keeps it"
    return Notice(level="warning", text=text)


def iter_suspects(history: Sequence[Message]) -> Iterator[Message]:
    """Notes that leave out what a server may have refused: the newest messages, all results, all that came before.

    The message that waits for an answer stays, unless it has results.
    """
    omitted = {index for note in iter_compactions(history) for index in note.omits}
    answered = max((i for i, m in enumerate(history) if m.role == "assistant" and not m.calls), default=-1)
    pending = pending_from(history)
    indexes = [i for i, message in enumerate(history) if message.role != "system" and i not in omitted]
    results = {i for i in indexes if history[i].role == "tool"}
    question = pending if history[pending].role == "user" else -1
    previous: set[int] = set()
    for suspects in (
        {i for i in indexes if i > answered and (i in results or history[i].role == "user") and i != question},
        results | {i for i in indexes if i > answered and i != question and history[i].role == "user"},
        {i for i in indexes if i < pending} | results,
    ):
        if suspects and suspects != previous:
            yield Message(role="system", parts=(Compaction(replaces=0, limit=1, omits=tuple(sorted(suspects))),))
        previous = suspects
