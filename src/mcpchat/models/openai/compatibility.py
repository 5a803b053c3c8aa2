"""Server compatibility: adapts requests after an error response, and remembers the adaptation for the run."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.messages import Message
from mcpchat.errors import ModelError
from mcpchat.models.openai.media import digest_media
from mcpchat.models.openai.tool_limits import find_refused_keyword, fit_tools, tool_description
from mcpchat.util.sanitize import one_line

# Patterns of error texts; they are compiled when an error comes, not at every start.
_REFUSED = (
    r"not support|n't support|unsupported|unknown|unrecogni[sz]ed|not permitted|not allowed|extra (inputs|fields)|"
    r"unexpected|not enabled|unavailable|missing data required|"
    r"no endpoints found that support|invalid (parameter|argument|field|key)|does not (accept|take|allow)"
)
# If only the value is out of range, the server accepts the parameter: the user has to change the value.
_VALUE_OUT_OF_RANGE = (
    r"too (large|high|long|low|small)|at (most|least)|(less|greater|larger|smaller) than|maximum|minimum|out of range|"
    r"expected a value|must be (between|in|>|<)|exceed"
)
# Parameters that a request works without, and whether the user configured them: then omitting one gets a notice.
OPTIONAL_PARAMETERS = {
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
_MATCH_ONLY_QUOTED = frozenset({"reasoning", "text", "include"})  # ordinary words: parameter names only in quotes
_REASONING_FIELDS = ("reasoning_content", "reasoning_details", "reasoning_text", "reasoning")
_SCHEMA_WORDS = r"response_format|json_schema|structured output|grammar|text\.format"
_TOOL_WORDS = (
    r"(does not|doesn't) support (tool|function)|no support for tools|tools? (param|is|are)\b.*not (support|available)|"
    r"tool choice requires --enable|tools param requires"
)
_UNREADABLE = r"invalid_encrypted|could not be|cannot be (verified|decrypted|read)"
_STRING_CONTENT_ONLY = r"content\W.*(must be|should be|expected)( a)?( valid)? string|sequence, expected a string"
_IMAGE_WORDS = r"\b(images?|image_url|input_image|image input|vision|multimodal|mmproj)\b"
_FILE_WORDS = r"\b(files?|input_file|pdfs?|document input|part type)\b"
_CONTENT_WORDS = r"content(\[\])?\W{0,2}(part )?type"
_ROLE_WORDS = (
    r"role\W.{0,80}\b(system|developer)\b|\b(system|developer)\W{0,2} (role|message|instruction)s?\b|"
    r"\.role\W.*\b(system|developer)\b"
)


_LONGEST_STRING = r"string.{0,60}?(?:maximum length|at most|longer than)\D{0,20}(?P<length>\d+)"
_MOST_TOOLS = (
    r"(?:array|list|tools?|functions?)\b.{0,80}?"
    r"\b(?:maximum (?:length|number|of)|at most|max(?:imum)?|limit(?: is| of)?)"
    r"\D{0,30}(?P<count>\d+)|(?P<most>\d+) (?:is the )?(?:maximum|max)\b.{0,30}tools"
)
_SCHEMA_ERROR = (
    r"(invalid|unsupported|malformed|bad) (json )?schema|json ?schema (is|was)|schema (is )?(not valid|invalid)"
    r"|schema for (function|tool)|input_schema|function_?declarations?|parameters?\.properties|\$\.properties"
    r"|in context=\(|look-?(around|ahead|behind)"
    r"|(keyword|schema).{0,60}not (supported|permitted|allowed)|not (supported|permitted|allowed).{0,40}schema"
)
_MEDIA_KEYS = frozenset(
    {"messages", "input", "content", "output", "image_url", "url", "file", "file_data", "input_audio", "data"}
)
_MEDIA_ERROR = (
    r"(could not|cannot|can't|unable to|failed to) (process|decode|load|read|parse|open|identify|validate|download)"
    r".{0,40}(image|file|pdf|document)"
    r"|(image|file|pdf|document)\b.{0,80}(exceed|too (large|big|many|long)|appears to be|invalid|corrupt|damaged"
    r"|not valid|unsupported|could not|decod|empty|encrypted|password|must be (smaller|less|under))"
    r"|invalid_image|invalid (image|base64|file)|image_parse|unsupported image|cannot identify image"
)
_ANSWER_SCHEMA = r"response_format|text\.format|response_?schema|structured output"


class Compatibility(Struct, frozen=True, kw_only=True):
    """The request format for one model at one server. Most servers accept the defaults.

    ``limit_keys``: names of the parameter for the maximum length of a response; the first is used. ``system``: the role
    of the system prompt, or "user" to put it into the first user message. ``images``, ``files``, ``tools``: whether
    they are sent. ``reasoning_echo``: whether the model's reasoning is sent back: "own" (to its origin), "never", or
    "always" (as an empty text if there was none). ``assistant_bridge``: insert an assistant message between tool
    results and the next user message. ``merge_user_messages``: no two user messages in a row. ``short_ids``: call ids
    are nine letters and digits. ``call_signatures``: calls by other models get a placeholder signature. ``omitted``:
    parameters that are left out. ``max_tools``: how many tools are sent; ``max_description``: characters of a tool's
    description; ``schema_without``: keywords that the tools' schemas do not get; ``basic_schemas``: they get only
    types, properties, items, enum and descriptions. ``refused_media``: the digests of images and files that the server
    refused; they are named in words. ``tool_search``: when the provider's own tool search is used: "known" is for
    models that are known to have it, "refused" is never, "" is on request.
    """

    limit_keys: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    system: Literal["system", "developer", "user"] = "system"
    images: bool = True
    files: bool = True
    tools: bool = True
    reasoning_echo: Literal["own", "never", "always"] = "own"
    assistant_bridge: bool = False
    merge_user_messages: bool = False
    short_ids: bool = False
    call_signatures: bool = False
    omitted: frozenset[str] = frozenset()
    max_tools: int | None = None
    max_description: int | None = None
    schema_without: frozenset[str] = frozenset()
    basic_schemas: bool = False
    refused_media: frozenset[str] = frozenset()
    tool_search: Literal["", "known", "refused"] = ""


class Adaptation(Struct, frozen=True, kw_only=True):
    """Changed settings, and a notice for the user; empty if nothing that the user asked for is lost."""

    compatibility: Compatibility
    notice: str = ""


def adapt_to_error(compatibility: Compatibility, error: ModelError, body: Mapping[str, Any]) -> Adaptation | None:
    """The settings for another attempt after this error, or None if no rule applies or nothing would change."""
    if error.kind not in {"bad_request", "server"}:
        return None
    error_text = f"{error.message} {error.server_text}".lower()
    for rule in RULES if error.kind == "bad_request" else SERVER_ERROR_RULES:
        adaptation = rule(compatibility, error_text, body)
        if adaptation is not None and adaptation.compatibility != compatibility:
            if adaptation.notice:
                adaptation = replace(
                    adaptation, notice=f"{adaptation.notice} (the server: {one_line(error.message, 200)})"
                )
            return adaptation
    return None


def _drop_images(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if not compatibility.images or not _contains_part(body, "image_url", "input_image"):
        return None
    if re.search(_STRING_CONTENT_ONLY, error_text):
        text_only = replace(compatibility, images=False, files=False)
        return Adaptation(
            compatibility=text_only, notice=f"{body['model']} takes text only: sent without images and files"
        )
    mentioned = re.search(_IMAGE_WORDS, error_text) or (
        re.search(_CONTENT_WORDS, error_text) and not _contains_part(body, "file", "input_file")
    )
    if mentioned and re.search(_REFUSED, error_text) and not re.search(_VALUE_OUT_OF_RANGE, error_text):
        return Adaptation(
            compatibility=replace(compatibility, images=False), notice=f"{body['model']} takes no images: sent without"
        )
    return None


def _drop_files(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if not compatibility.files or not _contains_part(body, "file", "input_file"):
        return None
    if re.search(_STRING_CONTENT_ONLY, error_text) or (
        (re.search(_FILE_WORDS, error_text) or re.search(_CONTENT_WORDS, error_text))
        and re.search(_REFUSED, error_text)
        and not re.search(_VALUE_OUT_OF_RANGE, error_text)
    ):
        return Adaptation(
            compatibility=replace(compatibility, files=False), notice=f"{body['model']} takes no files: sent without"
        )
    return None


def _switch_limit_key(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    key, *others = compatibility.limit_keys or ("",)
    if (
        not key
        or key not in body
        or not _mentions(error_text, key)
        or not re.search(_REFUSED, error_text)
        or re.search(_VALUE_OUT_OF_RANGE, error_text)
    ):
        return None
    notice = "" if others else f"asked without {key}: the server of {body['model']} does not accept it"
    return Adaptation(compatibility=replace(compatibility, limit_keys=tuple(others)), notice=notice)


def _change_system_role(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if compatibility.system == "user" or not re.search(_ROLE_WORDS, error_text) or not re.search(_REFUSED, error_text):
        return None
    if not any(message.get("role") == compatibility.system for message in body.get("messages", ())):
        return None
    wants_developer = (
        compatibility.system == "system" and "developer" in error_text and "developer instruction" not in error_text
    )
    return Adaptation(compatibility=replace(compatibility, system="developer" if wants_developer else "user"))


def _omit_parameter(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if not re.search(_REFUSED, error_text) or re.search(_VALUE_OUT_OF_RANGE, error_text):
        return None
    for key, user_requested in OPTIONAL_PARAMETERS.items():
        mentioned = _mentions(error_text, key)
        if key in {"response_format", "text"}:
            mentioned = re.search(_SCHEMA_WORDS, error_text) is not None
        if key == "include":
            mentioned = mentioned or ("encrypted_content" in error_text and not re.search(_UNREADABLE, error_text))
        if key in body and mentioned:
            notice = f"asked without {key}: the server of {body['model']} does not accept it" if user_requested else ""
            return Adaptation(
                compatibility=replace(compatibility, omitted=compatibility.omitted | {key}), notice=notice
            )
    return None


def _adapt_reasoning(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if "missing a thought_signature" in error_text:
        return Adaptation(compatibility=replace(compatibility, call_signatures=True))
    if (
        ("encrypted" in error_text and re.search(_UNREADABLE, error_text))
        or "'rs_" in error_text
        or "reasoning item" in error_text
    ):
        return Adaptation(compatibility=replace(compatibility, reasoning_echo="never"))
    if "reasoning_content" in error_text and re.search(r"must be passed|missing|is required|passed back", error_text):
        return Adaptation(compatibility=replace(compatibility, reasoning_echo="always"))
    sent = {key for message in body.get("messages", ()) for key in _REASONING_FIELDS if key in message}
    if re.search(_REFUSED, error_text) and any(_mentions(error_text, key) for key in sent):
        return Adaptation(compatibility=replace(compatibility, reasoning_echo="never"))
    return None


def _adapt_message_order(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if re.search(r"tool.?call.?id.*(length|a-z)", error_text):
        return Adaptation(compatibility=replace(compatibility, short_ids=True))
    if re.search(r"role '?\"?user'?\"? after (role )?'?\"?tool", error_text):
        return Adaptation(compatibility=replace(compatibility, assistant_bridge=True))
    if re.search(r"roles? must alternate|must alternate|alternate between", error_text):
        return Adaptation(compatibility=replace(compatibility, merge_user_messages=True, assistant_bridge=True))
    return None


def _drop_tools(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    if "tools" in body and re.search(_TOOL_WORDS, error_text):
        return Adaptation(
            compatibility=replace(compatibility, tools=False),
            notice=f"{body['model']} takes no tools: asked without them",
        )
    return None


def adapt_tools(
    tools: Sequence[dict[str, Any]], messages: Sequence[Message], compatibility: Compatibility
) -> Sequence[dict[str, Any]]:
    """Return the tools as the server accepts them. Those that the messages have calls of are left out last."""
    if not compatibility.tools:
        return ()
    return fit_tools(
        tools,
        (call.name for message in messages for call in message.calls),
        max_tools=compatibility.max_tools,
        max_description=compatibility.max_description,
        without=compatibility.schema_without,
        basic=compatibility.basic_schemas,
    )


def _drop_refused_media(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    """Send what the server refuses (a damaged, too large or mislabelled image or file) in words from now on."""
    if not re.search(_MEDIA_ERROR, error_text):
        return None
    media = set(_iter_data_urls(body))
    if not media:
        return None
    refused = compatibility.refused_media | {digest_media(url) for url in media}
    notice = f"{body['model']} refused an image or file of the conversation: from now on it is only named"
    return Adaptation(compatibility=replace(compatibility, refused_media=refused), notice=notice)


def _iter_data_urls(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("data:"):
            yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _MEDIA_KEYS:
                yield from _iter_data_urls(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _iter_data_urls(inner)


def _drop_tool_search(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    """Search with tools of our own if the server does not know its tool search."""
    if "tool_search" in error_text and any(tool.get("type") == "tool_search" for tool in body.get("tools") or ()):
        return Adaptation(compatibility=replace(compatibility, tool_search="refused"))
    return None


def _limit_tools(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    """Send fewer tools, or shorter descriptions, if the server states its maximum."""
    tools = body.get("tools") or ()
    if not tools or "tool" not in error_text:
        return None
    if length := re.search(_LONGEST_STRING, error_text):
        longest = max(len(tool_description(tool)) for tool in tools)
        if "description" in error_text and 1 < int(length["length"]) < longest:
            most = int(length["length"])
            return Adaptation(
                compatibility=replace(compatibility, max_description=most),
                notice=f"{body['model']} takes tools' descriptions of {most:,} characters: longer ones are cut",
            )
        return None
    limit = re.search(_MOST_TOOLS, error_text)
    maximum = int(limit["count"] or limit["most"]) if limit else 0
    if not 0 < maximum < len(tools):
        return None
    return Adaptation(compatibility=replace(compatibility, max_tools=maximum))


def _simplify_schemas(compatibility: Compatibility, error_text: str, body: Mapping[str, Any]) -> Adaptation | None:
    """Send the tools' schemas without the keyword that the server refuses; each call is judged by the whole schema."""
    tools = body.get("tools") or ()
    if not tools or not re.search(_SCHEMA_ERROR, error_text) or re.search(_ANSWER_SCHEMA, error_text):
        return None
    keyword = find_refused_keyword(error_text, tools)
    if keyword is None:
        simpler, what = replace(compatibility, basic_schemas=True), "some schemas of tools: simpler ones are sent"
    else:
        simpler = replace(compatibility, schema_without=compatibility.schema_without | {keyword})
        what = f'"{keyword}" in the schemas of tools: it is left out'
    return Adaptation(
        compatibility=simpler,
        notice=f"{body['model']} does not take {what}; arguments are checked against the whole schema as before",
    )


