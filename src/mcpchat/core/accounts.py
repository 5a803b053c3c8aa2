"""Accounts, their scopes and their expiry, without any secrets."""

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

StoreName = Literal["keyring", "file", "memory", "environment"]
_MAX_LIFETIME = 10 * 365 * 86_400.0  # seconds


class Account(Struct, frozen=True, kw_only=True):
    """A stored login. It contains no secrets. Times are in seconds since 1970.

    ``key`` is the key of its secret record; ``login`` is the provider's name, or the URL of a remote server.
    ``account`` is the user who signed in, empty if the provider does not report it; ``alias`` is the user's own name
    for the account. ``lost`` says why the login is no longer valid; it is empty if it is. ``problem`` says why its last
    renewal failed without a reason; it is empty if it did not.
    """

    key: str
    kind: Literal["provider", "server"]
    login: str
    account: str = ""
    alias: str = ""
    scopes: tuple[str, ...] = ()
    store: StoreName = "keyring"
    kept_in: str = ""
    created: float = 0.0
    expires: float | None = None
    renews: bool = False
    default: bool = False
    lost: str = ""
    problem: str = ""

    @property
    def label(self) -> str:
        return self.alias or self.account


class AccountStatus(Struct, frozen=True, kw_only=True):
    """The status of one login, for display. ``name`` is its name on the command line.

    ``servers`` are the servers that use it, ``missing`` the scopes that they need and it lacks. Times are in seconds
    since 1970. ``exit_code`` is that of the error if a check failed, else 0.
    """

    name: str
    kind: Literal["provider", "server"]
    state: Literal["signed in", "not signed in", "signed out", "unknown"]
    account: str = ""
    alias: str = ""
    default: bool = False
    scopes: tuple[str, ...] = ()
    kept_in: str = ""
    created: float | None = None
    expires: float | None = None
    renews: bool = False
    servers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    detail: str = ""
    hint: str = ""
    exit_code: int = 0


def server_key(url: str, account: str | None) -> str:
    """The key of a login at a remote server."""
    return f"mcp/{url}" + (f"#{account}" if account else "")


def sign_in_command(name: str, *, account: str | None = None, scopes: Iterable[str] = ()) -> str:
    """The command that signs in."""
    options = [*(("--account", account) if account else ()), *(arg for scope in scopes for arg in ("--scope", scope))]
    return shlex.join(("mcpchat", "auth", "login", name, *options))


def parse_lifetime(value: object) -> float | None:
    """Parse a lifetime in seconds from a server's response, a number or its text; None if it is not a number.

    The result is at least 1, because a token that expires at once would be renewed for every request, and at most
    ten years.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 1.0), _MAX_LIFETIME) if math.isfinite(seconds) else None


_GOOGLE_PREFIX = "https://www.googleapis.com/auth/"
_SCOPE_ALIASES = {f"{_GOOGLE_PREFIX}userinfo.email": "email", f"{_GOOGLE_PREFIX}userinfo.profile": "profile"}
_SCOPE_TITLES = {
    "https://mail.google.com/": "Gmail (everything)",
    f"{_GOOGLE_PREFIX}gmail.readonly": "Gmail (read)",
    f"{_GOOGLE_PREFIX}gmail.modify": "Gmail (read, label, write, send)",
    f"{_GOOGLE_PREFIX}gmail.send": "Gmail (send)",
    f"{_GOOGLE_PREFIX}gmail.compose": "Gmail (drafts, send)",
    f"{_GOOGLE_PREFIX}gmail.labels": "Gmail (labels)",
    f"{_GOOGLE_PREFIX}gmail.metadata": "Gmail (headers only)",
    f"{_GOOGLE_PREFIX}drive": "Drive (read, write)",
    f"{_GOOGLE_PREFIX}drive.readonly": "Drive (read)",
    f"{_GOOGLE_PREFIX}drive.file": "Drive (files opened with this app)",
    f"{_GOOGLE_PREFIX}drive.metadata.readonly": "Drive (names and dates)",
    f"{_GOOGLE_PREFIX}spreadsheets": "Sheets (read, write)",
    f"{_GOOGLE_PREFIX}spreadsheets.readonly": "Sheets (read)",
    f"{_GOOGLE_PREFIX}documents": "Docs (read, write)",
    f"{_GOOGLE_PREFIX}documents.readonly": "Docs (read)",
    f"{_GOOGLE_PREFIX}calendar": "Calendar (read, write)",
    f"{_GOOGLE_PREFIX}calendar.readonly": "Calendar (read)",
    f"{_GOOGLE_PREFIX}calendar.events": "Calendar (events)",
    f"{_GOOGLE_PREFIX}calendar.events.readonly": "Calendar (read events)",
    f"{_GOOGLE_PREFIX}calendar.calendarlist.readonly": "Calendar (list of calendars)",
    f"{_GOOGLE_PREFIX}calendar.freebusy": "Calendar (free and busy times)",
    f"{_GOOGLE_PREFIX}gmail.settings.basic": "Gmail (settings and filters)",
}
_IDENTITY_SCOPES = frozenset({"openid", "email", "profile"})  # they identify the user and give no access


def canonical_scope(scope: str) -> str:
    """The canonical spelling of a scope: providers may return a scope in another spelling than the requested one."""
    return _SCOPE_ALIASES.get(scope, scope)


def canonical_scopes(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """Unique scopes in canonical spelling, in their order; from a list, or a text separated by blanks or commas."""
    items = scopes.replace(",", " ").split() if isinstance(scopes, str) else scopes
    return tuple(dict.fromkeys(canonical_scope(scope) for scope in items))


def union(*scope_lists: Iterable[str]) -> tuple[str, ...]:
    """All scopes of the lists, each once, in order of appearance."""
    return tuple(dict.fromkeys(scope for scopes in scope_lists for scope in scopes))


def missing_scopes(required: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """The required scopes that were not granted."""
    granted_scopes = set(canonical_scopes(granted))
    return tuple(scope for scope in canonical_scopes(required) if scope not in granted_scopes)


def format_scopes(scopes: Sequence[str]) -> str:
    """The scopes for display, with readable titles if known. Scopes that only identify the user are left out."""
    return ", ".join(list_scopes(scopes))


def list_scopes(scopes: Sequence[str]) -> list[str]:
    """The parts of ``format_scopes``."""
    return [
        _SCOPE_TITLES.get(scope, scope.removeprefix(_GOOGLE_PREFIX))
        for scope in scopes
        if scope not in _IDENTITY_SCOPES
    ]


def format_duration(seconds: float) -> str:
    """Format a duration in its largest unit, such as ``3 days``."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
