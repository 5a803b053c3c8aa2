"""Authentication for one run: obtains, renews and reports the credentials of each server."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpchat.auth.account_store import AccountStore
from mcpchat.auth.browser import can_open, open_page
from mcpchat.auth.consent import SIGN_IN_TIMEOUT, AuthorizationPrompt
from mcpchat.auth.providers.accounts import ProviderAccounts
from mcpchat.auth.secret_stores import FileStore, KeyringStore, MemoryStore
from mcpchat.auth.server_auth import NoAuth, OAuthAuth, TokenAuth
from mcpchat.auth.status import AuthStatusReporter, describe_lifetime
from mcpchat.config.run import RunContext, sdk_import
from mcpchat.config.schema import ServerConfig, find_sign_in_name
from mcpchat.core.accounts import (
    Account,
    AccountStatus,
    StoreName,
    format_scopes,
    missing_scopes,
    server_key,
    sign_in_command,
)
from mcpchat.core.protocols import SignInDialog
from mcpchat.errors import StoreError, UsageError
from mcpchat.util.text import suggest

if TYPE_CHECKING:
    from mcpchat.auth.mcp.accounts import McpAccounts

ConfirmSignIn = Callable[[str, str, str], Awaitable[bool]]


async def _decline(server: str, request: str, details: str) -> bool:
    return False


class AuthService:
    """The authentication of one run. Implements the hub's ``Credentials``.

    ``screen`` shows the sign-in to the user. ``confirm`` asks the user whether to sign in to a server: it takes the
    server, the request and the server's URL. With ``in_chat``, hints name slash commands instead of shell commands.
    """

    def __init__(
        self,
        context: RunContext,
        screen: SignInDialog,
        *,
        confirm: ConfirmSignIn = _decline,
        in_chat: bool = False,
    ) -> None:
        self._context = context
        self._screen = screen
        self._confirm = confirm
        self._in_chat = in_chat
        state = context.paths.state
        self.account_store = AccountStore(
            state,
            stores={
                "keyring": KeyringStore(notify=screen.notify if screen.interactive else None),
                "file": FileStore(state / "logins"),
                "memory": MemoryStore(),
            },
            default_store=context.config.auth.store,
            secrets=context.secrets,
            notify=screen.notify,
        )
        self._providers = ProviderAccounts(context, self.account_store)
        self._loaded_mcp_accounts: McpAccounts | None = None
        self._sign_in_lock = asyncio.Lock()
        self._declined: set[str] = set()
        self._sign_in_counts: Counter[str] = Counter()  # by server

    @property
    def _mcp_accounts(self) -> "McpAccounts":
        """Created at first use, because it imports the MCP SDK."""
        if self._loaded_mcp_accounts is None:
            with sdk_import():
                from mcpchat.auth.mcp.accounts import McpAccounts

            self._loaded_mcp_accounts = McpAccounts(self._context.environ, self.account_store, self._context.secrets)
        return self._loaded_mcp_accounts

    def _server_config(self, name: str) -> ServerConfig:
        return self._context.config.servers[name]

    # Credentials of the hub: docstrings are in the protocol.

    async def authenticate(self, server: str) -> NoAuth | TokenAuth | OAuthAuth:
        config = self._server_config(server)
        if config.uses_oauth:
            return OAuthAuth(server, config, lambda: self._mcp_accounts)
        if config.auth is None or config.url:
            return NoAuth()
        token = await self._providers.get_token(server, config)
        variable = config.token_env or f"{config.auth.upper().replace('-', '_')}_ACCESS_TOKEN"
        return TokenAuth(variable, token, self._providers.rejected_tokens)

    async def sign_in(self, server: str) -> bool:
        config = self._server_config(server)
        if not (config.uses_oauth and config.auth != "client_credentials"):
            return False
        count = self._sign_in_counts[server]
        async with self._sign_in_lock:
            if self._sign_in_counts[server] != count:
                return True  # another call signed in while this one waited
            if server in self._declined:
                return False
            extra_scopes = self._mcp_accounts.extra_scopes(server)
            request = f"get more access: {' '.join(extra_scopes)}" if extra_scopes else "sign you in with your browser"
            self._declined.add(server)  # ask only once, unless the sign-in succeeds
            if not await self._confirm(server, request, config.url or ""):
                return False
            account = await self._mcp_accounts.sign_in(
                server, config, self._build_prompt(), store=None, extra_scopes=extra_scopes
            )
            self._sign_in_counts[server] += 1
            self._declined.discard(server)
            self._screen.notify(f"Signed in to {server}. Saved in {account.kept_in}.")
        return True

    def describe(self, server: str) -> "LoginDescription":
        return LoginDescription(self, server)

    def _login_version(self, server: str) -> float:
        config = self._server_config(server)
        account: Account | None = None
        try:
            if config.url:
                account = self.account_store.find(_account_key(config))
            elif config.auth:
                account = self._providers.find_account(config.auth, config.account)
        except StoreError:
            return 0.0
        return account.created if account is not None else 0.0

    def _login_identity(self, server: str) -> tuple[str, ...]:
        """The client of the server's own settings and of its provider's, with the variables that they default to."""
        config = self._server_config(server)
        settings = [config.client_id, config.client_secret, config.private_key, config.issuer]
        if config.auth and not config.url and (provider := self._context.config.auth.entries.get(config.auth)):
            settings += [provider.client_id, provider.client_secret, provider.refresh_token, provider.issuer]
            prefix = f"env:MCPCHAT_{config.auth.upper().replace('-', '_')}"
            settings += [f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET"]
        return tuple(setting or "" for setting in settings)

    def _sign_in_hint(self, server: str) -> str:
        config = self._server_config(server)
        if not config.url:
            return self._sign_in_command(config.auth or server, account=config.account)
        if not config.uses_oauth:
            return "set its headers in the config"
        if config.auth == "client_credentials":
            return "check client_id and its secret or key in the config"
        return self._sign_in_command(
            server, scopes=self._mcp_accounts.extra_scopes(server), address=find_sign_in_name(server, config)
        )

    def _sign_in_command(
        self, name: str, *, account: str | None = None, scopes: Sequence[str] = (), address: str = ""
    ) -> str:
        """The command to sign in: a slash command in the chat if that is enough, else a shell command.

        ``address`` is what a shell command takes instead of the name.
        """
        if self._in_chat and not account and not scopes:
            return f"/login {name}"
        return sign_in_command(address or name, account=account, scopes=scopes)

    def _login_state(self, server: str) -> str:
        config = self._server_config(server)
        if config.url:
            if not config.uses_oauth:
                return "headers" if config.headers else "none"
            if config.auth == "client_credentials":
                return "client credentials"
            account = self.account_store.find(_account_key(config))
            return "none" if account is None else describe_lifetime(account)
        if config.auth is None:
            return "none"
        account = self._providers.find_account(config.auth, config.account)
        if account is None:
            return f"not signed in: {self._sign_in_hint(server)}"
        if account.lost:
            return f"signed out: {self._sign_in_hint(server)}"
        ungranted = (
            () if account.store == "environment" else missing_scopes(self._providers.scopes_for(config), account.scopes)
        )
        if ungranted:
            return f"not granted: {format_scopes(ungranted)}: {self._sign_in_hint(server)}"
        return account.label or ("from the config" if account.store == "environment" else "signed in")

    @property
    def is_ephemeral(self) -> bool:
        """Whether a new login is lost at the end of this run."""
        return self.account_store.default_store == "memory"

    async def wait_for_pending(self) -> None:
        """Waits for token renewals and saves that have started."""
        await self.account_store.wait_for_pending()

    # Commands.

    def _build_prompt(
        self, *, port: int = 0, browser: bool = True, timeout: float = SIGN_IN_TIMEOUT
    ) -> AuthorizationPrompt:
        environ = self._context.environ
        use_browser = browser and can_open(environ)
        return AuthorizationPrompt(
            screen=self._screen,
            open_page=(lambda url: open_page(url, environ)) if use_browser else None,
            port=port,
            timeout=timeout,
        )

    def list_names(self) -> Sequence[str]:
        """The providers and the remote servers that the user can sign in to."""
        remote = (
            name
            for name, config in self._context.config.servers.items()
            if config.enabled and config.uses_oauth and config.auth != "client_credentials"
        )
        return tuple(dict.fromkeys((*self._providers.list_names(), *remote)))

    def servers_using(self, name: str) -> Sequence[str]:
        """The enabled servers that use the login of this provider or server."""
        servers = self._context.config.servers
        return [
            server for server, config in servers.items() if config.enabled and (server == name or config.auth == name)
        ]

    def resolve_name(self, name: str) -> str:
        """Returns the provider or remote server to sign in to. For a local server, this is its provider.

        Raises UsageError if the name is unknown or needs no sign-in.
        """
        if name in self.list_names():
            return name
        servers = self._context.config.servers
        if name in servers:
            config = servers[name]
            if not config.url and config.auth:
                return config.auth
            reason = {
                "client_credentials": "signs in with its own client credentials",
                "none": 'needs no login: auth = "none"',
            }.get(config.auth or "", "gets its headers from the config" if config.headers else "needs no login")
            if not config.enabled:
                reason = "is disabled"
            raise UsageError(f"{name} {reason}", hint="mcpchat auth status lists the logins")
        if name == "google":
            return name
        raise UsageError(f"no provider or server is named {name!r}; {suggest(name, self.list_names())}")

    async def login(
        self,
        name: str,
        *,
        account: str | None = None,
        store: StoreName | None = None,
        port: int = 0,
        browser: bool = True,
        timeout: float = SIGN_IN_TIMEOUT,
        extra_scopes: Sequence[str] = (),
    ) -> None:
        """Signs in and shows the result.

        ``timeout`` is in seconds. Raises UsageError if the name, the account or the port cannot be used, ConfigError if
        the client is not configured, SignInNeeded if the sign-in is refused or not finished in time, StoreError if the
        login cannot be saved, and ServerError if the server or provider cannot be reached.
        """
        if account is None and name not in self.list_names() and name in self._context.config.servers:
            account = self._server_config(name).account  # a local server means the account in its config
        name = self.resolve_name(name)
        prompt = self._build_prompt(port=port, browser=browser, timeout=timeout)
        async with self._sign_in_lock:
            if name in self._providers.list_names() or name == "google":
                await self._login_provider(name, prompt, account=account, store=store, extra_scopes=extra_scopes)
                return
            if account is not None:
                raise UsageError(
                    f"{name} is a server: its account is set in the config", hint='for example account = "work"'
                )
            saved = await self._mcp_accounts.sign_in(
                name, self._server_config(name), prompt, store=store, extra_scopes=extra_scopes
            )
            self._declined.discard(name)
            self._sign_in_counts[name] += 1
            self._screen.notify(f"Signed in to {name}. Saved in {saved.kept_in}.")

    async def _login_provider(
        self,
        name: str,
        prompt: AuthorizationPrompt,
        *,
        account: str | None,
        store: StoreName | None,
        extra_scopes: Sequence[str],
    ) -> None:
        result = await self._providers.sign_in(name, prompt, account=account, store=store, extra_scopes=extra_scopes)
        suffix = f" as {result.account.account}" if result.account.account else ""
        self._screen.notify(f"Signed in to {name}{suffix}. Saved in {result.account.kept_in}.")
        for server, ungranted in result.missing_scopes.items():
            command = self._sign_in_command(name, account=self._server_config(server).account)
            self._screen.notify(f"{server} will not start until you allow it {format_scopes(ungranted)}: {command}")

    async def logout(
        self, name: str, *, account: str | None = None, local: bool = False, all_accounts: bool = False
    ) -> int:
        """Revokes the login at the provider, then removes it here, and shows both results. Returns the exit code.

        ``local`` skips the provider. Raises UsageError if there is no such login, or if there are several and neither
        ``account`` nor ``all_accounts`` is given.
        """
        accounts = self._accounts_for(name)
        if account is not None:
            accounts = [
                candidate
                for candidate in accounts
                if account.casefold() in {candidate.account.casefold(), candidate.alias.casefold()}
            ]
        elif len(accounts) > 1 and not all_accounts:
            names = ", ".join(candidate.label for candidate in accounts)
            raise UsageError(f"{name} has several logins: {names}", hint="choose one with --account, or pass --all")
        if not accounts:
            suffix = f" as {account}" if account else ""
            raise UsageError(f"not signed in to {name}{suffix}", hint="mcpchat auth status lists the logins")
        return max([await self._sign_out(candidate, name, local=local) for candidate in accounts])

    async def _sign_out(self, account: Account, name: str, *, local: bool) -> int:
        reason = ""
        if not local:
            reason = await (self._providers if account.kind == "provider" else self._mcp_accounts).revoke(account)
        suffix = f" ({account.label})" if account.label else ""
        location = account.kept_in or "this computer"
        summary, code = f"The login{suffix} was removed from {location}.", 0
        try:
            if problem := await self.account_store.remove(account):
                summary, code = (
                    f"The login{suffix} was removed from the list, but its secret is still in {location}: {problem}.",
                    1,
                )
        except StoreError as error:
            summary, code = f"The login{suffix} could not be removed from the list: {error.message}.", 1
        if account.lost:
            message = f"{summary} It had already ended at {name}."
        elif local:
            message = f"{summary} It was not revoked at {name}: it stays valid there until it expires or you revoke it."
        elif reason:
            message, code = f"{summary} It could NOT be revoked at {name}: {reason}. Revoke it there by hand.", 1
        else:
            note = ", for mcpchat on all your computers" if account.login == "google" else ""
            message = f"{summary} It was revoked at {name}{note}."
        self._screen.notify(message)
        return code

    def _accounts_for(self, name: str) -> list[Account]:
        servers = self._context.config.servers
        login = name
        accounts = self.account_store.list_accounts()
        if not any(account.login == name for account in accounts) and name in servers:
            config = servers[name]
            if config.url:
                return [account for account in accounts if account.key == _account_key(config)]
            login = config.auth or name
        return [account for account in accounts if account.login == login]

    async def list_statuses(self, *, check: bool = False) -> Sequence[AccountStatus]:
        """The status of each login, from the index alone. With ``check``, each provider and server is asked."""
        return await AuthStatusReporter(
            self._context.config, self._providers, lambda: self._mcp_accounts
        ).list_statuses(self.account_store.list_accounts(), check=check)


def _account_key(config: ServerConfig) -> str:
    return server_key(config.url or "", config.account)


@dataclass(frozen=True)
class LoginDescription:
    """The login that a server uses; each part is looked up when it is asked for."""

    _service: AuthService
    _server: str

    @property
    def state(self) -> str:
        try:
            return self._service._login_state(self._server)
        except StoreError as error:
            return f"unknown: {error.message}"

    @property
    def hint(self) -> str:
        return self._service._sign_in_hint(self._server)

    @property
    def version(self) -> float:
        return self._service._login_version(self._server)

    @property
    def identity(self) -> Sequence[str]:
        return self._service._login_identity(self._server)
