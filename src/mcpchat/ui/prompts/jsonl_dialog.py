"""The UserDialog of a session over JSON lines: questions are written as lines, answers are read as lines."""

import asyncio
import json
from collections.abc import Callable
from typing import Literal, TypeVar

from msgspec import Struct

from mcpchat.core import jsonl_protocol
from mcpchat.core.elicitation import ElicitationResult, Form, UrlRequest
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.tools import ToolSpec

_T = TypeVar("_T", jsonl_protocol.Approve, jsonl_protocol.Elicit, jsonl_protocol.Confirm)
_SCOPES: tuple[Literal["once", "session", "always"], ...] = ("once", "session", "always")
_INPUT_ENDED = "the input has ended"


class JsonlDialog:
    """Writes each question with an id, and waits until the script answers with that id.

    After ``close``, pending and later questions are declined.
    """

    def __init__(self, write: Callable[[Struct], None]) -> None:
        self._write = write
        self._pending: dict[str, tuple[type[Struct], asyncio.Future[Struct]]] = {}
        self._request_count = 0
        self._closed = False
        # The tool and the answer of the previous approval, if the answer edited the arguments.
        self._edited_approval: tuple[ToolSpec | None, jsonl_protocol.Approve | None] = None, None

    def resolve(self, answer: jsonl_protocol.Approve | jsonl_protocol.Elicit | jsonl_protocol.Confirm) -> str:
        """Pass an answer to its question. Returns an error message, empty if there is no error."""
        kind, future = self._pending.get(answer.id, (None, None))
        if future is None or future.done():
            return f"no question {answer.id!r} is open"
        if kind is not type(answer):
            return f"question {answer.id!r} needs another type of answer"
        future.set_result(answer)
        return ""

    def close(self) -> None:
        self._closed = True
        for _, future in self._pending.values():
            future.cancel()

    async def _ask(self, kind: type[_T], build_request: Callable[[str], Struct]) -> _T | None:
        """The script's answer; None after ``close``."""
        if self._closed:
            return None
        self._request_count += 1
        request_id = f"q{self._request_count}"
        future: asyncio.Future[Struct] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = kind, future
        self._write(build_request(request_id))
        try:
            answer = await future
        except asyncio.CancelledError:
            if self._closed and future.cancelled():
                return None
            raise
        finally:
            del self._pending[request_id]
        assert isinstance(answer, kind)
        return answer

    async def approve(self, request: ApprovalRequest) -> Decision:
        (tool, previous), self._edited_approval = self._edited_approval, (None, None)
        if (
            previous is not None
            and not request.error
            and (tool, previous.arguments) == (request.tool, request.arguments)
        ):
            return _to_decision(request, previous)  # the user edited these arguments in the previous answer
        answer = await self._ask(
            jsonl_protocol.Approve, lambda request_id: jsonl_protocol.approval_requested(request, request_id)
        )
        if answer is None:
            return Decision(allowed=False, by="policy", reason=f"{request.rule}, but {_INPUT_ENDED}")
        if answer.allow and answer.arguments is not None and answer.arguments != request.arguments:
            self._edited_approval = request.tool, answer
            return Decision(allowed=True, by="user", arguments=json.dumps(answer.arguments, ensure_ascii=False))
        return _to_decision(request, answer)

    async def elicit(self, request: Form | UrlRequest, problem: str) -> ElicitationResult:
        answer = await self._ask(
            jsonl_protocol.Elicit, lambda request_id: jsonl_protocol.elicitation_requested(request, request_id, problem)
        )
        return (
            ElicitationResult(action="decline")
            if answer is None
            else ElicitationResult(action=answer.action, content=answer.content)
        )

    async def confirm(self, server: str, action: str, details: str) -> bool:
        return await self._ask_confirmation(
            lambda request_id: jsonl_protocol.ConfirmationRequested(
                id=request_id, server=server, wish=action, details=details
            )
        )

    async def confirm_continue(self, rounds: int) -> bool:
        wish = f"go on after {rounds} rounds of tool calls"
        return await self._ask_confirmation(
            lambda request_id: jsonl_protocol.ConfirmationRequested(id=request_id, wish=wish)
        )

    async def _ask_confirmation(self, build_request: Callable[[str], Struct]) -> bool:
        answer = await self._ask(jsonl_protocol.Confirm, build_request)
        return answer is not None and answer.yes


def _to_decision(request: ApprovalRequest, answer: jsonl_protocol.Approve) -> Decision:
    """Convert an answer to a decision; its scope is at most the one that the question allows."""
    scope = min(answer.remember or "once", request.max_scope, key=_SCOPES.index)
    return Decision(allowed=answer.allow, by="user", reason=answer.reason, remember="" if scope == "once" else scope)
