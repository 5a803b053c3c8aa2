"""Fake Calendar API v3: a list of calendars, events and series, free and busy times, and who is told."""

import copy
import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.google.http import ApiError, FakeService, Request, Response

OWNER = "ada@example.com"


class FakeCalendar:
    """Calendars by id, with events by id. ``told`` has each mail of Google's: the kind of change, and to whom."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.calendars: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, dict[str, Any]]] = {}
        self.busy: dict[str, list[tuple[str, str]]] = {}  # of other people
        self.told: list[tuple[str, list[str]]] = []
        self._counter = 0
        self.add_calendar(OWNER, "Ada", primary=True)

    def add_calendar(self, id_: str, summary: str, *, role: str = "owner", zone: str = "Europe/Berlin",
                     primary: bool = False) -> None:  # fmt: skip
        self.calendars[id_] = {"kind": "calendar#calendarListEntry", "id": id_, "summary": summary, "timeZone": zone,
                               "accessRole": role, **({"primary": True} if primary else {})}  # fmt: skip
        self.events[id_] = {}

    def add(self, summary: str, start: str, end: str, *, calendar: str = OWNER, **fields: Any) -> str:
        """Add an event: dates, or local times of the calendar's zone. Returns its id."""
        self._counter += 1
        id_ = f"ev{self._counter}"
        zone = self.calendars[calendar]["timeZone"]
        people = {"email": OWNER, "self": True}
        self.events[calendar][id_] = {
            "kind": "calendar#event", "id": id_, "status": "confirmed", "summary": summary,
            "htmlLink": f"https://www.google.com/calendar/event?eid={id_}", "eventType": "default", "etag": '"1"',
            "start": _moment(start, zone), "end": _moment(end, zone), "organizer": people, **fields,
        }  # fmt: skip
        return id_

    def handle(self, request: Request) -> Response:
        self.service.require_enabled("calendar-json.googleapis.com")
        path = request.path.removeprefix("/calendar/v3")
        if path == "/users/me/calendarList":
            self.service.authorize(request, "calendar.calendarlist.readonly")
            return Response({"kind": "calendar#calendarList", "items": list(self.calendars.values())})
        if path == "/freeBusy":
            self.service.authorize(request, "calendar.freebusy")
            return Response(self._query_busy(request.json()))
        is_read = request.method == "GET"
        self.service.authorize(request, "calendar.events", *(["calendar.events.readonly"] if is_read else []))
        match = re.fullmatch(r"/calendars/([^/]+)/events(?:/([^/]+))?", path)
        if match is None:
            raise ApiError(404, "Not Found", reason="notFound")
        calendar = OWNER if match[1] == "primary" else match[1]
        if calendar not in self.calendars:
            raise ApiError(404, "Not Found", reason="notFound")
        if not is_read and self.calendars[calendar]["accessRole"] not in {"owner", "writer"}:
            raise ApiError(403, "You need to have writer access to this calendar.", reason="requiredAccessLevel")
        if match[2] is None:
            return Response(self._list(calendar, request) if is_read else self._create(calendar, request))
        event = self._find(calendar, match[2])
        if (wanted := request.headers.get("If-Match")) and wanted != event["etag"]:
            raise ApiError(412, "Precondition Failed", reason="conditionNotMet")
        match request.method:
            case "GET":
                return Response(event)
            case "PATCH":
                return Response(self._patch(calendar, event, request))
            case "DELETE":
                if event.get("status") == "cancelled":
                    raise ApiError(410, "Resource has been deleted", reason="deleted")
                self._tell("delete", event, request)
                self.events[calendar][match[2]] = {**event, "status": "cancelled"}
                return Response(b"", 204)
        raise ApiError(404, "Not Found", reason="notFound")

    def _find(self, calendar: str, id_: str) -> dict[str, Any]:
        if id_ in self.events[calendar]:
            return self.events[calendar][id_]
        for event in self._expand(calendar):
            if event["id"] == id_:
                return event
        raise ApiError(404, "Not Found", reason="notFound")

    def _expand(self, calendar: str) -> list[dict[str, Any]]:
        """The events, each of a series by itself: RRULE:FREQ=WEEKLY;COUNT=N only."""
        zone = ZoneInfo(self.calendars[calendar]["timeZone"])
        expanded = []
        for event in self.events[calendar].values():
            rule = re.fullmatch(r"RRULE:FREQ=WEEKLY;COUNT=(\d+)", (event.get("recurrence") or [""])[0])
            for number in range(int(rule[1]) if rule else 1):
                item = copy.deepcopy(event)
                if rule:
                    del item["recurrence"]
                    for name in ("start", "end"):
                        local = datetime.fromisoformat(item[name]["dateTime"]).astimezone(zone).replace(tzinfo=None)
                        moved = (local + timedelta(weeks=number)).replace(tzinfo=zone)
                        item[name] = {"dateTime": moved.isoformat(), "timeZone": zone.key}
                    begin = datetime.fromisoformat(item["start"]["dateTime"]).astimezone(ZoneInfo("UTC"))
                    item |= {"id": f"{event['id']}_{begin:%Y%m%dT%H%M%SZ}", "recurringEventId": event["id"]}
                if not rule or item["id"] not in self.events[calendar]:  # changed alone, or deleted
                    expanded.append(item)
        return expanded

    def _list(self, calendar: str, request: Request) -> dict[str, Any]:
        zone = ZoneInfo(self.calendars[calendar]["timeZone"])
        start, end = (datetime.fromisoformat(request.param(name)) for name in ("timeMin", "timeMax"))
        if request.param("orderBy") == "startTime" and not request.bool_param("singleEvents"):
            raise ApiError(
                400, "The requested ordering is not available for the particular query.", reason="badRequest"
            )
        words = request.param("q").lower()
        found = [
            event for event in self._expand(calendar)
            if event["status"] != "cancelled" and _instant(event["start"], zone) < end and _instant(event["end"], zone) > start
            and words in f"{event.get('summary', '')} {event.get('description', '')}".lower()
        ]  # fmt: skip
        found.sort(key=lambda event: _instant(event["start"], zone))
        first, size = int(request.param("pageToken", "0")), request.int_param("maxResults", 250, 2500)
        page: dict[str, Any] = {"kind": "calendar#events", "timeZone": zone.key, "items": found[first : first + size]}
        return page | ({"nextPageToken": str(first + size)} if first + size < len(found) else {})

    def _create(self, calendar: str, request: Request) -> dict[str, Any]:
        body = request.json()
        if ("date" in body["start"]) != ("date" in body["end"]):
            raise ApiError(400, "Invalid start time.", reason="invalid")
        self._counter += 1
        id_ = f"ev{self._counter}"
        conference = body.pop("conferenceData", None)
        if conference and request.param("conferenceDataVersion") != "1":
            raise ApiError(400, "Invalid conference version.", reason="invalid")
        event = {"kind": "calendar#event", "id": id_, "etag": '"1"', "status": "confirmed", "organizer": {"email": OWNER, "self": True},
                 "htmlLink": f"https://www.google.com/calendar/event?eid={id_}", **body}  # fmt: skip
        event["attendees"] = [{"responseStatus": "needsAction", **item} for item in body.get("attendees", ())]
        if not event["attendees"]:
            del event["attendees"]
        event |= {"hangoutLink": "https://meet.google.com/abc-defg-hij"} if conference else {}
        self.events[calendar][id_] = event
        self._tell("invite", event, request)
        return event

    def _patch(self, calendar: str, event: dict[str, Any], request: Request) -> dict[str, Any]:
        body = request.json()
        changed = copy.deepcopy(event)
        answers = body.pop("attendees", None)
        if body.pop("attendeesOmitted", False):
            for answer in answers or ():
                for item in changed.get("attendees", ()):
                    if item["email"] == answer["email"]:
                        item |= answer
        elif answers is not None:
            changed["attendees"] = [{"responseStatus": "needsAction", **item} for item in answers]
        for name, value in body.items():
            old = changed.get(name)
            changed[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        for name in ("start", "end"):
            changed[name] = {key: value for key, value in changed[name].items() if value is not None}
        changed["etag"] = f'"{int(event["etag"].strip(chr(34))) + 1}"'
        self.events[calendar][event["id"]] = changed
        self._tell("update", changed, request, event)
        return changed

    def _tell(self, kind: str, event: dict[str, Any], request: Request, before: dict[str, Any] | None = None) -> None:
        if request.param("sendUpdates") == "all":
            people = [*event.get("attendees", ()), *(before or {}).get("attendees", ()), event["organizer"]]
            self.told.append((kind, sorted({item["email"] for item in people if not item.get("self")})))

    def _query_busy(self, body: dict[str, Any]) -> dict[str, Any]:
        if len(body["items"]) > 50:
            raise ApiError(400, "Too many calendars.", reason="tooManyCalendarsRequested")
        calendars: dict[str, Any] = {}
        zone = ZoneInfo(body["timeZone"])
        start, end = (datetime.fromisoformat(body[name]) for name in ("timeMin", "timeMax"))
        for item in body["items"]:
            person = item["id"]
            if person in {"primary", OWNER}:
                spans = [(_instant(event["start"], zone), _instant(event["end"], zone))
                         for event in self._expand(OWNER) if event["status"] != "cancelled"]  # fmt: skip
            elif person in self.busy:
                spans = [(datetime.fromisoformat(a).replace(tzinfo=zone), datetime.fromisoformat(b).replace(tzinfo=zone))
                         for a, b in self.busy[person]]  # fmt: skip
            else:
                calendars[person] = {"errors": [{"domain": "global", "reason": "notFound"}], "busy": []}
                continue
            inside = [(max(a, start), min(b, end)) for a, b in spans if a < end and b > start]
            calendars[person] = {"busy": [{"start": a.isoformat(), "end": b.isoformat()} for a, b in sorted(inside)]}
        return {"kind": "calendar#freeBusy", "timeMin": body["timeMin"], "timeMax": body["timeMax"],
                "calendars": calendars}  # fmt: skip


def _moment(text: str, zone: str) -> dict[str, str]:
    if len(text) == 10:
        return {"date": text}
    return {"dateTime": datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).isoformat(), "timeZone": zone}


def _instant(moment: dict[str, Any], zone: ZoneInfo) -> datetime:
    if "dateTime" in moment:
        return datetime.fromisoformat(moment["dateTime"])
    return datetime.fromisoformat(moment["date"]).replace(tzinfo=zone)
