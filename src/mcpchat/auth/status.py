"""How each login is, for people: from the index, or by asking whoever gave it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from mcpchat.auth.providers.accounts import ProviderLogins
from mcpchat.config.schema import Config
from mcpchat.core.accounts import Account, LoginState, login_command, missing, server_key, span
from mcpchat.errors import McpChatError, SignInNeeded

if TYPE_CHECKING:
    from mcpchat.auth.mcp.accounts import RemoteLogins


class LoginStates:
    """``remote`` gives the logins at remote servers, which are slow to import."""

    def __init__(self, config: Config, providers: ProviderLogins, remote: "Callable[[], RemoteLogins]") -> None:
        self._config = config
        self._providers = providers
        self._remote = remote

    async def rows(self, kept: Sequence[Account], *, check: bool) -> Sequence[LoginState]:
        """How each of the kept logins is, and which are missing. ``check`` asks each provider and server."""
        rows: list[LoginState] = []
        servers = self._config.servers
        for name in self._providers.names():
            mine = [one for one in kept if one.kind == "provider" and one.login == name]
            given = self._providers.account(name, None)
            mine = [given, *mine] if given is not None and given.store == "environment" else mine
            for one in mine:
                users = self._users_of(name, one)
                lacks = {
                    scope
                    for user in users
                    if one.store != "environment"
                    for scope in missing(self._providers.scopes(servers[user]), one.scopes)
                }
                rows.append(await self._state(name, one, users, tuple(sorted(lacks)), check=check))
            for who in self._wanted(name):
                if self._providers.account(name, who) is None:
                    users = tuple(one for one in self._users_of(name, None) if servers[one].account == who)
                    rows.append(_not_signed_in(name, "provider", users, who))
        seen = {one.login for one in kept if one.kind == "provider"} - set(self._providers.names())
        rows += [await self._state(one.login, one, (), (), check=False) for one in kept if one.login in seen]
        remote = {name: config for name, config in servers.items() if config.enabled and config.signs_in}
        known = {server_key(config.url or "", config.account): name for name, config in reversed(remote.items())}
        for one in kept:
            if one.kind == "server":
                name = known.get(one.key, one.login)
                rows.append(await self._state(name, one, (name,) if name in servers else (), (), check=check))
        there = {one.key for one in kept}
        rows += [
            _not_signed_in(name, "server", (name,))
            for name, config in remote.items()
            if server_key(config.url or "", config.account) not in there and config.auth == "oauth"
        ]
        return rows

    def _wanted(self, name: str) -> Sequence[str | None]:
        """The accounts that servers want of this provider; the default one where no server wants any."""
        accounts = [self._config.servers[one].account for one in self._users_of(name, None)]
        return tuple(dict.fromkeys(accounts)) or (None,)

    def _users_of(self, name: str, account: Account | None) -> tuple[str, ...]:
        """The servers that get their token of this login."""
        return tuple(
            server
            for server, config in self._config.servers.items()
            if config.enabled
            and config.auth == name
            and not config.url
            and (account is None or self._providers.account(name, config.account) == account)
        )

    async def _state(
        self, name: str, account: Account, servers: tuple[str, ...], lacks: tuple[str, ...], *, check: bool
    ) -> LoginState:
        state, detail, hint = "signed in", "", ""
        again = login_command(name, account=None if account.default or account.kind == "server" else account.label)
        if account.lost:
            state, detail, hint = "signed out", account.lost, again
        elif check and account.store != "environment":
            try:
                if account.kind == "provider":
                    await self._providers.check(account)
                elif name in self._config.servers:
                    await self._remote().check(name, self._config.servers[name])
            except SignInNeeded as error:
                state, detail, hint = "signed out", error.message, again
            except McpChatError as error:
                state, detail, hint = "unknown", error.message, error.hint
        if lacks and not hint:
            hint = again
        return LoginState(
            name=name,
            kind=account.kind,
            state=state,  # type: ignore[arg-type]  # one of its words
            account=account.account,
            alias=account.alias,
            default=account.default and account.kind == "provider",
            scopes=account.scopes,
            kept_in=account.kept_in,
            created=account.created or None,
            expires=account.expires,
            renews=account.renews,
            servers=servers,
            missing=lacks,
            detail=detail,
            hint=hint,
        )


def _not_signed_in(
    name: str, kind: Literal["provider", "server"], servers: tuple[str, ...], account: str | None = None
) -> LoginState:
    return LoginState(
        name=name,
        kind=kind,
        state="not signed in",
        alias=account or "",
        servers=servers,
        hint=login_command(name, account=account),
    )


def lasting(account: Account) -> str:
    """How long a login lasts, for people."""
    if account.lost:
        return "signed out"
    who = f"{account.alias}, " if account.alias else ""
    if account.expires is None:
        return f"{who}signed in"
    left = account.expires - time.time()
    if account.renews:
        return f"{who}signed in, renews itself"
    return f"{who}expires in {span(left)}" if left > 0 else "expired"
