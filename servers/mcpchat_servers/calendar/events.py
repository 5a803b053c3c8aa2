"""Events and calendars as values, and their text for a model."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from mcpchat_servers.calendar.times import format_moment
from mcpchat_servers.google.display_names import to_one_line

MAX_LISTED_ATTENDEES = 30


class Calendar(BaseModel):
    """A calendar of the account."""

    id: str
    name: str
    time_zone: str
    role: Annotated[str, Field(description="owner, writer, reader or freeBusyReader")]
    primary: bool | None = None


class Attendee(BaseModel):
    """A person who is invited, and the answer: accepted, declined, tentative or needsAction."""

    email: str
    name: str | None = None
    answer: str
    organizer: bool | None = None
    self: Annotated[bool | None, Field(description="The user.")] = None
    optional: bool | None = None


class Event(BaseModel):
    """An event. A time has its offset; a date means whole days, with ``end`` as the last one."""

    id: str
    title: str
    start: str
    end: str
    time_zone: str
    location: str | None = None
    organizer: str | None = None
    attendees: list[Attendee] | None = None
    more_attendees: Annotated[int | None, Field(description="Attendees that are not listed.")] = None
    status: Annotated[str | None, Field(description="tentative or cancelled; missing if confirmed.")] = None
    series_id: Annotated[str | None, Field(description="The id of the series that it is one event of.")] = None
    repeats: Annotated[list[str] | None, Field(description="Rules of a series (RFC 5545).")] = None
    free: Annotated[bool | None, Field(description="It does not make the user busy.")] = None
    private: bool | None = None
    meeting: Annotated[str | None, Field(description="The address of its video meeting.")] = None
    link: str | None = None


def parse_calendar(raw: Mapping[str, Any]) -> Calendar:
    return Calendar(
        id=str(raw.get("id", "")),
        name=to_one_line(str(raw.get("summaryOverride") or raw.get("summary") or "")),
        time_zone=str(raw.get("timeZone") or "UTC"),
        role=str(raw.get("accessRole", "")),
        primary=bool(raw.get("primary")) or None,
    )


def parse_event(raw: Mapping[str, Any], zone: ZoneInfo) -> Event:
    """Convert an event of the Calendar API; its times are in ``zone``."""
    attendees = list_attendees(raw)
    status = str(raw.get("status") or "")
    return Event(
        id=str(raw.get("id", "")),
        title=get_title(raw),
        start=format_moment(raw.get("start") or {}, zone),
        end=format_moment(raw.get("end") or {}, zone, is_end=True),
        time_zone=zone.key,
        location=to_one_line(str(raw.get("location") or ""), 500) or None,
        organizer=_format_person(raw.get("organizer") or {}) or None,
        attendees=attendees[:MAX_LISTED_ATTENDEES] or None,
        more_attendees=max(len(attendees) - MAX_LISTED_ATTENDEES, 0) or None,
        status=None if status in {"", "confirmed"} else status,
        series_id=raw.get("recurringEventId"),
        repeats=list(raw.get("recurrence") or ()) or None,
        free=raw.get("transparency") == "transparent" or None,
        private=raw.get("visibility") in {"private", "confidential"} or None,
        meeting=raw.get("hangoutLink"),
        link=raw.get("htmlLink"),
    )


def get_title(raw: Mapping[str, Any]) -> str:
    """Return the title of an event. One whose details the user may not see has none."""
    return to_one_line(str(raw.get("summary") or "")) or "(no title)"


def list_attendees(raw: Mapping[str, Any]) -> list[Attendee]:
    """Return who is invited to an event, rooms included."""
    return [
        Attendee(
            email=str(item.get("email", "")),
            name=to_one_line(str(item.get("displayName") or ""), 200) or None,
            answer=str(item.get("responseStatus") or "needsAction"),
            organizer=bool(item.get("organizer")) or None,
            self=bool(item.get("self")) or None,
            optional=bool(item.get("optional")) or None,
        )
        for item in raw.get("attendees") or ()
    ]


def find_others(raw: Mapping[str, Any]) -> list[str]:
    """Return the addresses of all who take part in an event, but the user and rooms."""
    people = [item for item in raw.get("attendees") or () if not item.get("self") and not item.get("resource")]
    organizer = raw.get("organizer") or {}
    if organizer.get("email") and not organizer.get("self") and raw.get("attendees"):
        people.append(organizer)
    return list(dict.fromkeys(str(item.get("email", "")).lower() for item in people if item.get("email")))


def format_events(events: Sequence[Event]) -> list[str]:
    """Format events for the model, a line each, and one more for who takes part."""
    lines = []
    for event in events:
        facts = [
            event.location or "",
            "repeats" if event.series_id or event.repeats else "",
            event.status or "",
            "free" if event.free else "",
        ]
        lines.append(
            f"{event.start} to {event.end}  {event.title}  ({', '.join(filter(None, [*facts, f'id {event.id}']))})"
        )
        if event.attendees:
            more = f" and {event.more_attendees} more" if event.more_attendees else ""
            lines.append(f"    with {', '.join(f'{one.email} ({one.answer})' for one in event.attendees)}{more}")
    return lines


def _format_person(raw: Mapping[str, Any]) -> str:
    name, email = to_one_line(str(raw.get("displayName") or ""), 200), str(raw.get("email") or "")
    return f"{name} <{email}>" if name and email else name or email
