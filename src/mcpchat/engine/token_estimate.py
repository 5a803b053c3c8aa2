"""Estimates how many tokens a request takes, before the model's server has counted it.

The unit of a *weight* is one byte of plain English prose. Denser text (numbers, ids, code, other scripts) weighs more.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from mcpchat.core.messages import (
    AgentSwitch,
    Audio,
    Compaction,
    File,
    Image,
    InputSplit,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    result_text,
)
from mcpchat.core.search_tools import CALL_TOOL, describe_call
from mcpchat.core.tools import ToolSpec, openai_function

INITIAL_WEIGHT_PER_TOKEN = 4.0  # until a server reports its count
MIN_WEIGHT_PER_TOKEN, MAX_WEIGHT_PER_TOKEN = 1.0, 8.0
MIN_WEIGHT_TO_CALIBRATE = 8000  # of a request; a smaller one is mostly the fixed part of every prompt
IMAGE_WEIGHT = 4000

# Bytes that take more of a token than a letter of prose, and how much more.
_DIGITS = b"0123456789"
_CAPITALS_AND_SIGNS = bytes(code for code in range(33, 127) if not chr(code).islower() and not chr(code).isdigit())
_ABOVE_ASCII = bytes(range(128, 256))
_SURCHARGES = ((_DIGITS, 1.5), (_CAPITALS_AND_SIGNS, 0.5), (_ABOVE_ASCII, 0.4))


def text_weight(text: str) -> int:
    """The weight of a text."""
    data = text.encode(errors="replace")
    extra = sum((len(data) - len(data.translate(None, dense))) * surcharge for dense, surcharge in _SURCHARGES)
    return len(data) + int(extra)


def message_weight(message: Message) -> int:
    """The weight of a message with all its parts."""
    return sum(_part_weight(part) for part in message.parts) + 20


def _part_weight(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text):
            return text_weight(text)
        case ToolCall(name=name, arguments=arguments):
            return len(name) + text_weight(arguments) + 40
        case ToolResult():
            images = sum(IMAGE_WEIGHT for inner in part.parts if isinstance(inner, Image))
            return text_weight(result_text(part)) + images + 40
        case Image():
            return IMAGE_WEIGHT
        case File(data=data) | Audio(data=data):
            return IMAGE_WEIGHT + len(data) // 20
        case Compaction() | AgentSwitch():
            return 0
        case _:
            return 100


def estimate_result_tokens(result: ToolResult) -> int:
    """About how many tokens a result takes in a request."""
    return round(_part_weight(result) / INITIAL_WEIGHT_PER_TOKEN)


def tool_weight(tool: ToolSpec) -> int:
    """The weight of a tool's definition as it is sent."""
    return text_weight(json.dumps(openai_function(tool), ensure_ascii=False, separators=(",", ":")))


def estimate_tool_tokens(tool: ToolSpec) -> int:
    """About how many tokens a tool's definition takes in a request."""
    return round(tool_weight(tool) / INITIAL_WEIGHT_PER_TOKEN)


@dataclass(frozen=True, kw_only=True)
class InputWeights:
    """The weights of what a request has; ``results`` are by server, ``history`` are all other messages."""

    instructions: int = 0
    tools: int = 0
    history: int = 0
    results: dict[str, int] = field(default_factory=dict)

    @property
    def fixed(self) -> int:
        """The weight of the instructions and the tools."""
        return self.instructions + self.tools

    @property
    def total(self) -> int:
        return self.fixed + self.history + sum(self.results.values())

    def split(self, tokens: int) -> InputSplit:
        """Share out the tokens of the request by weight."""
        ratio = tokens / max(1, self.total)
        results = {server: int(weight * ratio) for server, weight in self.results.items()}
        instructions, tools = int(self.instructions * ratio), int(self.tools * ratio)
        rest = tokens - instructions - tools - sum(results.values())
        return InputSplit(instructions=instructions, tools=tools, history=rest, results=results)


def weigh_messages(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[int, dict[str, int]]:
    """The weight of the messages without tool results, and that of the results by server."""
    by_name = {tool.model_name: tool.server for tool in tools if tool != CALL_TOOL}
    servers: dict[str, str] = {}  # by call id
    history = 0
    results: dict[str, int] = {}
    for message in messages:
        history += message_weight(message)
        for call in message.calls:
            servers[call.id] = by_name.get(call.name) or describe_call(call)[0].partition(".")[0]
        for result in message.results:
            weight, server = _part_weight(result), servers.get(result.call_id, "")
            history -= weight
            results[server] = results.get(server, 0) + weight
    return history, results


class TokenEstimator:
    """Turns weights into tokens. Each count that a server states makes it more exact."""

    def __init__(self) -> None:
        self.weight_per_token = INITIAL_WEIGHT_PER_TOKEN
        self._counted_weight = self._counted_tokens = 0  # of the latest request that a server counted
        self._counted_fixed = 0  # the weight of its instructions and tools

    @property
    def is_calibrated(self) -> bool:
        """Whether a server has counted a request."""
        return self._counted_tokens > 0

    def estimate(self, weight: int, fixed: int) -> int:
        """The tokens of a request. ``fixed`` is the share of the weight that its instructions and tools have."""
        tokens = int(self._scale(weight, fixed))
        return max(tokens, int(weight / MAX_WEIGHT_PER_TOKEN))

    def _scale(self, weight: int, fixed: int) -> float:
        more = weight - self._counted_weight
        if more >= 0:
            return self._counted_tokens + more / self.weight_per_token
        # A smaller request than the counted one. What it lacks may be denser than the average, so nothing is
        # subtracted: the messages that are left get the density of all messages.
        fixed = min(fixed, weight)
        fixed_tokens = fixed / INITIAL_WEIGHT_PER_TOKEN
        variable = self._counted_weight - self._counted_fixed
        variable_tokens = self._counted_tokens - self._counted_fixed / INITIAL_WEIGHT_PER_TOKEN
        if variable < self._counted_fixed or variable_tokens <= 0:  # too small a share to judge by
            return self._counted_tokens * weight / self._counted_weight
        return fixed_tokens + (weight - fixed) * variable_tokens / variable

    def learn(self, weight: int, fixed: int, tokens: int, *, any_size: bool = False) -> None:
        """Take a server's count of a request. Small requests change the density only with ``any_size``."""
        self._counted_weight, self._counted_fixed, self._counted_tokens = weight, fixed, tokens
        if any_size or weight >= MIN_WEIGHT_TO_CALIBRATE:
            self.weight_per_token = min(MAX_WEIGHT_PER_TOKEN, max(MIN_WEIGHT_PER_TOKEN, weight / tokens))

    def add_counted(self, weight: int, tokens: int) -> None:
        """Extend the counted request by a message whose tokens the server counted: the model's own answer."""
        self._counted_weight += weight
        self._counted_tokens += tokens
