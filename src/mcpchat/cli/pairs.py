"""KEY=VALUE and KEY:=JSON, as command lines write them."""

import json
import re
from typing import Any

from mcpchat.core.tools import reject_constant
from mcpchat.errors import UsageError
from mcpchat.util.json_problems import describe_json_error

_PAIR = re.compile(r"(?P<key>[^=]*?)(?P<operator>:?=)(?P<text>.*)", re.DOTALL)


def split_pair(pair: str) -> tuple[str, str, str] | None:
    """The key, "=" or ":=", and the text after it; None if the word is no pair."""
    match = _PAIR.fullmatch(pair)
    return (match["key"], match["operator"], match["text"]) if match is not None and match["key"] else None


def parse_json(where: str, text: str, *, hint: str = "") -> Any:
    """The value of a JSON text. Raises UsageError, which begins with ``where``."""
    try:
        return json.loads(text, parse_constant=reject_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON: {describe_json_error(error)}", hint=hint) from error
