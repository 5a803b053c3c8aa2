"""Renderers without a terminal: text, JSON, JSON lines; and the answer to questions that nobody can be asked."""

import json
import re
from collections.abc import Sequence
from typing import Any, TextIO, assert_never

import msgspec

from mcpchat.core import events
from mcpchat.core.approvals import Decision, Question
from mcpchat.core.elicitation import Answer, Form, Visit
from mcpchat.core.errors import McpChatError
from mcpchat.core.events import Event
from mcpchat.core.sanitize import clean, spelt_out
from mcpchat.ui import stats, tool_lines


class TextRenderer:
    """The final answer to ``out``, all else to ``err``, as plain text.

    What the model says on the way to its tools is no answer, and only the whole message tells: so the answer is
    written when it is complete.
    """

    def __init__(
        self, out: TextIO, err: TextIO, *, quiet: bool = False, stats: bool = False, answers: bool = True
    ) -> None:
        self._out = out
        self._err = err
        self._quiet = quiet
        self._stats = stats
        self._answers = answers  # or somebody else writes them
        self._shown = clean if out.isatty() else str  # to a file or a program it goes as it is

    def __call__(self, event: Event) -> None:
        match event:
            case events.MessageAdded(message=message) if message.role == "assistant":
                if not message.calls:
                    self._answer(message.text if self._answers else "", message.cut)
                elif message.text:
                    self._say(clean(message.text.strip()))
            case events.ToolFinished():
                mark = "failed" if event.result.is_error else "ok"
                self._say(f"  {mark}: {tool_lines.finished(event)}")
            case events.ServerChanged(state="failed" | "login"):
                self._warn(tool_lines.down(event))
            case events.Notice(level=level, text=text):
                (self._warn if level == "warning" else self._say)(clean(text))
            case events.TurnFinished() if self._stats and event.usage.total:
                self._err.write(f"  {stats.turn(event)}\n")
                self._err.flush()
            case (
                events.MessageAdded()
                | events.BranchChanged()
                | events.TurnStarted()
                | events.TextDelta()
                | events.ReasoningDelta()
                | events.ToolDecided()
                | events.ToolStarted()
                | events.ToolProgress()
                | events.ServerChanged()
                | events.TurnFinished()
                | events.TurnFailed()
            ):
                pass
            case _:
                assert_never(event)

    def _answer(self, text: str, cut: str) -> None:
        if text:
            self._out.write(self._shown(text if text.endswith("\n") else text + "\n"))
            self._out.flush()
        if cut and cut != "length":  # which the exit code tells
            self._warn(f"the answer ends early: {cut}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._err.write(line + "\n")
            self._err.flush()

    def _warn(self, line: str) -> None:
        self._err.write(f"warning: {line}\n")
        self._err.flush()


class JsonLines:
    """Every event as one line of JSON, as it happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = spelt_out if out.isatty() else str

    def __call__(self, event: Event) -> None:
        self._out.write(self._shown(events.to_json(event).decode()) + "\n")
        self._out.flush()


class JsonSummary:
    """Collects one JSON object: the answer, the calls and their results, usage and stop. ``write`` puts it out.

    Warnings go to ``err``, since they are no part of it.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._object: dict[str, Any] = {"v": events.VERSION, "type": "answer", "answer": "", "tools": []}
        self._turns: list[events.TurnFinished] = []

    def __call__(self, event: Event) -> None:
        match event:
            case events.TurnStarted(thread_id=thread_id, model=model):
                self._object |= {"thread_id": thread_id, "model": model}
            case events.BranchChanged(thread_id=thread_id):
                self._object["thread_id"] = thread_id  # where it goes on in a fork, that of the fork
            case events.MessageAdded(message=message) if message.role == "assistant" and not message.calls:
                self._object["answer"] = message.text
            case events.ToolFinished(call=call, tool=tool, result=result, seconds=seconds):
                self._object["tools"].append(
                    {
                        "tool": tool,
                        "arguments": tool_lines.values(call),
                        "result": msgspec.to_builtins(result),
                        "seconds": round(seconds, 3),
                    }
                )
            case events.TurnFinished(stop=stop):
                self._turns.append(event)
                self._object |= {"stop": stop, **_summed(self._turns)}
            case events.Notice(level="warning", text=text):
                self._err.write(f"warning: {clean(text)}\n")
            case events.ServerChanged(state="failed" | "login"):
                self._err.write(f"warning: {tool_lines.down(event)}\n")
            case _:
                pass

    @property
    def partial(self) -> bool:
        """Whether there is an answer, or a part of one."""
        return bool(self._object["answer"])

    def write(self, verdict: McpChatError | None, **more: Any) -> None:
        """Put the object out with ``more`` keys, and with what the exit code will say as its ``error``."""
        self._object |= more
        if verdict is not None:
            self._object["error"] = verdict.told()
            verdict.answered = True
        text = json.dumps(self._object, ensure_ascii=False)
        self._out.write((spelt_out(text) if self._out.isatty() else text) + "\n")
        self._out.flush()


def _summed(turns: Sequence[events.TurnFinished]) -> dict[str, Any]:
    """What all turns took together: more than one where an answer had to be asked for again."""
    usage = sum((turn.usage for turn in turns[1:]), turns[0].usage)
    costs = [turn.cost for turn in turns]
    known = [cost for cost in costs if cost is not None]
    return {
        "usage": msgspec.to_builtins(usage),
        "cost": sum(known) if len(known) == len(costs) else None,
        "steps": sum(turn.steps for turn in turns),
        "seconds": round(sum(turn.seconds for turn in turns), 3),
    }


class NobodyToAsk:
    """The Asker of a script: what would ask is denied, with the flag that would allow it."""

    async def go_on(self, rounds: int) -> bool:
        return False

    async def approve(self, question: Question) -> Decision:
        label = question.tool.label
        way = f"; allow it with --allow '{label}'" if re.fullmatch(r"[\w.-]+", label) else ""
        reason = f"{question.rule}, and there is nobody to ask{way}"
        return Decision(allowed=False, by="policy", reason=reason)

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        return Answer(action="decline")

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        return False
