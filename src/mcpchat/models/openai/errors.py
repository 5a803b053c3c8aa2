"""Turns the errors that a model's server reports into ModelError, and decides whether to retry.

Servers put the message, the code and the details in different places, and give the same status to different problems:
the kind is decided by status, code and text together. Nothing here imports the SDK.
"""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from mcpchat.errors import TRANSIENT_ERRORS, ModelError, ModelErrorKind

MAX_RETRY_DELAY = 120.0  # seconds; if a server asks for a longer wait, the request fails instead of seeming to hang
# By kind. {where} is the table of the config, {or} the environment variable that can be used instead of its key.
HINTS: Mapping[str, str] = {
    "auth": "check the key: api_key under {where} in the config{or}",
    "quota": "the account has no credit left: see the provider's billing page",
    "rate": "the provider's rate limit is reached: wait, or use another model",
    "context": "send less, or use a model with a larger context window; in the chat, /new starts a new conversation",
    "bad_request": "check the model's name and options: --model, or {where} in the config",
    "server": "check the server's own log, or try again later",
    "broken_stream": "try again",
}
_NO_ACCESS_HINT = (
    "the key is known but may not do this: check that the account has access to the model, and its region or policy"
)
_NOT_FOUND_HINT = "check the model's name, the address (most end in /v1) and the api under {where} in the config"
_MAX_ERROR_TEXT = 500  # characters
# Patterns of error texts; they are compiled when an error comes, not at every start.
_CONTEXT_EXCEEDED = (
    r"context[ _](length|window|size)|contextwindow|maximum context|too many tok|exceed_context|prompt is too long|"
    r"input is too long|reduce the length|token count.{0,40}exceed|maximum prompt length|model token limit|"
    r"(input|prompt) exceeds max|range of input length|`?inputs`? tokens \+ `?max_new_tokens`?|"
    r"input (tokens )?length.{0,30}exceed|"
    r"prompt.{0,30}(too long|exceeds|longer than).{0,60}(token|limit|length)"
)
# A request that is too large for a limit of tokens per minute: waiting does not help, a smaller request does.
_REQUEST_TOO_LARGE = r"request too large|tokens must be reduced"
_WINDOW_SIZE = (
    r"(?:context length|context window|context size|max_model_len)(?! exceeds limit)[a-z ]*[^\d]{0,12}([\d,]{3,})|"
    r"n_ctx\W{1,4}(\d+)|available context size \(?(\d+)|maximum number of tokens allowed \(?([\d,]+)|"
    r"maximum prompt length is ([\d,]+)|exceeds the limit of ([\d,]+)|model token limit:? ([\d,]+)|"
    r"range of input length should be \[\d+, ?([\d,]+)|max_new_tokens`? must be <= ([\d,]+)|"
    r"limit:? ([\d,]+), (?:used|requested)"
)
_REQUESTED_TOKENS = (
    r"(?:request|resulted in|requested) \(?([\d,]+) tokens|token count (?:of |\()([\d,]+)|"
    r"request contains ([\d,]+) tokens|requested:? ([\d,]+)|given: ([\d,]+) `?inputs`? tokens|"
    r"your prompt contains (?:at least )?([\d,]+)|prompt \(?length:? ([\d,]+)"
)
_FAILED_LOAD = r"error|fail|cannot|could not|unable|not found|out of memory"
_LOADING = r"\bloading\b.{0,60}\bmodel\b|\bmodel\b.{0,200}\bloading\b"
_PROMPT_TOKENS = (
    r"\(?([\d,]+) (?:tokens )?in (?:the|your) (?:messages|prompt|input)|"
    r"(?:has|have|contains?|with) ([\d,]+) input tokens|"
    r"given: ([\d,]+) `?inputs`? tokens"
)
_QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
)
_OVERLOADED_CODES = frozenset(
    {"overloaded", "overloaded_error", "server_overloaded", "engine_overloaded_error", "service_unavailable"}
)
_RATE_LIMIT_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted"})
_KNOWN_CODES = (
    _QUOTA_CODES | _OVERLOADED_CODES | _RATE_LIMIT_CODES | {"context_length_exceeded", "exceed_context_size_error"}
)


def error_from_status(base_url: str, status: int, headers: Mapping[str, str], body: object) -> ModelError:
    """The ModelError for a response with an error status; ``body`` is its decoded JSON or its text."""
    if 300 <= status < 400:
        return ModelError(
            f"{base_url} redirects to {headers.get('location', 'nowhere')}; the key is not sent there",
            kind="bad_request",
            hint="if that is the right address, set it as base_url",
        )
    if isinstance(body, str) and body.lstrip().startswith("<"):
        body = "a web page"
    message, code, server_text = extract_error(body)
    return ModelError(
        f"the model's server answered {status}: {message or 'no error message'}",
        kind=_classify_status(status, code, server_text),
        hint={403: _NO_ACCESS_HINT, 404: _NOT_FOUND_HINT}.get(status, ""),
        retry_after=math.inf if headers.get("x-should-retry") == "false" else _parse_retry_after(headers),
        window=_parse_window(server_text),
        requested_tokens=_parse_requested_tokens(server_text),
        server_text=server_text,
        status=status,
    )


