"""The logins of one run: who they are for, how they are come by, what is known of them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mcpchat.auth.account_store import Vault
from mcpchat.auth.browser import can_open, open_page
from mcpchat.auth.consent import PATIENCE, Consent
from mcpchat.auth.providers.accounts import ProviderLogins
from mcpchat.auth.secret_stores import FileStore, KeyringStore, MemoryStore
from mcpchat.auth.status import LoginStates, lasting
from mcpchat.config.run import RunContext, sdk_import
from mcpchat.config.schema import ServerConfig
from mcpchat.core.accounts import Account, LoginState, StoreName, login_command, missing, scope_titles, server_key
from mcpchat.core.protocols import SignInScreen
from mcpchat.errors import McpChatError, StoreError, UsageError
from mcpchat.util.text import suggest

if TYPE_CHECKING:
    from mcpchat.auth.mcp.accounts import RemoteLogins

Agree = Callable[[str, str, str], Awaitable[bool]]


async def _nobody(server: str, wish: str, details: str) -> bool:
    return False


class Logins:
    """What a run knows and does about signing in; the hub's Credentials.

    ``agree`` asks the person whether a server may have them sign in; ``screen`` is what they see of it.
    ``in_chat``: what is told to be typed is typed there.
    """

    def __init__(
        self,
        context: RunContext,
        screen: SignInScreen,
        *,
        agree: Agree = _nobody,
        in_chat: bool = False,
    ) -> None:
        self._context = context
        self._screen = screen
        self._agree = agree
        self._in_chat = in_chat
        state = context.paths.state
        self.vault = Vault(
            state,
            stores={
                "keyring": KeyringStore(tell=screen.tell if screen.interactive else None),
                "file": FileStore(state / "logins"),
                "memory": MemoryStore(),
            },
            usual=context.config.auth.store,
            secrets=context.secrets,
            tell=screen.tell,
        )
        self._providers = ProviderLogins(context.config, context.environ, self.vault, context.secrets)
        self._remote_logins: RemoteLogins | None = None
        self._one_at_a_time = asyncio.Lock()
        self._declined: set[str] = set()
        self._made: Counter[str] = Counter()  # sign-ins by server

    @property
    def _remote(self) -> "RemoteLogins":
        """Made when first needed: it imports the mcp SDK."""
        if self._remote_logins is None:
            with sdk_import():
                from mcpchat.auth.mcp.accounts import RemoteLogins

            self._remote_logins = RemoteLogins(self._context.environ, self.vault, self._context.secrets)
        return self._remote_logins

    def _server(self, name: str) -> ServerConfig:
        return self._context.config.servers[name]

    # The hub's Credentials.

    async def prepare(self, server: str) -> None:
        await self._providers.token(server, self._server(server))

    async def variables(self, server: str) -> Mapping[str, str]:
        config = self._server(server)
        if config.auth is None or config.url:
            return {}
        token = await self._providers.token(server, config)
        self._providers.give(server, token)
        name = config.token_env or f"{config.auth.upper().replace('-', '_')}_ACCESS_TOKEN"
        expires = {} if token.expires is None else {f"{name}_EXPIRES_AT": f"{token.expires:.0f}"}
        return {name: token.value, **expires}

    def due(self, server: str) -> Literal["no", "soon", "now"]:
        return self._providers.due(server)

    def refused(self, server: str) -> None:
        self._providers.refused(server)

    def signer(self, server: str) -> Any:
        config = self._server(server)
        return self._remote.login(server, config) if config.signs_in else None

    def trouble(self, server: str) -> McpChatError | None:
        return self._remote.trouble(server) if self._server(server).signs_in else None

    async def sign_in(self, server: str) -> bool:
        config = self._server(server)
        if not (config.signs_in and config.auth != "client_credentials"):
            return False
        made = self._made[server]
        async with self._one_at_a_time:
            if self._made[server] != made:
                return True  # by another call that waited for the same
            if server in self._declined:
                return False
            more = self._remote.wants_more(server)
            wish = f"be allowed more: {' '.join(more)}" if more else "sign you in, in your browser"
            self._declined.add(server)  # unless it comes to a good end, nobody is asked again
            if not await self._agree(server, wish, config.url or ""):
                return False
            account = await self._remote.sign_in(server, config, self._consent(), store=None, more=more)
            self._made[server] += 1
            self._declined.discard(server)
            self._screen.tell(f"Signed in to {server}. Kept in {account.kept_in}.")
        return True

    def stamp(self, server: str) -> float:
        config = self._server(server)
        account: Account | None = None
        try:
            if config.url:
                account = self.vault.find(_remote_key(config))
            elif config.auth:
                account = self._providers.account(config.auth, config.account)
        except StoreError:
            return 0.0
        return account.created if account is not None else 0.0

    def hint(self, server: str) -> str:
        config = self._server(server)
        if not config.url:
            return self._command(config.auth or server, account=config.account)
        if not config.signs_in:
            return "set its headers in the config"
        if config.auth == "client_credentials":
            return "check client_id and its secret or key in the config"
        return self._command(server, scopes=self._remote.wants_more(server))

    def _command(self, name: str, *, account: str | None = None, scopes: Sequence[str] = ()) -> str:
        """What to type, to sign in: here, where that can be."""
        if self._in_chat and not account and not scopes:
            return f"/login {name}"
        return login_command(name, account=account, scopes=scopes)

    def state(self, server: str) -> str:
        try:
            return self._state_of(server)
        except StoreError as error:
            return f"unknown: {error.message}"

    def _state_of(self, server: str) -> str:
        config = self._server(server)
        if config.url:
            if not config.signs_in:
                return "headers" if config.headers else "none"
            if config.auth == "client_credentials":
                return "client credentials"
            account = self.vault.find(_remote_key(config))
            return "none" if account is None else lasting(account)
        if config.auth is None:
            return "none"
        account = self._providers.account(config.auth, config.account)
        if account is None:
            return f"not signed in: {self.hint(server)}"
        if account.lost:
            return f"signed out: {self.hint(server)}"
        lacks = () if account.store == "environment" else missing(self._providers.scopes(config), account.scopes)
        if lacks:
            return f"not granted: {scope_titles(lacks)}: {self.hint(server)}"
        return account.label or ("by reference" if account.store == "environment" else "signed in")

    @property
    def passing(self) -> bool:
        """Whether a new login would end with this run."""
        return self.vault.usual == "memory"

    async def settle(self) -> None:
        """Let what goes on about tokens come to its end."""
        await self.vault.settle()

    # What commands do.

    def _consent(self, *, port: int = 0, browser: bool = True, patience: float = PATIENCE) -> Consent:
        environ = self._context.environ
        opens = browser and can_open(environ)
        return Consent(
            screen=self._screen,
            open_page=(lambda url: open_page(url, environ)) if opens else None,
            port=port,
            patience=patience,
        )

    def names(self) -> Sequence[str]:
        """All that can be signed in to: providers, and remote servers that are not given headers."""
        remote = (
            name
            for name, config in self._context.config.servers.items()
            if config.enabled and config.signs_in and config.auth != "client_credentials"
        )
        return tuple(dict.fromkeys((*self._providers.names(), *remote)))

    def servers_of(self, name: str) -> Sequence[str]:
        """The servers that use the login of this name."""
        servers = self._context.config.servers
        return [server for server, one in servers.items() if one.enabled and (server == name or one.auth == name)]

    def resolve(self, name: str) -> str:
        """The provider or remote server that a name stands for: a server that gets a provider's token stands for that.

        Raises UsageError.
        """
        if name in self.names():
            return name
        servers = self._context.config.servers
        if name in servers:
            config = servers[name]
            if not config.url and config.auth:
                return config.auth
            why = {
                "client_credentials": "signs in by itself, with the client's own credentials",
                "none": 'is not signed in to: auth = "none"',
            }.get(config.auth or "", "is given its headers by the config" if config.headers else "takes no login")
            if not config.enabled:
                why = "is switched off"
            raise UsageError(f"{name} {why}", hint="mcpchat auth status shows what can be signed in to")
        if name == "google":
            return name
        raise UsageError(f"nothing to sign in to is named {name!r}; {suggest(name, self.names())}")

    async def login(
        self,
        name: str,
        *,
        account: str | None = None,
        store: StoreName | None = None,
        port: int = 0,
        browser: bool = True,
        patience: float = PATIENCE,
        more: Sequence[str] = (),
    ) -> None:
        """Sign in, and tell how it went. Raises what can go wrong."""
        if account is None and name not in self.names() and name in self._context.config.servers:
            account = self._server(name).account  # a server that gets a provider's token means its own account
        name = self.resolve(name)
        consent = self._consent(port=port, browser=browser, patience=patience)
        async with self._one_at_a_time:
            if name in self._providers.names() or name == "google":
                await self._login_provider(name, consent, account=account, store=store, more=more)
                return
            if account is not None:
                raise UsageError(
                    f"{name} is a server: which account it gets is said in the config", hint='account = "work"'
                )
            kept = await self._remote.sign_in(name, self._server(name), consent, store=store, more=more)
            self._declined.discard(name)
            self._made[name] += 1
            self._screen.tell(f"Signed in to {name}. Kept in {kept.kept_in}.")

    async def _login_provider(
        self, name: str, consent: Consent, *, account: str | None, store: StoreName | None, more: Sequence[str]
    ) -> None:
        made = await self._providers.sign_in(name, consent, account=account, store=store, more=more)
        who = f" as {made.account.account}" if made.account.account else ""
        self._screen.tell(f"Signed in to {name}{who}. Kept in {made.account.kept_in}.")
        for server, lacks in made.lacking.items():
            again = self._command(name, account=self._server(server).account)
            self._screen.tell(f"{server} will not start until you allow it {scope_titles(lacks)}: {again}")

    async def logout(self, name: str, *, account: str | None = None, local: bool = False, every: bool = False) -> int:
        """Sign out, at the provider first, and tell the truth about both. Returns the exit code.

        Raises UsageError where nobody is signed in.
        """
        mine = self._accounts_of(name)
        if account is not None:
            mine = [one for one in mine if account.casefold() in {one.account.casefold(), one.alias.casefold()}]
        elif len(mine) > 1 and not every:
            names = ", ".join(one.label for one in mine)
            raise UsageError(f"{name} has several logins: {names}", hint="--account says which, --all means all")
        if not mine:
            who = f" as {account}" if account else ""
            raise UsageError(f"nobody is signed in to {name}{who}", hint="mcpchat auth status shows who is")
        return max([await self._sign_out(one, name, local=local) for one in mine])

    async def _sign_out(self, account: Account, name: str, *, local: bool) -> int:
        why = ""
        if not local:
            why = await (self._providers if account.kind == "provider" else self._remote).revoke(account)
        who = f" ({account.label})" if account.label else ""
        place = account.kept_in or "here"
        removed, code = f"The login{who} was removed from {place}.", 0
        try:
            if stays := await self.vault.remove(account):
                removed, code = f"The login{who} is forgotten here, but its secret is still in {place}: {stays}.", 1
        except StoreError as error:
            removed, code = f"The login{who} could not be taken from the list: {error.message}.", 1
        if account.lost:
            told = f"{removed} It had ended at {name} before."
        elif local:
            told = f"{removed} {name} was not told: there it goes on until it ends, or you end it."
        elif why:
            told, code = f"{removed} It could NOT be revoked at {name}: {why}. End it there by hand.", 1
        else:
            where = ", for mcpchat on all your machines" if account.login == "google" else ""
            told = f"{removed} It was revoked at {name}{where}."
        self._screen.tell(told)
        return code

    def _accounts_of(self, name: str) -> list[Account]:
        servers = self._context.config.servers
        login = name
        kept = self.vault.accounts()
        if not any(one.login == name for one in kept) and name in servers:
            config = servers[name]
            if config.url:
                return [one for one in kept if one.key == _remote_key(config)]
            login = config.auth or name
        return [one for one in kept if one.login == login]

    async def states(self, *, check: bool = False) -> Sequence[LoginState]:
        """How each login is, from the index alone; ``check`` asks each provider and server."""
        return await LoginStates(self._context.config, self._providers, lambda: self._remote).rows(
            self.vault.accounts(), check=check
        )


def _remote_key(config: ServerConfig) -> str:
    return server_key(config.url or "", config.account)
