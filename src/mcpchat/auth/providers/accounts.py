"""The logins at providers, and the access tokens that servers get of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.auth.account_store import Vault
from mcpchat.auth.consent import Consent
from mcpchat.auth.providers import oauth
from mcpchat.auth.providers.oauth import Provider, Token
from mcpchat.auth.secret_stores import Record
from mcpchat.config.auth_schema import GOOGLE, ProviderConfig
from mcpchat.config.schema import Config, ServerConfig
from mcpchat.config.secret_refs import look_up
from mcpchat.core.accounts import Account, StoreName, joined, login_command, missing, plain_scopes, scope_titles
from mcpchat.errors import ConfigError, McpChatError, SignInNeeded, UsageError
from mcpchat.util.redaction import Secrets

_GOOGLE = ProviderConfig(
    authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    revocation_url="https://oauth2.googleapis.com/revoke",
    userinfo_url="https://openidconnect.googleapis.com/v1/userinfo",
    issuer="https://accounts.google.com",
)
_CLIENT_HINT = "docs/google.md tells how to come by one: client_secrets_file, or client_id and a secret"
_ADDRESSES = ("authorization_url", "token_url", "revocation_url", "userinfo_url")


class SignedIn(Struct, frozen=True, kw_only=True):
    """A login that was just made, and the servers that lack something, with what."""

    account: Account
    lacking: dict[str, tuple[str, ...]] = {}


class ProviderLogins:
    def __init__(self, config: Config, environ: Mapping[str, str], vault: Vault, secrets: Secrets) -> None:
        self._config = config
        self._environ = environ
        self._vault = vault
        self._secrets = secrets
        self._tokens: dict[tuple[str, tuple[str, ...]], Token] = {}  # the newest of each login and scopes
        self._given: dict[str, Token] = {}  # what each server's process has
        self._refused: set[str] = set()
        self._records: dict[str, Record] = {}  # of logins that come by reference, and are kept nowhere

    def names(self) -> Sequence[str]:
        """The providers that are configured, or that a server wants."""
        return tuple(
            dict.fromkeys((*self._config.auth.entries, *(one.auth for one in self._users().values() if one.auth)))
        )

    def _users(self, name: str | None = None) -> dict[str, ServerConfig]:
        """The servers that get a token of this provider, or of any."""
        return {
            server: config
            for server, config in self._config.servers.items()
            if config.enabled and not config.url and config.auth and name in {None, config.auth}
        }

    async def provider(self, name: str) -> Provider:
        """The provider, with this client's id and secret found. Raises ConfigError that says how to come by them."""
        entry = self._config.auth.entries.get(name, ProviderConfig())
        usual = _GOOGLE if name == GOOGLE else ProviderConfig()
        addresses = {key: str(getattr(entry, key) or getattr(usual, key) or "") for key in _ADDRESSES}
        client_id, client_secret = await self._client(name, entry)
        return Provider(
            name=name,
            title="Google" if name == GOOGLE else name,
            issuer=entry.issuer or usual.issuer,
            client_id=client_id,
            client_secret=client_secret,
            is_google=name == GOOGLE,
            parameters=entry.parameters,
            **addresses,
        )

    async def _client(self, name: str, entry: ProviderConfig) -> tuple[str, str]:
        """The client's id and secret: from the config, else the environment; from two values, or Google's file."""
        prefix = f"MCPCHAT_{name.upper().replace('-', '_')}_"
        path = entry.client_secrets_file
        client_id, secret = entry.client_id, entry.client_secret
        if not client_id and not path:
            client_id = self._environ.get(f"{prefix}CLIENT_ID")
            path = None if client_id else self._environ.get(f"{prefix}CLIENT_SECRETS_FILE")
        if not client_id and path:
            client_id, said = _from_file(path)
            self._secrets.add(said)
            return client_id, said
        if not client_id:
            raise ConfigError(
                f"[auth.{name}] has no client_id: mcpchat must be known at {name}",
                hint=_CLIENT_HINT if name == GOOGLE else "register mcpchat there",
            )
        client_id = await look_up(client_id, self._environ, where=f"auth.{name}.client_id")
        if secret is None and f"{prefix}CLIENT_SECRET" in self._environ:
            secret = f"env:{prefix}CLIENT_SECRET"
        value = await look_up(secret, self._environ, where=f"auth.{name}.client_secret") if secret else ""
        self._secrets.add(value)
        return client_id, value

    # Tokens.

    def scopes(self, server: ServerConfig) -> tuple[str, ...]:
        entry = self._config.auth.entries.get(server.auth or "", ProviderConfig())
        return plain_scopes(server.scopes or entry.scopes)

    def account(self, name: str, wanted: str | None) -> Account | None:
        """The login by its address or alias; without one, the default."""
        entry = self._config.auth.entries.get(name)
        if entry is not None and entry.refresh_token and wanted is None:
            return Account(
                key=f"{name}/environment", kind="provider", login=name, store="environment", kept_in=entry.refresh_token
            )
        mine = [one for one in self._vault.accounts() if one.kind == "provider" and one.login == name]
        if wanted is not None:
            return next((one for one in mine if wanted.casefold() in _names(one)), None)
        return next((one for one in mine if one.default), mine[0] if mine else None)

    async def token(self, name: str, server: ServerConfig) -> Token:
        """A token for this server, narrowed to its scopes, good for a while.

        Raises SignInNeeded, ConfigError, StoreError, and ServerError where the provider cannot be reached.
        """
        assert server.auth is not None
        account = self.account(server.auth, server.account)
        again = login_command(server.auth, account=server.account)
        if account is None:
            who = f" as {server.account}" if server.account else ""
            raise SignInNeeded(f"{name} needs a login at {server.auth}{who}", hint=again)
        if account.lost:
            raise SignInNeeded(account.lost, hint=again)
        scopes = self.scopes(server)
        known = self._tokens.get((account.key, scopes))
        if known is not None and not known.near_its_end and known.value not in self._refused:
            return known
        if account.store != "environment" and (lacks := missing(scopes, account.scopes)):
            raise SignInNeeded(f"{name} needs what was not granted: {scope_titles(lacks)}", hint=again)
        provider = await self.provider(server.auth)
        token = await (
            self._by_reference(provider, scopes)
            if account.store == "environment"
            else self._kept(provider, account, scopes)
        )
        self._secrets.add(token.value)
        self._tokens[account.key, scopes] = token
        return token

    async def _kept(self, provider: Provider, account: Account, scopes: Sequence[str]) -> Token:
        found: list[Token] = []

        def stale(record: Record) -> bool:
            kept = oauth.kept_token(record, scopes)
            if kept is None or kept.near_its_end or kept.value in self._refused:
                return True
            found.append(kept)
            return False

        async def refresh(record: Record) -> Record:
            _same_client(provider, account, record)
            renewed, token = await oauth.refreshed(provider, record, scopes)
            found.append(token)
            return renewed

        await self._vault.renew(account.key, stale, refresh)
        return found[-1]

    async def _by_reference(self, provider: Provider, scopes: Sequence[str]) -> Token:
        """A token by the refresh token that the config refers to."""
        reference = self._config.auth.entries[provider.name].refresh_token
        assert reference is not None
        record = self._records.get(provider.name)
        if record is None:
            value = await look_up(reference, self._environ, where=f"auth.{provider.name}.refresh_token")
            self._secrets.add(value)
            record = {"refresh_token": value}
        self._records[provider.name], token = await oauth.refreshed(provider, record, scopes)
        return token

    def give(self, name: str, token: Token) -> None:
        """Note which token the server's process has got."""
        self._given[name] = token

    def due(self, name: str) -> Literal["no", "soon", "now"]:
        """When the server's process must be given a new token."""
        token = self._given.get(name)
        if token is None:
            return "no"
        if token.over or token.value in self._refused:
            return "now"
        return "soon" if token.near_its_end else "no"

    def refused(self, name: str) -> None:
        """The provider does not take the token of the server's process any more: it is given to nobody again."""
        if (token := self._given.get(name)) is not None:
            self._refused.add(token.value)

    # Signing in and out.

    async def sign_in(
        self, name: str, consent: Consent, *, account: str | None, store: StoreName | None, more: Sequence[str]
    ) -> SignedIn:
        """Sign in, for all that the account's servers want. Raises all that can go wrong, most of it beforehand."""
        provider = await self.provider(name)
        before = self.account(name, account)
        before = None if before is not None and before.store == "environment" else before
        others = any(one.login == name for one in self._vault.accounts())
        users = self._users_of(name, account, before, first=not others)
        wanted = self._wanted(provider, account, users, more)
        if account is not None and not users:
            consent.screen.tell(f'No server has account = "{account}" yet: only who you are is asked for.')
        store = store or (before.store if before is not None else self._vault.usual)
        await self._vault.store(store).probe()
        asked = joined(wanted, before.scopes if before is not None and not before.lost else ())
        hint = before.account if before is not None else account if account and "@" in account else ""
        consent.screen.tell(f"Asking {provider.title} for: {scope_titles(asked) or 'who you are'}")
        record = await oauth.sign_in(
            provider, asked, consent, self._secrets, hint=hint, another=before is None and others
        )
        kept = await self._vault.keep(await self._entry(name, account, before, record, store, consent), record)
        self.forget(kept.key)
        lacking = {server: missing(self.scopes(config), kept.scopes) for server, config in users.items()}
        return SignedIn(account=kept, lacking={one: lacks for one, lacks in lacking.items() if lacks})

    def _users_of(
        self, name: str, account: str | None, before: Account | None, *, first: bool
    ) -> dict[str, ServerConfig]:
        """The servers that a sign-in is for: of a known account its own; of the first one also those that name none."""

        def meant(config: ServerConfig) -> bool:
            if before is not None:
                return self.account(name, config.account) == before
            return config.account == account or (config.account is None and first)

        return {server: config for server, config in self._users(name).items() if meant(config)}

    def _wanted(
        self, provider: Provider, account: str | None, users: Mapping[str, ServerConfig], more: Sequence[str]
    ) -> tuple[str, ...]:
        """The scopes to ask for. Raises UsageError where there is nothing to ask Google for."""
        wanted = joined(*(self.scopes(config) for config in users.values()), plain_scopes(more))
        if account is not None:
            return wanted
        wanted = wanted or plain_scopes(self._config.auth.entries.get(provider.name, ProviderConfig()).scopes)
        named = sorted({config.account for config in self._users(provider.name).values() if config.account})
        if provider.is_google and not wanted and named:
            raise UsageError(
                f"the servers want other accounts: {', '.join(named)}",
                hint=login_command(provider.name, account=named[0]),
            )
        if provider.is_google and not wanted:
            raise UsageError(
                'no server in the config has auth = "google": there is nothing to ask Google for',
                hint="name what you want by --scope, or set up a server first",
            )
        return wanted

    async def _entry(
        self,
        name: str,
        wished: str | None,
        before: Account | None,
        record: Record,
        store: StoreName,
        consent: Consent,
    ) -> Account:
        """The entry of a login that was just made; whose it is, is who signed in, whoever was expected."""
        who = record["account"]
        alias = wished if wished and "@" not in wished else ""
        same = before is not None and (not who or who.casefold() == before.account.casefold())
        if before is not None and not same:
            consent.screen.tell(f"You signed in as {who}, not as {before.account}, whose login stays as it was.")
            if alias and before.alias == alias:
                await self._vault.update(before.key, lambda one: replace(one, alias=""))
                consent.screen.tell(f"{alias} is now {who}.")
        elif before is None and wished and "@" in wished and who.casefold() != wished.casefold():
            consent.screen.tell(f"You signed in as {who}, not as {wished}.")
        key = before.key if before is not None and same else f"{name}/{who or wished or 'default'}"
        known = self._vault.find(key)
        return Account(
            key=key,
            kind="provider",
            login=name,
            account=who,
            alias=alias or (known.alias if known is not None else ""),
            scopes=plain_scopes(record["granted"]),
            store=store,
            created=record["created"],
            expires=record.get("expires_at") if "refresh_token" not in record else None,
            renews="refresh_token" in record,
            default=known is not None and known.default,
        )

    async def revoke(self, account: Account) -> str:
        """Have the provider end the login: why not, where it did not."""
        why = ""
        if not account.lost:
            try:
                record = await self._vault.load(account)
                why = await oauth.revoke(await self.provider(account.login), record or {})
            except McpChatError as error:
                why = error.message
        self.forget(account.key)
        return why

    async def check(self, account: Account) -> None:
        """Ask the provider for a token, as a server's start would. Raises what that raises."""
        provider = await self.provider(account.login)

        async def ask(record: Record) -> Record:
            _same_client(provider, account, record)
            kept = oauth.kept_token(record, ()) if "refresh_token" not in record else None
            if kept is not None and not kept.over:
                return record  # a login of one token: only who uses it can tell
            return (await oauth.refreshed(provider, record, ()))[0]

        await self._vault.renew(account.key, lambda record: True, ask)

    def forget(self, key: str) -> None:
        for known in [one for one in self._tokens if one[0] == key]:
            del self._tokens[known]


def _same_client(provider: Provider, account: Account, record: Record) -> None:
    """Raise SignInNeeded for a login that belongs to another client, or to another address of the provider."""
    if (record.get("client_id"), record.get("token_url")) != (provider.client_id, provider.token_url):
        raise SignInNeeded(
            f"the {provider.name} login was made with another client_id or token_url",
            hint=login_command(provider.name, account=account.alias or account.account),
        )


def _names(account: Account) -> set[str]:
    return {name.casefold() for name in (account.alias, account.account) if name}


def _from_file(name: str) -> tuple[str, str]:
    """The id and the secret in the file that Google gives. Raises ConfigError."""
    path = Path(name).expanduser()
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        client = next(said[kind] for kind in ("installed", "web") if kind in said)
        return str(client["client_id"]), str(client["client_secret"])
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="client_secrets_file names it") from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(
            f"{path} is not the client file that Google gives", hint="download it anew: docs/signing-in.md shows where"
        ) from error
