"""Parse points in time that the user types: a date, or an age."""

import re
import time
from datetime import datetime, timedelta

from mcpchat.errors import UsageError

_AGO = re.compile(r"(\d{1,6})\s*([hdwmy])")
_UNIT_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "m": 30 * 24, "y": 365 * 24}


def parse_time(text: str, *, option: str, end: bool = False, now: float | None = None) -> float:
    """Parse ``2026-11-24``, ``2026-11-24T10:30``, ``today``, ``yesterday`` or an age such as ``7d``.

    Returns seconds since 1970; for a day, its start, or its end if ``end`` is set. ``option`` names the option in the
    error. Raises UsageError if the text is not a point in time.
    """
    current = datetime.fromtimestamp(time.time() if now is None else now)
    value = text.strip().lower()
    try:
        if match := _AGO.fullmatch(value):
            return (current - timedelta(hours=int(match[1]) * _UNIT_HOURS[match[2]])).timestamp()
        if value in {"today", "yesterday"}:
            day = current.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=value == "yesterday")
        else:
            day = datetime.fromisoformat(value.upper())
        is_date = len(value) <= len("2026-11-24")
        return (day + timedelta(days=1) if end and is_date else day).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option} {text!r}: not a date or an age",
            hint='a date such as 2026-11-24, "yesterday", or an age such as 7d (h d w m y)',
        ) from error


_DURATION = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*(s|m|min|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float | None:
    """The seconds of a duration such as ``90s``, ``10m``, ``2h`` or ``1d``; None if the text is none, or it is zero."""
    match = _DURATION.fullmatch(text.strip().lower())
    return float(match[1]) * _UNIT_SECONDS[match[2]] or None if match else None