RULES: tuple[Callable[[Compatibility, str, Mapping[str, Any]], Adaptation | None], ...] = (
    _drop_tool_search,
    _adapt_message_order,
    _limit_tools,
    _simplify_schemas,
    _drop_images,
    _drop_files,
    _drop_refused_media,
    _switch_limit_key,
    _adapt_reasoning,
    _omit_parameter,
    _change_system_role,
    _drop_tools,
)
# A status of 500 or more is a transient failure, or a chat template or inference engine that rejects the input.
SERVER_ERROR_RULES = (_adapt_message_order, _drop_images, _drop_refused_media, _change_system_role)


def _mentions(error_text: str, key: str) -> bool:
    """Whether the error text names this parameter; an ordinary word counts only in quotes."""
    pattern = rf"['\"`.]{key}\b(?!_)" if key in _MATCH_ONLY_QUOTED else rf"(?<![a-z_]){key}(?![a-z_])"
    return re.search(pattern, error_text) is not None


def _contains_part(value: object, *part_types: str) -> bool:
    """Whether the messages in the body contain a part of one of these types."""
    if isinstance(value, Mapping):
        return value.get("type") in part_types or any(
            _contains_part(inner, *part_types)
            for key, inner in value.items()
            if key in {"messages", "input", "content", "output"}
        )
    return isinstance(value, list) and any(_contains_part(inner, *part_types) for inner in value)


def is_openai(base_url: str) -> bool:
    """Whether the address is OpenAI's own, or Azure's with the same APIs."""
    address = urlsplit(base_url)
    host = address.hostname or ""
    return (
        host == "api.openai.com"
        or host.endswith(".api.openai.com")
        or (host.endswith(".azure.com") and "/openai/v1" in address.path)
    )
