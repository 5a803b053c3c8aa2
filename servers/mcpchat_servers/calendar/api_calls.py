"""Calendar API requests shared by several tools: calendars and their time zones, events, busy times."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.calendar.events import Calendar, find_others, get_title, parse_calendar
from mcpchat_servers.calendar.times import find_zone
from mcpchat_servers.google.display_names import is_same_name
from mcpchat_servers.google.server import Session

API_PATH = "calendar/v3"
CALENDAR_FIELDS = "id,summary,summaryOverride,timeZone,accessRole,primary"
EVENT_FIELDS = (
    "id,status,htmlLink,summary,description,location,start,end,recurrence,recurringEventId,organizer,attendees,"
    "attendeesOmitted,transparency,visibility,hangoutLink,eventType,etag"
)
MAX_CALENDAR_PAGES = 20


def events_path(calendar_id: str, event_id: str = "") -> str:
    base = f"{API_PATH}/calendars/{quote(calendar_id, safe='')}/events"
    return f"{base}/{quote(event_id, safe='')}" if event_id else base


async def fetch_calendars(session: Session) -> list[Calendar]:
    """Fetch all calendars of the account."""
    calendars: list[Calendar] = []
    params: dict[str, Any] = {"maxResults": 250, "fields": f"nextPageToken,items({CALENDAR_FIELDS})"}
    for _ in range(MAX_CALENDAR_PAGES):
        page = await session.api.get(f"{API_PATH}/users/me/calendarList", params, what="the calendars")
        calendars += [parse_calendar(raw) for raw in page.get("items") or ()]
        if not page.get("nextPageToken"):
            break
        params["pageToken"] = page["nextPageToken"]
    session.cache["calendars"] = calendars
    return calendars


async def get_zone(session: Session, calendar_id: str, name: str | None) -> ZoneInfo:
    """Return the time zone of this name or, without one, of the calendar. Raises ToolError."""
    if name:
        return find_zone(name)
    calendars: Sequence[Calendar] = session.cache.get("calendars") or await fetch_calendars(session)
    found = [one for one in calendars if one.id == calendar_id or (calendar_id == "primary" and one.primary)]
    zones = [*found, *(one for one in calendars if one.primary)]
    return find_zone(zones[0].time_zone if zones else "UTC")


async def fetch_event(session: Session, calendar_id: str, event_id: str) -> dict[str, Any]:
    return await session.api.get(
        events_path(calendar_id, event_id), {"fields": EVENT_FIELDS}, what=f"the event {event_id}"
    )


async def fetch_if_titled(
    session: Session, calendar_id: str, event_id: str, title: str, *, whole_series: bool
) -> dict[str, Any]:
    """Return an event if its title is ``title``; raises ToolError if not, and for a series unless ``whole_series``.

    The user who approved the call saw this title, and approved no other event.
    """
    raw = await fetch_event(session, calendar_id, event_id)
    if raw.get("status") == "cancelled":
        raise ToolError(f"the event {event_id} was deleted already")
    if not is_same_name(get_title(raw), title):
        raise ToolError(f"title: the event {event_id} is called {get_title(raw)!r}, not {title!r}; nothing was changed")
    if raw.get("recurrence") and not whole_series:
        raise ToolError("this id is that of a series: set whole_series, or take the id of one event from list_events")
    return raw


def check_told(raw: dict[str, Any], tell: Iterable[str], added: Iterable[str] = (), removed: Iterable[str] = ()) -> str:
    """Return the value of Google's `sendUpdates`. Raises ToolError if ``tell`` is not empty and not everybody."""
    stated = {address.strip().lower() for address in tell}
    if not stated:
        return "none"
    if raw.get("attendeesOmitted"):
        raise ToolError(
            "tell: the event has more attendees than Google lists: leave it out, or change the event in the browser"
        )
    everybody = {*find_others(raw), *(address.lower() for address in (*added, *removed))}
    if stated != everybody:
        fix = (
            f"pass all of {', '.join(sorted(everybody))}, or none"
            if everybody
            else "leave it out: nobody else takes part"
        )
        raise ToolError(f"tell: {fix}; nothing was changed")
    return "all"


async def fetch_busy(
    session: Session, people: Sequence[str], start: datetime, end: datetime, zone: ZoneInfo
) -> dict[str, Any]:
    """Fetch when people are busy: Google's answer by their addresses."""
    body = {
        "timeMin": start.isoformat(),
        "timeMax": end.isoformat(),
        "timeZone": zone.key,
        "items": [{"id": person} for person in people],
    }
    response = await session.api.change(
        "POST", f"{API_PATH}/freeBusy", body, what="the free and busy times", retryable=True
    )
    calendars: dict[str, Any] = response.get("calendars") or {}
    return calendars
