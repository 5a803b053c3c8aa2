"""One conversation: its history, its model, its agent."""

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
from mcpchat.engine.tool_search import (
    ToolSearchSettings,
    ToolSelection,
    add_deferred_lines,
    add_server_lines,
    choose_tools,
    describe_left_out,
    describe_servers,
    used_names,
)
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
    """The agent in use: its instructions, and the gate that decides on its calls. ``name`` is empty for none.

    ``always`` are globs of the tools that it is offered in any case.
    """

    gate: ApprovalGate
    name: str = ""
    instructions: str = ""
    always: tuple[str, ...] = ()


class Session:
    """Sends messages, one turn at a time, and holds the history.

    Each request begins as the one before: tools are sorted once and only added, instructions change only with the
    tools, and the history only grows. So the provider's prompt cache stays valid.
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
        tool_search: ToolSearchSettings = ToolSearchSettings(mode="off"),  # noqa: B008 - immutable
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
        self._tool_search = tool_search
        self._selection: ToolSelection | None = None
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

    def use_settings(self, limits: TurnLimits, tool_search: ToolSearchSettings) -> None:
        """Use other limits and another search of tools from the next message on."""
        self._limits, self._tool_search, self._selection = limits, tool_search, None

    def switch_model(self, model: SelectedModel) -> None:
        """Use another model from the next message on."""
        self.context_window = ContextWindow(model)

    def switch_agent(self, agent: ActiveAgent, model: SelectedModel) -> None:
        """Use another agent from the next message on. A thread that has messages records the switch."""
        self.agent = agent
        self._selection = None
        if model is not self.model:
            self.switch_model(model)
        self._add_switch_note()

    def _add_switch_note(self) -> None:
        """Add a note to the history if the last message was another agent's."""
        metadata = self.transcript.metadata
        if self.history and _is_agent_switch(self.history[-1]) and metadata[-1].agent != self.agent.name:
            self.transcript.truncate(len(self.history) - 1)  # no message followed that switch
        if metadata and metadata[-1].agent != self.agent.name:
            note = AgentSwitch(agent=self.agent.name, model=_model_selector(self.model))
            self.transcript.add(Message(role="system", parts=(note,)), self._build_metadata())

    def _build_metadata(self) -> MessageMetadata:
        return MessageMetadata(at=time.time(), agent=self.agent.name, model=_model_selector(self.model))

    async def send(self, *messages: str | Message) -> TurnFinished:
        """Send the messages and run the turn to its end. Raises ModelError. A cancellation leaves a valid history."""
        async with self._turn_lock:
            sent = (user_message(message) if isinstance(message, str) else message for message in messages)
            return await self._new_turn().run(*sent)

    async def retry(self) -> TurnFinished:
        """Ask the model for its latest answer again. Tool results before that answer stay, and no tool runs again.

        Raises UsageError if there is no message yet.
        """
        async with self._turn_lock:
            end = len(self.history)
            while end and self.history[end - 1].role == "system":
                end -= 1  # notes on earlier messages
            start = end
            while start and self.history[start - 1].role == "assistant" and not self.history[start - 1].calls:
                start -= 1
            if not end:
                raise UsageError("there is nothing to ask again")
            tail = self.transcript.truncate(start) if start < end else None
            before = len(self.history)
            try:
                return await self._new_turn().run()
            finally:
                if tail is not None and all(_is_agent_switch(message) for message in self.history[before:]):
                    if len(self.history) > before:
                        self.transcript.truncate(before)
                    self.transcript.undo_truncate(tail)  # there is no new answer

    async def undo(self) -> str:
        """Remove the user's last message and everything after it; or a summary, if that comes last.

        The removed messages stay in the thread as another branch. Returns the text of the removed message. Raises
        UsageError if there is no message.
        """
        async with self._turn_lock:
            if self.history and any(isinstance(part, Compaction) for part in self.history[-1].parts):
                index = len(self.history) - 1
                while index and any(isinstance(part, Compaction) for part in self.history[index - 1].parts):
                    index -= 1
                self.transcript.truncate(index)
                return "the summary: the model sees the whole conversation again"
            index = self.last_user_index()
            text = self.history[index].user_text
            while index and _is_agent_switch(self.history[index - 1]):
                index -= 1  # the switch that came with the message
            self.transcript.truncate(index)
            return text

    def last_user_index(self) -> int:
        """The index of the user's latest message. Raises UsageError if there is none."""
        index = next((i for i in reversed(range(len(self.history))) if self.history[i].role == "user"), None)
        if index is None:
            raise UsageError("there is no message yet")
        return index

    async def edit(self, message: Message, index: int) -> TurnFinished:
        """Replace the message at ``index`` and run the turn: a new branch begins there. Raises ModelError."""
        async with self._turn_lock:
            tail = self.transcript.truncate(index)
            before = len(self.history)
            try:
                return await self._new_turn().run(message)
            finally:
                if len(self.history) == before:
                    self.transcript.undo_truncate(tail)

    def resume(self, thread: Thread, nodes: Sequence[ThreadMessage], head: int | None = None) -> None:
        """Continue a saved thread, at its head or after another of its messages."""
        if thread.id != self.transcript.thread.id:
            self._selection = None
        self.transcript.load(thread, nodes, head)
        self.thread_usage = UsageTotals(self.run_usage)
        self.context_window = ContextWindow(self.model)

    @property
    def has_schema(self) -> bool:
        """Whether answers must fit a JSON Schema."""
        return self._schema is not None

    async def validate_answer(self, finished: TurnFinished) -> tuple[TurnFinished, str]:
        """Validate the answer of a finished turn; ask once more if it does not fit.

        Returns the end of the last turn, and the answer as JSON that fits the session's schema. The JSON is empty for a
        turn that ended early. Raises ModelError if the second answer does not fit either.
        """
        assert self._schema is not None
        for is_last in (False, True):
            if finished.stop not in {"end", "steps", "calls", "repeats"}:
                return finished, ""
            text, problem = self._schema.parse(_last_text(self.history[-1]))
            if not problem:
                return finished, text
            if is_last:
                break
            message = f"the answer does not fit the schema; asking once more: {problem}"
            self._emit(Notice(level="warning", text=message))
            finished = await self.send(self._schema.retry_prompt(problem))
        message = f"the model's answer does not fit the schema: {problem}"
        raise ModelError(message, kind="schema", hint="ask in other words, or another model")

    async def compact(self) -> bool:
        """Summarize the conversation; False if there is nothing to summarize. Raises ModelError."""
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
        """Ask the model for a title of the thread, once, unless the user gave one. Errors are ignored."""
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
        """The tokens of the next request, and the size of the model's window, None if unknown."""
        return await self.context_window.measure(_with_messages(await self._build_request(), self.history))

    def clear(self) -> None:
        """Start a new conversation with the same model and tools."""
        self._selection = None
        self.transcript.start_new()
        self.thread_usage = UsageTotals(self.run_usage)
        self.context_window = ContextWindow(self.model)

    def add_usage(self, usage: Usage) -> None:
        """Count the usage of a request outside of turns, such as a sampling request of a server."""
        self.thread_usage.add(usage, self.model.price)

    def _new_turn(self) -> Turn:
        turn = Turn(
            model=self.context_window,
            choice=self.model,
            agent=self.agent.name,
            build_request=self._build_request,
            reachable_tools=self.reachable_tools,
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
        return turn

    async def _build_request(self) -> ModelRequest:
        """Build a request without messages; it stays the same from turn to turn while the tools stay the same."""
        before = self._selection
        self._selection = selection = await self._select_tools()
        if before is None or (selection.offered, selection.deferred) != (before.offered, before.deferred):
            self._system = self._describe_tools(selection)
            if selection.left_out:
                self._emit(Notice(level="warning", text=describe_left_out(selection.left_out)))
        return ModelRequest(
            model=self.model.name,
            system=self._system,
            tools=selection.offered if before is None or selection.offered != before.offered else before.offered,
            options=self.model.options,
            schema=self._schema.schema if self._schema is not None else None,
            cache_key=self.transcript.thread.id,
            native_search=self._tool_search.mode == "native",
        )

    async def _select_tools(self) -> ToolSelection:
        available = await self._toolbox.list_tools()
        settings = replace(self._tool_search, always=(*self._tool_search.always, *self.agent.always))
        return await choose_tools(
            available, settings, self.model, used=used_names(self.history), before=self._selection
        )

    def _describe_tools(self, selection: ToolSelection) -> str:
        """The agent's instructions, followed by what the servers say of themselves."""
        system = add_server_notes(self.agent.instructions, selection, self._toolbox.instructions())
        return f"{system}\n\n{self._schema.instructions}".strip() if self._schema is not None else system

    def reachable_tools(self) -> Mapping[str, ToolSpec]:
        """The tools that the model can call since the latest request, by model name."""
        return self._selection.reachable if self._selection is not None else {}


def _is_agent_switch(message: Message) -> bool:
    return any(isinstance(part, AgentSwitch) for part in message.parts)


def _model_selector(model: SelectedModel) -> str:
    return model.selector or model.name


def _last_text(message: Message) -> str:
    """The last text of the message: the answer may follow a comment."""
    return next((part.text for part in reversed(message.parts) if isinstance(part, Text)), "")


def _with_messages(request: ModelRequest, history: Sequence[Message]) -> ModelRequest:
    return replace(request, messages=tuple(history))


def add_server_notes(instructions: str, selection: ToolSelection, notes: Mapping[str, str]) -> str:
    """The instructions, followed by what the servers say of themselves: one line of each if they are searched."""
    if selection.deferred:
        return add_deferred_lines(add_server_instructions(instructions, notes), selection.deferred)
    if selection.searched:
        return add_server_lines(instructions, describe_servers(selection.reachable.values(), notes))
    return add_server_instructions(instructions, notes)


def add_server_instructions(instructions: str, server_instructions: Mapping[str, str]) -> str:
    """The instructions, followed by those of each server, under the server's name."""
    if not server_instructions:
        return instructions
    sections = [
        f"## {server}\n{truncate_middle(text.strip(), _MAX_INSTRUCTIONS_LENGTH)}"
        for server, text in server_instructions.items()
    ]
    heading = "# Notes of the tool servers on their own tools (not from the user)"
    return "\n\n".join([*([instructions] if instructions else []), heading, *sections])
