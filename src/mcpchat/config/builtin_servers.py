"""The bundled servers: their OAuth providers and scopes, and whether they can access folders."""

from collections.abc import Mapping

from msgspec import Struct

_SCOPE = "https://www.googleapis.com/auth/"


class BuiltinServer(Struct, frozen=True, kw_only=True):
    """A bundled server. ``scopes`` are required for all of its tools, ``read_only_scopes`` for those that only read.

    ``provider`` is the OAuth provider of its access token, empty if it needs no token; ``token_env`` is the variable
    that passes the token. If the config sets one of the variables ``credentials``, the server uses them instead of a
    login.
    """

    provider: str = ""
    token_env: str | None = None
    credentials: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    read_only_scopes: tuple[str, ...] = ()
    takes_folders: bool = False


def _google_server(scopes: str, read_only_scopes: str, *, takes_folders: bool = False) -> BuiltinServer:
    """A server for an API of Google; its scopes are separated by blanks and without their common beginning."""
    return BuiltinServer(
        provider="google",
        token_env="GOOGLE_ACCESS_TOKEN",  # noqa: S106 - the name of a variable
        credentials=("GOOGLE_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"),
        scopes=tuple(_SCOPE + scope for scope in scopes.split()),
        read_only_scopes=tuple(_SCOPE + scope for scope in read_only_scopes.split()),
        takes_folders=takes_folders,
    )


BUILTIN_SERVERS: Mapping[str, BuiltinServer] = {
    "calculator": BuiltinServer(),
    "calendar": _google_server(
        "calendar.events calendar.calendarlist.readonly calendar.freebusy",
        "calendar.events.readonly calendar.calendarlist.readonly calendar.freebusy",
    ),
    "drive": _google_server("drive", "drive.readonly", takes_folders=True),
    "gmail": _google_server("gmail.modify", "gmail.readonly", takes_folders=True),
    "sheets": _google_server("spreadsheets", "spreadsheets.readonly"),
}
