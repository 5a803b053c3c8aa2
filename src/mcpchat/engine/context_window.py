"""Keeps requests within the model's context window: a Model around a Model."""

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

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
    user_message,
)
from mcpchat.core.protocols import (
    Compacted,
    ExtraUsage,
    ModelEvent,
    ModelRequest,
    ResponseDone,
    Retrying,
    SelectedModel,
)
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.history import normalize_history
from mcpchat.engine.message_codec import stored_result_id
from mcpchat.engine.tool_results import READ_RESULT, truncate_middle, truncate_result
from mcpchat.errors import ModelError

WARN_AT, COMPACT_AT = 0.80, 0.85  # of the window
TARGET_FILL = 0.60  # of the window, after shortening alone; a higher fill would soon be too much again
KEEP_RECENT = 0.25  # of the window, for the rounds that stay unchanged
MAX_KEPT_TOKENS = 20_000  # of the recent messages, and of the user's own messages before them
SHORTENED_RESULT_CHARS = 1500  # characters of a shortened result
INITIAL_BYTES_PER_TOKEN = 4.0  # until a server reports its count
MIN_BYTES_PER_TOKEN, MAX_BYTES_PER_TOKEN = 1.0, 8.0
ALWAYS_PROBE = 10**9  # tokens: more than any window, so that its size is looked up
MIN_BYTES_TO_CALIBRATE = 8000  # bytes of a request from which on the ratio is measured
IMAGE_WEIGHT = 4000  # bytes that an image counts as

SUMMARY_PROMPT = (
    "The conversation so far is about to be replaced by a summary that you write now, because it has outgrown your "
    "context window. Write all that is needed to go on without it: what the user wants and has decided, what was found "
    "out (names, numbers, ids, paths and addresses word for word), what was done with which tools, what is still open. "
    "Do not call tools. Answer with the summary alone."
)
SUMMARY_HEADING = (
    "[The conversation so far, summed up because it was too long. The user's own messages stand before this.]"
)
TOOLS_FILL_WINDOW = "the tools and instructions alone fill the model's window"
FEWER_TOOLS_HINT = "offer fewer tools (tools and exclude of a server, servers of an agent)"
OMITTED = "left out because the conversation was too long"
CALL_AGAIN_HINT = "shortened because the conversation was too long: call the tool again if you need it"


def render_history(history: Sequence[Message]) -> tuple[Message, ...]:
    """The history as the model gets it: with its compactions applied, and by the rules of all model APIs."""
    compactions = list(_iter_compactions(history))
    summary = next((note for note in reversed(compactions) if note.summary), None)
    shortening = max((note for note in compactions if not note.summary), key=lambda note: note.replaces, default=None)
    rendered: list[Message] = []
    start = 0
    if summary is not None:
        # An imported thread can name any index.
        indexes = (index for index in summary.keeps if 0 <= index < len(history))
        rendered += (_shorten_message(history[index], summary.limit) for index in indexes)
        rendered.append(user_message(f"{SUMMARY_HEADING}\n\n{summary.summary}"))
        start = max(0, summary.replaces)
    for index, message in enumerate(history[start:], start):
        if shortening is not None and index < shortening.replaces and message.role == "tool":
            message = _shorten_message(message, shortening.limit)
        rendered.append(message)
    return normalize_history(rendered)


def _iter_compactions(history: Sequence[Message]) -> Iterator[Compaction]:
    for message in history:
        for part in message.parts:
            if isinstance(part, Compaction):
                yield part


def _history_before(history: Sequence[Message], cut: int) -> list[Message]:
    """The history before the cut, and the later notes about it."""
    return [*history[:cut], *(message for message in history[cut:] if message.role == "system")]


