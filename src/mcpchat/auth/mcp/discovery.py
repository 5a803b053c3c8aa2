"""Discovery: finds a remote server's authorization server from its 401 or 403 (RFC 9728, 8414, 9207)."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import httpx2
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    issuers_match,
)
from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata
from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url
from msgspec import Struct
from pydantic import ValidationError

from mcpchat.auth.mcp.guarded_http import GuardedHttpClient, origin
from mcpchat.core.accounts import union
from mcpchat.errors import ServerError, SignInNeeded
from mcpchat.util.sanitize import one_line

_URL_FIELD = re.compile(r"_(endpoint|uri)$|^(issuer|resource|authorization_servers)$")
_VERSION_HEADERS = {"MCP-Protocol-Version": "2026-07-28"}


class Challenge(Struct, frozen=True, kw_only=True):
    """What a 401 or 403 of a server asks for.

    ``scopes`` is None if it names none. ``insufficient_scope`` is whether ``scopes`` are needed in addition.
    """

    metadata_url: str | None = None
    scopes: tuple[str, ...] | None = None
    insufficient_scope: bool = False


class AuthServer(Struct, frozen=True, kw_only=True):
    """An authorization server. ``has_metadata`` is False if it has no metadata and its URLs are the default ones."""

    issuer: str
    authorization_url: str = ""
    token_url: str
    registration_url: str = ""
    revocation_url: str = ""
    scopes: tuple[str, ...] | None = None
    auth_methods: tuple[str, ...] | None = None
    supports_pkce: bool | None = True  # None if its metadata does not say
    sends_issuer: bool = False
    supports_metadata_urls: bool = False
    has_metadata: bool = True


class SignInTarget(Struct, frozen=True, kw_only=True):
    """What to sign in for, and where. ``resource`` is None if the server has no resource metadata."""

    resource: str | None
    scopes: tuple[str, ...] | None
    server: AuthServer


_CHALLENGE_TOKEN = re.compile(
    r"""[\s,]*(?:(?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))
    |(?P<scheme>[\w!#$%&'*+.^`|~-]+))""",
    re.VERBOSE,
)


def _parse_bearer_challenge(response: httpx2.Response) -> dict[str, str]:
    """Returns the parameters of the Bearer challenge in WWW-Authenticate (RFC 9110, 11.6.1)."""
    header, position, scheme = response.headers.get("WWW-Authenticate", ""), 0, ""
    parameters: dict[str, str] = {}
    while (match := _CHALLENGE_TOKEN.match(header, position)) and match.end() > position:
        position = match.end()
        if match["scheme"]:
            scheme = match["scheme"].lower()
        elif scheme == "bearer":
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(match["name"].lower(), value)
    return parameters


def parse_challenge(response: httpx2.Response) -> Challenge:
    """Parses the challenge of a 401 or 403 response."""
    parameters = _parse_bearer_challenge(response)
    return Challenge(
        metadata_url=parameters.get("resource_metadata"),
        scopes=tuple(parameters["scope"].split()) if "scope" in parameters else None,
        insufficient_scope=response.status_code == 403,
    )


def needs_more_scopes(response: httpx2.Response) -> bool:
    return response.status_code == 403 and _parse_bearer_challenge(response).get("error") == "insufficient_scope"


async def discover(
    url: str,
    challenge: Challenge,
    http: GuardedHttpClient,
    *,
    issuer: str | None,
    requested: Sequence[str] = (),
    browser: bool = True,
    assume_pkce: bool = False,
) -> SignInTarget:
    """Finds the authorization server, the resource and the scopes for the server at ``url``.

    ``issuer`` is the expected authorization server. ``requested`` scopes take precedence over those that the server
    names. ``browser`` is whether the user signs in with a browser; ``assume_pkce`` is whether the user accepts a server
    that does not say whether it supports PKCE. Raises SignInNeeded if the metadata is missing or
    not trusted, and ServerError if a server does not answer.
    """
    metadata = await _fetch_resource_metadata(url, challenge, http)
    if metadata is None:
        server = await _fetch_auth_server(None, url, http)
    else:
        issuers = [str(candidate) for candidate in metadata.authorization_servers]
        selected = next((candidate for candidate in issuers if issuer and issuers_match(candidate, issuer)), issuers[0])
        server = await _fetch_auth_server(selected, url, http)
    if issuer is not None and not issuers_match(server.issuer, issuer):
        raise SignInNeeded(f"{url} uses the authorization server {server.issuer}, but the config expects {issuer}")
    if browser:
        if not server.supports_pkce and not (server.supports_pkce is None and assume_pkce):
            hint = "its operator must add code_challenge_methods_supported to the metadata"
            if server.supports_pkce is None:
                hint += "; if you know that it supports PKCE (Entra ID, Cognito): assume_pkce = true in its table"
            raise SignInNeeded(
                f"{server.issuer} does not announce PKCE (S256): mcpchat does not sign in there", hint=hint
            )
        await http.check_url(server.authorization_url)
    scopes = challenge.scopes
    if scopes is None and metadata is not None and metadata.scopes_supported is not None:
        scopes = tuple(metadata.scopes_supported)
    if requested:
        scopes = union(requested, (scopes or ()) if challenge.insufficient_scope else ())
    if scopes is not None and "offline_access" in (server.scopes or ()) and browser:
        scopes = (*(scope for scope in scopes if scope != "offline_access"), "offline_access")
    return SignInTarget(resource=str(metadata.resource) if metadata is not None else None, scopes=scopes, server=server)


async def _fetch_resource_metadata(
    url: str, challenge: Challenge, http: GuardedHttpClient
) -> ProtectedResourceMetadata | None:
    """Fetches the server's resource metadata. Returns None if it has none, like servers of 2025-03-26.

    Raises SignInNeeded if the metadata is at another origin or for another server, and ServerError if it cannot be
    fetched.
    """
    failed_status, foreign_url = 0, ""
    for metadata_url in build_protected_resource_metadata_discovery_urls(challenge.metadata_url, url):
        if origin(metadata_url) != origin(url):
            foreign_url = metadata_url  # not requested: the server's own well-known places follow
            continue
        response = await http.get(metadata_url, _VERSION_HEADERS)
        if response.status >= 500 or response.status == 429:
            failed_status = response.status
        if response.status != 200:
            continue
        _refuse_odd_urls(response.body, metadata_url)
        try:
            metadata = ProtectedResourceMetadata.model_validate(response.body)
        except ValidationError:
            continue
        if not check_resource_allowed(resource_url_from_server_url(url), str(metadata.resource)):
            raise SignInNeeded(f"{url} describes another server, {metadata.resource}: mcpchat does not sign in there")
        return metadata
    if failed_status:
        raise ServerError(f"{urlsplit(url).hostname} answered HTTP {failed_status} when asked how to sign in")
    if foreign_url:
        raise SignInNeeded(f"{url} has its metadata at another origin, {foreign_url[:200]}: mcpchat does not use it")
    return None


async def _fetch_auth_server(issuer: str | None, url: str, http: GuardedHttpClient) -> AuthServer:
    """Fetches the metadata of the authorization server ``issuer``, or of the server's own origin if it is None.

    Raises SignInNeeded if an issuer has no metadata or the metadata is for another issuer, and ServerError if it cannot
    be fetched.
    """
    base = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    expected = issuer or base
    for metadata_url in build_oauth_authorization_server_metadata_discovery_urls(issuer, url):
        response = await http.get(metadata_url, _VERSION_HEADERS)
        if response.status >= 500 or response.status == 429:
            raise ServerError(
                f"{urlsplit(metadata_url).hostname} answered HTTP {response.status} when asked how to sign in"
            )
        if response.status != 200:
            continue
        _refuse_odd_urls(response.body, metadata_url)
        try:
            metadata = OAuthMetadata.model_validate(response.body)
        except ValidationError:
            continue
        if not issuers_match(str(metadata.issuer), expected):
            raise SignInNeeded(
                f"{metadata_url} is for another issuer, {metadata.issuer}: mcpchat does not sign in there"
            )
        return await _build_auth_server(metadata, http)
    if issuer is not None:
        raise SignInNeeded(f"{issuer} has no valid sign-in metadata")
    return AuthServer(  # the defaults of 2025-03-26
        issuer=base,
        authorization_url=f"{base}/authorize",
        token_url=f"{base}/token",
        registration_url=f"{base}/register",
        has_metadata=False,
    )


def _refuse_odd_urls(metadata: Mapping[str, object], metadata_url: str) -> None:
    """Raises SignInNeeded for a URL with blanks, control or invisible characters, which parsing would remove."""
    for name, value in metadata.items():
        for url in value if isinstance(value, list) else [value]:
            if _URL_FIELD.search(name) and isinstance(url, str) and not (url.isprintable() and " " not in url):
                host = urlsplit(metadata_url).hostname
                raise SignInNeeded(f"{host} has control characters in its {one_line(name, 60)}: it is not used")


async def _build_auth_server(metadata: OAuthMetadata, http: GuardedHttpClient) -> AuthServer:
    server = AuthServer(
        issuer=str(metadata.issuer),
        authorization_url=str(metadata.authorization_endpoint),
        token_url=str(metadata.token_endpoint),
        registration_url=str(metadata.registration_endpoint or ""),
        revocation_url=str(metadata.revocation_endpoint or ""),
        scopes=tuple(metadata.scopes_supported) if metadata.scopes_supported is not None else None,
        auth_methods=tuple(metadata.token_endpoint_auth_methods_supported or ()) or None,
        supports_pkce=None
        if metadata.code_challenge_methods_supported is None
        else "S256" in metadata.code_challenge_methods_supported,
        sends_issuer=bool(metadata.authorization_response_iss_parameter_supported),
        supports_metadata_urls=bool(metadata.client_id_metadata_document_supported),
    )
    for url in filter(None, (server.token_url, server.registration_url, server.revocation_url)):
        await http.check_url(url)
    return server


def token_auth_methods(server: AuthServer) -> Sequence[str]:
    """The client authentication methods of the token endpoint. Without metadata, RFC 8414 defaults to "basic"."""
    return server.auth_methods or ("client_secret_basic",)