def error_from_body(error: object) -> ModelError:
    """The ModelError for an error inside a response with a success status: an object with message and code, or text."""
    message, code, server_text = extract_error(error)
    kind = (
        _classify_status(int(code), code, server_text)
        if code.isdecimal() and len(code) == 3
        else _classify_text(code, server_text)
    )
    return ModelError(
        f"the model's server reported: {message or 'an error without a message'}",
        kind=kind or "server",
        window=_parse_window(server_text),
        requested_tokens=_parse_requested_tokens(server_text),
        server_text=server_text,
    )


def retry_delay(error: ModelError, attempt: int) -> float | None:
    """Seconds to wait before retry number ``attempt`` (from 0), or None if a retry would not help."""
    delay = max(error.retry_after or 0.0, min(0.5 * 2.0**attempt, 8.0))
    if error.kind not in TRANSIENT_ERRORS or delay > MAX_RETRY_DELAY:
        return None
    return delay


def is_loading_model(error: ModelError) -> bool:
    """Whether a local server says that it is still loading the model: llama.cpp, LM Studio, TGI."""
    text = error.server_text.lower()
    return error.kind == "overloaded" and re.search(_LOADING, text) is not None and not re.search(_FAILED_LOAD, text)


def _classify_status(status: int, code: str, server_text: str) -> ModelErrorKind:
    kind = _classify_text(code, server_text)
    match status:
        case 403 if kind == "quota":
            return "quota"
        case 401 | 403:
            return "auth"
        case 402:
            return "quota"
        case 429:
            return kind if kind in {"quota", "context"} else "rate"
        case 503 | 529:
            return "overloaded"
        case 408 | 409:
            return "network"
        case 413:
            return "context"
        case _ if status >= 500:
            return "context" if kind == "context" else "server"
        case _:
            return kind or "bad_request"


def _classify_text(code: str, server_text: str) -> ModelErrorKind | None:
    """The kind by code and text alone, or None if they do not decide it."""
    if code in _QUOTA_CODES:
        return "quota"
    if re.search(_REQUEST_TOO_LARGE, server_text.lower()):
        return "context"
    if code in _OVERLOADED_CODES:
        return "overloaded"
    if code in _RATE_LIMIT_CODES:
        return "rate"
    if code == "invalid_request_error" and not re.search(_CONTEXT_EXCEEDED, server_text.lower()):
        return "bad_request"
    return "context" if re.search(_CONTEXT_EXCEEDED, f"{code} {server_text}".lower()) else None


def extract_error(body: object) -> tuple[str, str, str]:
    """The server's message, its error code, and all of its text, from wherever in the body it put them.

    The last contains the message, the parameter, the window size and validation details, at most 500 characters.
    """
    fields: dict[str, str] = {}
    details: list[str] = []
    for _ in range(5):
        if isinstance(body, list):
            details += [_format_validation_error(item) for item in body[:20]]
            body = body[0] if body else None
        if isinstance(body, str):
            fields.setdefault("message", body)
        if not isinstance(body, dict):
            break
        for key in ("code", "type", "status", "param", "n_ctx"):
            if isinstance(value := body.get(key), str | int) and not isinstance(value, bool) and value != "":
                fields.setdefault(key, str(value))
        for key in ("message", "msg"):
            if isinstance(value := body.get(key), str):
                fields.setdefault("message", value)
        body = body.get("error") or body.get("detail")
    message = fields.get("message", "")[:_MAX_ERROR_TEXT]
    codes = [fields[key].lower() for key in ("code", "type", "status") if key in fields]
    code = next((candidate for candidate in codes if candidate in _KNOWN_CODES), codes[0] if codes else "")
    window = f"n_ctx: {fields['n_ctx']}" if "n_ctx" in fields else ""
    param = f"'{fields['param']}'" if "param" in fields else ""
    return message, code, " ".join(text for text in (message, param, window, *details) if text)[:_MAX_ERROR_TEXT]


def _format_validation_error(item: object) -> str:
    """One of pydantic's validation errors, as its path and its message."""
    if not isinstance(item, dict):
        return ""
    location = item.get("loc")
    path = "'" + ".".join(str(step) for step in location) + "'" if isinstance(location, list) else ""
    return f"{path} {item.get('msg', '')}".strip()


def _parse_requested_tokens(server_text: str) -> int | None:
    """The number of tokens in the messages, or else in the whole request, if the error says it."""
    return _find_number(_PROMPT_TOKENS, server_text) or _find_number(_REQUESTED_TOKENS, server_text)


def _parse_window(server_text: str) -> int | None:
    """The size of the context window in tokens, if the error says it."""
    return _find_number(_WINDOW_SIZE, server_text)


def _find_number(pattern: str, server_text: str) -> int | None:
    match = re.search(pattern, server_text.lower())
    digits = next((group for group in match.groups() if group), "").replace(",", "") if match else ""
    return int(digits) if digits else None


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from the Retry-After headers: a number or an HTTP date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return float(value) * unit if math.isfinite(float(value)) else None
        except ValueError:
            pass
        try:
            return float(parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            continue
    return None
