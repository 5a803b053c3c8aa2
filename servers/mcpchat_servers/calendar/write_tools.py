"""Calendar tools that change events. Google tells others only if the call says whom."""

import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.calendar.api_calls import (
    EVENT_FIELDS,
    check_told,
    events_path,
    fetch_if_titled,
    get_zone,
)
from mcpchat_servers.calendar.events import Event, find_others, get_title, parse_event
from mcpchat_servers.calendar.server import CalendarId, End, EventId, Start, TimeZone, server
from mcpchat_servers.calendar.times import parse_span
from mcpchat_servers.google.server import Ctx, Session, build_result, get_session

_RULE = re.compile(r"(RRULE|EXRULE|RDATE|EXDATE)[:;][!-~]{1,500}")

Address = Annotated[str, Field(pattern=r"^[^\s,;<>\"]+@[^\s,;<>\"]+$", max_length=254)]
CurrentTitle = Annotated[
    str,
    Field(description="Its current title, for the user to see. Any other is refused.", min_length=1, max_length=1000),
]
WholeSeries = Annotated[bool, Field(description="Needed for the id of a series.")]
Tell = Annotated[
    list[Address] | None,
    Field(description="The addresses of all others who take part: Google tells them. Default: nobody.", max_length=200),
]


class ChangedEvent(BaseModel):
    """The event as it is now, and whom Google told."""

    event: Event
    told: list[str]


class DeletedEvent(BaseModel):
    """An event that was deleted, and whom Google told."""

    event_id: str
    title: str
    told: list[str]


@server.write_tool("Create an event", destructive=True)
async def create_event(
    ctx: Ctx,
    title: Annotated[str, Field(min_length=1, max_length=1000)],
    start: Start,
    end: End,
    attendees: Annotated[list[Address] | None, Field(description="Addresses.", max_length=200)] = None,
    tell: Annotated[
        bool | None, Field(description="Whether Google mails the attendees an invitation. Needed if there are some.")
    ] = None,
    location: Annotated[str | None, Field(max_length=1000)] = None,
    description: Annotated[str | None, Field(max_length=8000)] = None,
    repeats: Annotated[
        list[str] | None, Field(description="As RRULE:FREQ=WEEKLY;COUNT=5.", min_length=1, max_length=10)
    ] = None,
    meeting: Annotated[bool, Field(description="Add a Google Meet.")] = False,
    calendar_id: CalendarId = "primary",
    time_zone: TimeZone = None,
) -> Annotated[CallToolResult, ChangedEvent]:
    """Create an event. The attendees see it in their calendars; tell decides on the mail to them."""
    if attendees and tell is None:
        raise ToolError("tell: expected true or false: whether Google mails the attendees an invitation")
    for rule in repeats or ():
        if not _RULE.fullmatch(rule):
            raise ToolError(f"repeats: expected a rule such as RRULE:FREQ=WEEKLY;COUNT=5, not {rule[:80]!r}")
    session = get_session(ctx)
    zone = await get_zone(session, calendar_id, time_zone)
    first, last = parse_span(start, end, zone)
    body: dict[str, Any] = {
        "summary": title,
        "start": _without_none(first.to_google(zone.key)),
        "end": _without_none(last.to_google(zone.key, is_end=True)),
    }
    body |= {"location": location} if location else {}
    body |= {"description": description} if description else {}
    body |= {"attendees": [{"email": address} for address in dict.fromkeys(attendees)]} if attendees else {}
    body |= {"recurrence": list(repeats)} if repeats else {}
    params: dict[str, Any] = {"sendUpdates": "all" if attendees and tell else "none", "fields": EVENT_FIELDS}
    if meeting:
        body["conferenceData"] = {"createRequest": {"requestId": uuid.uuid4().hex}}
        params["conferenceDataVersion"] = 1
    created = await session.api.change(
        "POST", events_path(calendar_id), body, what=f"the event {title!r}", retryable=False, params=params
    )
    told = list(dict.fromkeys(attendees or ())) if tell else []
    return build_result(ChangedEvent(event=parse_event(created, zone), told=told))


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


