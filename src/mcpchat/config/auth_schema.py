"""The [auth] part of the configuration: OAuth providers, the secret store, and the validation of sign-in settings."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from mcpchat.config.validation import NO_SECRETS, REFERENCE, TABLES_KEY, Problem, as_tables, find_builtin
from mcpchat.util.text import suggest
from mcpchat.util.urls import find_url_problem

GOOGLE = "google"
REMOTE_AUTH_METHODS = ("oauth", "none", "client_credentials")
_FIXED_PARAMETERS = {
    "state",
    "code_challenge",
    "code_challenge_method",
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
}
_RESERVED_NAMES = {"store", "servers", *REMOTE_AUTH_METHODS}
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REMOTE_KEYS = ("client_id", "client_secret", "private_key", "key_algorithm", "issuer", "assume_pkce")

Reference = Annotated[str, Meta(description='A reference to a secret: "env:NAME", "keyring:NAME" or "cmd:COMMAND".')]


class ProviderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OAuth provider whose access tokens are passed to servers. "google" needs only the client's id and secret."""

    client_id: Annotated[
        str | None,
        Meta(description="The OAuth client id, or a reference to it. Default: MCPCHAT_<NAME>_CLIENT_ID."),
    ] = None
    client_secret: Annotated[
        Reference | None, Meta(description="A reference to the client secret. Default: MCPCHAT_<NAME>_CLIENT_SECRET.")
    ] = None
    client_secrets_file: Annotated[
        str | None,
        Meta(description="Google's JSON file with both. Default: MCPCHAT_<NAME>_CLIENT_SECRETS_FILE."),
    ] = None
    refresh_token: Annotated[
        Reference | None,
        Meta(description="A reference to a refresh token, for machines without a user to sign in."),
    ] = None
    authorization_url: Annotated[
        str | None, Meta(description="The authorization endpoint, where the user consents; https.")
    ] = None
    token_url: Annotated[str | None, Meta(description="The token endpoint, for codes and refresh tokens; https.")] = (
        None
    )
    revocation_url: Annotated[str | None, Meta(description="The revocation endpoint, which ends a login; https.")] = (
        None
    )
    userinfo_url: Annotated[str | None, Meta(description="The userinfo endpoint, which says who signed in; https.")] = (
        None
    )
    issuer: Annotated[
        str | None, Meta(description="The issuer; compared with the issuer in responses that have one.")
    ] = None
    scopes: Annotated[tuple[str, ...], Meta(description="The scopes for servers that do not set scopes.")] = ()
    parameters: Annotated[
        dict[str, str], Meta(description="More parameters of the authorization URL, as the provider documents them.")
    ] = field(default_factory=dict)


class AuthConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where logins are stored; [auth.NAME] tables are OAuth providers."""

    store: Annotated[
        Literal["keyring", "file", "memory"],
        Meta(description='"keyring"; "file": a plain file, NOT encrypted; "memory": lost when mcpchat ends.'),
    ] = "keyring"
    entries: dict[str, ProviderConfig] = field(default_factory=dict, name=TABLES_KEY)


def auth_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of providers, and of the sign-in settings of servers, that types cannot express."""
    auth = table.get("auth")
    providers = as_tables(auth.get(TABLES_KEY)) if isinstance(auth, dict) else {}
    for name, provider in providers.items():
        yield from _provider_problems(name, provider)
    for name, server in as_tables(table.get("servers")).items():
        path = ("servers", name)
        for key in ("client_secret", "private_key"):
            if isinstance(server.get(key), str) and not REFERENCE.fullmatch(server[key]):
                yield (*path, key), NO_SECRETS
        if "url" in server:
            yield from _remote_problems(path, server)
        else:
            yield from _local_problems(path, server, providers)


def _provider_problems(name: str, provider: Mapping[str, Any]) -> Iterator[Problem]:
    path = ("auth", TABLES_KEY, name)
    if name in _RESERVED_NAMES or not _PROVIDER_NAME.fullmatch(name):
        yield (
            path,
            f"the name of a provider has only letters, digits, - and _; reserved: {', '.join(sorted(_RESERVED_NAMES))}",
        )
    for key in ("client_secret", "refresh_token"):
        if isinstance(provider.get(key), str) and not REFERENCE.fullmatch(provider[key]):
            yield (*path, key), NO_SECRETS
    parameters = provider.get("parameters")
    reserved = sorted(_FIXED_PARAMETERS.intersection(parameters)) if isinstance(parameters, dict) else []
    if reserved:
        yield (*path, "parameters"), f"{', '.join(reserved)}: set by mcpchat itself"
    for key in ("authorization_url", "token_url", "revocation_url", "userinfo_url"):
        url = provider.get(key)
        if isinstance(url, str) and not url.startswith("https://"):
            yield (*path, key), "expected a URL that begins with https://"
        elif isinstance(url, str) and (problem := find_url_problem(url)):
            yield (*path, key), problem
        if url is None and name != GOOGLE and key in {"authorization_url", "token_url"}:
            yield path, f'expected "{key}"'


def _remote_problems(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Problem]:
    method = server.get("auth")
    if isinstance(method, str) and method not in REMOTE_AUTH_METHODS:
        yield (*path, "auth"), f"expected one of {', '.join(map(repr, REMOTE_AUTH_METHODS))} for a remote server"
    if "token_env" in server:
        yield (*path, "token_env"), 'only valid with "command": a remote server gets its token in a header'
    headers = server.get("headers")
    has_authorization = isinstance(headers, dict) and any(str(name).lower() == "authorization" for name in headers)
    if has_authorization and method in ("oauth", "client_credentials"):
        yield (*path, "auth"), "headers already has Authorization: remove one of the two"
    if "client_secret" in server and "issuer" not in server:
        yield (*path, "client_secret"), 'expected "issuer" too: the only authorization server that receives the secret'
    if method == "client_credentials":
        if "client_id" not in server:
            yield (*path, "auth"), 'expected "client_id" too'
        if ("client_secret" in server) == ("private_key" in server):
            yield (*path, "auth"), 'expected one of "client_secret" and "private_key" too'
    elif "private_key" in server:
        yield (*path, "private_key"), 'only valid with auth = "client_credentials"'


def _local_problems(
    path: tuple[str, ...], server: Mapping[str, Any], providers: Mapping[str, Any]
) -> Iterator[Problem]:
    for key in _REMOTE_KEYS:
        if key in server:
            elsewhere = "; for a provider, set it in [auth.NAME]" if key in ProviderConfig.__struct_fields__ else ""
            yield (*path, key), f'only valid with "url"{elsewhere}'
    builtin = find_builtin(server)
    name = server.get("auth") or (builtin.provider or None)
    if name is None:
        for key in ("scopes", "account", "token_env"):
            if key in server:
                yield (*path, key), 'only valid with "auth"'
        return
    if not isinstance(name, str):
        return
    provider_names = tuple(dict.fromkeys((GOOGLE, *providers)))
    if name not in provider_names:
        yield (*path, "auth"), f"no provider is named {name!r}; {suggest(name, provider_names)}"
    elif builtin.scopes:
        pass
    elif name == GOOGLE and not server.get("scopes") and not providers.get(GOOGLE, {}).get("scopes"):
        yield (*path, "auth"), 'expected "scopes" too: what the server may do with the account'
    variable = server.get("token_env")
    if isinstance(variable, str) and not _VARIABLE.fullmatch(variable):
        yield (*path, "token_env"), "expected the name of an environment variable"
