"""Where to sign in for a remote server: from its refusal to its authorization server (RFC 9728, 8414, 9207)."""

import re
from collections.abc import Sequence
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

_VERSION_HEADERS = {"MCP-Protocol-Version": "2026-07-28"}


class Challenge(Struct, frozen=True, kw_only=True):
    """What a server said when it refused. ``scopes`` is None where it named none; ``more``: it wants those too."""

    metadata_url: str | None = None
    scopes: tuple[str, ...] | None = None
    insufficient_scope: bool = False


class AuthServer(Struct, frozen=True, kw_only=True):
    """An authorization server as it describes itself. ``described`` is False where its addresses are only the usual."""

    issuer: str
    authorization_url: str = ""
    token_url: str
    registration_url: str = ""
    revocation_url: str = ""
    scopes: tuple[str, ...] | None = None
    auth_methods: tuple[str, ...] | None = None
    supports_pkce: bool = True
    sends_issuer: bool = False
    supports_metadata_urls: bool = False
    has_metadata: bool = True


class SignInTarget(Struct, frozen=True, kw_only=True):
    """What to sign in for, and where. ``resource`` is None where the server does not describe itself."""

    resource: str | None
    scopes: tuple[str, ...] | None
    server: AuthServer


_CHALLENGE_TOKEN = re.compile(
    r"""[\s,]*(?:(?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))
    |(?P<scheme>[\w!#$%&'*+.^`|~-]+))""",
    re.VERBOSE,
)


def _parse_bearer_challenge(response: httpx2.Response) -> dict[str, str]:
    """The parameters of the Bearer challenge in WWW-Authenticate (RFC 9110, 11.6.1)."""
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
    """What a 401 or 403 asks for."""
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
) -> SignInTarget:
    """Where to sign in. ``issuer`` is the one that is wanted; ``browser``: a person signs in there.

    ``wanted`` are scopes that go before what the server names.

    Raises SignInNeeded for what must not be trusted, and ServerError where nobody answers.
    """
    metadata = await _fetch_resource_metadata(url, challenge, http)
    if metadata is None:
        server = await _fetch_auth_server(None, url, http)
    else:
        issuers = [str(candidate) for candidate in metadata.authorization_servers]
        selected = next((candidate for candidate in issuers if issuer and issuers_match(candidate, issuer)), issuers[0])
        server = await _fetch_auth_server(selected, url, http)
    if issuer is not None and not issuers_match(server.issuer, issuer):
        raise SignInNeeded(f"{url} is signed in to at {server.issuer}, not at {issuer}, as the config has it")
    if browser:
        if not server.supports_pkce:
            raise SignInNeeded(
                f"{server.issuer} does not say that it protects sign-ins by PKCE (S256): none is begun there",
                hint="its operator must add code_challenge_methods_supported",
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
    """What the server says of itself; None where it says nothing, as servers of 2025-03-26 do."""
    failed_status = 0
    for metadata_url in build_protected_resource_metadata_discovery_urls(challenge.metadata_url, url):
        if origin(metadata_url) != origin(url):
            raise SignInNeeded(f"{url} keeps its description at another place, {metadata_url[:200]}: that is not asked")
        response = await http.get(metadata_url, _VERSION_HEADERS)
        if response.status >= 500 or response.status == 429:
            failed_status = response.status
        if response.status != 200:
            continue
        try:
            metadata = ProtectedResourceMetadata.model_validate(response.body)
        except ValidationError:
            continue
        if not check_resource_allowed(resource_url_from_server_url(url), str(metadata.resource)):
            raise SignInNeeded(f"{url} describes another server, {metadata.resource}: its sign-in is not used")
        return metadata
    if failed_status:
        raise ServerError(f"{urlsplit(url).hostname} answered HTTP {failed_status} when asked how to sign in")
    return None


async def _fetch_auth_server(issuer: str | None, url: str, http: GuardedHttpClient) -> AuthServer:
    """The authorization server that has this issuer, as it describes itself; without one, the server's own origin."""
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
        try:
            metadata = OAuthMetadata.model_validate(response.body)
        except ValidationError:
            continue
        if str(metadata.issuer) != expected and not (issuer is None and issuers_match(str(metadata.issuer), expected)):
            raise SignInNeeded(f"{metadata_url} speaks for another, {metadata.issuer}: its sign-in is not used")
        return await _build_auth_server(metadata, http)
    if issuer is not None:
        raise SignInNeeded(f"{issuer} does not say how to sign in there")
    return AuthServer(  # what servers of 2025-03-26 had without a word
        issuer=base,
        authorization_url=f"{base}/authorize",
        token_url=f"{base}/token",
        registration_url=f"{base}/register",
        has_metadata=False,
    )


async def _build_auth_server(metadata: OAuthMetadata, http: GuardedHttpClient) -> AuthServer:
    server = AuthServer(
        issuer=str(metadata.issuer),
        authorization_url=str(metadata.authorization_endpoint),
        token_url=str(metadata.token_endpoint),
        registration_url=str(metadata.registration_endpoint or ""),
        revocation_url=str(metadata.revocation_endpoint or ""),
        scopes=tuple(metadata.scopes_supported) if metadata.scopes_supported is not None else None,
        auth_methods=tuple(metadata.token_endpoint_auth_methods_supported or ()) or None,
        supports_pkce="S256" in (metadata.code_challenge_methods_supported or ()),
        sends_issuer=bool(metadata.authorization_response_iss_parameter_supported),
        supports_metadata_urls=bool(metadata.client_id_metadata_document_supported),
    )
    for url in filter(None, (server.token_url, server.registration_url, server.revocation_url)):
        await http.check_url(url)
    return server


def token_auth_methods(server: AuthServer) -> Sequence[str]:
    """How a client may prove itself at the token endpoint; by RFC 8414, "basic" where nothing is said."""
    return server.auth_methods or ("client_secret_basic",)
