"""The status of each login, from the index or by asking its provider or server."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from mcpchat.auth.providers.accounts import ProviderAccounts
from mcpchat.config.schema import Config
from mcpchat.core.accounts import Account, AccountStatus, format_duration, missing_scopes, server_key, sign_in_command
from mcpchat.errors import McpChatError, SignInNeeded

if TYPE_CHECKING:
    from mcpchat.auth.mcp.accounts import McpAccounts


class AuthStatusReporter:
    """Reports the status of logins. ``mcp_accounts`` is a function, because its result is slow to import."""

    def __init__(self, config: Config, providers: ProviderAccounts, mcp_accounts: "Callable[[], McpAccounts]") -> None:
        self._config = config
        self._providers = providers
        self._mcp_accounts = mcp_accounts

    async def list_statuses(self, accounts: Sequence[Account], *, check: bool) -> Sequence[AccountStatus]:
        """The status of each saved login and of each missing one. With ``check``, each provider and server is asked.

        Raises StoreError if the index cannot be read.
        """
        statuses: list[AccountStatus] = []
        servers = self._config.servers
        for name in self._providers.list_names():
            provider_accounts = [
                account for account in accounts if account.kind == "provider" and account.login == name
            ]
            environment_account = self._providers.find_account(name, None)
            provider_accounts = (
                [environment_account, *provider_accounts]
                if environment_account is not None and environment_account.store == "environment"
                else provider_accounts
            )
            for account in provider_accounts:
                server_names = self._servers_using(name, account)
                ungranted = {
                    scope
                    for server in server_names
                    if account.store != "environment"
                    for scope in missing_scopes(self._providers.scopes_for(servers[server]), account.scopes)
                }
                statuses.append(
                    await self._build_status(name, account, server_names, tuple(sorted(ungranted)), check=check)
                )
            for account_name in self._requested_accounts(name):
                if self._providers.find_account(name, account_name) is None:
                    server_names = tuple(
                        server for server in self._servers_using(name, None) if servers[server].account == account_name
                    )
                    statuses.append(_not_signed_in_status(name, "provider", server_names, account_name))
        unconfigured = {account.login for account in accounts if account.kind == "provider"} - set(
            self._providers.list_names()
        )
        statuses += [
            await self._build_status(account.login, account, (), (), check=False)
            for account in accounts
            if account.login in unconfigured
        ]
        remote = {name: config for name, config in servers.items() if config.enabled and config.uses_oauth}
        names_by_key = {server_key(config.url or "", config.account): name for name, config in reversed(remote.items())}
        for account in accounts:
            if account.kind == "server":
                name = names_by_key.get(account.key, account.login)
                statuses.append(
                    await self._build_status(name, account, (name,) if name in servers else (), (), check=check)
                )
        account_keys = {account.key for account in accounts}
        statuses += [
            _not_signed_in_status(name, "server", (name,))
            for name, config in remote.items()
            if server_key(config.url or "", config.account) not in account_keys and config.auth == "oauth"
        ]
        return statuses

    def _requested_accounts(self, name: str) -> Sequence[str | None]:
        """The accounts of this provider that servers use; (None,), the default account, if no server uses one."""
        accounts = [self._config.servers[server].account for server in self._servers_using(name, None)]
        return tuple(dict.fromkeys(accounts)) or (None,)

    def _servers_using(self, name: str, account: Account | None) -> tuple[str, ...]:
        """The servers with a token from this account, or from any account of the provider if ``account`` is None."""
        return tuple(
            server
            for server, config in self._config.servers.items()
            if config.enabled
            and config.auth == name
            and not config.url
            and (account is None or self._providers.find_account(name, config.account) == account)
        )

    async def _build_status(
        self, name: str, account: Account, servers: tuple[str, ...], ungranted: tuple[str, ...], *, check: bool
    ) -> AccountStatus:
        state, detail, hint, exit_code = "signed in", "", "", 0
        command = sign_in_command(name, account=None if account.default or account.kind == "server" else account.label)
        if account.lost:
            state, detail, hint = "signed out", account.lost, command
        elif account.problem and not check:
            state, detail, hint = "unknown", account.problem, command
        elif check:
            try:
                if account.kind == "provider":
                    await self._providers.check(account)
                elif name in self._config.servers:
                    await self._mcp_accounts().check(name, self._config.servers[name])
            except SignInNeeded as error:
                state, detail, hint = "signed out", error.message, command
            except McpChatError as error:
                state, detail, hint, exit_code = "unknown", error.message, error.hint, error.exit_code
        if ungranted and not hint:
            hint = command
        return AccountStatus(
            name=name,
            kind=account.kind,
            state=state,  # type: ignore[arg-type]  # one of its literals
            account=account.account,
            alias=account.alias,
            default=account.default and account.kind == "provider",
            scopes=account.scopes,
            kept_in=account.kept_in,
            created=account.created or None,
            expires=account.expires,
            renews=account.renews,
            servers=servers,
            missing=ungranted,
            detail=detail,
            hint=hint,
            exit_code=exit_code,
        )


def _not_signed_in_status(
    name: str, kind: Literal["provider", "server"], servers: tuple[str, ...], account: str | None = None
) -> AccountStatus:
    return AccountStatus(
        name=name,
        kind=kind,
        state="not signed in",
        alias=account or "",
        servers=servers,
        hint=sign_in_command(name, account=account),
    )


def describe_lifetime(account: Account) -> str:
    """How long a login lasts, as a text for the user."""
    if account.lost:
        return "signed out"
    prefix = f"{account.alias}, " if account.alias else ""
    if account.expires is None:
        return f"{prefix}signed in"
    remaining = account.expires - time.time()
    if account.renews:
        return f"{prefix}signed in, renewed automatically"
    return f"{prefix}expires in {format_duration(remaining)}" if remaining > 0 else "expired"
