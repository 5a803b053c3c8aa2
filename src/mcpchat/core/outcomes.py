"""What is said of a turn that did not end as it should: once, for the chat and for scripts."""

from mcpchat.core.events import Stop
from mcpchat.core.spending import Spending

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
