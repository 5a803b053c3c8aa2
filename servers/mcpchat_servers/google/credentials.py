"""Access token of the Google account: from the environment, or from a Google credentials file."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Protocol

from mcp.server.mcpserver.exceptions import ToolError

TOKEN_VARIABLE = "GOOGLE_ACCESS_TOKEN"  # noqa: S105 - the name of a variable
EXPIRY_VARIABLE = "GOOGLE_ACCESS_TOKEN_EXPIRES_AT"  # epoch seconds
CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

SIGN_IN_COMMAND = "mcpchat auth login google"


class TokenExpired(ToolError):
    """Google no longer accepts the token. The request had no effect; the client must supply a new token."""


class TokenSource(Protocol):
    async def get_token(self) -> str:
        """Return the token to send. Raises ToolError if there is none, TokenExpired if it has expired."""
        ...

    async def renew_token(self, rejected: str) -> str | None:
        """Return a token other than the ``rejected`` one, or None if this source cannot get one. Raises ToolError."""
        ...


class EnvironmentToken:
    """A token that the client set in the environment. To renew it, the client restarts the server."""

    def __init__(self, token: str, expires: float | None) -> None:
        self._token = token
        self._expires = expires

    async def get_token(self) -> str:
        if self._expires is not None and time.time() >= self._expires:
            raise TokenExpired("the access token of the Google account has expired")
        return self._token

    async def renew_token(self, rejected: str) -> str | None:
        return None


class NoToken:
    """No token: the server lists its tools, and each call fails with a text that says how to sign in."""

    async def get_token(self) -> str:
        raise ToolError(
            f"no Google account is signed in: run {SIGN_IN_COMMAND}. "
            f"Other MCP clients set a token in {TOKEN_VARIABLE}, or the path of a "
            f"credentials file in {CREDENTIALS_VARIABLE}."
        )

    async def renew_token(self, rejected: str) -> str | None:
        return None


class CredentialsFile:
    """Credentials file of a user or a service account, as Google's tools write it; google-auth renews the token."""

    def __init__(self, path: Path, scopes: Sequence[str]) -> None:
        self._path = path
        self._scopes = list(scopes)
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._expires = 0.0

    async def get_token(self) -> str:
        async with self._lock:
            if self._token is None or time.time() > self._expires - 60:
                await self._refresh_token()
            assert self._token is not None
            return self._token

    async def renew_token(self, rejected: str) -> str | None:
        async with self._lock:
            if self._token == rejected:
                await self._refresh_token()
            return self._token

    async def _refresh_token(self) -> None:
        try:
            self._token, self._expires = await asyncio.to_thread(self._load_and_refresh)
        except OSError as error:
            raise ToolError(
                f"cannot read {self._path.name}, named in {CREDENTIALS_VARIABLE}: {error.strerror}"
            ) from error

    def _load_and_refresh(self) -> tuple[str, float]:
        from google.auth import exceptions  # imported only if a file is set: takes 0.1 seconds
        from google.auth.transport.requests import Request
        from google.oauth2 import credentials, service_account

        text = self._path.read_text(encoding="utf-8")
        try:
            info = json.loads(text)
            kind = info.get("type") if isinstance(info, dict) else None
            if kind == "authorized_user":
                loaded = credentials.Credentials.from_authorized_user_info(info)
            elif kind == "service_account":
                loaded = service_account.Credentials.from_service_account_info(info, scopes=self._scopes)
            else:
                raise ToolError(f'{self._path.name}: expected "type" to be "authorized_user" or "service_account"')
            loaded.refresh(Request())
        except exceptions.TransportError as error:
            raise ToolError("Google cannot be reached to renew the access token: try again later") from error
        except (exceptions.GoogleAuthError, ValueError) as error:
            # The messages of google-auth may quote the file's content.
            raise ToolError(
                f"cannot get an access token with {self._path.name}, named in {CREDENTIALS_VARIABLE} "
                f"({type(error).__name__}): create a new credentials file"
            ) from error
        # google-auth's times are UTC but carry no time zone.
        expires = loaded.expiry.replace(tzinfo=UTC).timestamp() if loaded.expiry else time.time() + 3000
        return str(loaded.token), expires


def find_token_source(environ: Mapping[str, str], scopes: Sequence[str]) -> TokenSource:
    """Return the token source that the environment configures. An expiry time that is not a number is ignored."""
    if token := environ.get(TOKEN_VARIABLE):
        try:
            expires = float(environ[EXPIRY_VARIABLE])
        except (KeyError, ValueError):
            expires = None
        return EnvironmentToken(token, expires)
    if path := environ.get(CREDENTIALS_VARIABLE):
        return CredentialsFile(Path(path).expanduser(), scopes)
    return NoToken()
