"""Logins at OAuth providers, and the access tokens that local servers get from them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.auth.account_store import AccountStore, Renewed
from mcpchat.auth.consent import AuthorizationPrompt
from mcpchat.auth.providers import oauth
from mcpchat.auth.providers.oauth import Provider, Token
from mcpchat.auth.secret_stores import SecretRecord
from mcpchat.config.auth_schema import GOOGLE, ProviderConfig
from mcpchat.config.run import RunContext
from mcpchat.config.schema import Config, ServerConfig
from mcpchat.config.secret_refs import resolve_secret
from mcpchat.core.accounts import (
    Account,
    StoreName,
    canonical_scopes,
    format_scopes,
    missing_scopes,
    sign_in_command,
    union,
)
from mcpchat.errors import ConfigError, McpChatError, SignInNeeded, UsageError
from mcpchat.util.paths import expand_user

_GOOGLE_DEFAULTS = ProviderConfig(
    authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    revocation_url="https://oauth2.googleapis.com/revoke",
    userinfo_url="https://openidconnect.googleapis.com/v1/userinfo",
    issuer="https://accounts.google.com",
)
_CLIENT_HINT = "docs/google.md shows how to get one; then set client_secrets_file, or client_id and client_secret"
_URL_FIELDS = ("authorization_url", "token_url", "revocation_url", "userinfo_url")


class SignInResult(Struct, frozen=True, kw_only=True):
    """A new login, and by server the scopes that were not granted."""

    account: Account
    missing_scopes: dict[str, tuple[str, ...]] = {}


class ProviderAccounts:
    """Signs in to and out of providers, and gets access tokens for servers."""

    def __init__(self, context: RunContext, account_store: AccountStore) -> None:
        self._context = context
        self._environ = context.environ
        self._account_store = account_store
        self._secrets = context.secrets
        self._tokens: dict[tuple[str, tuple[str, ...]], Token] = {}  # the newest token by account key and scopes
        self.rejected_tokens: set[str] = set()  # a provider rejected them before they expired
        # By provider: logins by a refresh token that the config refers to. They are not saved.
        self._environment_records: dict[str, SecretRecord] = {}

    @property
    def _config(self) -> Config:
        return self._context.config

    def list_names(self) -> Sequence[str]:
        """The providers that are configured or that a server uses."""
        return tuple(
            dict.fromkeys(
                (
                    *self._config.auth.entries,
                    *(config.auth for config in self._provider_servers().values() if config.auth),
                )
            )
        )

    def _provider_servers(self, name: str | None = None) -> dict[str, ServerConfig]:
        """The enabled local servers that get a token from this provider, or from any if ``name`` is None."""
        return {
            server: config
            for server, config in self._config.servers.items()
            if config.enabled and not config.url and config.auth and name in {None, config.auth}
        }

    async def resolve_provider(self, name: str) -> Provider:
        """Builds the provider with the client's id and secret. Raises ConfigError if they are not configured."""
        config = self._config.auth.entries.get(name, ProviderConfig())
        defaults = _GOOGLE_DEFAULTS if name == GOOGLE else ProviderConfig()
        urls = {key: str(getattr(config, key) or getattr(defaults, key) or "") for key in _URL_FIELDS}
        client_id, client_secret = await self._resolve_client(name, config)
        return Provider(
            name=name,
            title="Google" if name == GOOGLE else name,
            issuer=config.issuer or defaults.issuer,
            client_id=client_id,
            client_secret=client_secret,
            is_google=name == GOOGLE,
            parameters=config.parameters,
            **urls,
        )

    async def _resolve_client(self, name: str, config: ProviderConfig) -> tuple[str, str]:
        """Returns the client's id and secret.

        They come from the config or else the environment, as two values or from the client file of Google. Raises
        ConfigError if there is no id or a value cannot be read.
        """
        prefix = f"MCPCHAT_{name.upper().replace('-', '_')}_"
        path = config.client_secrets_file
        client_id, secret = config.client_id, config.client_secret
        if not client_id and not path:
            client_id = self._environ.get(f"{prefix}CLIENT_ID")
            path = None if client_id else self._environ.get(f"{prefix}CLIENT_SECRETS_FILE")
        if not client_id and path:
            client_id, file_secret = _read_client_file(path)
            self._secrets.add(file_secret)
            return client_id, file_secret
        if not client_id:
            raise ConfigError(
                f"[auth.{name}] has no client_id: mcpchat must be registered at {name}",
                hint=_CLIENT_HINT if name == GOOGLE else f"register mcpchat at {name} and set client_id",
            )
        client_id = await resolve_secret(client_id, self._environ, config_key=f"auth.{name}.client_id")
        if secret is None and f"{prefix}CLIENT_SECRET" in self._environ:
            secret = f"env:{prefix}CLIENT_SECRET"
        client_secret = (
            await resolve_secret(secret, self._environ, config_key=f"auth.{name}.client_secret") if secret else ""
        )
        self._secrets.add(client_secret)
        return client_id, client_secret

    # Tokens.

    def scopes_for(self, server: ServerConfig) -> tuple[str, ...]:
        config = self._config.auth.entries.get(server.auth or "", ProviderConfig())
        return canonical_scopes(server.scopes or config.scopes)

    def find_account(self, name: str, selector: str | None) -> Account | None:
        """Finds the login by e-mail address or alias; without ``selector``, the default login. Raises StoreError."""
        config = self._config.auth.entries.get(name)
        if config is not None and config.refresh_token and selector is None:
            return Account(
                key=f"{name}/environment",
                kind="provider",
                login=name,
                store="environment",
                kept_in=config.refresh_token,
            )
        accounts = [
            account
            for account in self._account_store.list_accounts()
            if account.kind == "provider" and account.login == name
        ]
        if selector is not None:
            return next((account for account in accounts if selector.casefold() in _account_names(account)), None)
        return next((account for account in accounts if account.default), accounts[0] if accounts else None)

    async def get_token(self, name: str, server: ServerConfig) -> Token:
        """Returns a token for the server ``name`` with only that server's scopes. It does not expire soon.

        Raises SignInNeeded if the user must sign in, ConfigError if the client is not configured, StoreError if a
        record cannot be read or saved, and ServerError if the provider cannot be reached.
        """
        assert server.auth is not None
        account = self.find_account(server.auth, server.account)
        command = sign_in_command(server.auth, account=server.account)
        if account is None:
            suffix = f" as {server.account}" if server.account else ""
            raise SignInNeeded(f"{name} needs a login at {server.auth}{suffix}", hint=command)
        if account.lost:
            raise SignInNeeded(account.lost, hint=command)
        scopes = self.scopes_for(server)
        cached = self._tokens.get((account.key, scopes))
        if cached is not None and not cached.expires_soon and cached.value not in self.rejected_tokens:
            return cached
        if account.store != "environment" and (ungranted := missing_scopes(scopes, account.scopes)):
            raise SignInNeeded(f"{name} needs access that was not granted: {format_scopes(ungranted)}", hint=command)
        provider = await self.resolve_provider(server.auth)
        token = await (
            self._token_from_reference(provider, scopes)
            if account.store == "environment"
            else self._renewed_token(provider, account, scopes)
        )
        self._secrets.add(token.value)
        self._tokens[account.key, scopes] = token
        return token

    async def _renewed_token(self, provider: Provider, account: Account, scopes: Sequence[str]) -> Token:
        def find_valid(record: SecretRecord) -> Token | None:
            cached = oauth.cached_token(record, scopes)
            if cached is None or cached.expires_soon or cached.value in self.rejected_tokens:
                return None
            return cached

        async def refresh(record: SecretRecord) -> Renewed[Token]:
            _check_client(provider, account, record)
            return await oauth.refresh(provider, record, scopes)

        return await self._account_store.renew(account.key, find_valid, refresh)

    async def _token_from_reference(self, provider: Provider, scopes: Sequence[str]) -> Token:
        """Returns a token from the refresh token that the config refers to."""
        reference = self._config.auth.entries[provider.name].refresh_token
        assert reference is not None
        record = self._environment_records.get(provider.name)
        if record is None:
            value = await resolve_secret(reference, self._environ, config_key=f"auth.{provider.name}.refresh_token")
            self._secrets.add(value)
            record = {"refresh_token": value}
        self._environment_records[provider.name], token = await oauth.refresh(provider, record, scopes)
        return token

    # Signing in and out.

    async def sign_in(
        self,
        name: str,
        prompt: AuthorizationPrompt,
        *,
        account: str | None,
        store: StoreName | None,
        extra_scopes: Sequence[str],
    ) -> SignInResult:
        """Signs in with the scopes of all servers that use the account.

        Raises ConfigError if the client is not configured, UsageError if there is nothing to request or the port is in
        use, StoreError if the store cannot save a login (most of these before the browser opens), SignInNeeded if the
        user or the provider refuses, and ServerError if the provider cannot be reached.
        """
        provider = await self.resolve_provider(name)
        existing = self.find_account(name, account)
        existing = None if existing is not None and existing.store == "environment" else existing
        has_others = any(other.login == name for other in self._account_store.list_accounts())
        servers = self._servers_using(name, account, existing, is_first=not has_others)
        requested = self._requested_scopes(provider, account, servers, extra_scopes)
        if account is not None and not servers:
            prompt.screen.notify(f'No server has account = "{account}" yet: mcpchat requests only your identity.')
        store = store or (existing.store if existing is not None else self._account_store.default_store)
        await self._account_store.get_store(store).probe()
        combined = union(requested, existing.scopes if existing is not None and not existing.lost else ())
        hint = existing.account if existing is not None else account if account and "@" in account else ""
        prompt.screen.notify(f"Asking {provider.title} for: {format_scopes(combined) or 'your identity'}")
        record = await oauth.sign_in(
            provider, combined, prompt, self._secrets, login_hint=hint, choose_account=existing is None and has_others
        )
        saved = await self._account_store.save(
            await self._build_account(name, account, existing, record, store, prompt), record
        )
        self.forget_tokens(saved.key)
        ungranted = {
            server: missing_scopes(self.scopes_for(config), saved.scopes) for server, config in servers.items()
        }
        return SignInResult(
            account=saved, missing_scopes={server: scopes for server, scopes in ungranted.items() if scopes}
        )

    def _servers_using(
        self, name: str, account: str | None, existing: Account | None, *, is_first: bool
    ) -> dict[str, ServerConfig]:
        """The servers that a sign-in is for.

        For a known account, these are its servers. For the first account, these include servers without ``account``.
        """

        def matches(config: ServerConfig) -> bool:
            if existing is not None:
                return self.find_account(name, config.account) == existing
            return config.account == account or (config.account is None and is_first)

        return {server: config for server, config in self._provider_servers(name).items() if matches(config)}

    def _requested_scopes(
        self, provider: Provider, account: str | None, servers: Mapping[str, ServerConfig], extra_scopes: Sequence[str]
    ) -> tuple[str, ...]:
        """The scopes to request. Raises UsageError if there are none to request from Google."""
        scopes = union(*(self.scopes_for(config) for config in servers.values()), canonical_scopes(extra_scopes))
        if account is not None:
            return scopes
        scopes = scopes or canonical_scopes(self._config.auth.entries.get(provider.name, ProviderConfig()).scopes)
        account_names = sorted(
            {config.account for config in self._provider_servers(provider.name).values() if config.account}
        )
        if provider.is_google and not scopes and account_names:
            raise UsageError(
                f"the servers use other accounts: {', '.join(account_names)}",
                hint=sign_in_command(provider.name, account=account_names[0]),
            )
        if provider.is_google and not scopes:
            raise UsageError(
                'no server in the config has auth = "google": there are no scopes to request',
                hint="pass --scope, or configure a server first",
            )
        return scopes

    async def _build_account(
        self,
        name: str,
        requested: str | None,
        existing: Account | None,
        record: SecretRecord,
        store: StoreName,
        prompt: AuthorizationPrompt,
    ) -> Account:
        """The index entry of a new login. Its account is the user who signed in, even if another one was requested."""
        signed_in_as = record["account"]
        alias = requested if requested and "@" not in requested else ""
        is_same = existing is not None and (not signed_in_as or signed_in_as.casefold() == existing.account.casefold())
        if existing is not None and not is_same:
            prompt.screen.notify(
                f"You signed in as {signed_in_as}, not as {existing.account}. That login is unchanged."
            )
            if alias and existing.alias == alias:
                await self._account_store.update(existing.key, lambda account: replace(account, alias=""))
                prompt.screen.notify(f"The alias {alias} is now {signed_in_as}.")
        elif existing is None and requested and "@" in requested and signed_in_as.casefold() != requested.casefold():
            prompt.screen.notify(f"You signed in as {signed_in_as}, not as {requested}.")
        key = existing.key if existing is not None and is_same else f"{name}/{signed_in_as or requested or 'default'}"
        saved = self._account_store.find(key)
        return Account(
            key=key,
            kind="provider",
            login=name,
            account=signed_in_as,
            alias=alias or (saved.alias if saved is not None else ""),
            scopes=canonical_scopes(record["granted"]),
            store=store,
            created=record["created"],
            expires=record.get("expires_at") if "refresh_token" not in record else None,
            renews="refresh_token" in record,
            default=saved is not None and saved.default,
        )

    async def revoke(self, account: Account) -> str:
        """Asks the provider to end the login. Returns why it did not, or ""."""
        reason = ""
        if not account.lost:
            try:
                record = await self._account_store.load(account)
                reason = await oauth.revoke(await self.resolve_provider(account.login), record or {})
            except McpChatError as error:
                reason = error.message
        self.forget_tokens(account.key)
        return reason

    async def check(self, account: Account) -> None:
        """Requests a token from the provider, as the start of a server does.

        Raises SignInNeeded if the login is not valid, ServerError if the provider cannot be reached, ConfigError, and
        StoreError.
        """
        provider = await self.resolve_provider(account.login)
        if account.store == "environment":
            await self._token_from_reference(provider, ())
            return

        async def refresh(record: SecretRecord) -> Renewed[Token]:
            _check_client(provider, account, record)
            cached = oauth.cached_token(record, ()) if "refresh_token" not in record else None
            if cached is not None and not cached.expired:
                return record, cached  # without a refresh token, only a server that uses the token can check it
            return await oauth.refresh(provider, record, ())

        await self._account_store.renew(account.key, lambda record: None, refresh)

    def forget_tokens(self, key: str) -> None:
        for stale_key in [token_key for token_key in self._tokens if token_key[0] == key]:
            del self._tokens[stale_key]


def _check_client(provider: Provider, account: Account, record: SecretRecord) -> None:
    """Raises SignInNeeded if the login belongs to another client or another token endpoint."""
    if (record.get("client_id"), record.get("token_url")) != (provider.client_id, provider.token_url):
        raise SignInNeeded(
            f"the {provider.name} login was created with another client_id or token_url",
            hint=sign_in_command(provider.name, account=account.alias or account.account),
        )


def _account_names(account: Account) -> set[str]:
    return {name.casefold() for name in (account.alias, account.account) if name}


def _read_client_file(filename: str) -> tuple[str, str]:
    """Reads the id and secret from the client file of Google. Raises ConfigError if it cannot be read."""
    path = expand_user(filename)
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        client = next(document[kind] for kind in ("installed", "web") if kind in document)
        return str(client["client_id"]), str(client["client_secret"])
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check client_secrets_file") from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(
            f"{path} is not the client file from Google", hint="download it again; docs/google.md shows where"
        ) from error
