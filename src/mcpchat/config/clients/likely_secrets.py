"""Finds what is probably a secret in another client's entry.

An import asks about each, so it may find too much: a text that stays would be in the config file in plain text.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcpchat.config.validation import REFERENCE, SECRET_NAME, find_literal_secrets, iter_literal_secrets

_HARMLESS_NAME = re.compile(
    r"(?i)[_-](type|file|path|dir|url|uri|host|port|limit|count|mode|method|name|id|user|username|email|region|version"
    r"|enabled|ttl|timeout|header|store|column|level|field|prefix|format|scope|provider|server)$"
    r"|author|tokenizer|passthrough|keyboard|keyword"
)
_MORE_NAMES = re.compile(r"(?i)(^|[_-])(pat|pass\w*|cookie|session|access)($|[_-])")
_HARMLESS_VALUE = re.compile(r"(?i)|true|false|yes|no|on|off|none|null|\d{1,5}|\.{0,2}~?/[\w./ -]*|https?://[^@?]*")
_OPTION = re.compile(
    r"(?i)--?[\w-]*?(api-?key|key|tokens?|secret|passw\w*|pass|pw|auth|credentials?|pat)(=(?P<value>.+))?"
)
_ASSIGNMENT = re.compile(r"(?i)[A-Z_]*(TOKEN|KEY|SECRET|PASSWORD|PASS|PAT)=(?P<value>.{6,})")
_INSIDE = re.compile(
    r"""(?i)["'](api_?-?key|\w*token|\w*secret|password)\\?["']\s*:\s*\\?["'][^"']{6,}|\b(Bearer|Basic)\s+\S{8,}
    |^-{0,2}[\w-]*(api-?key|token|secret|authorization|password|pw)\s*:\s*[^\s"']{6,}""",
    re.VERBOSE,
)
_RANDOM_PART = re.compile(r"/(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{22,}(?=[/?]|$)")
_MIN_LENGTH = 6  # characters


def find_secrets(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the settings, as ``env.NAME``, that have a secret in plain text."""
    found = {f"{table}.{key}" for _, table, key in iter_literal_secrets({"server": settings})}
    found |= {f"{table}.{key}" for table, key in _iter_likely(settings)}
    return tuple(
        f"{table}.{key}" for table in ("env", "headers") for key in settings.get(table, {}) if f"{table}.{key}" in found
    )


def _iter_likely(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for table in ("env", "headers"):
        for key, value in settings.get(table, {}).items():
            is_named = (SECRET_NAME.search(key) or _MORE_NAMES.search(key)) and not _HARMLESS_NAME.search(key)
            text = value.removeprefix("Bearer ")
            if is_named and not REFERENCE.fullmatch(text) and not _HARMLESS_VALUE.fullmatch(text):
                yield table, key


def names_secret(option: str) -> bool:
    """Whether an option's name says that its value is a secret."""
    return _OPTION.fullmatch(option) is not None


def has_secret_argument(args: Sequence[str]) -> bool:
    """Whether a command line has a secret: the value of an option, a variable of a container, or a part of JSON."""
    for number, arg in enumerate(args):
        if _INSIDE.search(arg) or _is_value(_ASSIGNMENT.fullmatch(arg)):
            return True
        option = _OPTION.fullmatch(arg)
        following = args[number + 1] if number + 1 < len(args) else ""
        if option is not None and option["value"] is None and not following.startswith("-"):
            if len(following) >= _MIN_LENGTH and not _HARMLESS_VALUE.fullmatch(following):
                return True
        elif _is_value(option):
            return True
    return False


def _is_value(match: re.Match[str] | None) -> bool:
    value = match["value"] if match is not None else None
    return bool(value) and len(value or "") >= _MIN_LENGTH and not _HARMLESS_VALUE.fullmatch(value or "")


def has_secret_address(settings: Mapping[str, Any]) -> bool:
    """Whether the address has a secret, as a parameter or as a part of its path."""
    url = settings.get("url")
    return isinstance(url, str) and (
        any(key.split(".")[2] == "url" for key in find_literal_secrets({"server": settings}))
        or bool(_RANDOM_PART.search(url))
    )
