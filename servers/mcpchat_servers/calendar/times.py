"""Dates and times of events: parsed in a time zone, formatted with their offset, and gaps between busy times."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from mcp.server.mcpserver.exceptions import ToolError

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Moment:
    """The start or the end of an event: a time, or a whole day if ``time`` is None."""

    day: date
    time: datetime | None = None

    def to_google(self, time_zone: str, *, is_end: bool = False) -> dict[str, Any]:
        """Return Google's form, whose end of whole days is the day after the last one."""
        if self.time is None:
            return {"date": str(self.day + timedelta(days=1) if is_end else self.day), "dateTime": None}
        return {"dateTime": self.time.isoformat(), "timeZone": time_zone, "date": None}

    def to_instant(self, zone: ZoneInfo, *, is_end: bool = False) -> datetime:
        """Return the moment as a time; a whole day begins and ends at midnight."""
        if self.time is not None:
            return self.time
        day = self.day + timedelta(days=1) if is_end else self.day
        return datetime(day.year, day.month, day.day, tzinfo=zone)


def find_zone(name: str) -> ZoneInfo:
    """Return the time zone with this name. Raises ToolError if the name is unknown."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ToolError(f"time_zone: {name!r} is no time zone: expected a name such as Europe/Berlin") from error


def parse_moment(text: str, zone: ZoneInfo, name: str) -> Moment:
    """Parse a date, or a time: without an offset it is in ``zone``. Raises ToolError with ``name``."""
    text = text.strip()
    try:
        if _DATE.fullmatch(text):
            return Moment(date.fromisoformat(text))
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ToolError(f"{name}: expected 2026-12-01T10:00 or 2026-12-01, not {text[:40]!r}") from error
    if time.tzinfo is not None:
        return Moment(time.date(), time)
    local = time.replace(tzinfo=zone)
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != time:
        raise ToolError(f"{name}: {text} does not exist in {zone.key}: the clocks are changed then")
    return Moment(local.date(), local)


def parse_span(start: str, end: str, zone: ZoneInfo) -> tuple[Moment, Moment]:
    """Parse the start and the end of an event. Raises ToolError if they do not fit together."""
    first, last = parse_moment(start, zone, "start"), parse_moment(end, zone, "end")
    if (first.time is None) != (last.time is None):
        raise ToolError("start and end: expected two dates or two times")
    if first.to_instant(zone) >= last.to_instant(zone, is_end=True):
        raise ToolError("end: it is not after the start")
    return first, last


def format_moment(raw: dict[str, Any], zone: ZoneInfo, *, is_end: bool = False) -> str:
    """Return a moment of Google's as text: a time in ``zone`` with its offset, or a date; "unknown" if it has none."""
    if not raw:
        return "unknown"
    if "dateTime" in raw:
        return datetime.fromisoformat(str(raw["dateTime"])).astimezone(zone).isoformat(timespec="minutes")
    day = date.fromisoformat(str(raw.get("date") or "1970-01-01"))
    return str(day - timedelta(days=1) if is_end else day)


def find_gaps(
    busy: Iterable[tuple[datetime, datetime]], start: datetime, end: datetime, minimum: timedelta
) -> Sequence[tuple[datetime, datetime]]:
    """Return the times between ``start`` and ``end`` that nothing takes, of at least ``minimum``, in UTC.

    Python subtracts times of one zone as the clock on the wall shows them.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    gaps, position = [], start
    for begin, finish in sorted((begin.astimezone(UTC), finish.astimezone(UTC)) for begin, finish in busy):
        if begin - position >= minimum:
            gaps.append((position, min(begin, end)))
        position = max(position, finish)
        if position >= end:
            break
    if end - position >= minimum:
        gaps.append((position, end))
    return [gap for gap in gaps if gap[1] - gap[0] >= minimum]
