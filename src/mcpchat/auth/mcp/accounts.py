"""The logins at remote servers: which token goes with which server's requests, and how each is come by."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx2
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.auth.account_store import Vault
from mcpchat.auth.consent import Consent
from mcpchat.auth.mcp import discovery, oauth
from mcpchat.auth.mcp.discovery import Challenge
from mcpchat.auth.mcp.guarded_http import Guarded
from mcpchat.auth.mcp.oauth import Wanted
from mcpchat.auth.mcp.request_auth import RemoteLogin
from mcpchat.auth.secret_stores import Record
from mcpchat.config.schema import ServerConfig
from mcpchat.config.secret_refs import header_value, look_up
from mcpchat.core.accounts import Account, StoreName, server_key
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, StoreError
from mcpchat.util.redaction import Secrets

_PATIENCE = 15.0  # seconds
_ASK = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


class _Known(Struct):
    login: RemoteLogin
    record: Record | None = None
    trouble: McpChatError | None = None


class RemoteLogins:
    def __init__(self, environ: Mapping[str, str], vault: Vault, secrets: Secrets) -> None:
        self._environ = environ
        self._vault = vault
        self._secrets = secrets
        self._known: dict[str, _Known] = {}

    def login(self, name: str, server: ServerConfig) -> RemoteLogin:
        """What signs the requests to this server."""
        known = self._known.get(name)
        if known is None:
            assert server.url is not None

            async def token(refused: str | None, more: bool) -> str | None:
                return await self._token(name, server, refused, more=more)

            known = self._known[name] = _Known(RemoteLogin(server.url, token))
        return known.login

    def trouble(self, name: str) -> McpChatError | None:
        """Why the server's latest request went without a token, where that is not for want of a login."""
        known = self._known.get(name)
        return known.trouble if known is not None else None

    def wants_more(self, name: str) -> tuple[str, ...]:
        """The scopes that the server last asked for on top of what was granted."""
        known = self._known.get(name)
        found = known.login.challenge if known is not None else None
        return found.scopes or () if found is not None and found.more else ()

    async def _token(self, name: str, server: ServerConfig, refused: str | None, *, more: bool) -> str | None:
        known = self._known[name]
        known.trouble = None
        if more and server.auth != "client_credentials":
            return None  # a person has to agree
        held = known.record
        if held is not None and not more and not oauth.stale(held) and held["access_token"] != refused:
            return str(held["access_token"])
        try:
            known.record = await self._renewed(name, server, refused, more=more)
        except SignInNeeded:
            known.record = None
        except ServerError as error:
            known.trouble = error
            still_good = held is not None and held["access_token"] != refused and not more
            return str(held["access_token"]) if held is not None and still_good else None
        except McpChatError as error:
            known.trouble = error
            return None
        return None if known.record is None else str(known.record["access_token"])

    async def _renewed(self, name: str, server: ServerConfig, refused: str | None, *, more: bool) -> Record | None:
        if server.auth == "client_credentials":
            if refused is None:
                return None  # the server's refusal says where to go
            found = self._known[name].login.challenge or Challenge()
            record = await oauth.machine_token(await self._wanted(name, server), found)
            self._secrets.add(record["access_token"])
            return record
        account = self._vault.find(_key(server))
        if account is None or account.lost:
            return None

        def stale(record: Record) -> bool:
            return oauth.stale(record) or record["access_token"] == refused

        return await self._vault.renew(account.key, stale, oauth.refreshed, entry=_entry)

    async def _wanted(self, name: str, server: ServerConfig, more: Sequence[str] = ()) -> Wanted:
        assert server.url is not None
        where = f"servers.{name}"
        secret, key_ = server.client_secret, server.private_key
        client_id = await look_up(server.client_id or "", self._environ, where=f"{where}.client_id")
        wanted = Wanted(
            url=server.url,
            issuer=server.issuer,
            client_id=client_id,
            client_secret=await look_up(secret, self._environ, where=f"{where}.client_secret") if secret else "",
            private_key=await look_up(key_, self._environ, where=f"{where}.private_key") if key_ else "",
            key_algorithm=server.key_algorithm,
            scopes=(*server.scopes, *more),
        )
        self._secrets.add(wanted.client_secret, wanted.private_key)
        return wanted

    async def sign_in(
        self,
        name: str,
        server: ServerConfig,
        consent: Consent,
        *,
        store: StoreName | None,
        more: Sequence[str],
    ) -> Account:
        """Sign in to the server in a browser. Raises all that can go wrong."""
        if server.auth == "client_credentials":
            raise SignInNeeded(f"{name} is signed in to by the client's own credentials: nobody needs to")
        before = self._vault.find(_key(server))
        store = store or (before.store if before is not None else self._vault.usual)
        await self._vault.store(store).probe()
        try:
            record = await self._vault.load(before) if before is not None else None
        except StoreError:
            record = None  # a place that cannot be read bars nobody from signing in anew
        found = self._known[name].login.challenge if name in self._known else None
        found = found or (await _asked(server, await self._headers(name, server)))[1]
        if more:
            found = Challenge(metadata_url=found.metadata_url, scopes=(*(found.scopes or ()), *more), more=True)
        wanted = await self._wanted(name, server)
        record = await oauth.sign_in(wanted, found, consent, self._secrets, before=record, name=name)
        account = Account(
            key=_key(server),
            kind="server",
            login=wanted.url,
            alias=server.account or "",
            store=store,
            created=record["created"],
        )
        kept = await self._vault.keep(_entry(account, record), record)
        if name in self._known:
            self._known[name].record = record
            self._known[name].login.challenge = None
        return kept

    async def _headers(self, name: str, server: ServerConfig) -> dict[str, str]:
        where = f"servers.{name}.headers"
        return {
            header: await header_value(text, self._environ, where=f"{where}.{header}", keep=self._secrets.add)
            for header, text in server.headers.items()
        }

    async def revoke(self, account: Account) -> str:
        """End the login there: why not, where it was not ended."""
        if account.lost:
            return ""
        try:
            return await oauth.revoke(await self._vault.load(account) or {})
        except McpChatError as error:
            return error.message

    async def check(self, name: str, server: ServerConfig) -> None:
        """Ask the server with the login. Raises SignInNeeded where it is refused, ServerError where nobody answers."""
        status, _ = await _asked(server, await self._headers(name, server), signer=self.login(name, server))
        if (trouble := self.trouble(name)) is not None:
            raise trouble
        if status >= 500 or status == 429:
            raise ServerError(f"{name} answered HTTP {status}")
        if status == 401:
            raise SignInNeeded(f"{name} refuses the login", hint=f"mcpchat auth login {name}")


async def _asked(
    server: ServerConfig, more: Mapping[str, str], signer: httpx2.Auth | None = None
) -> tuple[int, Challenge]:
    """What the server says to a request: its status, and what a refusal asks for. Raises ServerError, SignInNeeded."""
    assert server.url is not None
    await Guarded(server.url).check(server.url)
    headers = {"Accept": "application/json, text/event-stream", "Accept-Encoding": "identity", **more}
    try:
        async with (
            asyncio.timeout(_PATIENCE),
            httpx2.AsyncClient(timeout=_PATIENCE, headers=headers, auth=signer) as client,
            client.stream("POST", server.url, json=_ASK) as response,
        ):
            refused = response.status_code == 401
            return response.status_code, discovery.challenge(response) if refused else Challenge()
    except (httpx2.HTTPError, TimeoutError) as error:
        raise ServerError(
            f"{server.url} cannot be reached: {type(error).__name__}", hint="check url in the config"
        ) from error


def _key(server: ServerConfig) -> str:
    return server_key(server.url or "", server.account)


def _entry(account: Account, record: Record) -> Account:
    return replace(
        account,
        scopes=tuple(record.get("scopes", ())),
        expires=record.get("expires_at"),
        renews="refresh_token" in record,
    )
