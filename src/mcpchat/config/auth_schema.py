"""The sign-in part of the configuration: providers, where logins are kept, and what contradicts itself in it."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from mcpchat.config.validation import REFERENCE, TABLES_KEY, Problem, as_tables, find_builtin, is_http
from mcpchat.util.text import suggest

NO_SECRETS_MESSAGE = 'a secret never stands in this file: expected "env:NAME" or "keyring:NAME"'
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
_REMOTE_KEYS = ("client_id", "client_secret", "private_key", "key_algorithm", "issuer")

Reference = Annotated[str, Meta(description='Where a secret is: "env:NAME" or "keyring:NAME".')]


class ProviderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OAuth provider whose access tokens servers get. Of "google" only the client need be said."""

    client_id: Annotated[
        str | None,
        Meta(description="This client's id there, or a reference. Default: MCPCHAT_<NAME>_CLIENT_ID."),
    ] = None
    client_secret: Annotated[
        Reference | None, Meta(description="A reference to its secret. Default: MCPCHAT_<NAME>_CLIENT_SECRET.")
    ] = None
    client_secrets_file: Annotated[
        str | None,
        Meta(description="The JSON file with both that Google gives. Default: MCPCHAT_<NAME>_CLIENT_SECRETS_FILE."),
    ] = None
    refresh_token: Annotated[
        Reference | None,
        Meta(description="A reference to a refresh token, for machines where nobody can sign in."),
    ] = None
    authorization_url: Annotated[str | None, Meta(description="Where people consent; https.")] = None
    token_url: Annotated[str | None, Meta(description="Where codes and refresh tokens are exchanged; https.")] = None
    revocation_url: Annotated[str | None, Meta(description="Where a login is ended; https.")] = None
    userinfo_url: Annotated[str | None, Meta(description="Where it says who signed in; https.")] = None
    issuer: Annotated[str | None, Meta(description="Its name for itself, compared where an answer has one.")] = None
    scopes: Annotated[tuple[str, ...], Meta(description="What servers get that name no scopes of their own.")] = ()
    parameters: Annotated[
        dict[str, str], Meta(description="More of the authorization address, as the provider documents it.")
    ] = field(default_factory=dict)


class AuthConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where logins are kept; [auth.NAME] tables are providers."""

    store: Annotated[
        Literal["keyring", "file", "memory"],
        Meta(description='"keyring"; "file": a plain file, NOT encrypted; "memory": until mcpchat ends.'),
    ] = "keyring"
    entries: dict[str, ProviderConfig] = field(default_factory=dict, name=TABLES_KEY)


def auth_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """What the types alone cannot say of providers, and of how servers are signed in to."""
    auth = table.get("auth")
    providers = as_tables(auth.get(TABLES_KEY)) if isinstance(auth, dict) else {}
    for name, provider in providers.items():
        yield from _provider_problems(name, provider)
    for name, server in as_tables(table.get("servers")).items():
        path = ("servers", name)
        for key in ("client_secret", "private_key"):
            if isinstance(server.get(key), str) and not REFERENCE.fullmatch(server[key]):
                yield (*path, key), NO_SECRETS_MESSAGE
        if "url" in server:
            yield from _remote_problems(path, server)
        else:
            yield from _local_problems(path, server, providers)


def _provider_problems(name: str, provider: Mapping[str, Any]) -> Iterator[Problem]:
    path = ("auth", TABLES_KEY, name)
    if name in _RESERVED_NAMES or not _PROVIDER_NAME.fullmatch(name):
        yield path, "a provider is named with letters, digits, - and _, and not " + ", ".join(sorted(_RESERVED_NAMES))
    for key in ("client_secret", "refresh_token"):
        if isinstance(provider.get(key), str) and not REFERENCE.fullmatch(provider[key]):
            yield (*path, key), NO_SECRETS_MESSAGE
    reserved = sorted(_FIXED_PARAMETERS.intersection(provider.get("parameters") or ()))
    if reserved:
        yield (*path, "parameters"), f"mcpchat itself sets {', '.join(reserved)}"
    for key in ("authorization_url", "token_url", "revocation_url", "userinfo_url"):
        url = provider.get(key)
        if isinstance(url, str) and not (is_http(url) and url.startswith("https://")):
            yield (*path, key), "expected an address that begins with https://"
        if url is None and name != GOOGLE and key in {"authorization_url", "token_url"}:
            yield path, f'expected "{key}"'


def _remote_problems(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Problem]:
    method = server.get("auth")
    if isinstance(method, str) and method not in REMOTE_AUTH_METHODS:
        yield (*path, "auth"), f"of a remote server, expected one of {', '.join(map(repr, REMOTE_AUTH_METHODS))}"
    if "token_env" in server:
        yield (*path, "token_env"), 'goes with "command": a remote server gets its token in a header'
    headers = server.get("headers")
    has_authorization = isinstance(headers, dict) and any(str(name).lower() == "authorization" for name in headers)
    if has_authorization and method in {"oauth", "client_credentials"}:
        yield (*path, "auth"), "headers has an Authorization already: remove one of the two"
    if "client_secret" in server and "issuer" not in server:
        yield (*path, "client_secret"), 'expected "issuer" too: the one authorization server that gets it'
    if method == "client_credentials":
        if "client_id" not in server:
            yield (*path, "auth"), 'expected "client_id" too'
        if ("client_secret" in server) == ("private_key" in server):
            yield (*path, "auth"), 'expected one of "client_secret" and "private_key" too'
    elif "private_key" in server:
        yield (*path, "private_key"), 'goes with auth = "client_credentials"'


def _local_problems(
    path: tuple[str, ...], server: Mapping[str, Any], providers: Mapping[str, Any]
) -> Iterator[Problem]:
    for key in _REMOTE_KEYS:
        if key in server:
            yield (*path, key), 'goes with "url"; of a provider it stands under [auth.NAME]'
    builtin = find_builtin(server)
    name = server.get("auth") or (builtin.provider or None)
    if name is None:
        for key in ("scopes", "account", "token_env"):
            if key in server:
                yield (*path, key), 'goes with "auth"'
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
