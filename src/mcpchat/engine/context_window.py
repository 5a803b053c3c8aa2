"""What a model is shown of a conversation: a Model around a Model, which keeps what it sends within the window."""

import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import (
    AgentSwitch,
    Audio,
    Compaction,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    result_text,
    user,
)
from mcpchat.core.protocols import Compacted, Done, ModelChoice, ModelEvent, ModelRequest, Retrying, Spent
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.history import sendable
from mcpchat.engine.tool_results import bounded, clip
from mcpchat.errors import ModelError

WARN_AT, COMPACT_AT = 0.80, 0.85  # of the window
_AIM = 0.60  # of the window, by shortening alone: less would soon be too much again
_TAIL = 0.25  # of the window, for the rounds that stay as they are
_MOST_KEPT = 20_000  # tokens of the tail, and of what the user said before it
_SHORT = 1500  # characters of a shortened result
_FIRST_RATIO = 4.0  # bytes a token, until a server has counted
_LOW, _HIGH = 1.0, 8.0
_SOMEBODY_ASKS = 10**9  # tokens: reason enough to look for the window
_TELLING = 8000  # bytes of a request, from which on the ratio is learnt
_PICTURE = 4000  # "bytes" that stand for an image

SUMMARISE = (
    "The conversation so far is about to be replaced by a summary that you write now, because it has outgrown your "
    "context window. Write all that is needed to go on without it: what the user wants and has decided, what was found "
    "out (names, numbers, ids, paths and addresses word for word), what was done with which tools, what is still open. "
    "Do not call tools. Answer with the summary alone."
)
_HEADING = "[The conversation so far, summed up because it was too long. The user's own messages stand before this.]"
_TOOLS_ALONE = "the tools and instructions alone fill the model's window"
_FEWER = "offer fewer tools (tools and exclude of a server, servers of an agent)"
_LEFT_OUT = "left out because the conversation was too long"
_KEPT_WHOLE = re.compile(r'mcpchat__read_result\(id="[^"]+"')  # where the whole result was kept
_AGAIN = "shortened because the conversation was too long: call the tool again where you need it"


def view(history: Sequence[Message]) -> tuple[Message, ...]:
    """What a model is shown of the history, its notes of compaction carried out; by the rules of all model APIs."""
    notes = list(_notes(history))
    summary = next((note for note in reversed(notes) if note.summary), None)
    shortening = max((note for note in notes if not note.summary), key=lambda note: note.replaces, default=None)
    shown: list[Message] = []
    begin = 0
    if summary is not None:
        kept = (place for place in summary.keeps if 0 <= place < len(history))  # what comes in a file can be anything
        shown += (_cut(history[place], summary.limit) for place in kept)
        shown.append(user(f"{_HEADING}\n\n{summary.summary}"))
        begin = max(0, summary.replaces)
    for place, message in enumerate(history[begin:], begin):
        if shortening is not None and place < shortening.replaces and message.role == "tool":
            message = _cut(message, shortening.limit)
        shown.append(message)
    return sendable(shown)


def _notes(history: Sequence[Message]) -> Iterator[Compaction]:
    for message in history:
        for part in message.parts:
            if isinstance(part, Compaction):
                yield part


def _before(history: Sequence[Message], cut: int) -> list[Message]:
    """The history before the cut, with the notes that came later and are about it."""
    return [*history[:cut], *(message for message in history[cut:] if message.role == "system")]


