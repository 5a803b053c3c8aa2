"""Points in time as people type them: a date, or how long ago."""

import re
import time
from datetime import datetime, timedelta

from mcpchat.errors import UsageError

_AGO = re.compile(r"(\d{1,6})\s*([hdwmy])")
_UNIT_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "m": 30 * 24, "y": 365 * 24}


def parse_time(text: str, *, option: str, end: bool = False, now: float | None = None) -> float:
    """Seconds since 1970: of ``2026-11-24``, ``2026-11-24T10:30``, ``today``, ``yesterday``, or ``7d`` ago.

    ``end`` takes a day to its end. Raises UsageError.
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
            f"{option} {text!r}: no point in time", hint='a date such as 2026-11-24, "yesterday", or 7d (h d w m y) ago'
        ) from error
