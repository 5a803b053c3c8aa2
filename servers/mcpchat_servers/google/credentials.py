"""The access token of the account: from the environment, or from one of Google's own credential files."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Protocol

from mcp.server.mcpserver.exceptions import ToolError

TOKEN = "GOOGLE_ACCESS_TOKEN"  # noqa: S105 - the name of a variable
EXPIRES_AT = "GOOGLE_ACCESS_TOKEN_EXPIRES_AT"  # epoch seconds
FILE = "GOOGLE_APPLICATION_CREDENTIALS"

SIGN_IN = "mcpchat auth login google"


class TokenEnded(ToolError):
    """Google takes the token no longer; nothing was done. Whoever gave the token gives a new one."""


class Tokens(Protocol):
    async def current(self) -> str:
        """The token to send. Raises ToolError where there is none, TokenEnded where it has ended."""
        ...

    async def renewed(self, refused: str) -> str | None:
        """Another token than the one that was refused, or None where none is to be had here."""
        ...


class Given:
    """A token that whoever started the server gave; it is renewed by starting the server anew."""

    def __init__(self, token: str, expires: float | None) -> None:
        self._token = token
        self._expires = expires

    async def current(self) -> str:
        if self._expires is not None and time.time() >= self._expires:
            raise TokenEnded("the access token of the Google account has ended")
        return self._token

    async def renewed(self, refused: str) -> str | None:
        return None


class Missing:
    """No token at all: the server lists its tools, and each says what to do."""

    async def current(self) -> str:
        raise ToolError(
            f"no Google account is signed in: run {SIGN_IN}. Other MCP clients give a token in {TOKEN}, or name a "
            f"credentials file in {FILE}."
        )

    async def renewed(self, refused: str) -> str | None:
        return None


class FromFile:
    """A user's or a service account's credentials file, as Google's own tools write them; renewed by google-auth."""

    def __init__(self, path: Path, scopes: Sequence[str]) -> None:
        self._path = path
        self._scopes = list(scopes)
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._expires = 0.0

    async def current(self) -> str:
        async with self._lock:
            if self._token is None or time.time() > self._expires - 60:
                await self._fetch()
            assert self._token is not None
            return self._token

    async def renewed(self, refused: str) -> str | None:
        async with self._lock:
            if self._token == refused:
                await self._fetch()
            return self._token

    async def _fetch(self) -> None:
        try:
            self._token, self._expires = await asyncio.to_thread(self._refresh)
        except OSError as error:
            raise ToolError(f"cannot read {self._path.name}, named in {FILE}: {error.strerror}") from error

    def _refresh(self) -> tuple[str, float]:
        from google.auth import exceptions  # only where a file is named: a tenth of a second
        from google.auth.transport.requests import Request
        from google.oauth2 import credentials, service_account

        text = self._path.read_text(encoding="utf-8")
        try:
            found = json.loads(text)
            kind = found.get("type") if isinstance(found, dict) else None
            if kind == "authorized_user":
                made = credentials.Credentials.from_authorized_user_info(found)
            elif kind == "service_account":
                made = service_account.Credentials.from_service_account_info(found, scopes=self._scopes)
            else:
                raise ToolError(f'{self._path.name}: expected "type" to be "authorized_user" or "service_account"')
            made.refresh(Request())
        except exceptions.TransportError as error:
            raise ToolError("Google cannot be reached to renew the access token: try again later") from error
        except (exceptions.GoogleAuthError, ValueError) as error:
            # Their texts may quote what is in the file.
            raise ToolError(
                f"no access token comes of {self._path.name}, named in {FILE} ({type(error).__name__}): make it anew"
            ) from error
        # google-auth's times are UTC without saying so.
        ends = made.expiry.replace(tzinfo=UTC).timestamp() if made.expiry else time.time() + 3000
        return str(made.token), ends


def tokens(environ: Mapping[str, str], scopes: Sequence[str]) -> Tokens:
    """Where the tokens come from. A time of expiry that is no number counts as unknown."""
    if token := environ.get(TOKEN):
        try:
            expires = float(environ[EXPIRES_AT])
        except (KeyError, ValueError):
            expires = None
        return Given(token, expires)
    if path := environ.get(FILE):
        return FromFile(Path(path).expanduser(), scopes)
    return Missing()
