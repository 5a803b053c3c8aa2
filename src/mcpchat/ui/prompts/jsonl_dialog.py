"""The Asker of a long-lived process: questions are lines that go out, answers are lines that come in."""

import asyncio
import json
from collections.abc import Callable
from typing import Literal, TypeVar

from msgspec import Struct

from mcpchat.core import jsonl_protocol
from mcpchat.core.elicitation import Answer, Form, Visit
from mcpchat.core.policy import Decision, Question
from mcpchat.core.tools import ToolSpec

_T = TypeVar("_T", jsonl_protocol.Approve, jsonl_protocol.Elicit, jsonl_protocol.Confirm)
_LASTING: tuple[Literal["once", "session", "always"], ...] = ("once", "session", "always")
_NOBODY = "the input has ended, and there is nobody to ask"


class ScriptAsker:
    """Puts each question out by ``write`` under a number, and waits until the script answers with that number.

    After ``end`` nobody answers any more: what is open, and what comes, is declined.
    """

    def __init__(self, write: Callable[[Struct], None]) -> None:
        self._write = write
        self._open: dict[str, tuple[type[Struct], asyncio.Future[Struct]]] = {}
        self._asked = 0
        self._ended = False
        # The tool and the answer of the question before, where that wants other arguments.
        self._changed: tuple[ToolSpec | None, jsonl_protocol.Approve | None] = None, None

    def answer(self, line: jsonl_protocol.Approve | jsonl_protocol.Elicit | jsonl_protocol.Confirm) -> str:
        """Take the answer; what is wrong with it, empty if nothing is."""
        kind, waiting = self._open.get(line.id, (None, None))
        if waiting is None or waiting.done():
            return f"no question {line.id!r} is open"
        if kind is not type(line):
            return f"question {line.id!r} is of another kind"
        waiting.set_result(line)
        return ""

    def end(self) -> None:
        self._ended = True
        for _, waiting in self._open.values():
            waiting.cancel()

    async def _ask(self, kind: type[_T], make: Callable[[str], Struct]) -> _T | None:
        """The script's answer; None once there is nobody to give one."""
        if self._ended:
            return None
        self._asked += 1
        number = f"q{self._asked}"
        waiting: asyncio.Future[Struct] = asyncio.get_running_loop().create_future()
        self._open[number] = kind, waiting
        self._write(make(number))
        try:
            answer = await waiting
        except asyncio.CancelledError:
            if self._ended and waiting.cancelled():
                return None
            raise
        finally:
            del self._open[number]
        assert isinstance(answer, kind)
        return answer

    async def approve(self, question: Question) -> Decision:
        (tool, changed), self._changed = self._changed, (None, None)
        if (
            changed is not None
            and not question.problem
            and (tool, changed.arguments) == (question.tool, question.arguments)
        ):
            return _decision(question, changed)  # what it is asked for once more is what was answered
        said = await self._ask(jsonl_protocol.Approve, lambda number: jsonl_protocol.asked(question, number))
        if said is None:
            return Decision(allowed=False, by="policy", reason=f"{question.rule}, and {_NOBODY}")
        if said.allow and said.arguments is not None and said.arguments != question.arguments:
            self._changed = question.tool, said
            return Decision(allowed=True, by="user", arguments=json.dumps(said.arguments, ensure_ascii=False))
        return _decision(question, said)

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        said = await self._ask(jsonl_protocol.Elicit, lambda number: jsonl_protocol.elicited(question, number, problem))
        return Answer(action="decline") if said is None else Answer(action=said.action, content=said.content)

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        return await self._confirmed(
            lambda number: jsonl_protocol.ConfirmationRequested(id=number, server=server, wish=wish, details=details)
        )

    async def go_on(self, rounds: int) -> bool:
        wish = f"go on after {rounds} rounds of tool calls"
        return await self._confirmed(lambda number: jsonl_protocol.ConfirmationRequested(id=number, wish=wish))

    async def _confirmed(self, make: Callable[[str], Struct]) -> bool:
        said = await self._ask(jsonl_protocol.Confirm, make)
        return said is not None and said.yes


def _decision(question: Question, said: jsonl_protocol.Approve) -> Decision:
    """A yes is remembered no longer than the question admits."""
    lasting = min(said.remember or "once", question.lasting, key=_LASTING.index)
    return Decision(allowed=said.allow, by="user", reason=said.reason, remember="" if lasting == "once" else lasting)
