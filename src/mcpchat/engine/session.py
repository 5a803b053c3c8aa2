"""One conversation: its history, its model, what it may do."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from mcpchat.core.events import Emit, Notice, TurnFinished
from mcpchat.core.messages import AgentSwitch, Compaction, Message, Text, Usage, user
from mcpchat.core.policy import Decision
from mcpchat.core.protocols import Compacted, Done, ModelChoice, ModelRequest, Retrying, Spent, Toolbox
from mcpchat.core.threads import Node, Record, Thread, title_of
from mcpchat.core.tools import ToolSpec
from mcpchat.core.usage import Spending
from mcpchat.engine.approval_gate import Gate
from mcpchat.engine.context_window import Context
from mcpchat.engine.outcomes import Denials
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.engine.tool_results import clip
from mcpchat.engine.transcript import Transcript
from mcpchat.engine.turn import Limits, Turn
from mcpchat.errors import ModelError, StoreError, UsageError

_LONGEST_WORDS = 4000  # characters of one server's instructions
NAME_IT = (
    "You name conversations. Answer with a title for the one that follows, of three to seven words in its own "
    "language, and with nothing else."
)


@dataclass(frozen=True, kw_only=True)
class Role:
    """The agent that is talked to: what it is told, and who decides on its calls. Without a name: nobody special."""

    gate: Gate
    name: str = ""
    instructions: str = ""


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
        role: Role,
        emit: Emit,
        transcript: Transcript | None = None,
        limits: Limits | None = None,
        schema: AnswerSchema | None = None,
        run_total: Spending | None = None,
    ) -> None:
        self._denials = Denials(emit)
        emit = self._denials
        self.context = Context(model)
        self.transcript = transcript or Transcript(emit)
        self.role = role
        self.run_total = run_total or Spending()
        self.spent = Spending(self.run_total)  # of this conversation
        self._introduced = ""
        self._named = ""  # the thread that a model was asked to name
        self._toolbox = toolbox
        self._emit = emit
        self._limits = limits or Limits()
        self._schema = schema
        self._tools: tuple[ToolSpec, ...] | None = None
        self._system = ""
        self._one_turn = asyncio.Lock()

    @property
    def model(self) -> ModelChoice:
        return self.context.choice

    @property
    def history(self) -> Sequence[Message]:
        """The messages of the current branch."""
        return self.transcript.messages

    @property
    def denied(self) -> Sequence[tuple[str, Decision]]:
        """The calls of this session that the policy denied: the tool's name for people, and the decision."""
        return self._denials.denied

    def switch(self, model: ModelChoice) -> None:
        """Go on with another model from the next message on."""
        self.context = Context(model)

    def switch_agent(self, role: Role, model: ModelChoice) -> None:
        """Go on with another agent from the next message on. The thread records it, where something was said."""
        self.role = role
        self._tools = None
        if model is not self.model:
            self.switch(model)
        self._record_switch()

    def _record_switch(self) -> None:
        """A note where this branch was talked on with another agent."""
        records = self.transcript.records
        if self.history and _is_switch(self.history[-1]) and records[-1].agent != self.role.name:
            self.transcript.cut(len(self.history) - 1)  # nothing was said to that one
        if records and records[-1].agent != self.role.name:
            note = AgentSwitch(agent=self.role.name, model=_name(self.model))
            self.transcript.add(Message(role="system", parts=(note,)), self._record())

    def _record(self) -> Record:
        return Record(at=time.time(), agent=self.role.name, model=_name(self.model))

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
            tail = self.transcript.cut(kept) if kept < answered else None
            before = len(self.history)
            try:
                return await self._run()
            finally:
                if tail is not None and all(_is_switch(message) for message in self.history[before:]):
                    if len(self.history) > before:
                        self.transcript.cut(before)
                    self.transcript.restore(tail)  # nothing came instead

    async def undo(self) -> str:
        """Take back what was last said, and all that followed from it; or a summing up, where nothing followed.

        It stays in the thread as another branch. Gives the words that were taken back, for people. Raises UsageError
        where nothing was said.
        """
        async with self._one_turn:
            if self.history and any(isinstance(part, Compaction) for part in self.history[-1].parts):
                place = len(self.history) - 1
                while place and any(isinstance(part, Compaction) for part in self.history[place - 1].parts):
                    place -= 1
                self.transcript.cut(place)
                return "the summary: all that was said is before the model again"
            place = self.last_said()
            words = self.history[place].words
            while place and _is_switch(self.history[place - 1]):
                place -= 1  # to whom it was said
            self.transcript.cut(place)
            return words

    def last_said(self) -> int:
        """The place of the person's latest message. Raises UsageError where there is none."""
        place = next((at for at in reversed(range(len(self.history))) if self.history[at].role == "user"), None)
        if place is None:
            raise UsageError("nothing was said yet")
        return place

    async def edit(self, message: Message, place: int) -> TurnFinished:
        """Say this instead of what was said at this place: another branch, which begins there."""
        async with self._one_turn:
            tail = self.transcript.cut(place)
            before = len(self.history)
            try:
                return await self._run(message)
            finally:
                if len(self.history) == before:
                    self.transcript.restore(tail)

    def resume(self, thread: Thread, nodes: Sequence[Node], head: int | None = None) -> None:
        """Go on with a thread that was kept, at its head or after another of its messages."""
        self.transcript.open(thread, nodes, head)
        self.spent = Spending(self.run_total)
        self.context = Context(self.model)

    async def answer(self, *said: str | Message) -> tuple[TurnFinished, str]:
        """As ``send``, with an answer that fits the session's schema: the turn's end, and the answer's JSON.

        A turn that ended early has no JSON. Raises ModelError where the answer does not fit, even the second time.
        """
        return await self.fitted(await self.send(*said))

    @property
    def fits_a_schema(self) -> bool:
        """Whether answers must fit one."""
        return self._schema is not None

    async def fitted(self, finished: TurnFinished) -> tuple[TurnFinished, str]:
        """The answer of a turn that has ended, held against the schema; as ``answer``."""
        assert self._schema is not None
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
            done, taken = False, Usage()
            async with aclosing(self.context.compact(_with(request, self.history))) as events:
                async for event in events:
                    if isinstance(event, Spent):
                        taken += event.usage
                        self.spent.add(event.usage, self.model.price)
                    elif isinstance(event, Compacted):
                        record = replace(self._record(), usage=taken if taken.total else None)
                        self.transcript.add(event.message, record)
                        done = True
                    elif isinstance(event, Notice):
                        self._emit(event)
                    elif isinstance(event, Retrying):
                        self._emit(Notice(level="warning", text=event.text))
            return done

    async def name_thread(self) -> None:
        """Have the model name the thread by how it began, once, where no person has. What goes wrong is let be."""
        thread, transcript = self.transcript.thread, self.transcript
        answered = any(message.role == "assistant" and message.text for message in self.history)
        if thread.named or self._named == thread.id or not answered:
            return
        self._named = thread.id
        said = "\n\n".join(f"{m.role}: {clip(m.text, 2000)}" for m in self.history[:6] if m.text)
        request = ModelRequest(
            model=self.model.name, system=NAME_IT, messages=(user(clip(said, 8000)),), options=self.model.options
        )
        try:
            async with aclosing(self.model.adapter.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        self.spent.add(event.usage, self.model.price)
                        title = title_of(event.message.text.strip().strip("\"'#*. "))
                        if title and transcript.thread.id == thread.id:
                            transcript.rename(title, named=False)
        except (ModelError, StoreError):
            return

    async def filled(self) -> tuple[int, int | None]:
        """How many tokens the next request would take, and how many the model can, None where nobody knows."""
        return await self.context.look(_with(await self._prepare(), self.history))

    def clear(self) -> None:
        """Begin a new conversation with the same model and tools."""
        self.transcript.begin()
        self.spent = Spending(self.run_total)
        self.context = Context(self.model)

    def charge(self, usage: Usage) -> None:
        """Count what a request outside of the turns took: a sample for a server."""
        self.spent.add(usage, self.model.price)

    async def _run(self, *messages: Message) -> TurnFinished:
        turn = Turn(
            model=self.context,
            choice=self.model,
            agent=self.role.name,
            prepare=self._prepare,
            toolbox=self._toolbox,
            gate=self.role.gate,
            transcript=self.transcript,
            emit=self._emit,
            limits=self._limits,
            thread=self.spent,
            run_total=self.run_total,
            uncounted=self.context.take_uncounted,
            notice=self.model.notice if self._introduced != self.model.name else "",
        )
        self._introduced = self.model.name
        self._record_switch()
        return await turn.run(*messages)

    async def _prepare(self) -> ModelRequest:
        """A request with all but its messages, the same from turn to turn as long as the tools are."""
        offered = {tool.exposed: tool for tool in await self._toolbox.tools()}
        known = [offered.pop(tool.exposed) for tool in self._tools or () if tool.exposed in offered]
        tools = (*known, *sorted(offered.values(), key=lambda tool: tool.exposed))
        if tools != self._tools:
            self._tools = tools
            self._system = with_servers_words(self.role.instructions, self._toolbox.instructions())
            if self._schema is not None:
                self._system = f"{self._system}\n\n{self._schema.instructions}".strip()
        return ModelRequest(
            model=self.model.name,
            system=self._system,
            tools=self._tools,
            options=self.model.options,
            schema=self._schema.schema if self._schema is not None else None,
            cache_key=self.transcript.thread.id,
        )


def _is_switch(message: Message) -> bool:
    return any(isinstance(part, AgentSwitch) for part in message.parts)


def _name(model: ModelChoice) -> str:
    return model.chosen or model.name


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
