"""Calendar tools that change nothing: calendars, events in a span, free and busy times, proposals."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.calendar.api_calls import (
    EVENT_FIELDS,
    events_path,
    fetch_busy,
    fetch_calendars,
    fetch_event,
    get_zone,
)
from mcpchat_servers.calendar.events import Calendar, Event, format_events, parse_event
from mcpchat_servers.calendar.server import CalendarId, End, EventId, Start, TimeZone, server
from mcpchat_servers.calendar.times import find_gaps, parse_moment, parse_span
from mcpchat_servers.google.server import Ctx, Cursor, Session, build_result, get_session
from mcpchat_servers.google.text_extraction import html_to_text

MAX_PEOPLE = 50  # Google's limit for one request
MAX_DESCRIPTION = 20_000  # characters
MAX_GAPS = 50
DEFAULT_SPAN = timedelta(days=7)
MAX_BUSY_SPAN = timedelta(days=60)
_TAG = re.compile(r"<(?!https?:|mailto:)[a-zA-Z/!][^>]*>")

People = Annotated[
    list[Annotated[str, Field(pattern=r"^[^\s,;<>]+@[^\s,;<>]+$", max_length=254)]],
    Field(description="Addresses.", min_length=1, max_length=MAX_PEOPLE),
]


class Calendars(BaseModel):
    calendars: list[Calendar]


class EventPage(BaseModel):
    """Events by their start. Series are listed event by event."""

    events: list[Event]
    time_zone: str
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None


class EventDetails(BaseModel):
    """An event, with its description as a person sees it."""

    event: Event
    description: str | None = None


class Interval(BaseModel):
    start: str
    end: str


class Busy(BaseModel):
    """When a person is busy. ``problem`` says why that is not known."""

    person: str
    busy: list[Interval]
    problem: str | None = None


class FreeBusy(BaseModel):
    """Who is busy when, and when all whose times are known are free."""

    people: list[Busy]
    free: list[Interval]
    time_zone: str


class Proposal(BaseModel):
    """An event as create_event would make it, and who is busy then."""

    title: str
    start: str
    end: str
    time_zone: str
    attendees: list[str]
    conflicts: Annotated[list[str], Field(description="Attendees who are busy then; the user as primary.")]
    unknown: Annotated[list[str], Field(description="Attendees whose times are not known.")]


@server.read_tool("List calendars")
async def list_calendars(ctx: Ctx) -> Annotated[CallToolResult, Calendars]:
    """List the user's calendars with their time zones."""
    return build_result(Calendars(calendars=await fetch_calendars(get_session(ctx))))


