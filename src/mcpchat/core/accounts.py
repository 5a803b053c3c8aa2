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


class LoginState(Struct, frozen=True, kw_only=True):
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


def login_command(name: str, *, account: str | None = None, scopes: Iterable[str] = ()) -> str:
    """What to type, to sign in."""
    more = [*(("--account", account) if account else ()), *(word for scope in scopes for word in ("--scope", scope))]
    return shlex.join(("mcpchat", "auth", "login", name, *more))


def lifetime(said: object, *, most: float = 10 * 365 * 86_400.0) -> float | None:
    """A number of seconds that somebody else wrote, as a number or its text; None for what is none.

    At least 1 and at most ``most``: a token that ends at once would be renewed at every request.
    """
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return None
    try:
        seconds = float(said)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 1.0), most) if math.isfinite(seconds) else None


_GOOGLE = "https://www.googleapis.com/auth/"
_ALIASES = {f"{_GOOGLE}userinfo.email": "email", f"{_GOOGLE}userinfo.profile": "profile"}
_TITLES = {
    "https://mail.google.com/": "Gmail (everything)",
    f"{_GOOGLE}gmail.readonly": "Gmail (read)",
    f"{_GOOGLE}gmail.modify": "Gmail (read, label, write, send)",
    f"{_GOOGLE}gmail.send": "Gmail (send)",
    f"{_GOOGLE}gmail.compose": "Gmail (drafts, send)",
    f"{_GOOGLE}gmail.labels": "Gmail (labels)",
    f"{_GOOGLE}gmail.metadata": "Gmail (headers only)",
    f"{_GOOGLE}drive": "Drive (read, write)",
    f"{_GOOGLE}drive.readonly": "Drive (read)",
    f"{_GOOGLE}drive.file": "Drive (files opened with this app)",
    f"{_GOOGLE}drive.metadata.readonly": "Drive (names and dates)",
    f"{_GOOGLE}spreadsheets": "Sheets (read, write)",
    f"{_GOOGLE}spreadsheets.readonly": "Sheets (read)",
    f"{_GOOGLE}documents": "Docs (read, write)",
    f"{_GOOGLE}documents.readonly": "Docs (read)",
    f"{_GOOGLE}calendar": "Calendar (read, write)",
    f"{_GOOGLE}calendar.readonly": "Calendar (read)",
    f"{_GOOGLE}calendar.events": "Calendar (events)",
}
_WHO = frozenset({"openid", "email", "profile"})  # which say who it is, and allow nothing


def plain_scope(scope: str) -> str:
    """The one spelling of a scope that a provider may answer with another of."""
    return _ALIASES.get(scope, scope)


def plain_scopes(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """Scopes in their one spelling, each once, in order; from a list, or from a text as the protocol writes them."""
    each = scopes.replace(",", " ").split() if isinstance(scopes, str) else scopes
    return tuple(dict.fromkeys(plain_scope(scope) for scope in each))


def joined(*several: Iterable[str]) -> tuple[str, ...]:
    """The union, in order."""
    return tuple(dict.fromkeys(scope for scopes in several for scope in scopes))


def missing(wanted: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """What is wanted and was not granted."""
    held = set(plain_scopes(granted))
    return tuple(scope for scope in plain_scopes(wanted) if scope not in held)


def scope_titles(scopes: Sequence[str]) -> str:
    """The scopes in people's words where there are any; those that only tell who it is are left out."""
    return ", ".join(_TITLES.get(scope, scope.removeprefix(_GOOGLE)) for scope in scopes if scope not in _WHO)


def span(seconds: float) -> str:
    """A span of time in its largest unit."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
