"""What happened when in the turns of a thread: requests to the model and tool calls, with their times and tokens."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcpchat.core.messages import Usage
from mcpchat.core.threads import ThreadMessage
from mcpchat.ui.render.stats import format_cost, format_tokens
from mcpchat.ui.render.transcripts import format_time
from mcpchat.ui.terminal.glyphs import select_glyphs
from mcpchat.util.sanitize import one_line

_MAX_QUESTION, _MAX_LABEL = 60, 30  # characters
_MIN_BAR, _MAX_BAR = 10, 60  # cells


@dataclass(frozen=True, kw_only=True)
class Step:
    """A request to a model, or a tool call. ``start`` is in seconds from the beginning of the turn."""

    label: str
    start: float
    seconds: float
    usage: Usage | None = None
    cost: float | None = None
    is_call: bool = False


@dataclass(frozen=True, kw_only=True)
class TurnTimeline:
    """One turn. ``number`` is that of the user's message, ``at`` its time in seconds since 1970."""

    number: int
    question: str
    at: float
    seconds: float
    steps: tuple[Step, ...]

    @property
    def usage(self) -> Usage:
        return sum((step.usage for step in self.steps if step.usage is not None), Usage())

    @property
    def cost(self) -> float | None:
        """The cost in US dollars; None if that of a request is unknown."""
        costs = [step.cost for step in self.steps if step.usage is not None]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def summary(self) -> str:
        """Its time, its tokens and its cost."""
        facts = [f"{self.seconds:.1f} s"]
        if self.usage.total:
            facts += [format_tokens(self.usage), format_cost(self.cost)]
        return " · ".join(facts)


def build_timeline(branch: Sequence[ThreadMessage]) -> list[TurnTimeline]:
    """The turns of a branch that have a recorded time.

    The calls of a step begin together, when the model's message was complete.
    """
    turns: list[TurnTimeline] = []
    question: ThreadMessage | None = None
    steps: list[Step] = []
    for node in [*branch, None]:
        if node is None or node.message.role == "user":
            if question is not None and steps:
                turns.append(_build_turn(question, steps))
            question, steps = node, []
        elif question is not None:
            steps += _steps_of(node, question.record.at, steps)
    return turns


def _build_turn(question: ThreadMessage, steps: list[Step]) -> TurnTimeline:
    return TurnTimeline(
        number=question.number,
        question=one_line(question.message.user_text.strip(), _MAX_QUESTION),
        at=question.record.at,
        seconds=max(step.start + step.seconds for step in steps),
        steps=tuple(steps),
    )


def _steps_of(node: ThreadMessage, begin: float, steps: Sequence[Step]) -> Iterator[Step]:
    record = node.record
    if node.message.role == "assistant" and record.at and begin:
        seconds = record.seconds or 0.0
        start = max(0.0, record.at - begin - seconds)
        yield Step(label=record.model or "model", start=start, seconds=seconds, usage=record.usage, cost=record.cost)
    elif record.calls:
        requests = [step for step in steps if not step.is_call]
        start = requests[-1].start + requests[-1].seconds if requests else 0.0
        for call in record.calls:
            yield Step(label=call.tool, start=start, seconds=call.seconds, is_call=True)


def format_timeline(branch: Sequence[ThreadMessage], encoding: str | None, width: int | None = None) -> Iterator[str]:
    """The lines: each turn with its question, and a bar for each step on the time of the turn."""
    columns = width or shutil.get_terminal_size((100, 24)).columns
    for turn in build_timeline(branch):
        yield f"{turn.number:>4}  {turn.question}"
        yield f"      {format_time(turn.at)} · {turn.summary}"
        labels = [_label(step) for step in turn.steps]
        label_width = max(map(len, labels))
        facts = [_facts(step) for step in turn.steps]
        bar_width = min(_MAX_BAR, max(_MIN_BAR, columns - label_width - max(map(len, facts)) - 12))
        for step, label, fact in zip(turn.steps, labels, facts, strict=True):
            bar = _bar(step, turn.seconds, bar_width, encoding)
            yield f"      {label.ljust(label_width)}  {bar}  {fact}"
        yield ""


def _label(step: Step) -> str:
    return ("  " if step.is_call else "") + one_line(step.label, _MAX_LABEL)


def _facts(step: Step) -> str:
    return " · ".join([f"{step.seconds:.1f} s", *([format_tokens(step.usage)] if step.usage is not None else [])])


def _bar(step: Step, total: float, width: int, encoding: str | None) -> str:
    scale = width / total if total else 0.0
    before = min(round(step.start * scale), width - 1)
    cells = max(1, min(round(step.seconds * scale), width - before))
    return (" " * before + select_glyphs(encoding).bar * cells).ljust(width)
