"""Lets a conversation go on whose content a provider refuses."""

import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import Compaction, Message
from mcpchat.core.protocols import Compacted, ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.engine.compaction import iter_compactions, pending_from
from mcpchat.errors import ModelError

_CONTENT_STATUSES = frozenset({400, 403, 422, 451})
_CONTENT_WORDS = re.compile(r"content|filter|flagged|safety|moderat|inappropriate|sensitive|policy|prompt|inspection")


def may_be_about_content(error: ModelError) -> bool:
    """Whether a refusal may be about what the messages contain."""
    if error.kind != "bad_request":
        return False
    if error.status is None:  # within a response: by its words alone
        return _CONTENT_WORDS.search(error.server_text.lower()) is not None
    return error.status in _CONTENT_STATUSES


async def retry_without_refused(
    stream: Callable[[ModelRequest], AsyncGenerator[ModelEvent, None]],
    request: ModelRequest,
    history: Sequence[Message],
    refusal: ModelError,
) -> AsyncGenerator[ModelEvent, None]:
    """Stream the answer to a refused request without the content that the server may have refused.

    A content filter or a validator that dislikes one message refuses every later request too, because each one repeats
    it. If a request passes without some messages, a note for the history leaves them out from then on. First the
    request is sent unchanged once more: some servers refuse now and then. Raises the ``refusal`` if none passes, and
    the ModelError of a request that passed and then failed.
    """
    for note in (None, *iter_suspects(history)):
        is_accepted = False
        messages = (*history, note) if note is not None else tuple(history)
        try:
            async with aclosing(stream(replace(request, messages=messages))) as events:
                async for event in events:
                    if not is_accepted and isinstance(event, _ANSWERS):
                        is_accepted = True
                        if note is not None:
                            yield Compacted(message=note)
                            yield _build_notice(refusal)
                    yield event
            return
        except ModelError as error:
            if is_accepted or not may_be_about_content(error):
                raise
    raise refusal


_MIN_TO_DIVIDE = 8  # messages; of fewer, all are left out at once
_ANSWERS = (TextDelta, ReasoningDelta, ToolCallStarted, ResponseDone)


def _build_notice(refusal: ModelError) -> Notice:
    text = f"left out what the model's server refused: {refusal.message}. The thread keeps it"
    return Notice(level="warning", text=text)


def iter_suspects(history: Sequence[Message]) -> Iterator[Message]:
    """Notes that leave out what a server may have refused, each more than the last.

    They are about the newest messages, all results, a quarter and then a half of what came before, and all of it. The
    message that waits for an answer stays, unless it has results.
    """
    omitted = {index for note in iter_compactions(history) for index in note.omits}
    answered = max((i for i, m in enumerate(history) if m.role == "assistant" and not m.calls), default=-1)
    pending = pending_from(history)
    indexes = [i for i, message in enumerate(history) if message.role != "system" and i not in omitted]
    results = {i for i in indexes if history[i].role == "tool"}
    question = pending if history[pending].role == "user" else -1
    earlier = [i for i in indexes if i < pending]
    parts = [
        set(earlier[start : start + size])
        for size in ((len(earlier) + 3) // 4, (len(earlier) + 1) // 2)
        if len(earlier) >= _MIN_TO_DIVIDE
        for start in reversed(range(0, len(earlier), size))
    ]
    previous: set[int] = set()
    for suspects in (
        {i for i in indexes if i > answered and (i in results or history[i].role == "user") and i != question},
        results | {i for i in indexes if i > answered and i != question and history[i].role == "user"},
        *parts,
        set(earlier) | results,
    ):
        if suspects and suspects != previous:
            yield Message(role="system", parts=(Compaction(replaces=0, limit=1, omits=tuple(sorted(suspects))),))
        previous = suspects
