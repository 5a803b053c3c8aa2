"""Messages and errors for turns that did not end well: the same for the chat and for scripts."""

from collections.abc import Sequence

from mcpchat.core.events import Emit, Event, StopReason, ToolDecided, TurnFinished
from mcpchat.core.policy import Decision
from mcpchat.core.usage import UsageTotals
from mcpchat.errors import Denied, LimitReached, McpChatError, ModelError

# What the user can do about it.
STOP_HINTS: dict[StopReason, str] = {
    "steps": "--max-steps, or max_steps under [limits], allows more",
    "calls": "max_calls under [limits] allows more",
    "repeats": "ask in other words, or another model",
    "tokens": "--max-tokens, or max_tokens under [limits], allows more",
    "cost": "--max-cost, or max_cost under [limits], allows more",
    "length": "raise max_output_tokens if it is set, or ask for less",
    "window": "use a larger window or fewer tools, or start a new conversation (/new; ask without --continue)",
    "filter": "ask in other words",
    "refusal": "ask in other words",
}


def describe_stop(stop: StopReason, totals: UsageTotals) -> str:
    """Describe why the turn stopped; empty for a normal end. ``totals`` is the usage of the whole run."""
    match stop:
        case "steps":
            return "stopped: the limit of tool rounds is reached"
        case "calls":
            return "stopped: the limit of tool calls in one turn is reached"
        case "repeats":
            return "stopped: the model repeated the same call with the same result"
        case "tokens":
            return f"stopped before the next request: {totals.usage.total:,} tokens were used"
        case "cost":
            return f"stopped before the next request: ${totals.dollars:.4f} was spent"
        case "length":
            return "the answer was cut at the model's output limit"
        case "window":
            return "the answer was cut where the model's context window was full"
        case "filter":
            return "the provider's content filter ended the answer"
        case "refusal":
            return "the model refused to answer"
        case _:
            return ""


class DenialRecorder:
    """Passes events on, and records the calls that the policy denied."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.denials: list[tuple[str, Decision]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, ToolDecided) and not event.decision.allowed and event.decision.by == "policy":
            self.denials.append((event.tool, event.decision))
        self._emit(event)


def exit_error(
    finished: TurnFinished, denials: Sequence[tuple[str, Decision]], totals: UsageTotals
) -> McpChatError | None:
    """The error for the exit code of a turn with an answer; None if it ended well. ``totals`` is of the whole run."""
    if denials:
        tool, decision = denials[0]
        return Denied(f"{tool} was not run: {decision.reason}")
    message = describe_stop(finished.stop, totals)
    if not message:
        return None
    hint = STOP_HINTS[finished.stop]
    if finished.stop in {"filter", "refusal"}:
        return ModelError(message, kind="refused", hint=hint)
    return LimitReached(message, hint=hint)
