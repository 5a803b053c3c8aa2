"""Logins at remote servers: obtains, renews and revokes the token of each server."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import httpx2
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.auth.account_store import AccountStore, RenewalRejected, Renewed
from mcpchat.auth.consent import AuthorizationPrompt
from mcpchat.auth.mcp import discovery, oauth
from mcpchat.auth.mcp.discovery import Challenge
from mcpchat.auth.mcp.guarded_http import GuardedHttpClient
from mcpchat.auth.mcp.oauth import SignInConfig
from mcpchat.auth.mcp.request_auth import BearerTokenAuth
from mcpchat.auth.secret_stores import SecretRecord
from mcpchat.config.schema import ServerConfig, find_sign_in_name
from mcpchat.config.secret_refs import resolve_headers, resolve_secret
from mcpchat.core.accounts import Account, StoreName, server_key, sign_in_command
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, StoreError
from mcpchat.util.connection_problems import explain_connection_error
from mcpchat.util.redaction import SecretRegistry

_TIMEOUT = 15.0  # seconds for a probe
_PROBE_REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


class _ServerLogin(Struct):
    auth: BearerTokenAuth
    record: SecretRecord | None = None
    last_error: McpChatError | None = None


class McpAccounts:
    """Signs in to remote servers and authenticates their requests."""

    def __init__(self, environ: Mapping[str, str], account_store: AccountStore, secrets: SecretRegistry) -> None:
        self._environ = environ
        self._account_store = account_store
        self._secrets = secrets
        self._logins: dict[str, _ServerLogin] = {}

    def http_auth(self, name: str, server: ServerConfig) -> BearerTokenAuth:
        """Returns what adds the token to requests to this server."""
        login = self._logins.get(name)
        if login is None:
            assert server.url is not None

            async def get_token(rejected: str | None, more_scopes: bool) -> str | None:
                return await self._get_token(name, server, rejected, more_scopes=more_scopes)

            login = self._logins[name] = _ServerLogin(BearerTokenAuth(server.url, get_token))
        return login.auth

    def last_error(self, name: str) -> McpChatError | None:
        """Why the latest token request failed, if the reason is not a missing login. Else None."""
        login = self._logins.get(name)
        return login.last_error if login is not None else None

    def extra_scopes(self, name: str) -> tuple[str, ...]:
        """The scopes that the server's latest challenge requires in addition to the granted ones."""
        login = self._logins.get(name)
        challenge = login.auth.challenge if login is not None else None
        return challenge.scopes or () if challenge is not None and challenge.insufficient_scope else ()

    async def _get_token(
        self, name: str, server: ServerConfig, rejected: str | None, *, more_scopes: bool
    ) -> str | None:
        login = self._logins[name]
        login.last_error = None
        if more_scopes and server.auth != "client_credentials":
            return None  # the user has to consent
        cached = login.record
        if cached is not None and not more_scopes and not oauth.is_stale(cached) and cached["access_token"] != rejected:
            return str(cached["access_token"])
        usable = cached if cached is not None and cached["access_token"] != rejected and not more_scopes else None
        try:
            login.record = await self._renew(name, server, rejected, more_scopes=more_scopes)
        except SignInNeeded as error:
            if isinstance(error, RenewalRejected) and usable is not None and not _has_expired(usable):
                return str(usable["access_token"])  # perhaps only something in between refuses the renewal
            login.record = None
            login.last_error = error if isinstance(error, RenewalRejected) else None
        except ServerError as error:
            login.last_error = error
            return str(usable["access_token"]) if usable is not None else None
        except McpChatError as error:
            login.last_error = error
            return None
        return None if login.record is None else str(login.record["access_token"])

    async def _renew(
        self, name: str, server: ServerConfig, rejected: str | None, *, more_scopes: bool
    ) -> SecretRecord | None:
        if server.auth == "client_credentials":
            if rejected is None:
                return None  # the server's challenge names the authorization server
            challenge = self._logins[name].auth.challenge or Challenge()
            record = await oauth.client_credentials_token(await self._sign_in_config(name, server), challenge)
            self._secrets.add(record["access_token"])
            return record
        account = self._account_store.find(_account_key(server))
        if account is None or account.lost:
            return None

        def find_valid(record: SecretRecord) -> SecretRecord | None:
            return None if oauth.is_stale(record) or record["access_token"] == rejected else record

        async def refresh(record: SecretRecord) -> Renewed[SecretRecord]:
            try:
                renewed = await oauth.refresh(record)
            except RenewalRejected as error:
                error.hint = f"try again later; if it goes on: {_sign_in_command(name, server)}"
                raise
            return renewed, renewed

        return await self._account_store.renew(account.key, find_valid, refresh, update_account=_update_account)

    async def _sign_in_config(self, name: str, server: ServerConfig, extra_scopes: Sequence[str] = ()) -> SignInConfig:
        assert server.url is not None
        config_path = f"servers.{name}"
        secret, private_key = server.client_secret, server.private_key
        client_id = await resolve_secret(server.client_id or "", self._environ, config_key=f"{config_path}.client_id")
        config = SignInConfig(
            url=server.url,
            issuer=server.issuer,
            client_id=client_id,
            client_secret=await resolve_secret(secret, self._environ, config_key=f"{config_path}.client_secret")
            if secret
            else "",
            private_key=await resolve_secret(private_key, self._environ, config_key=f"{config_path}.private_key")
            if private_key
            else "",
            key_algorithm=server.key_algorithm,
            scopes=(*server.scopes, *extra_scopes),
            assume_pkce=server.assume_pkce,
        )
        self._secrets.add(config.client_secret, config.private_key)
        return config

    async def sign_in(
        self,
        name: str,
        server: ServerConfig,
        prompt: AuthorizationPrompt,
        *,
        store: StoreName | None,
        extra_scopes: Sequence[str],
    ) -> Account:
        """Signs in to the server with a browser and saves the login.

        Raises SignInNeeded if the sign-in is refused, not trusted or not finished in time, ServerError if a server does
        not answer, StoreError if the login cannot be saved, ConfigError if a secret cannot be read, and UsageError if
        the port is in use.
        """
        if server.auth == "client_credentials":
            raise SignInNeeded(f"{name} uses client credentials: no sign-in is needed")
        existing = self._account_store.find(_account_key(server))
        store = store or (existing.store if existing is not None else self._account_store.default_store)
        await self._account_store.get_store(store).probe()
        try:
            record = await self._account_store.load(existing) if existing is not None else None
        except StoreError:
            record = None  # a new sign-in works even if the old record cannot be read
        challenge = self._logins[name].auth.challenge if name in self._logins else None
        challenge = challenge or (await _probe(server, await self._resolve_headers(name, server)))[1]
        if extra_scopes:
            challenge = Challenge(
                metadata_url=challenge.metadata_url,
                scopes=(*(challenge.scopes or ()), *extra_scopes),
                insufficient_scope=True,
            )
        config = await self._sign_in_config(name, server)
        record = await oauth.sign_in(config, challenge, prompt, self._secrets, existing=record, name=name)
        account = Account(
            key=_account_key(server),
            kind="server",
            login=config.url,
            alias=server.account or "",
            store=store,
            created=record["created"],
        )
        saved = await self._account_store.save(_update_account(account, record), record)
        if name in self._logins:
            self._logins[name].record = record
            self._logins[name].auth.challenge = None
        return saved

    async def _resolve_headers(self, name: str, server: ServerConfig) -> dict[str, str]:
        return await resolve_headers(
            server.headers,
            self._environ,
            url=server.url or "",
            allow_http=server.allow_http,
            config_key=f"servers.{name}.headers",
            on_secret=self._secrets.add,
        )

    async def revoke(self, account: Account) -> str:
        """Asks the authorization server to revoke the login. Returns why it did not, or ""."""
        if account.lost:
            return ""
        try:
            return await oauth.revoke(await self._account_store.load(account) or {})
        except McpChatError as error:
            return error.message

    async def check(self, name: str, server: ServerConfig) -> None:
        """Sends a request with the login. Raises SignInNeeded if it is rejected, ServerError if the server fails."""
        status, _ = await _probe(server, await self._resolve_headers(name, server), auth=self.http_auth(name, server))
        if (error := self.last_error(name)) is not None:
            raise error
        if status >= 500 or status == 429:
            raise ServerError(f"{name} answered HTTP {status}")
        if status == 401:
            raise SignInNeeded(f"{name} rejected the login", hint=_sign_in_command(name, server))


