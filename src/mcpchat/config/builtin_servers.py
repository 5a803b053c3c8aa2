"""What is known of the servers that come with mcpchat: whose login they use, for what, and what they may be told."""

from collections.abc import Mapping

from msgspec import Struct

_SCOPE = "https://www.googleapis.com/auth/"


class BuiltinServer(Struct, frozen=True, kw_only=True):
    """A bundled server. ``scopes`` serve all of its tools, ``reading_scopes`` those that only read.

    ``provider`` is whose access token it takes, from the variable ``token_env``; none for an empty one. A config that
    sets one of ``credentials`` brings a login of its own.
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
