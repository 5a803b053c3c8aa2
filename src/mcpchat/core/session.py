"""One conversation: its history, its model, what it may do."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from mcpchat.core.bounded import clip
from mcpchat.core.context import Context
from mcpchat.core.errors import ModelError, UsageError
from mcpchat.core.events import Emit, MessageAdded, Notice, TurnFinished
from mcpchat.core.gate import Gate
from mcpchat.core.messages import Message, Text, Usage, user
from mcpchat.core.ports import Compacted, ModelChoice, ModelRequest, Retrying, Spent, Toolbox
from mcpchat.core.spending import Spending
from mcpchat.core.structured import AnswerSchema
from mcpchat.core.tools import ToolSpec
from mcpchat.core.turn import Limits, Turn

_LONGEST_WORDS = 4000  # characters of one server's instructions
GO_ON = "Go on exactly where your answer was cut off; do not repeat what is there."


class Session:
    """Sends messages, one turn at a time, and keeps what was said.

    Requests begin alike: the tools are sorted once and only added to, the instructions change with them alone, and
    the history only grows. So a provider finds in its cache what it has read before.
    """

    def __init__(
        self,
        *,
        model: ModelChoice,
        toolbox: Toolbox,
        gate: Gate,
        emit: Emit,
        instructions: str = "",
        limits: Limits | None = None,
        schema: AnswerSchema | None = None,
    ) -> None:
        self.context = Context(model)
        self.history: list[Message] = []
        self.thread_id = uuid.uuid4().hex
        self.run_total = Spending()
        self.spent = Spending(self.run_total)  # of this conversation
        self._introduced = ""
        self._toolbox = toolbox
        self._gate = gate
        self._emit = emit
        self._instructions = instructions
        self._limits = limits or Limits()
        self._schema = schema
        self._tools: tuple[ToolSpec, ...] | None = None
        self._system = ""
        self._one_turn = asyncio.Lock()

    @property
    def model(self) -> ModelChoice:
        return self.context.choice

    def switch(self, model: ModelChoice) -> None:
        """Go on with another model from the next message on."""
        self.context = Context(model)

    async def send(self, *said: str | Message) -> TurnFinished:
        """Say this and run the turn to its end. Raises ModelError; a cancel leaves a valid history."""
        async with self._one_turn:
            return await self._run(*(user(one) if isinstance(one, str) else one for one in said))

    async def retry(self) -> TurnFinished:
        """Ask the model again for its latest answer; what tools brought on the way to it stays, and none runs again.

        Raises UsageError where nothing was asked yet.
        """
        async with self._one_turn:
            answered = len(self.history)
            while answered and self.history[answered - 1].role == "system":
                answered -= 1  # notes on what stands before them
            kept = answered
            while kept and self.history[kept - 1].role == "assistant" and not self.history[kept - 1].calls:
                kept -= 1
            if not answered:
                raise UsageError("there is nothing to ask again")
            dropped = self.history[kept:] if kept < answered else []
            del self.history[len(self.history) - len(dropped) :]
            before = len(self.history)
            try:
                return await self._run()
            finally:
                if len(self.history) == before:  # nothing came instead
                    self.history += dropped

    async def answer(self, *said: str | Message) -> tuple[TurnFinished, str]:
        """As ``send``, with an answer that fits the session's schema: the turn's end, and the answer's JSON.

        A turn that ended early has no JSON. Raises ModelError where the answer does not fit, even the second time.
        """
        assert self._schema is not None
        finished = await self.send(*said)
        for last in (False, True):
            if finished.stop not in {"end", "steps", "calls", "repeats"}:
                return finished, ""
            text, problem = self._schema.read(_last_text(self.history[-1]))
            if not problem:
                return finished, text
            if last:
                break
            told = f"the answer does not fit the schema, so it is asked for once more: {problem}"
            self._emit(Notice(level="warning", text=told))
            finished = await self.send(self._schema.correction(problem))
        told = f"the model's answer does not fit the schema: {problem}"
        raise ModelError(told, kind="schema", hint="ask in other words, or another model")

    async def compact(self) -> bool:
        """Sum up what was said so far; False where there is nothing to sum up. Raises ModelError."""
        async with self._one_turn:
            request = await self._prepare()
            done = False
            async with aclosing(self.context.compact(_with(request, self.history))) as events:
                async for event in events:
                    if isinstance(event, Spent):
                        self.spent.add(event.usage, self.model.price)
                    elif isinstance(event, Compacted):
                        self.history.append(event.message)
                        self._emit(MessageAdded(message=event.message))
                        done = True
                    elif isinstance(event, Notice):
                        self._emit(event)
                    elif isinstance(event, Retrying):
                        self._emit(Notice(level="warning", text=event.text))
            return done

    async def filled(self) -> tuple[int, int | None]:
        """How many tokens the next request would take, and how many the model can, None where nobody knows."""
        return await self.context.look(_with(await self._prepare(), self.history))

    def clear(self) -> None:
        """Begin a new conversation with the same model and tools."""
        self.history = []
        self.thread_id = uuid.uuid4().hex
        self.spent = Spending(self.run_total)
        self.context = Context(self.model)

    def charge(self, usage: Usage) -> None:
        """Count what a request outside of the turns took: a sample for a server."""
        self.spent.add(usage, self.model.price)

    async def _run(self, *messages: Message) -> TurnFinished:
        turn = Turn(
            model=self.context,
            name=self.model.name,
            prepare=self._prepare,
            price=self.model.price,
            toolbox=self._toolbox,
            gate=self._gate,
            history=self.history,
            emit=self._emit,
            limits=self._limits,
            thread_id=self.thread_id,
            thread=self.spent,
            run_total=self.run_total,
            uncounted=self.context.take_uncounted,
            notice=self.model.notice if self._introduced != self.model.name else "",
        )
        self._introduced = self.model.name
        return await turn.run(*messages)

    async def _prepare(self) -> ModelRequest:
        """A request with all but its messages, the same from turn to turn as long as the tools are."""
        offered = {tool.exposed: tool for tool in await self._toolbox.tools()}
        known = [offered.pop(tool.exposed) for tool in self._tools or () if tool.exposed in offered]
        tools = (*known, *sorted(offered.values(), key=lambda tool: tool.exposed))
        if tools != self._tools:
            self._tools = tools
            self._system = with_servers_words(self._instructions, self._toolbox.instructions())
            if self._schema is not None:
                self._system = f"{self._system}\n\n{self._schema.instructions}".strip()
        return ModelRequest(
            model=self.model.name,
            system=self._system,
            tools=self._tools,
            options=self.model.options,
            schema=self._schema.schema if self._schema is not None else None,
            cache_key=self.thread_id,
        )


def _last_text(message: Message) -> str:
    """The last text of the message: an answer may follow on a comment."""
    return next((part.text for part in reversed(message.parts) if isinstance(part, Text)), "")


def _with(request: ModelRequest, history: Sequence[Message]) -> ModelRequest:
    return replace(request, messages=tuple(history))


def with_servers_words(instructions: str, words: Mapping[str, str]) -> str:
    """The instructions, and after them what servers want said of their tools, each under its name."""
    if not words:
        return instructions
    said = [f"## {server}\n{clip(text.strip(), _LONGEST_WORDS)}" for server, text in words.items()]
    heading = "# Notes of the tool servers on their own tools (not from the user)"
    return "\n\n".join([*([instructions] if instructions else []), heading, *said])
