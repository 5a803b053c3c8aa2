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


def _google_server(scope: str, read_only_scope: str, *, takes_folders: bool = False) -> BuiltinServer:
    return BuiltinServer(
        provider="google",
        token_env="GOOGLE_ACCESS_TOKEN",  # noqa: S106 - the name of a variable
        credentials=("GOOGLE_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"),
        scopes=(_SCOPE + scope,),
        read_only_scopes=(_SCOPE + read_only_scope,),
        takes_folders=takes_folders,
    )


BUILTIN_SERVERS: Mapping[str, BuiltinServer] = {
    "calculator": BuiltinServer(),
    "drive": _google_server("drive", "drive.readonly", takes_folders=True),
    "gmail": _google_server("gmail.modify", "gmail.readonly", takes_folders=True),
    "sheets": _google_server("spreadsheets", "spreadsheets.readonly"),
}