@server.read_tool("List events")
async def list_events(
    ctx: Ctx,
    start: Annotated[str | None, Field(description="A time or a date. Default: now.", max_length=40)] = None,
    end: Annotated[str | None, Field(description="Default: seven days later.", max_length=40)] = None,
    words: Annotated[str | None, Field(description="Events with these words.", max_length=500)] = None,
    calendar_id: CalendarId = "primary",
    time_zone: TimeZone = None,
    page_size: Annotated[int, Field(ge=1, le=250)] = 50,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, EventPage]:
    """List the events in a span of time: who, where, when, and the answers. Every event of a series is listed."""
    session = get_session(ctx)
    zone = await get_zone(session, calendar_id, time_zone)
    first = parse_moment(start, zone, "start").to_instant(zone) if start else datetime.now(zone).replace(microsecond=0)
    last = parse_moment(end, zone, "end").to_instant(zone, is_end=True) if end else first + DEFAULT_SPAN
    if last <= first:
        raise ToolError("end: it is not after the start")
    params: dict[str, Any] = {
        "timeMin": first.isoformat(),
        "timeMax": last.isoformat(),
        "timeZone": zone.key,
        "singleEvents": True,
        "orderBy": "startTime",
        "maxResults": page_size,
        "fields": f"nextPageToken,items({EVENT_FIELDS})",
    }
    params |= ({"q": words} if words else {}) | ({"pageToken": cursor} if cursor else {})
    response = await session.api.get(events_path(calendar_id), params, what=f"the calendar {calendar_id}")
    events = [parse_event(raw, zone) for raw in response.get("items") or ()]
    page = EventPage(events=events, time_zone=zone.key, next_cursor=response.get("nextPageToken"))
    lines = [f"Times are in {zone.key}.", *format_events(events)] if events else ["no events"]
    lines += [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return build_result(page, "\n".join(lines))


@server.read_tool("Get an event")
async def get_event(
    ctx: Ctx, event_id: EventId, calendar_id: CalendarId = "primary", time_zone: TimeZone = None
) -> Annotated[CallToolResult, EventDetails]:
    """Get an event with its description and the rules of its series."""
    session = get_session(ctx)
    zone = await get_zone(session, calendar_id, time_zone)
    raw = await fetch_event(session, calendar_id, event_id)
    text = str(raw.get("description") or "")
    text = await html_to_text(text) if _TAG.search(text) else text.strip()
    if len(text) > MAX_DESCRIPTION:
        text = f"{text[:MAX_DESCRIPTION]}\n[the rest is left out]"
    event = parse_event(raw, zone)
    heads = [
        *format_events([event]),
        f"Times are in {zone.key}.",
        *([f"Organizer: {event.organizer}"] if event.organizer else []),
        *([f"Repeats: {'; '.join(event.repeats)}"] if event.repeats else []),
        *([f"Meeting: {event.meeting}"] if event.meeting else []),
    ]
    return build_result(
        EventDetails(event=event, description=text or None), "\n".join(heads) + (f"\n\n{text}" if text else "")
    )


@server.read_tool("Find free times")
async def find_free_times(
    ctx: Ctx,
    people: People,
    start: Start,
    end: End,
    minutes: Annotated[int, Field(description="The shortest free time to list.", ge=5, le=1440)] = 30,
    time_zone: TimeZone = None,
) -> Annotated[CallToolResult, FreeBusy]:
    """Find when people are busy, and when all of them are free. The user's own address counts only if it is named."""
    session = get_session(ctx)
    zone = await get_zone(session, "primary", time_zone)
    first = parse_moment(start, zone, "start").to_instant(zone)
    last = parse_moment(end, zone, "end").to_instant(zone, is_end=True)
    if not first < last <= first + MAX_BUSY_SPAN:
        raise ToolError(f"end: expected a time after the start, within {MAX_BUSY_SPAN.days} days")
    problems, busy = await _fetch_intervals(session, people, first, last, zone)
    gaps = find_gaps([item for items in busy.values() for item in items], first, last, timedelta(minutes=minutes))
    value = FreeBusy(
        people=[
            Busy(person=person, busy=_format_intervals(busy.get(person, ()), zone), problem=problems.get(person))
            for person in people
        ],
        free=_format_intervals(gaps[:MAX_GAPS] if busy else (), zone),
        time_zone=zone.key,
    )
    lines = [f"Times are in {zone.key}."]
    for one in value.people:
        text = "; ".join(f"{item.start} to {item.end}" for item in one.busy) or "free"
        lines.append(f"{one.person}: {one.problem or text}")
    free = [f"  {item.start} to {item.end}" for item in value.free]
    lines += ["All whose times are known are free:" if free else "There is no time when all are free.", *free]
    if not busy:
        lines[-1 - len(free) :] = ["No times are known."]
    return build_result(value, "\n".join(lines))


async def _fetch_intervals(
    session: Session, people: Sequence[str], start: datetime, end: datetime, zone: ZoneInfo
) -> tuple[dict[str, str], dict[str, list[tuple[datetime, datetime]]]]:
    """Return why the times of some people are not known, and when the others are busy, by their addresses."""
    answers = await fetch_busy(session, people, start, end, zone)
    problems: dict[str, str] = {}
    busy: dict[str, list[tuple[datetime, datetime]]] = {}
    for person in people:
        answer = answers.get(person) or answers.get(person.lower()) or {"errors": [{"reason": "notFound"}]}
        if errors := answer.get("errors"):
            reason = str(errors[0].get("reason", ""))
            problems[person] = (
                "not known: this account may not see that calendar" if reason == "notFound" else f"not known: {reason}"
            )
            continue
        busy[person] = [
            (datetime.fromisoformat(str(item["start"])), datetime.fromisoformat(str(item["end"])))
            for item in answer.get("busy") or ()
        ]
    return problems, busy


def _format_intervals(items: Sequence[tuple[datetime, datetime]], zone: ZoneInfo) -> list[Interval]:
    def text(time: datetime) -> str:
        return time.astimezone(zone).isoformat(timespec="minutes")

    return [Interval(start=text(start), end=text(end)) for start, end in items]


@server.read_tool("Propose an event")
async def propose_event(
    ctx: Ctx,
    title: Annotated[str, Field(min_length=1, max_length=1000)],
    start: Start,
    end: End,
    attendees: Annotated[list[str] | None, Field(description="Addresses.", max_length=MAX_PEOPLE - 1)] = None,
    time_zone: TimeZone = None,
) -> Annotated[CallToolResult, Proposal]:
    """Check an event before it is created: its times, and who is busy then. It changes nothing and tells nobody."""
    session = get_session(ctx)
    zone = await get_zone(session, "primary", time_zone)
    first, last = parse_span(start, end, zone)
    begin, finish = first.to_instant(zone), last.to_instant(zone, is_end=True)
    people = list(dict.fromkeys(["primary", *(attendees or ())]))
    problems, busy = await _fetch_intervals(session, people, begin, finish, zone)
    conflicts = [person for person, items in busy.items() if any(a < finish and b > begin for a, b in items)]
    value = Proposal(
        title=title,
        start=begin.isoformat(timespec="minutes") if first.time else str(first.day),
        end=finish.isoformat(timespec="minutes") if last.time else str(last.day),
        time_zone=zone.key,
        attendees=list(attendees or ()),
        conflicts=conflicts,
        unknown=list(problems),
    )
    lines = [
        f"Proposal, nothing is created: {title}, {value.start} to {value.end} ({zone.key})",
        f"with {', '.join(value.attendees) or 'nobody else'}",
        f"busy then: {', '.join('the user' if one == 'primary' else one for one in conflicts) or 'nobody'}",
    ]
    lines += [f"not known: {', '.join(value.unknown)}"] if value.unknown else []
    return build_result(value, "\n".join(lines))
