"""What a model's server wants otherwise than others: found out from its refusals, and kept for the run."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.errors import ModelError
from mcpchat.util.sanitize import one_line

_REFUSED = re.compile(
    r"not support|n't support|unsupported|unknown|unrecogni[sz]ed|not permitted|not allowed|extra (inputs|fields)|"
    r"unexpected|not enabled|unavailable|missing data required|"
    r"no endpoints found that support|invalid (parameter|argument|field|key)|does not (accept|take|allow)"
)
# A value that is out of bounds is the person's to change: what it belongs to is not refused.
_VALUE = re.compile(
    r"too (large|high|long|low|small)|at (most|least)|(less|greater|larger|smaller) than|maximum|minimum|out of range|"
    r"expected a value|must be (between|in|>|<)|exceed"
)
# What may be left out of a request, and whether the person asked for it.
_DISPENSABLE = {
    "temperature": True,
    "reasoning_effort": True,
    "reasoning": True,
    "response_format": False,
    "text": False,
    "stream_options": False,
    "prompt_cache_key": False,
    "include": False,
    "tool_choice": False,
}
_PLAIN_WORDS = frozenset({"reasoning", "text", "include"})  # which are a parameter's only in quotes
_ECHOED = ("reasoning_content", "reasoning_details", "reasoning_text", "reasoning")
_SCHEMA_WORDS = re.compile(r"response_format|json_schema|structured output|grammar|text\.format")
_TOOL_WORDS = re.compile(
    r"(does not|doesn't) support (tool|function)|no support for tools|tools? (param|is|are)\b.*not (support|available)|"
    r"tool choice requires --enable|tools param requires"
)
_UNREADABLE = re.compile(r"invalid_encrypted|could not be|cannot be (verified|decrypted|read)")
_NO_TEXT_LISTS = re.compile(r"content\W.*(must be|should be|expected)( a)?( valid)? string|sequence, expected a string")
_PICTURE_WORDS = re.compile(r"\b(images?|image_url|input_image|image input|vision|multimodal|mmproj)\b")
_FILE_WORDS = re.compile(r"\b(files?|input_file|pdfs?|document input|part type)\b")
_CONTENT_WORDS = re.compile(r"content(\[\])?\W{0,2}(part )?type")
_ROLE_WORDS = re.compile(
    r"role\W.{0,80}\b(system|developer)\b|\b(system|developer)\W{0,2} (role|message|instruction)s?\b|"
    r"\.role\W.*\b(system|developer)\b"
)


class Manners(Struct, frozen=True, kw_only=True):
    """How to speak to one server. The defaults are what most understand.

    ``limit_keys``: names for the longest answer, of which the first is used. ``system``: the role of instructions, or
    "user" where they go into the first message of the user. ``echo``: whether the model's reasoning goes back: its own,
    never, or as an empty text even where there was none. ``bridge``: an assistant's word stands between results and
    the user's next message. ``merge``: no two messages of the user in a row. ``short_ids``: ids of calls are nine
    letters and digits. ``signatures``: calls that another model made are marked as such. ``without``: what is left out.
    """

    limit_keys: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    system: Literal["system", "developer", "user"] = "system"
    images: bool = True
    files: bool = True
    tools: bool = True
    echo: Literal["own", "never", "always"] = "own"
    bridge: bool = False
    merge: bool = False
    short_ids: bool = False
    signatures: bool = False
    without: frozenset[str] = frozenset()


class Lesson(Struct, frozen=True, kw_only=True):
    """Better manners, and what the person should know of them; empty where nothing is lost."""

    manners: Manners
    notice: str = ""


def learn(manners: Manners, error: ModelError, body: Mapping[str, Any]) -> Lesson | None:
    """What the refusal of this request teaches, None where it teaches nothing new."""
    if error.kind not in {"bad_request", "server"}:
        return None
    said = f"{error.message} {error.said}".lower()
    for look in _LOOKS if error.kind == "bad_request" else _LOOKS_AT_FAILURES:
        lesson = look(manners, said, body)
        if lesson is not None and lesson.manners != manners:
            if lesson.notice:
                lesson = replace(lesson, notice=f"{lesson.notice} (it said: {one_line(error.message, 200)})")
            return lesson
    return None


def _pictures(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if not manners.images or not _holds(body, "image_url", "input_image"):
        return None
    if _NO_TEXT_LISTS.search(said):
        plain = replace(manners, images=False, files=False)
        return Lesson(manners=plain, notice=f"{body['model']} takes text alone: sent without images and files")
    meant = _PICTURE_WORDS.search(said) or (_CONTENT_WORDS.search(said) and not _holds(body, "file", "input_file"))
    if meant and _REFUSED.search(said) and not _VALUE.search(said):
        return Lesson(manners=replace(manners, images=False), notice=f"{body['model']} takes no images: sent without")
    return None


def _documents(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if not manners.files or not _holds(body, "file", "input_file"):
        return None
    if _NO_TEXT_LISTS.search(said) or (
        (_FILE_WORDS.search(said) or _CONTENT_WORDS.search(said)) and _REFUSED.search(said) and not _VALUE.search(said)
    ):
        return Lesson(manners=replace(manners, files=False), notice=f"{body['model']} takes no files: sent without")
    return None


def _limit(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    key, *others = manners.limit_keys or ("",)
    if not key or key not in body or not _names(said, key) or not _REFUSED.search(said) or _VALUE.search(said):
        return None
    notice = "" if others else f"{body['model']} was asked without {key}, which its server refuses"
    return Lesson(manners=replace(manners, limit_keys=tuple(others)), notice=notice)


def _instructions(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if manners.system == "user" or not _ROLE_WORDS.search(said) or not _REFUSED.search(said):
        return None
    if not any(message.get("role") == manners.system for message in body.get("messages", ())):
        return None
    suggested = manners.system == "system" and "developer" in said and "developer instruction" not in said
    return Lesson(manners=replace(manners, system="developer" if suggested else "user"))


def _without(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if not _REFUSED.search(said) or _VALUE.search(said):
        return None
    for key, asked in _DISPENSABLE.items():
        meant = _names(said, key)
        if key in {"response_format", "text"}:
            meant = _SCHEMA_WORDS.search(said) is not None
        if key == "include":
            meant = meant or ("encrypted_content" in said and not _UNREADABLE.search(said))
        if key in body and meant:
            notice = f"{body['model']} was asked without {key}, which its server refuses" if asked else ""
            return Lesson(manners=replace(manners, without=manners.without | {key}), notice=notice)
    return None


def _reasoning(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if "missing a thought_signature" in said:
        return Lesson(manners=replace(manners, signatures=True))
    if ("encrypted" in said and _UNREADABLE.search(said)) or "'rs_" in said or "reasoning item" in said:
        return Lesson(manners=replace(manners, echo="never"))
    if "reasoning_content" in said and re.search(r"must be passed|missing|is required|passed back", said):
        return Lesson(manners=replace(manners, echo="always"))
    sent = {key for message in body.get("messages", ()) for key in _ECHOED if key in message}
    if _REFUSED.search(said) and any(_names(said, key) for key in sent):
        return Lesson(manners=replace(manners, echo="never"))
    return None


def _order(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if re.search(r"tool.?call.?id.*(length|a-z)", said):
        return Lesson(manners=replace(manners, short_ids=True))
    if re.search(r"role '?\"?user'?\"? after (role )?'?\"?tool", said):
        return Lesson(manners=replace(manners, bridge=True))
    if re.search(r"roles? must alternate|must alternate|alternate between", said):
        return Lesson(manners=replace(manners, merge=True, bridge=True))
    return None


def _no_tools(manners: Manners, said: str, body: Mapping[str, Any]) -> Lesson | None:
    if "tools" in body and _TOOL_WORDS.search(said):
        return Lesson(
            manners=replace(manners, tools=False), notice=f"{body['model']} takes no tools: asked without them"
        )
    return None


_LOOKS: tuple[Callable[[Manners, str, Mapping[str, Any]], Lesson | None], ...] = (
    _order,
    _pictures,
    _documents,
    _limit,
    _reasoning,
    _without,
    _instructions,
    _no_tools,
)
# A status of 500 and above is a template's or an engine's word on what it was given, or a failure that passes.
_LOOKS_AT_FAILURES = (_order, _pictures, _instructions)


def _names(said: str, key: str) -> bool:
    """Whether the server means this parameter: a plain word only where it stands in quotes."""
    pattern = rf"['\"`.]{key}\b(?!_)" if key in _PLAIN_WORDS else rf"(?<![a-z_]){key}(?![a-z_])"
    return re.search(pattern, said) is not None


def _holds(value: object, *kinds: str) -> bool:
    """Whether a part of one of these types is anywhere in the body's messages."""
    if isinstance(value, Mapping):
        return value.get("type") in kinds or any(
            _holds(inner, *kinds) for key, inner in value.items() if key in {"messages", "input", "content", "output"}
        )
    return isinstance(value, list) and any(_holds(inner, *kinds) for inner in value)


def is_openai(base_url: str) -> bool:
    """Whether the address is OpenAI's own, or Azure's of the same APIs."""
    address = urlsplit(base_url)
    host = address.hostname or ""
    return (
        host == "api.openai.com"
        or host.endswith(".api.openai.com")
        or (host.endswith(".azure.com") and "/openai/v1" in address.path)
    )
