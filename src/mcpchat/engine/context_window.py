"""Keeps requests within the model's context window: a Model around a Model."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import Compaction, Message, Reasoning, Usage, result_text, user_message
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
from mcpchat.engine.compaction import (
    MIN_RESULT_CHARS,
    NO_SUMMARY,
    SHORTENED_RESULT_CHARS,
    find_cut_point,
    format_transcript,
    history_before,
    is_only_a_summary,
    is_worth_a_summary,
    iter_compactions,
    kept_user_messages,
    pending_from,
    progressively_smaller,
    render_history,
    shorten_results,
)
from mcpchat.engine.refusals import may_be_about_content, retry_without_refused
from mcpchat.engine.token_estimate import (
    INITIAL_WEIGHT_PER_TOKEN,
    MAX_WEIGHT_PER_TOKEN,
    InputWeights,
    TokenEstimator,
    message_weight,
    text_weight,
    tool_weight,
    weigh_messages,
)
from mcpchat.engine.tool_results import truncate_middle
from mcpchat.errors import ModelError

WARN_AT, COMPACT_AT = 0.80, 0.85  # of the window
TARGET_FILL = 0.60  # of the window, after shortening alone; a higher fill would soon be too much again
KEEP_RECENT = 0.25  # of the window, for the rounds that stay unchanged
MAX_KEPT_TOKENS = 20_000  # of the recent messages, and of the user's own messages before them
MAX_REFUSALS = 8  # of one request as too long; each one is followed by a smaller request
ALWAYS_PROBE = 10**9  # tokens: more than any window, so that its size is looked up
MAX_TRANSCRIPT_CHARS, MIN_TRANSCRIPT_CHARS = 16_000, 400  # of a conversation that is summed up as plain text
MIN_SUMMARY_CHARS = 300
MIN_OUTPUT_TOKENS = 256  # that an answer may have, however full the window is
MAX_SUMMARY_TOKENS = 1000  # that a request for a summary leaves free; of small windows a quarter
MIN_TOOL_TOKENS = 300  # of the tools of a request, from which on a server that leaves them out is noticed

SUMMARY_PROMPT = (
    "The conversation so far is about to be replaced by a summary that you write now, because it has outgrown your "
    "context window. Write all that is needed to go on without it: what the user wants and has decided, what was found "
    "out (names, numbers, ids, paths and addresses word for word), what was done with which tools, what is still open. "
    "Do not call tools. Answer with the summary alone."
)
TOOLS_FILL_WINDOW = "the tools and instructions alone fill the model's window"
FEWER_TOOLS_HINT = "offer fewer tools (tools and exclude of a server, servers of an agent)"


@dataclass
class _AnswerCount:
    """One answer as it streams: the weights of its request and of itself, and whether anything of it was shown.

    ``max_output`` is the most tokens that the answer may have.
    """

    weights: InputWeights
    max_output: int | None = None
    received: int = 0
    has_output: bool = False


class ContextWindow:
    """A Model that gets the whole history with each request, and sends to the model of ``choice`` what fits.

    It learns how dense the text is from each count of the server, and the size of the window from refusals.
    """

    def __init__(self, choice: SelectedModel) -> None:
        self.choice = choice
        self.size: int | None = None
        self._estimator = TokenEstimator()
        self._warned = self._warned_of_tools = False
        self._partial = (0, 0)  # of an unfinished answer: weight sent, weight received
        self._failed_at = 0  # tokens that remained when compaction did not help
        self._tool_weight: tuple[tuple[ToolSpec, ...], int] = ((), 0)

    async def stream(self, request: ModelRequest, *, recover: bool = True) -> AsyncGenerator[ModelEvent, None]:
        """The events of the model's answer, with Compacted before it if room was needed. Raises ModelError.

        With ``recover``, a request that is refused for its content is sent again without it.
        """
        history = list(request.messages)
        async for event in self._ensure_fits(request, history):
            yield event
        refusals = 0
        while True:
            fitted = self._limit_output(replace(request, messages=render_history(history)))
            count = self._start_count(fitted)
            try:
                async with aclosing(self.choice.adapter.stream(fitted)) as events:
                    async for event in events:
                        if isinstance(event, ResponseDone) and (notice := self._check_tools_arrived(event, count)):
                            yield notice
                        yield self._count(event, count)
                return
            except ModelError as error:
                if recover and may_be_about_content(error) and not count.has_output:
                    retried = retry_without_refused(self._stream_unrecovered, request, history, error)
                    async with aclosing(retried) as events:
                        async for event in events:
                            yield event
                    return
                if (
                    error.kind != "context"
                    or count.has_output
                    or refusals == MAX_REFUSALS
                    or _fits_by_its_words(error, count)
                ):
                    raise
                refusals += 1
                self._learn_from_refusal(error, count)
                if self._limit_output(request, render_history(history)).options != fitted.options:
                    continue  # with less room for the answer it may fit
                before = len(history)
                async for event in self._compact(request, history, refused=True):
                    yield event
                if len(history) == before:
                    raise

    def _stream_unrecovered(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        return self.stream(request, recover=False)

    async def compact(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Summarize the whole conversation, even if there is room. Raises ModelError."""
        history = list(request.messages)
        max_tokens = min(MAX_KEPT_TOKENS, int(KEEP_RECENT * self.size)) if self.size else MAX_KEPT_TOKENS
        async for event in self._summarize(request, history, len(history), self._to_weight(max_tokens)):
            yield event

    async def measure(self, request: ModelRequest) -> tuple[int, int | None]:
        """The tokens of the request, and the size of the model's window, None if unknown."""
        tokens = self.estimate_tokens(request, render_history(request.messages))
        self.size = self.size or await self.choice.window(ALWAYS_PROBE)
        return tokens, self.size

    def take_partial_usage(self) -> Usage | None:
        """The estimated usage of an interrupted answer, once; None if there was none."""
        sent, received, self._partial = *self._partial, (0, 0)
        return self._estimate_usage(sent, received) if received else None

    def estimate_tokens(self, request: ModelRequest, messages: Sequence[Message]) -> int:
        """Estimate the tokens of a request with these messages: the server's last count, plus what is new."""
        fixed = self._fixed_weight(request)
        return self._estimator.estimate(fixed + sum(message_weight(message) for message in messages), fixed)

    def _fixed_weight(self, request: ModelRequest) -> int:
        """The weight of the instructions and the tools."""
        return text_weight(request.system) + self._tools_weight(request)

    def _tools_weight(self, request: ModelRequest) -> int:
        if request.tools is not self._tool_weight[0]:
            self._tool_weight = request.tools, sum(map(tool_weight, request.tools))
        return self._tool_weight[1]

    def _to_weight(self, tokens: float) -> int:
        return int(max(0, tokens) * self._estimator.weight_per_token)

    def _start_count(self, request: ModelRequest) -> _AnswerCount:
        history, results = weigh_messages(request.messages, request.tools)
        weights = InputWeights(
            instructions=text_weight(request.system),
            tools=self._tools_weight(request),
            history=history,
            results=results,
        )
        return _AnswerCount(weights, request.options.max_output_tokens)

    def _count(self, event: ModelEvent, count: _AnswerCount) -> ModelEvent:
        """Count the event. The final event gets an estimated usage if the server does not report one."""
        if isinstance(event, TextDelta | ReasoningDelta):
            count.has_output = True
            count.received += text_weight(event.text)
            self._partial = count.weights.total, count.received
        if isinstance(event, ResponseDone):
            self._partial = 0, 0
            return self._calibrate(event, count)
        return event

    def _calibrate(self, done: ResponseDone, count: _AnswerCount) -> ResponseDone:
        usage = done.usage
        if usage.input and not usage.estimated:
            self._estimator.learn(count.weights.total, count.weights.fixed, usage.input)
            has_reasoning = any(isinstance(part, Reasoning) for part in done.message.parts)  # it may not be sent again
            if usage.output > 1 and not usage.reasoning and not has_reasoning:
                self._estimator.add_counted(message_weight(done.message), usage.output)
        elif not usage.output:
            done = replace(done, usage=self._estimate_usage(count.weights.total, message_weight(done.message)))
        if self.size and usage.input and self._is_cut_at_window(done, self.size):
            done = replace(done, stop="window", message=replace(done.message, cut="length"))
        if done.usage.input:
            done = replace(done, usage=replace(done.usage, input_split=count.weights.split(done.usage.input)))
        return done

    @staticmethod
    def _is_cut_at_window(done: ResponseDone, size: int) -> bool:
        """Whether the answer ends because the window was full. Some servers report such an answer as complete."""
        if done.stop == "length":
            return done.usage.total >= size - 1
        return done.stop == "end" and done.usage.total in {size - 1, size}

    def _estimate_usage(self, sent: int, received: int) -> Usage:
        ratio = self._estimator.weight_per_token
        return Usage(input=int(sent / ratio), output=int(received / ratio), estimated=True)

    def _check_tools_arrived(self, done: ResponseDone, count: _AnswerCount) -> Notice | None:
        """A warning, once, if the server counted fewer tokens than the tools alone must take."""
        expected = count.weights.tools / INITIAL_WEIGHT_PER_TOKEN
        least = count.weights.tools / MAX_WEIGHT_PER_TOKEN
        usage = done.usage
        if self._warned_of_tools or expected < MIN_TOOL_TOKENS or usage.cached or usage.estimated:
            return None
        if not 0 < usage.input < least:
            return None
        self._warned_of_tools = True
        return Notice(
            level="warning",
            text=f"the model's server counted {usage.input:,} tokens for a request whose tools alone take about "
            f"{expected:,.0f}: it seems to leave the tools out, so the model cannot call them. Use a model whose chat "
            "template has tools (llama.cpp: --jinja), or one that needs no tools",
        )

    def _limit_output(self, request: ModelRequest, messages: Sequence[Message] | None = None) -> ModelRequest:
        """The request with a smaller limit of output if the window has no room for it: servers add it to the prompt."""
        limit = request.options.max_output_tokens
        if limit is None or self.size is None:
            return request
        tokens = self.estimate_tokens(request, request.messages if messages is None else messages)
        room = max(MIN_OUTPUT_TOKENS, int(0.95 * self.size) - tokens)
        if room >= limit:
            return request
        return replace(request, options=replace(request.options, max_output_tokens=room))

    def _learn_from_refusal(self, error: ModelError, count: _AnswerCount) -> None:
        """Learn from a refused request: it did not fit, whatever the estimates were."""
        estimate = self._estimator.estimate(count.weights.total, count.weights.fixed)
        if error.window:
            self.size = error.window
        requested = error.requested_tokens
        if requested and count.max_output and requested - count.max_output >= estimate / 2:
            requested -= count.max_output  # the number is of the whole request
        if requested and requested > (error.window or 0):
            self._estimator.learn(count.weights.total, count.weights.fixed, requested, any_size=True)
            if not error.window and (self.size is None or self.size >= requested):
                self.size = max(1, int(requested * 0.9))
        elif error.window:
            room = error.window - (count.max_output or 0)
            if estimate < error.window and not requested and room > error.window / 2:
                self._estimator.learn(count.weights.total, count.weights.fixed, room, any_size=True)
        elif self.size is None or (self.size >= estimate and self._estimator.is_calibrated):
            self.size = max(1, int(estimate * 0.9))
        elif self.size >= estimate:
            self._estimator.learn(count.weights.total, count.weights.fixed, int(self.size * 1.1), any_size=True)

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

    async def _compact(
        self, request: ModelRequest, history: list[Message], *, refused: bool = False
    ) -> AsyncGenerator[ModelEvent, None]:
        """Shorten earlier results; if that is not enough, summarize; then shorten the latest results.

        The notes about it are added to the history and emitted. Messages that wait for an answer are never summarized.
        With ``refused``, the request that the server refused becomes smaller in any case that allows it.
        """
        window, before = self.size or 0, len(history)
        pending_start = pending_from(history)
        pending = history[pending_start:]
        question = [message for message in pending if message.role != "system"]  # notes are about the whole history
        if (
            not any(message.results for message in question)
            and self.estimate_tokens(request, render_history(question)) >= window
        ):
            return  # the question alone does not fit
        if note := shorten_results(history, pending_start, SHORTENED_RESULT_CHARS):
            history.append(note)
            yield Compacted(message=note)
            yield Notice(level="info", text="earlier tool results were shortened to make room")
            if self.estimate_tokens(request, render_history(history)) < TARGET_FILL * window:
                return
        # For messages, besides instructions and tools.
        budget = TARGET_FILL * window - self.estimate_tokens(request, ())
        tail = self._to_weight(min(KEEP_RECENT * window, MAX_KEPT_TOKENS, budget / 2))
        cut = min(find_cut_point(history, tail), pending_start)
        if is_worth_a_summary(render_history(history_before(history, cut))):
            must_fit = refused or self.estimate_tokens(request, render_history(history)) >= window
            async for event in self._summarize(request, history, cut, tail, may_omit=must_fit):
                yield event
        if self.estimate_tokens(request, render_history(history)) >= COMPACT_AT * window:
            async for event in self._shorten_pending(history, pending, budget / 2):
                yield event
        if refused and len(history) == before:
            async for event in self._compact_further(request, history):
                yield event

    async def _shorten_pending(
        self, history: list[Message], pending: Sequence[Message], tokens: float
    ) -> AsyncGenerator[ModelEvent, None]:
        """Shorten the results that wait for an answer, so that together they take about so many tokens."""
        texts = [result_text(result) for message in pending for result in message.results]
        if not texts:
            return
        weight_per_char = sum(map(text_weight, texts)) / max(1, sum(map(len, texts)))
        share = self._to_weight(tokens) / max(1.0, weight_per_char) / len(texts)
        for note in self._shorten_latest(history, max(MIN_RESULT_CHARS, int(share))):
            yield note

    def _shorten_latest(self, history: list[Message], limit: int) -> Iterator[ModelEvent]:
        if note := shorten_results(history, len(history), limit):
            history.append(note)
            yield Compacted(message=note)
            yield Notice(level="info", text="the latest tool results were shortened: they fill the window")

    async def _compact_further(self, request: ModelRequest, history: list[Message]) -> AsyncGenerator[ModelEvent, None]:
        """Make a request smaller that the server refused although it should fit by all that is known."""
        before = len(history)
        rendered = render_history(history)
        longest = max((len(result_text(result)) for message in rendered for result in message.results), default=0)
        for note in self._shorten_latest(history, max(MIN_RESULT_CHARS, longest // 2)):
            yield note
        if len(history) == before:
            async for event in self._summarize(request, history, pending_from(history), 0, may_omit=True):
                yield event
        last = next((note for note in reversed(list(iter_compactions(history))) if note.summary), None)
        if len(history) == before and last is not None and (last.keeps or len(last.summary) > MIN_SUMMARY_CHARS):
            summary = truncate_middle(last.summary, max(MIN_SUMMARY_CHARS, len(last.summary) // 2))
            history.append(Message(role="system", parts=(replace(last, summary=summary, keeps=()),)))
            yield Compacted(message=history[-1])

    async def _summarize(
        self, request: ModelRequest, history: list[Message], cut: int, limit: int, *, may_omit: bool = False
    ) -> AsyncGenerator[ModelEvent, None]:
        """Let the model summarize the messages before the cut; the user's own messages stay up to the weight ``limit``.

        If no summary comes of it, the messages are left out with ``may_omit``, otherwise it raises ModelError.
        """
        cut = max(cut, *(note.replaces for note in iter_compactions(history) if note.summary), 0)
        old_messages = render_history(history_before(history, cut))
        if is_only_a_summary(old_messages):
            return
        yield Notice(level="info", text="summarizing the conversation")
        summary, refused = "", False
        requests = self._build_summary_requests(request, old_messages)
        following = next(requests, None)
        while following is not None:
            summary_request, is_complete = following
            try:
                count = self._start_count(summary_request)
                async with aclosing(self.choice.adapter.stream(summary_request)) as events:
                    async for event in events:
                        event = self._count(event, count)
                        if isinstance(event, ResponseDone):
                            yield ExtraUsage(usage=event.usage)
                            summary = event.message.text.strip()
                        elif isinstance(event, Retrying | Notice | ExtraUsage):
                            yield event
                refused = not is_complete
                break
            except ModelError as error:
                if partial_usage := self.take_partial_usage():
                    yield ExtraUsage(usage=partial_usage)
                if error.kind == "tool_limit":
                    continue  # the server has said how many tools it takes, and gets no more from now on
                if error.kind != "context":
                    raise
                self._learn_from_refusal(error, count)
                refused = True
                following = next(requests, None)
        if not summary and not may_omit:
            raise ModelError("the model wrote no summary of the conversation", kind="context" if refused else "server")
        before = self.estimate_tokens(request, render_history(history))
        note = Compaction(
            replaces=cut,
            limit=max(limit, 1),
            summary=self._limit_summary(summary) or NO_SUMMARY,
            keeps=kept_user_messages(history, cut, limit),
        )
        history.append(Message(role="system", parts=(note,)))
        yield Compacted(message=history[-1])
        after = self.estimate_tokens(request, render_history(history))
        if summary:
            text = f"the conversation was summarized: about {before:,} tokens became {after:,}"
            yield Notice(level="info", text=f"{text}; its oldest part was too long to be included" if refused else text)
        else:
            yield Notice(
                level="warning",
                text=f"no summary could be made: the model no longer gets the first {cut} messages of the conversation",
            )

    def _limit_summary(self, summary: str) -> str:
        if not self.size:
            return summary
        share = self._to_weight(KEEP_RECENT * self.size) * len(summary) / max(1, text_weight(summary))
        return truncate_middle(summary, max(MIN_SUMMARY_CHARS, int(share)))

    def _build_summary_requests(
        self, request: ModelRequest, messages: tuple[Message, ...]
    ) -> Iterator[tuple[ModelRequest, bool]]:
        """Requests for a summary, each smaller than the last, and whether they have all messages.

        First come the messages as they are, so that the provider's cache serves them; at last a part of them as plain
        text, without instructions and tools. Those that cannot fit are left out.
        """
        for attempt in progressively_smaller(messages):
            whole = replace(request, messages=(*attempt, user_message(SUMMARY_PROMPT)), tool_choice="none", schema=None)
            if self.size is None or self.estimate_tokens(whole, whole.messages) <= self.size:
                yield whole, attempt is messages
        limit = MAX_TRANSCRIPT_CHARS
        while limit >= MIN_TRANSCRIPT_CHARS:
            question = user_message(f"{format_transcript(messages, limit)}\n\n{SUMMARY_PROMPT}")
            plain = replace(request, system="", tools=(), messages=(question,), schema=None)
            if self._has_room_for_summary(plain):
                yield plain, False
            limit //= 2

    def _has_room_for_summary(self, request: ModelRequest) -> bool:
        if self.size is None:
            return True
        room = self.size - self.estimate_tokens(request, request.messages)
        return room >= min(MAX_SUMMARY_TOKENS, self.size // 4)


def _fits_by_its_words(error: ModelError, count: _AnswerCount) -> bool:
    """Whether the refusal states a count that is far below the window: the length is not what is wrong."""
    if not error.window or not error.requested_tokens:
        return False
    return error.requested_tokens + (count.max_output or 0) < error.window / 2
