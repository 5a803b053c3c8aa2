"""Logins as values: whose they are, what they allow, how long they last; never what is secret in them."""

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

StoreName = Literal["keyring", "file", "memory", "environment"]


class Account(Struct, frozen=True, kw_only=True):
    """A login that is kept somewhere. Nothing in it is secret; times are in epoch seconds.

    ``key`` names its record; ``login`` is the provider's name, or the address of a remote server. ``account`` is who
    signed in, as far as the provider tells; ``alias`` is what the user calls it. ``lost`` says why it no longer holds.
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

    @property
    def label(self) -> str:
        return self.alias or self.account


class AccountStatus(Struct, frozen=True, kw_only=True):
    """How one login is, for people: ``name`` is what to type, ``servers`` who needs it, ``missing`` what they lack."""

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


def server_key(url: str, account: str | None) -> str:
    """The key of the login at a remote server."""
    return f"mcp/{url}" + (f"#{account}" if account else "")


def sign_in_command(name: str, *, account: str | None = None, scopes: Iterable[str] = ()) -> str:
    """What to type, to sign in."""
    options = [*(("--account", account) if account else ()), *(arg for scope in scopes for arg in ("--scope", scope))]
    return shlex.join(("mcpchat", "auth", "login", name, *options))


def parse_lifetime(value: object, *, max_seconds: float = 10 * 365 * 86_400.0) -> float | None:
    """A number of seconds that somebody else wrote, as a number or its text; None for what is none.

    At least 1 and at most ``most``: a token that ends at once would be renewed at every request.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 1.0), max_seconds) if math.isfinite(seconds) else None


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
}
_IDENTITY_SCOPES = frozenset({"openid", "email", "profile"})  # which say who it is, and allow nothing


def canonical_scope(scope: str) -> str:
    """The one spelling of a scope that a provider may answer with another of."""
    return _SCOPE_ALIASES.get(scope, scope)


def canonical_scopes(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """Scopes in their one spelling, each once, in order; from a list, or from a text as the protocol writes them."""
    items = scopes.replace(",", " ").split() if isinstance(scopes, str) else scopes
    return tuple(dict.fromkeys(canonical_scope(scope) for scope in items))


def union(*scope_lists: Iterable[str]) -> tuple[str, ...]:
    """The union, in order."""
    return tuple(dict.fromkeys(scope for scopes in scope_lists for scope in scopes))


def missing_scopes(required: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """What is wanted and was not granted."""
    granted_scopes = set(canonical_scopes(granted))
    return tuple(scope for scope in canonical_scopes(required) if scope not in granted_scopes)


def format_scopes(scopes: Sequence[str]) -> str:
    """The scopes in people's words where there are any; those that only tell who it is are left out."""
    return ", ".join(
        _SCOPE_TITLES.get(scope, scope.removeprefix(_GOOGLE_PREFIX))
        for scope in scopes
        if scope not in _IDENTITY_SCOPES
    )


def format_duration(seconds: float) -> str:
    """A span of time in its largest unit."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
