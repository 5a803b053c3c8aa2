"""What is said of a turn that did not end as it should: once, for the chat and for scripts."""

from collections.abc import Sequence

from mcpchat.core.events import Emit, Event, Stop, ToolDecided, TurnFinished
from mcpchat.core.policy import Decision
from mcpchat.core.usage import Spending
from mcpchat.errors import Denied, LimitReached, McpChatError, ModelError

# What a person at the command line can do about it.
HINTS: dict[Stop, str] = {
    "steps": "--max-steps, or max_steps under [limits], allows more",
    "calls": "max_calls under [limits] allows more",
    "repeats": "ask in other words, or another model",
    "tokens": "--max-tokens, or max_tokens under [limits], allows more",
    "cost": "--max-cost, or max_cost under [limits], allows more",
    "length": "raise max_output_tokens where it is set, or ask for less",
    "filter": "ask in other words",
    "refusal": "ask in other words",
}


def told(stop: Stop, spent: Spending) -> str:
    """What happened, in a sentence; empty for an end like any other. ``spent`` is all of the run."""
    match stop:
        case "steps":
            return "stopped: it had called tools for as many rounds as it may"
        case "calls":
            return "stopped: it had made as many tool calls as it may in one turn"
        case "repeats":
            return "stopped: the model made the same call again and again, with the same result"
        case "tokens":
            return f"stopped before the next request: {spent.usage.total:,} tokens were used"
        case "cost":
            return f"stopped before the next request: ${spent.dollars:.4f} was spent"
        case "length":
            return "the answer was cut at the model's output limit"
        case "filter":
            return "the provider's content filter ended the answer"
        case "refusal":
            return "the model refused to answer"
        case _:
            return ""


class Denials:
    """Passes events on, and remembers the decisions that the policy took against a call."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.denied: list[tuple[str, Decision]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, ToolDecided) and not event.decision.allowed and event.decision.by == "policy":
            self.denied.append((event.tool, event.decision))
        self._emit(event)


def verdict(finished: TurnFinished, denied: Sequence[tuple[str, Decision]], spent: Spending) -> McpChatError | None:
    """What the exit code has to tell of a turn that gave an answer; ``spent`` is all of the run."""
    if denied:
        tool, decision = denied[0]
        return Denied(f"{tool} was not run: {decision.reason}")
    said = told(finished.stop, spent)
    if not said:
        return None
    hint = HINTS[finished.stop]
    if finished.stop in {"filter", "refusal"}:
        return ModelError(said, kind="refused", hint=hint)
    return LimitReached(said, hint=hint)