def _shorten_message(message: Message, limit: int) -> Message:
    """The message with each text and result shortened to ``limit`` characters; images and files only named."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            plain = (
                part if not _has_media(part) else replace(part, parts=(Text(text=result_text(part)),), structured=None)
            )
            stored = stored_result_id(part)
            read = f'{READ_RESULT.model_name}(id="{stored}", offset=..., grep=...) reads it'
            part = truncate_result(plain, limit, read if stored else CALL_AGAIN_HINT)
        elif isinstance(part, Text):
            part = Text(text=truncate_middle(part.text, limit, OMITTED))
        elif isinstance(part, Image | Audio | File):
            part = Text(text=f"[{part.media_type}, {len(part.data):,} bytes, {OMITTED}]")
        parts.append(part)
    # ``raw``, which some providers want back, is of the whole message: it no longer fits.
    return message if tuple(parts) == message.parts else replace(message, parts=tuple(parts), raw=None)


def _has_media(result: ToolResult) -> bool:
    return any(isinstance(part, Image | Audio | File) for part in result.parts)


def message_weight(message: Message) -> int:
    """About how many bytes of a prompt the message takes."""
    return sum(_part_weight(part) for part in message.parts) + 20


def _part_weight(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text):
            return _byte_length(text)
        case ToolCall(name=name, arguments=arguments):
            return len(name) + _byte_length(arguments) + 40
        case ToolResult():
            images = sum(IMAGE_WEIGHT for inner in part.parts if isinstance(inner, Image))
            return _byte_length(result_text(part)) + images + 40
        case Image():
            return IMAGE_WEIGHT
        case File(data=data) | Audio(data=data):
            return IMAGE_WEIGHT + len(data) // 20
        case Compaction() | AgentSwitch():
            return 0
        case _:
            return 100


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


@dataclass
class _AnswerCount:
    """One answer as it streams: bytes sent and received, and whether anything of it was shown."""

    sent_bytes: int
    received_bytes: int = 0
    has_output: bool = False


class ContextWindow:
    """A Model that gets the whole history with each request, and sends to the model of ``choice`` what fits.

    It measures the bytes per token with each answer, and learns the size of the window from errors.
    """

    def __init__(self, choice: SelectedModel) -> None:
        self.choice = choice
        self.size: int | None = None
        self._bytes_per_token = INITIAL_BYTES_PER_TOKEN
        self._last_count = (0, 0)  # of the latest request: bytes, and tokens as the server counted
        self._warned = False
        self._partial = (0, 0)  # of an unfinished answer: bytes sent, bytes received
        self._failed_at = 0  # tokens that remained when compaction did not help
        self._tool_weight: tuple[tuple[ToolSpec, ...], int] = ((), 0)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The events of the model's answer, with Compacted before it if room was needed. Raises ModelError."""
        history = list(request.messages)
        async for event in self._ensure_fits(request, history):
            yield event
        retried = False
        while True:
            fitted = replace(request, messages=render_history(history))
            count = _AnswerCount(self._request_weight(fitted, fitted.messages))
            try:
                async with aclosing(self.choice.adapter.stream(fitted)) as events:
                    async for event in events:
                        yield self._count(event, count)
                return
            except ModelError as error:
                if error.kind != "context" or count.has_output or retried:
                    raise
                retried = True
                self._learn_window(error, self.estimate_tokens(request, render_history(history)))
                before = len(history)
                async for event in self._compact(request, history):
                    yield event
                if len(history) == before:
                    raise

    async def compact(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Summarize the whole conversation, even if there is room. Raises ModelError."""
        history = list(request.messages)
        max_tokens = min(MAX_KEPT_TOKENS, int(KEEP_RECENT * self.size)) if self.size else MAX_KEPT_TOKENS
        async for event in self._summarize(request, history, len(history), int(max_tokens * self._bytes_per_token)):
            yield event

    async def measure(self, request: ModelRequest) -> tuple[int, int | None]:
        """The tokens of the request, and the size of the model's window, None if unknown."""
        tokens = self.estimate_tokens(request, render_history(request.messages))
        self.size = self.size or await self.choice.window(ALWAYS_PROBE)
        return tokens, self.size

    def take_partial_usage(self) -> Usage | None:
        """The estimated usage of an interrupted answer, once; None if there was none."""
        sent_bytes, received_bytes, self._partial = *self._partial, (0, 0)
        return self._estimate_usage(sent_bytes, received_bytes) if received_bytes else None

    def estimate_tokens(self, request: ModelRequest, messages: Sequence[Message]) -> int:
        """Estimate the tokens of a request with these messages: the server's last count, plus what is new."""
        weight = self._request_weight(request, messages)
        last_weight, last_tokens = self._last_count
        return max(int(weight / MAX_BYTES_PER_TOKEN), last_tokens + int((weight - last_weight) / self._bytes_per_token))

    def _request_weight(self, request: ModelRequest, messages: Sequence[Message]) -> int:
        if request.tools is not self._tool_weight[0]:
            sizes = (len(json.dumps(tool.schema, ensure_ascii=False)) + len(tool.description) for tool in request.tools)
            self._tool_weight = request.tools, sum(sizes) + 60 * len(request.tools)
        return (
            _byte_length(request.system) + self._tool_weight[1] + sum(message_weight(message) for message in messages)
        )

    def _count(self, event: ModelEvent, count: "_AnswerCount") -> ModelEvent:
        """Count the event. The final event gets an estimated usage if the server does not report one."""
        if isinstance(event, TextDelta | ReasoningDelta):
            count.has_output = True
            count.received_bytes += _byte_length(event.text)
            self._partial = count.sent_bytes, count.received_bytes
        if isinstance(event, ResponseDone):
            self._partial = 0, 0
            return self._calibrate(event, count.sent_bytes)
        return event

    def _calibrate(self, done: ResponseDone, sent_bytes: int) -> ResponseDone:
        if done.usage.input:
            self._last_count = sent_bytes, done.usage.input
            if sent_bytes >= MIN_BYTES_TO_CALIBRATE:  # a smaller request is mostly the fixed part of every prompt
                self._bytes_per_token = min(
                    MAX_BYTES_PER_TOKEN, max(MIN_BYTES_PER_TOKEN, sent_bytes / done.usage.input)
                )
        elif not done.usage.output:
            done = replace(done, usage=self._estimate_usage(sent_bytes, message_weight(done.message)))
        return done

    def _estimate_usage(self, sent_bytes: int, received_bytes: int) -> Usage:
        return Usage(
            input=int(sent_bytes / self._bytes_per_token),
            output=int(received_bytes / self._bytes_per_token),
            estimated=True,
        )

    def _learn_window(self, error: ModelError, tokens: int) -> None:
        """Learn from a rejected request: it did not fit, whatever the estimates were."""
        if error.window:
            self.size = error.window
            if tokens < (requested := error.requested_tokens or error.window):
                self._bytes_per_token *= max(1, tokens) / requested
                self._last_count = 0, 0
        elif self.size is None or self.size >= tokens:
            self.size = max(1, int(tokens * 0.9))

    async def _ensure_fits(self, request: ModelRequest, history: list[Message]) -> AsyncGenerator[ModelEvent, None]:
        """Warn, or make room, if the window fills up."""
        tokens = self.estimate_tokens(request, render_history(history))
        if self.size is None:
            self.size = await self.choice.window(tokens)
        if self.size is None or tokens < WARN_AT * self.size:
            self._warned, self._failed_at = False, 0
            return
        if self.estimate_tokens(request, ()) >= COMPACT_AT * self.size:
            if not self._warned:
                yield Notice(level="warning", text=f"{TOOLS_FILL_WINDOW} ({self.size:,} tokens): {FEWER_TOOLS_HINT}")
            self._warned = True
        elif tokens < COMPACT_AT * self.size:
            if not self._warned:
                fill = f"{tokens / self.size:.0%} of the model's window ({tokens:,} of {self.size:,} tokens)"
                text = f"the conversation takes {fill}; at {COMPACT_AT:.0%} it is summarized"
                yield Notice(level="warning", text=text)
            self._warned = True
        elif tokens >= 1.1 * self._failed_at:
            try:
                async for event in self._compact(request, history):
                    yield event
            except ModelError as error:
                yield Notice(level="warning", text=f"the conversation could not be summarized: {error.message}")
            remaining = self.estimate_tokens(request, render_history(history))
            self._failed_at = remaining if remaining >= COMPACT_AT * self.size else 0

    async def _compact(self, request: ModelRequest, history: list[Message]) -> AsyncGenerator[ModelEvent, None]:
        """Shorten earlier results; if that is not enough, summarize; then shorten the latest results.

        The notes about it are added to the history and emitted. Messages that wait for an answer are never summarized.
        """
        window = self.size or 0
        pending_start = _pending_from(history)
        pending = history[pending_start:]
        if (
            not any(message.results for message in pending)
            and self.estimate_tokens(request, render_history(pending)) >= window
        ):
            return  # the question alone does not fit
        if note := _shorten_results(history, pending_start, SHORTENED_RESULT_CHARS):
            history.append(note)
            yield Compacted(message=note)
            yield Notice(level="info", text="earlier tool results were shortened to make room")
            if self.estimate_tokens(request, render_history(history)) < TARGET_FILL * window:
                return
        # For messages, besides instructions and tools.
        budget = TARGET_FILL * window - self.estimate_tokens(request, ())
        tail = int(max(0, min(KEEP_RECENT * window, MAX_KEPT_TOKENS, budget / 2)) * self._bytes_per_token)
        async for event in self._summarize(request, history, min(_find_cut_point(history, tail), pending_start), tail):
            yield event
        results = sum(len(message.results) for message in pending)
        if results and self.estimate_tokens(request, render_history(history)) >= COMPACT_AT * window:
            share = max(SHORTENED_RESULT_CHARS, int(max(0, budget / 2) * self._bytes_per_token / results))
            if note := _shorten_results(history, len(history), share):
                history.append(note)
                yield Compacted(message=note)
                yield Notice(level="info", text="the latest tool results were shortened: they fill the window")

    async def _summarize(
        self, request: ModelRequest, history: list[Message], cut: int, limit: int
    ) -> AsyncGenerator[ModelEvent, None]:
        """Let the model summarize the messages before the cut; ``limit`` bytes of the user's own messages stay."""
        cut = max(cut, *(note.replaces for note in _iter_compactions(history) if note.summary), 0)
        old_messages = render_history(_history_before(history, cut))
        if all(message.text.startswith(SUMMARY_HEADING) for message in old_messages):
            return  # nothing, or nothing but a summary
        yield Notice(level="info", text="summarizing the conversation")
        summary, partial = "", False
        for attempt in _progressively_smaller(old_messages):
            summary_request = replace(
                request, messages=(*attempt, user_message(SUMMARY_PROMPT)), tool_choice="none", schema=None
            )
            try:
                count = _AnswerCount(self._request_weight(summary_request, summary_request.messages))
                async with aclosing(self.choice.adapter.stream(summary_request)) as events:
                    async for event in events:
                        event = self._count(event, count)
                        if isinstance(event, ResponseDone):
                            yield ExtraUsage(usage=event.usage)
                            summary = event.message.text.strip()
                        elif isinstance(event, Retrying | Notice | ExtraUsage):
                            yield event
                break
            except ModelError as error:
                if partial_usage := self.take_partial_usage():
                    yield ExtraUsage(usage=partial_usage)
                if error.kind != "context":
                    raise
                partial = True
        if not summary:
            raise ModelError("the model wrote no summary of the conversation", kind="context" if partial else "server")
        before = self.estimate_tokens(request, render_history(history))
        note = Compaction(
            replaces=cut, limit=max(limit, 1), summary=summary, keeps=_kept_user_messages(history, cut, limit)
        )
        history.append(Message(role="system", parts=(note,)))
        yield Compacted(message=history[-1])
        after = self.estimate_tokens(request, render_history(history))
        text = f"the conversation was summarized: about {before:,} tokens became {after:,}"
        yield Notice(level="info", text=f"{text}; its oldest part was too long to be included" if partial else text)


def _pending_from(history: Sequence[Message]) -> int:
    """The index of the first message that waits for an answer: the user's latest, or the latest calls."""
    index = len(history) - 1
    while index > 0 and history[index].role == "system":
        index -= 1
    if index > 0 and history[index].role == "tool":
        while index > 0 and history[index].role in {"tool", "system"}:
            index -= 1
    return max(0, index)


def _shorten_results(history: Sequence[Message], end: int, limit: int) -> Message | None:
    """A note that shortens the results before ``end``; None if there is little to gain."""
    start = max((note.replaces for note in _iter_compactions(history)), default=0)
    results = [result for message in history[start:end] for result in message.results]
    if any(_has_media(result) or len(result_text(result)) > 2 * limit for result in results):
        return Message(role="system", parts=(Compaction(replaces=end, limit=limit),))
    return None


def _find_cut_point(history: Sequence[Message], tail: int) -> int:
    """The index where the part to summarize ends: between rounds, with at most ``tail`` bytes after it."""
    cut, remaining = len(history), tail
    for index in range(len(history) - 1, -1, -1):
        remaining -= message_weight(history[index])
        if remaining < 0:
            break
        if history[index].role in {"user", "assistant"}:
            cut = index
    return cut


def _kept_user_messages(history: Sequence[Message], cut: int, limit: int) -> tuple[int, ...]:
    """The indexes of the user's own messages before the cut that fit into ``limit`` bytes, the newest first."""
    indexes: list[int] = []
    remaining = limit
    for index in range(cut - 1, -1, -1):
        if history[index].role == "user":
            remaining -= min(message_weight(history[index]), limit)
            if remaining < 0:
                break
            indexes.insert(0, index)
    return tuple(indexes)


def _progressively_smaller(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """The messages; then each shortened; then the newer half of them, and half again; always with earlier summaries."""
    yield messages
    shortened = tuple(_shorten_message(message, 2 * SHORTENED_RESULT_CHARS) for message in messages)
    summaries = tuple(message for message in shortened if message.text.startswith(SUMMARY_HEADING))
    rest = tuple(message for message in shortened if message not in summaries)
    while rest:
        yield normalize_history((*summaries, *rest))
        rest = rest[len(rest) // 2 + 1 :] if len(rest) > 1 else ()
