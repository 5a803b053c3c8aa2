"""One conversation: its history, its model, what it may do."""

import asyncio
import uuid

from mcpchat.core.events import Emit, TurnFinished
from mcpchat.core.gate import Gate
from mcpchat.core.messages import Message, user
from mcpchat.core.ports import ModelChoice, Toolbox
from mcpchat.core.turn import Turn


class Session:
    """Sends messages, one turn at a time, and keeps what was said."""

    def __init__(
        self,
        *,
        model: ModelChoice,
        toolbox: Toolbox,
        gate: Gate,
        emit: Emit,
        instructions: str = "",
        max_steps: int = 25,
    ) -> None:
        self.model = model
        self._introduced = ""
        self.history: list[Message] = []
        self.thread_id = uuid.uuid4().hex
        self._toolbox = toolbox
        self._gate = gate
        self._emit = emit
        self._instructions = instructions
        self._max_steps = max_steps
        self._one_turn = asyncio.Lock()

    async def send(self, *said: str | Message) -> TurnFinished:
        """Say this and run the turn to its end. Raises ModelError; a cancel leaves a valid history."""
        async with self._one_turn:
            turn = Turn(
                model=self.model.adapter,
                model_name=self.model.name,
                options=self.model.options,
                instructions=self._instructions,
                toolbox=self._toolbox,
                gate=self._gate,
                history=self.history,
                emit=self._emit,
                max_steps=self._max_steps,
                thread_id=self.thread_id,
                notice=self.model.notice if self._introduced != self.model.name else "",
            )
            self._introduced = self.model.name
            return await turn.run(*(user(one) if isinstance(one, str) else one for one in said))

    def clear(self) -> None:
        """Begin a new conversation with the same model and tools."""
        self.history = []
        self.thread_id = uuid.uuid4().hex