def _cut(message: Message, limit: int) -> Message:
    """The message with each text, and each result, of at most so many characters; pictures and files only named."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            plain = part if not _heavy(part) else replace(part, parts=(Text(text=result_text(part)),), structured=None)
            kept = _KEPT_WHOLE.search(result_text(part))
            part = bounded(plain, limit, f"{kept[0]}, offset=..., grep=...) reads it" if kept else _AGAIN)
        elif isinstance(part, Text):
            part = Text(text=clip(part.text, limit, _LEFT_OUT))
        elif isinstance(part, Image | Audio | File):
            part = Text(text=f"[{part.media_type}, {len(part.data):,} bytes, {_LEFT_OUT}]")
        parts.append(part)
    # What a provider wants echoed is the whole of it, which is no longer what is shown.
    return message if tuple(parts) == message.parts else replace(message, parts=tuple(parts), raw=None)


def _heavy(result: ToolResult) -> bool:
    return any(isinstance(part, Image | Audio | File) for part in result.parts)


def weight(message: Message) -> int:
    """About how many bytes of a prompt the message makes."""
    return sum(_part_weight(part) for part in message.parts) + 20


def _part_weight(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text):
            return _bytes(text)
        case ToolCall(name=name, arguments=arguments):
            return len(name) + _bytes(arguments) + 40
        case ToolResult():
            pictures = sum(_PICTURE for inner in part.parts if isinstance(inner, Image))
            return _bytes(result_text(part)) + pictures + 40
        case Image():
            return _PICTURE
        case File(data=data) | Audio(data=data):
            return _PICTURE + len(data) // 20
        case Compaction() | AgentSwitch():
            return 0
        case _:
            return 100


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


class Context:
    """A Model that is shown the whole history with each request, and shows its model what fits.

    ``choice`` is that model. It learns from each answer how many bytes make a token, and from refusals how large the
    window is.
    """

    def __init__(self, choice: ModelChoice) -> None:
        self.choice = choice
        self.window: int | None = None
        self._ratio = _FIRST_RATIO
        self._counted_last = (0, 0)  # of the latest request: its bytes, and its tokens by the server
        self._warned = False
        self._under_way = (0, 0)  # of an answer that is not whole yet: bytes sent, bytes shown
        self._in_vain = 0  # tokens that were left when making room did not help
        self._weighed: tuple[tuple[ToolSpec, ...], int] = ((), 0)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """As the model's own; Compacted comes before what it makes room for. Raises ModelError."""
        history = list(request.messages)
        async for event in self._room(request, history):
            yield event
        refused = False
        while True:
            shown = False
            try:
                async with aclosing(self._counted(replace(request, messages=view(history)))) as events:
                    async for event in events:
                        shown = shown or isinstance(event, TextDelta | ReasoningDelta)
                        yield event
                return
            except ModelError as error:
                if error.kind != "context" or shown or refused:
                    raise
                refused = True
                self._learn(error, self.estimate(request, view(history)))
                before = len(history)
                async for event in self._making_room(request, history):
                    yield event
                if len(history) == before:
                    raise

    async def compact(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Sum up all that was said, however much room there is. Raises ModelError."""
        history = list(request.messages)
        most = min(_MOST_KEPT, int(_TAIL * self.window)) if self.window else _MOST_KEPT
        async for event in self._summing_up(request, history, len(history), int(most * self._ratio)):
            yield event

    async def look(self, request: ModelRequest) -> tuple[int, int | None]:
        """How many tokens the request would take, and how many the model can, None where nobody knows."""
        tokens = self.estimate(request, view(request.messages))
        self.window = self.window or await self.choice.window(_SOMEBODY_ASKS)
        return tokens, self.window

    def take_uncounted(self) -> Usage | None:
        """What an answer took that broke off, or was cancelled, as far as it can be guessed; once."""
        sent, shown, self._under_way = *self._under_way, (0, 0)
        return self._guessed(sent, shown) if shown else None

    def estimate(self, request: ModelRequest, shown: Sequence[Message]) -> int:
        """Tokens of a request that shows these messages: those that the server counted last, and what is new."""
        size = self._weight(request, shown)
        before, tokens = self._counted_last
        return max(int(size / _HIGH), tokens + int((size - before) / self._ratio))

    def _weight(self, request: ModelRequest, shown: Sequence[Message]) -> int:
        if request.tools is not self._weighed[0]:
            sizes = (len(json.dumps(tool.schema, ensure_ascii=False)) + len(tool.description) for tool in request.tools)
            self._weighed = request.tools, sum(sizes) + 60 * len(request.tools)
        return _bytes(request.system) + self._weighed[1] + sum(weight(message) for message in shown)

    async def _counted(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The model's events, its usage estimated where the server does not count, and learnt from where it does."""
        sent = self._weight(request, request.messages)
        shown = 0
        async with aclosing(self.choice.adapter.stream(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta | ReasoningDelta):
                    shown += _bytes(event.text)
                    self._under_way = sent, shown
                if isinstance(event, Done):
                    self._under_way = 0, 0
                    event = self._measured(event, sent)
                yield event

    def _measured(self, done: Done, sent: int) -> Done:
        if done.usage.input:
            self._counted_last = sent, done.usage.input
            if sent >= _TELLING:  # of less, most is the frame that every prompt has
                self._ratio = min(_HIGH, max(_LOW, sent / done.usage.input))
        elif not done.usage.output:
            done = replace(done, usage=self._guessed(sent, weight(done.message)))
        return done

    def _guessed(self, sent: int, written: int) -> Usage:
        return Usage(input=int(sent / self._ratio), output=int(written / self._ratio), estimated=True)

    def _learn(self, error: ModelError, tokens: int) -> None:
        """What was refused did not fit, whatever we thought its size was, or the window's."""
        if error.window:
            self.window = error.window
            if tokens < (needed := error.needed or error.window):
                self._ratio *= max(1, tokens) / needed
                self._counted_last = 0, 0
        elif self.window is None or self.window >= tokens:
            self.window = max(1, int(tokens * 0.9))

    async def _room(self, request: ModelRequest, history: list[Message]) -> AsyncGenerator[ModelEvent, None]:
        """Before a request: warn, or make room, as the window fills."""
        tokens = self.estimate(request, view(history))
        if self.window is None:
            self.window = await self.choice.window(tokens)
        if self.window is None or tokens < WARN_AT * self.window:
            self._warned, self._in_vain = False, 0
            return
        if self.estimate(request, ()) >= COMPACT_AT * self.window:
            if not self._warned:
                yield Notice(level="warning", text=f"{_TOOLS_ALONE} ({self.window:,} tokens): {_FEWER}")
            self._warned = True
        elif tokens < COMPACT_AT * self.window:
            if not self._warned:
                full = f"{tokens / self.window:.0%} of the model's window ({tokens:,} of {self.window:,} tokens)"
                told = f"the conversation takes {full}; at {COMPACT_AT:.0%} it is summed up"
                yield Notice(level="warning", text=told)
            self._warned = True
        elif tokens >= 1.1 * self._in_vain:
            try:
                async for event in self._making_room(request, history):
                    yield event
            except ModelError as error:
                yield Notice(level="warning", text=f"the conversation could not be summed up: {error.message}")
            left = self.estimate(request, view(history))
            self._in_vain = left if left >= COMPACT_AT * self.window else 0

    async def _making_room(self, request: ModelRequest, history: list[Message]) -> AsyncGenerator[ModelEvent, None]:
        """Shorten earlier results; where that is not enough, sum up; then shorten what was just fetched.

        Notes join the history, and are told. What waits for an answer is never summed up.
        """
        window = self.window or 0
        latest = _waiting(history)
        waiting = history[latest:]
        if not any(message.results for message in waiting) and self.estimate(request, view(waiting)) >= window:
            return  # a question that does not fit by itself: no room would be enough
        if note := _shortened(history, latest, _SHORT):
            history.append(note)
            yield Compacted(message=note)
            yield Notice(level="info", text="earlier results of tools were shortened to make room")
            if self.estimate(request, view(history)) < _AIM * window:
                return
        room = _AIM * window - self.estimate(request, ())  # for what is said, besides instructions and tools
        tail = int(max(0, min(_TAIL * window, _MOST_KEPT, room / 2)) * self._ratio)
        async for event in self._summing_up(request, history, min(_cut_point(history, tail), latest), tail):
            yield event
        results = sum(len(message.results) for message in waiting)
        if results and self.estimate(request, view(history)) >= COMPACT_AT * window:
            share = max(_SHORT, int(max(0, room / 2) * self._ratio / results))
            if note := _shortened(history, len(history), share):
                history.append(note)
                yield Compacted(message=note)
                yield Notice(level="info", text="the latest results of tools were shortened: they fill the window")

    async def _summing_up(
        self, request: ModelRequest, history: list[Message], cut: int, limit: int
    ) -> AsyncGenerator[ModelEvent, None]:
        """Have the model sum up what stands before the cut, and replace it; ``limit`` bytes of the user's own stay."""
        cut = max(cut, *(note.replaces for note in _notes(history) if note.summary), 0)
        replaced = view(_before(history, cut))
        if all(message.text.startswith(_HEADING) for message in replaced):
            return  # there is nothing, or nothing but a summary
        yield Notice(level="info", text="summing up the conversation")
        summary, partial = "", False
        for part in _ever_less(replaced):
            asked = replace(request, messages=(*part, user(SUMMARISE)), tool_choice="none", schema=None)
            try:
                async with aclosing(self._counted(asked)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            yield Spent(usage=event.usage)
                            summary = event.message.text.strip()
                        elif isinstance(event, Retrying | Notice | Spent):
                            yield event
                break
            except ModelError as error:
                if left := self.take_uncounted():
                    yield Spent(usage=left)
                if error.kind != "context":
                    raise
                partial = True
        if not summary:
            raise ModelError("the model wrote no summary of the conversation", kind="context" if partial else "server")
        before = self.estimate(request, view(history))
        note = Compaction(replaces=cut, limit=max(limit, 1), summary=summary, keeps=_kept(history, cut, limit))
        history.append(Message(role="system", parts=(note,)))
        yield Compacted(message=history[-1])
        after = self.estimate(request, view(history))
        told = f"the conversation was summed up: about {before:,} tokens became {after:,}"
        yield Notice(level="info", text=f"{told}; its oldest part was too long even for that" if partial else told)


def _waiting(history: Sequence[Message]) -> int:
    """The place from which on messages wait for an answer: the user's latest, or the latest calls and their results."""
    place = len(history) - 1
    while place > 0 and history[place].role == "system":
        place -= 1
    if place > 0 and history[place].role == "tool":
        while place > 0 and history[place].role in {"tool", "system"}:
            place -= 1
    return max(0, place)


def _shortened(history: Sequence[Message], before: int, limit: int) -> Message | None:
    """A note that shortens the results before this place, None where there is little to gain."""
    done = max((note.replaces for note in _notes(history)), default=0)
    results = [result for message in history[done:before] for result in message.results]
    if any(_heavy(result) or len(result_text(result)) > 2 * limit for result in results):
        return Message(role="system", parts=(Compaction(replaces=before, limit=limit),))
    return None


def _cut_point(history: Sequence[Message], tail: int) -> int:
    """Where the part ends that is summed up: between complete rounds, with at most ``tail`` bytes after it."""
    cut, left = len(history), tail
    for place in range(len(history) - 1, -1, -1):
        left -= weight(history[place])
        if left < 0:
            break
        if history[place].role in {"user", "assistant"}:
            cut = place
    return cut


def _kept(history: Sequence[Message], cut: int, limit: int) -> tuple[int, ...]:
    """The places of the user's own messages before the cut, the newest first, while there is room."""
    kept: list[int] = []
    left = limit
    for place in range(cut - 1, -1, -1):
        if history[place].role == "user":
            left -= min(weight(history[place]), limit)
            if left < 0:
                break
            kept.insert(0, place)
    return tuple(kept)


def _ever_less(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """The messages; then each cut to a length that cannot be the trouble; then half of them and half again, the newer
    ones, always with the summary that stands for what was before."""
    yield messages
    cut = tuple(_cut(message, 2 * _SHORT) for message in messages)
    summaries = tuple(message for message in cut if message.text.startswith(_HEADING))
    rest = tuple(message for message in cut if message not in summaries)
    while rest:
        yield sendable((*summaries, *rest))
        rest = rest[len(rest) // 2 + 1 :] if len(rest) > 1 else ()
