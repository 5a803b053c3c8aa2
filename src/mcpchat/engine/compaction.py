"""What the model gets of a conversation that exceeds its window: notes in the history, and how they are applied."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from mcpchat.core.messages import (
    Audio,
    Compaction,
    File,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
    result_text,
    user_message,
)
from mcpchat.engine.history import normalize_history
from mcpchat.engine.message_codec import stored_result_id
from mcpchat.engine.token_estimate import message_weight
from mcpchat.engine.tool_results import READ_RESULT, truncate_middle, truncate_result

SHORTENED_RESULT_CHARS = 1500  # characters of a shortened result
MIN_RESULT_CHARS = 200  # characters; a result is never shortened to less
SUMMARY_HEADING = (
    "[The conversation so far, summed up because it was too long. The user's own messages stand before this.]"
)
NO_SUMMARY = "(It did not fit into the model's context window, so there is no summary. Ask the user if you need it.)"
REFUSED = "[left out: the model's server refused this part of the conversation]"
OMITTED = "left out because the conversation was too long"
CALL_AGAIN_HINT = "shortened because the conversation was too long: call the tool again if you need it"
# Summing up costs a request, and the summary takes room: less than this weight besides the user's own words stays.
MIN_WEIGHT_TO_SUMMARIZE = 600


def render_history(history: Sequence[Message]) -> tuple[Message, ...]:
    """The history as the model gets it: with its compactions applied, and by the rules of all model APIs."""
    notes = list(iter_compactions(history))
    omitted = {index for note in notes for index in note.omits}
    history = [_omit_content(message) if index in omitted else message for index, message in enumerate(history)]
    summary = next((note for note in reversed(notes) if note.summary), None)
    shortenings = [note for note in notes if not note.summary]
    rendered: list[Message] = []
    start = 0
    if summary is not None:
        # An imported thread can name any index.
        indexes = (index for index in summary.keeps if 0 <= index < len(history))
        rendered += (shorten_message(history[index], summary.limit) for index in indexes)
        rendered.append(user_message(f"{SUMMARY_HEADING}\n\n{summary.summary}"))
        start = max(0, summary.replaces)
    for index, message in enumerate(history[start:], start):
        limits = [note.limit for note in shortenings if index < note.replaces] if message.role == "tool" else []
        rendered.append(shorten_message(message, min(limits)) if limits else message)
    return normalize_history(rendered)


def iter_compactions(history: Sequence[Message]) -> Iterator[Compaction]:
    """The notes of the history, the oldest first."""
    for message in history:
        for part in message.parts:
            if isinstance(part, Compaction):
                yield part


def history_before(history: Sequence[Message], cut: int) -> list[Message]:
    """The history before the cut, and the later notes about it."""
    return [*history[:cut], *(message for message in history[cut:] if message.role == "system")]


def shorten_message(message: Message, limit: int) -> Message:
    """The message with each text and result shortened to ``limit`` characters; images and files only named."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            plain = (
                part if not _has_media(part) else replace(part, parts=(Text(text=result_text(part)),), structured=None)
            )
            stored = stored_result_id(part)
            read = f'{READ_RESULT.model_name}(id="{stored}", offset=..., grep=...) reads it'
            part = truncate_result(plain, limit, read if stored else CALL_AGAIN_HINT)
        elif isinstance(part, Text):
            part = Text(text=truncate_middle(part.text, limit, OMITTED))
        elif isinstance(part, Image | Audio | File):
            part = Text(text=f"[{part.media_type}, {len(part.data):,} bytes, {OMITTED}]")
        parts.append(part)
    # ``raw``, which some providers want back, is of the whole message: it no longer fits.
    return message if tuple(parts) == message.parts else replace(message, parts=tuple(parts), raw=None)


def _omit_content(message: Message) -> Message:
    """The message with a note in place of its content: its server refused it."""
    parts = [
        replace(part, parts=(Text(text=REFUSED),), structured=None) if isinstance(part, ToolResult) else part
        for part in message.parts
        if isinstance(part, ToolResult | ToolCall | Compaction)
    ]
    note = () if message.role == "tool" else (Text(text=REFUSED),)
    return replace(message, parts=(*note, *parts), raw=None)


