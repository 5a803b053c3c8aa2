"""Points in time as people type them: a date, or how long ago."""

import re
import time
from datetime import datetime, timedelta

from mcpchat.errors import UsageError

_AGO = re.compile(r"(\d{1,6})\s*([hdwmy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "m": 30 * 24, "y": 365 * 24}


def moment(text: str, *, option: str, end: bool = False, now: float | None = None) -> float:
    """Seconds since 1970: of ``2026-11-24``, ``2026-11-24T10:30``, ``today``, ``yesterday``, or ``7d`` ago.

    ``end`` takes a day to its end. Raises UsageError.
    """
    here = datetime.fromtimestamp(time.time() if now is None else now)
    typed = text.strip().lower()
    try:
        if ago := _AGO.fullmatch(typed):
            return (here - timedelta(hours=int(ago[1]) * _HOURS[ago[2]])).timestamp()
        if typed in {"today", "yesterday"}:
            day = here.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=typed == "yesterday")
        else:
            day = datetime.fromisoformat(typed.upper())
        whole = len(typed) <= len("2026-11-24")
        return (day + timedelta(days=1) if end and whole else day).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option} {text!r}: no point in time", hint='a date such as 2026-11-24, "yesterday", or 7d (h d w m y) ago'
        ) from error