def _sign_in_command(name: str, server: ServerConfig) -> str:
    return sign_in_command(find_sign_in_name(name, server))


async def _probe(
    server: ServerConfig, extra_headers: Mapping[str, str], auth: httpx2.Auth | None = None
) -> tuple[int, Challenge]:
    """Sends a request to the server. Returns the HTTP status and the challenge of a 401.

    Raises ServerError if the server cannot be reached, and SignInNeeded if its URL is not allowed.
    """
    assert server.url is not None
    await GuardedHttpClient(server.url).check_url(server.url)
    headers = {"Accept": "application/json, text/event-stream", "Accept-Encoding": "identity", **extra_headers}
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            httpx2.AsyncClient(timeout=_TIMEOUT, headers=headers, auth=auth) as client,
            client.stream("POST", server.url, json=_PROBE_REQUEST) as response,
        ):
            unauthorized = response.status_code == 401
            return response.status_code, discovery.parse_challenge(response) if unauthorized else Challenge()
    except (httpx2.HTTPError, TimeoutError) as error:
        problem = explain_connection_error(error, server.url)
        raise ServerError(
            f"{server.url} cannot be reached: {problem.cause}", hint=problem.hint or "check its url"
        ) from error


def _account_key(server: ServerConfig) -> str:
    return server_key(server.url or "", server.account)


def _has_expired(record: SecretRecord) -> bool:
    expires = record.get("expires_at")
    return expires is not None and bool(time.time() >= expires)


def _update_account(account: Account, record: SecretRecord) -> Account:
    return replace(
        account,
        scopes=tuple(record.get("scopes", ())),
        expires=record.get("expires_at"),
        renews="refresh_token" in record,
    )
