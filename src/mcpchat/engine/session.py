"""One conversation: its history, its model, what it may do."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from mcpchat.core.events import Emit, Notice, TurnFinished
from mcpchat.core.messages import AgentSwitch, Compaction, Message, Text, Usage, user_message
from mcpchat.core.policy import Decision
from mcpchat.core.protocols import Compacted, ExtraUsage, ModelRequest, ResponseDone, Retrying, SelectedModel, Toolbox
from mcpchat.core.threads import MessageMetadata, Thread, ThreadMessage, derive_title
from mcpchat.core.tools import ToolSpec
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.engine.context_window import ContextWindow
from mcpchat.engine.outcomes import DenialRecorder
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.engine.tool_results import truncate_middle
from mcpchat.engine.transcript import Transcript
from mcpchat.engine.turn import Turn, TurnLimits
from mcpchat.errors import ModelError, StoreError, UsageError

_MAX_INSTRUCTIONS_LENGTH = 4000  # characters of one server's instructions
TITLE_PROMPT = (
    "You name conversations. Answer with a title for the one that follows, of three to seven words in its own "
    "language, and with nothing else."
)


@dataclass(frozen=True, kw_only=True)
class ActiveAgent:
    """The agent that is talked to: what it is told, and who decides on its calls. Without a name: nobody special."""

    gate: ApprovalGate
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
        model: SelectedModel,
        toolbox: Toolbox,
        agent: ActiveAgent,
        emit: Emit,
        transcript: Transcript | None = None,
        limits: TurnLimits | None = None,
        schema: AnswerSchema | None = None,
        run_usage: UsageTotals | None = None,
    ) -> None:
        self._denial_recorder = DenialRecorder(emit)
        emit = self._denial_recorder
        self.context_window = ContextWindow(model)
        self.transcript = transcript or Transcript(emit)
        self.agent = agent
        self.run_usage = run_usage or UsageTotals()
        self.thread_usage = UsageTotals(self.run_usage)  # of this conversation
        self._notice_shown_for = ""
        self._titled_thread = ""  # the thread that a model was asked to name
        self._toolbox = toolbox
        self._emit = emit
        self._limits = limits or TurnLimits()
        self._schema = schema
        self._tools: tuple[ToolSpec, ...] | None = None
        self._system = ""
        self._turn_lock = asyncio.Lock()

    @property
    def model(self) -> SelectedModel:
        return self.context_window.choice

    @property
    def history(self) -> Sequence[Message]:
        """The messages of the current branch."""
        return self.transcript.messages

    @property
    def denials(self) -> Sequence[tuple[str, Decision]]:
        """The calls of this session that the policy denied: the tool's name for people, and the decision."""
        return self._denial_recorder.denials

    def switch_model(self, model: SelectedModel) -> None:
        """Go on with another model from the next message on."""
        self.context_window = ContextWindow(model)

    def switch_agent(self, agent: ActiveAgent, model: SelectedModel) -> None:
        """Go on with another agent from the next message on. The thread records it, where something was said."""
        self.agent = agent
        self._tools = None
        if model is not self.model:
            self.switch_model(model)
        self._add_switch_note()

    def _add_switch_note(self) -> None:
        """A note where this branch was talked on with another agent."""
        metadata = self.transcript.metadata
        if self.history and _is_agent_switch(self.history[-1]) and metadata[-1].agent != self.agent.name:
            self.transcript.truncate(len(self.history) - 1)  # nothing was said to that one
        if metadata and metadata[-1].agent != self.agent.name:
            note = AgentSwitch(agent=self.agent.name, model=_model_selector(self.model))
            self.transcript.add(Message(role="system", parts=(note,)), self._build_metadata())

    def _build_metadata(self) -> MessageMetadata:
        return MessageMetadata(at=time.time(), agent=self.agent.name, model=_model_selector(self.model))

    async def send(self, *messages: str | Message) -> TurnFinished:
        """Say this and run the turn to its end. Raises ModelError; a cancel leaves a valid history."""
        async with self._turn_lock:
            return await self._run_turn(
                *(user_message(message) if isinstance(message, str) else message for message in messages)
            )

    async def retry(self) -> TurnFinished:
        """Ask the model again for its latest answer; what tools brought on the way to it stays, and none runs again.

        Raises UsageError where nothing was asked yet.
        """
        async with self._turn_lock:
            end = len(self.history)
            while end and self.history[end - 1].role == "system":
                end -= 1  # notes on what stands before them
            start = end
            while start and self.history[start - 1].role == "assistant" and not self.history[start - 1].calls:
                start -= 1
            if not end:
                raise UsageError("there is nothing to ask again")
            tail = self.transcript.truncate(start) if start < end else None
            before = len(self.history)
            try:
                return await self._run_turn()
            finally:
                if tail is not None and all(_is_agent_switch(message) for message in self.history[before:]):
                    if len(self.history) > before:
                        self.transcript.truncate(before)
                    self.transcript.undo_truncate(tail)  # nothing came instead

    async def undo(self) -> str:
        """Take back what was last said, and all that followed from it; or a summing up, where nothing followed.

        It stays in the thread as another branch. Gives the words that were taken back, for people. Raises UsageError
        where nothing was said.
        """
        async with self._turn_lock:
            if self.history and any(isinstance(part, Compaction) for part in self.history[-1].parts):
                index = len(self.history) - 1
                while index and any(isinstance(part, Compaction) for part in self.history[index - 1].parts):
                    index -= 1
                self.transcript.truncate(index)
                return "the summary: all that was said is before the model again"
            index = self.last_user_index()
            text = self.history[index].user_text
            while index and _is_agent_switch(self.history[index - 1]):
                index -= 1  # to whom it was said
            self.transcript.truncate(index)
            return text

    def last_user_index(self) -> int:
        """The place of the person's latest message. Raises UsageError where there is none."""
        index = next((i for i in reversed(range(len(self.history))) if self.history[i].role == "user"), None)
        if index is None:
            raise UsageError("nothing was said yet")
        return index

    async def edit(self, message: Message, index: int) -> TurnFinished:
        """Say this instead of what was said at this place: another branch, which begins there."""
        async with self._turn_lock:
            tail = self.transcript.truncate(index)
            before = len(self.history)
            try:
                return await self._run_turn(message)
            finally:
                if len(self.history) == before:
                    self.transcript.undo_truncate(tail)

    def resume(self, thread: Thread, nodes: Sequence[ThreadMessage], head: int | None = None) -> None:
        """Go on with a thread that was kept, at its head or after another of its messages."""
        self.transcript.load(thread, nodes, head)
        self.thread_usage = UsageTotals(self.run_usage)
        self.context_window = ContextWindow(self.model)

    async def send_structured(self, *messages: str | Message) -> tuple[TurnFinished, str]:
        """As ``send``, with an answer that fits the session's schema: the turn's end, and the answer's JSON.

        A turn that ended early has no JSON. Raises ModelError where the answer does not fit, even the second time.
        """
        return await self.validate_answer(await self.send(*messages))

    @property
    def has_schema(self) -> bool:
        """Whether answers must fit one."""
        return self._schema is not None

    async def validate_answer(self, finished: TurnFinished) -> tuple[TurnFinished, str]:
        """The answer of a turn that has ended, held against the schema; as ``answer``."""
        assert self._schema is not None
        for is_last in (False, True):
            if finished.stop not in {"end", "steps", "calls", "repeats"}:
                return finished, ""
            text, problem = self._schema.parse(_last_text(self.history[-1]))
            if not problem:
                return finished, text
            if is_last:
                break
            message = f"the answer does not fit the schema, so it is asked for once more: {problem}"
            self._emit(Notice(level="warning", text=message))
            finished = await self.send(self._schema.retry_prompt(problem))
        message = f"the model's answer does not fit the schema: {problem}"
        raise ModelError(message, kind="schema", hint="ask in other words, or another model")

    async def compact(self) -> bool:
        """Sum up what was said so far; False where there is nothing to sum up. Raises ModelError."""
        async with self._turn_lock:
            request = await self._build_request()
            compacted, usage = False, Usage()
            async with aclosing(self.context_window.compact(_with_messages(request, self.history))) as events:
                async for event in events:
                    if isinstance(event, ExtraUsage):
                        usage += event.usage
                        self.thread_usage.add(event.usage, self.model.price)
                    elif isinstance(event, Compacted):
                        metadata = replace(self._build_metadata(), usage=usage if usage.total else None)
                        self.transcript.add(event.message, metadata)
                        compacted = True
                    elif isinstance(event, Notice):
                        self._emit(event)
                    elif isinstance(event, Retrying):
                        self._emit(Notice(level="warning", text=event.text))
            return compacted

    async def name_thread(self) -> None:
        """Have the model name the thread by how it began, once, where no person has. What goes wrong is let be."""
        thread, transcript = self.transcript.thread, self.transcript
        has_answer = any(message.role == "assistant" and message.text for message in self.history)
        if thread.named or self._titled_thread == thread.id or not has_answer:
            return
        self._titled_thread = thread.id
        excerpt = "\n\n".join(
            f"{message.role}: {truncate_middle(message.text, 2000)}" for message in self.history[:6] if message.text
        )
        request = ModelRequest(
            model=self.model.name,
            system=TITLE_PROMPT,
            messages=(user_message(truncate_middle(excerpt, 8000)),),
            options=self.model.options,
        )
        try:
            async with aclosing(self.model.adapter.stream(request)) as events:
                async for event in events:
                    if isinstance(event, ResponseDone):
                        self.thread_usage.add(event.usage, self.model.price)
                        title = derive_title(event.message.text.strip().strip("\"'#*. "))
                        if title and transcript.thread.id == thread.id:
                            transcript.rename(title, named=False)
        except (ModelError, StoreError):
            return

    async def window_usage(self) -> tuple[int, int | None]:
        """How many tokens the next request would take, and how many the model can, None where nobody knows."""
        return await self.context_window.measure(_with_messages(await self._build_request(), self.history))

    def clear(self) -> None:
        """Begin a new conversation with the same model and tools."""
        self.transcript.start_new()
        self.thread_usage = UsageTotals(self.run_usage)
        self.context_window = ContextWindow(self.model)

    def add_usage(self, usage: Usage) -> None:
        """Count what a request outside of the turns took: a sample for a server."""
        self.thread_usage.add(usage, self.model.price)

    async def _run_turn(self, *messages: Message) -> TurnFinished:
        turn = Turn(
            model=self.context_window,
            choice=self.model,
            agent=self.agent.name,
            build_request=self._build_request,
            toolbox=self._toolbox,
            gate=self.agent.gate,
            transcript=self.transcript,
            emit=self._emit,
            limits=self._limits,
            thread_usage=self.thread_usage,
            run_usage=self.run_usage,
            take_partial_usage=self.context_window.take_partial_usage,
            notice=self.model.notice if self._notice_shown_for != self.model.name else "",
        )
        self._notice_shown_for = self.model.name
        self._add_switch_note()
        return await turn.run(*messages)

    async def _build_request(self) -> ModelRequest:
        """A request with all but its messages, the same from turn to turn as long as the tools are."""
        available = {tool.model_name: tool for tool in await self._toolbox.list_tools()}
        existing = [available.pop(tool.model_name) for tool in self._tools or () if tool.model_name in available]
        tools = (*existing, *sorted(available.values(), key=lambda tool: tool.model_name))
        if tools != self._tools:
            self._tools = tools
            self._system = add_server_instructions(self.agent.instructions, self._toolbox.instructions())
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


def _is_agent_switch(message: Message) -> bool:
    return any(isinstance(part, AgentSwitch) for part in message.parts)


def _model_selector(model: SelectedModel) -> str:
    return model.selector or model.name


def _last_text(message: Message) -> str:
    """The last text of the message: an answer may follow on a comment."""
    return next((part.text for part in reversed(message.parts) if isinstance(part, Text)), "")


def _with_messages(request: ModelRequest, history: Sequence[Message]) -> ModelRequest:
    return replace(request, messages=tuple(history))


def add_server_instructions(instructions: str, server_instructions: Mapping[str, str]) -> str:
    """The instructions, and after them what servers want said of their tools, each under its name."""
    if not server_instructions:
        return instructions
    sections = [
        f"## {server}\n{truncate_middle(text.strip(), _MAX_INSTRUCTIONS_LENGTH)}"
        for server, text in server_instructions.items()
    ]
    heading = "# Notes of the tool servers on their own tools (not from the user)"
    return "\n\n".join([*([instructions] if instructions else []), heading, *sections])