def _has_media(result: ToolResult) -> bool:
    return any(isinstance(part, Image | Audio | File) for part in result.parts)


def pending_from(history: Sequence[Message]) -> int:
    """The index of the first message that waits for an answer: the user's latest, or the latest calls."""
    index = len(history) - 1
    while index > 0 and history[index].role == "system":
        index -= 1
    if index > 0 and history[index].role == "tool":
        while index > 0 and history[index].role in {"tool", "system"}:
            index -= 1
    return max(0, index)


def shorten_results(history: Sequence[Message], end: int, limit: int) -> Message | None:
    """A note that shortens the results before ``end``; None if there is little to gain."""
    notes = list(iter_compactions(history))
    start = max((note.replaces for note in notes if note.summary), default=0)
    for index, message in enumerate(history[start:end], start):
        current = min((note.limit for note in notes if not note.summary and index < note.replaces), default=None)
        for result in message.results:
            length = len(result_text(result)) if current is None else min(current, len(result_text(result)))
            if (current is None and _has_media(result)) or length > (2 * limit if current is None else 1.2 * limit):
                return Message(role="system", parts=(Compaction(replaces=end, limit=limit),))
    return None


def find_cut_point(history: Sequence[Message], tail: int) -> int:
    """The index where the part to summarize ends: between rounds, with at most the weight ``tail`` after it."""
    cut, remaining = len(history), tail
    for index in range(len(history) - 1, -1, -1):
        remaining -= message_weight(history[index])
        if remaining < 0:
            break
        if history[index].role in {"user", "assistant"}:
            cut = index
    return cut


def kept_user_messages(history: Sequence[Message], cut: int, limit: int) -> tuple[int, ...]:
    """The indexes of the user's own messages before the cut that fit into the weight ``limit``, the newest first."""
    indexes: list[int] = []
    remaining = limit
    for index in range(cut - 1, -1, -1):
        if history[index].role == "user":
            remaining -= min(message_weight(history[index]), limit)
            if remaining < 0:
                break
            indexes.insert(0, index)
    return tuple(indexes)


def is_worth_a_summary(messages: Sequence[Message]) -> bool:
    """Whether a summary would be smaller than what it replaces. The user's own messages stay anyway."""
    replaced = [message for message in messages if not message.text.startswith(SUMMARY_HEADING)]
    return sum(message_weight(m) for m in replaced if m.role != "user") >= MIN_WEIGHT_TO_SUMMARIZE


def is_only_a_summary(messages: Sequence[Message]) -> bool:
    """Whether there is nothing to sum up: no message, or nothing but an earlier summary."""
    return all(message.text.startswith(SUMMARY_HEADING) for message in messages)


def progressively_smaller(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """The messages; then each shortened; then the newer half of them, and half again; always with earlier summaries."""
    yield messages
    shortened = tuple(shorten_message(message, 2 * SHORTENED_RESULT_CHARS) for message in messages)
    summaries = tuple(message for message in shortened if message.text.startswith(SUMMARY_HEADING))
    rest = tuple(message for message in shortened if message not in summaries)
    while rest:
        yield normalize_history((*summaries, *rest))
        rest = rest[len(rest) // 2 + 1 :] if len(rest) > 1 else ()


def format_transcript(messages: Sequence[Message], limit: int) -> str:
    """The messages as plain text of about ``limit`` characters: the newest ones, and each one's ends."""
    share = max(100, limit // 4)
    lines: list[str] = []
    for message in reversed(messages):
        texts = [message.text, *(f"calls {call.name}({call.arguments})" for call in message.calls)]
        texts += [f"result: {result_text(result)}" for result in message.results]
        line = f"{message.role}: {truncate_middle(' '.join(filter(None, texts)), share, OMITTED)}"
        limit -= len(line)
        if limit < 0 and lines:
            break
        lines.insert(0, line)
    return "\n".join(lines)
