"""Lets a conversation go on whose content a provider refuses: a Model around a Model."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import Compaction, Message
from mcpchat.core.protocols import Compacted, Model, ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.engine.compaction import iter_compactions, pending_from
from mcpchat.errors import ModelError

_NOT_ABOUT_CONTENT = frozenset({404, 405, 410, 501})  # the model or the address does not exist


class RefusalRecovery:
    """Sends a refused request again without the content that the server may have refused.

    A content filter or a validator that dislikes one message refuses every later request too, because each one repeats
    it. If a request passes without some messages, a note in the history leaves them out from then on.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The events of the model's answer, with Compacted before it if something was left out. Raises ModelError."""
        messages = list(request.messages)
        refusal: ModelError | None = None
        suspects: Iterator[Message] = iter(())
        note: Message | None = None
        while True:
            has_output = False
            attempt = replace(request, messages=(*messages, note) if note else tuple(messages))
            try:
                async with aclosing(self._model.stream(attempt)) as events:
                    async for event in events:
                        passed = isinstance(event, TextDelta | ReasoningDelta | ToolCallStarted | ResponseDone)
                        if passed and note is not None and refusal is not None:
                            yield Compacted(message=note)
                            yield _build_notice(refusal)
                            messages.append(note)
                            note = None
                        has_output = has_output or isinstance(event, TextDelta | ReasoningDelta)
                        if isinstance(event, Compacted):
                            messages.append(event.message)
                        yield event
                return
            except ModelError as error:
                if error.kind != "bad_request" or error.status in _NOT_ABOUT_CONTENT or has_output:
                    raise
                if refusal is None:
                    refusal, suspects = error, iter_suspects(messages)
                note = next(suspects, None)
                if note is None:
                    raise refusal from None


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