@server.write_tool("Change an event", destructive=True, idempotent=True)
async def update_event(
    ctx: Ctx,
    event_id: EventId,
    title: CurrentTitle,
    start: Annotated[str | None, Field(description="Set both or none.", max_length=40)] = None,
    end: Annotated[str | None, Field(max_length=40)] = None,
    new_title: Annotated[str | None, Field(min_length=1, max_length=1000)] = None,
    location: Annotated[str | None, Field(max_length=1000)] = None,
    description: Annotated[str | None, Field(max_length=8000)] = None,
    add: Annotated[list[Address] | None, Field(description="Attendees to add.", max_length=200)] = None,
    remove: Annotated[list[Address] | None, Field(description="Attendees to remove.", max_length=200)] = None,
    whole_series: WholeSeries = False,
    tell: Tell = None,
    calendar_id: CalendarId = "primary",
    time_zone: TimeZone = None,
) -> Annotated[CallToolResult, ChangedEvent]:
    """Move an event to another time, or change its title, place, text or attendees. What is omitted stays."""
    session = get_session(ctx)
    raw = await fetch_if_titled(session, calendar_id, event_id, title, whole_series=whole_series)
    # A series keeps its own zone: in another one, its later events would move when the clocks are changed.
    own_zone = (raw.get("start") or {}).get("timeZone") if raw.get("recurrence") else None
    zone = await get_zone(session, calendar_id, time_zone or own_zone)
    body: dict[str, Any] = {}
    if (start is None) != (end is None):
        raise ToolError("start and end: expected both, or none")
    if start is not None and end is not None:
        first, last = parse_span(start, end, zone)
        body |= {"start": first.to_google(zone.key), "end": last.to_google(zone.key, is_end=True)}
    for name, value in (("summary", new_title), ("location", location), ("description", description)):
        body |= {name: value} if value is not None else {}
    if add or remove:
        body["attendees"] = _change_attendees(raw, add or (), remove or ())
    if not body:
        raise ToolError("expected something to change: start and end, new_title, location, description, add or remove")
    send_updates = check_told(raw, tell or (), add or (), remove or ())
    params = {"sendUpdates": send_updates, "fields": EVENT_FIELDS}
    changed = await _patch(session, calendar_id, raw, body, params)
    return build_result(ChangedEvent(event=parse_event(changed, zone), told=sorted(tell or ())))


async def _patch(
    session: Session, calendar_id: str, raw: dict[str, Any], body: dict[str, Any], params: dict[str, Any]
) -> dict[str, Any]:
    """Change an event, unless it was changed since it was read. A mail is never sent twice."""
    return await session.api.change(
        "PATCH",
        events_path(calendar_id, str(raw["id"])),
        body,
        what=f"the event {get_title(raw)!r}",
        retryable=params["sendUpdates"] == "none",
        params=params,
        etag=str(raw.get("etag") or ""),
    )


def _change_attendees(raw: dict[str, Any], add: Sequence[str], remove: Sequence[str]) -> list[dict[str, Any]]:
    """Return the attendees with some added and removed; Google replaces the whole list."""
    if raw.get("attendeesOmitted"):
        raise ToolError("the event has more attendees than Google lists: change them in the browser")
    removed = {address.lower() for address in remove}
    current = list(raw.get("attendees") or ())
    known = {str(item.get("email", "")).lower() for item in current}
    if unknown := removed - known:
        raise ToolError(f"remove: {', '.join(sorted(unknown))} is not among the attendees; nothing was changed")
    kept = [item for item in current if str(item.get("email", "")).lower() not in removed]
    return [*kept, *({"email": address} for address in dict.fromkeys(add) if address.lower() not in known)]


@server.write_tool("Answer an invitation", destructive=True, idempotent=True)
async def answer_event(
    ctx: Ctx,
    event_id: EventId,
    title: CurrentTitle,
    answer: Literal["accepted", "declined", "tentative"],
    comment: Annotated[str | None, Field(description="A text for the others.", max_length=1000)] = None,
    whole_series: WholeSeries = False,
    tell: Tell = None,
    calendar_id: CalendarId = "primary",
) -> Annotated[CallToolResult, ChangedEvent]:
    """Answer an invitation. The organizer sees the answer; tell decides on a mail."""
    session = get_session(ctx)
    raw = await fetch_if_titled(session, calendar_id, event_id, title, whole_series=whole_series)
    attendees = [dict(item) for item in raw.get("attendees") or ()]
    own = next((item for item in attendees if item.get("self")), None)
    if own is None:
        raise ToolError(f"the user is not among the attendees of {title!r}: there is nothing to answer")
    own |= {"responseStatus": answer} | ({"comment": comment} if comment is not None else {})
    # With attendeesOmitted, Google changes only the attendees that are sent: the others may have answered meanwhile.
    body = {"attendees": [own], "attendeesOmitted": True}
    params = {"sendUpdates": check_told(raw, tell or ()), "fields": EVENT_FIELDS}
    changed = await _patch(session, calendar_id, raw, body, params)
    zone = await get_zone(session, calendar_id, None)
    return build_result(ChangedEvent(event=parse_event(changed, zone), told=sorted(tell or ())))


@server.write_tool("Delete an event", destructive=True, idempotent=True)
async def delete_event(
    ctx: Ctx,
    event_id: EventId,
    title: CurrentTitle,
    whole_series: WholeSeries = False,
    tell: Tell = None,
    calendar_id: CalendarId = "primary",
) -> Annotated[CallToolResult, DeletedEvent]:
    """Delete an event, for good. Of an event that others organize, only the user's copy is deleted."""
    session = get_session(ctx)
    raw = await fetch_if_titled(session, calendar_id, event_id, title, whole_series=whole_series)
    send_updates = check_told(raw, tell or ())
    await session.api.change(
        "DELETE", events_path(calendar_id, event_id), what=f"the event {title!r}", retryable=True,
        params={"sendUpdates": send_updates}, etag=str(raw.get("etag") or ""),
    )  # fmt: skip
    told = find_others(raw) if send_updates == "all" else []
    return build_result(DeletedEvent(event_id=event_id, title=get_title(raw), told=told))
