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

from mcpchat.auth.mcp.guarded_http import Guarded, origin
from mcpchat.core.accounts import joined
from mcpchat.errors import ServerError, SignInNeeded

_VERSION = {"MCP-Protocol-Version": "2026-07-28"}


class Challenge(Struct, frozen=True, kw_only=True):
    """What a server said when it refused. ``scopes`` is None where it named none; ``more``: it wants those too."""

    metadata_url: str | None = None
    scopes: tuple[str, ...] | None = None
    more: bool = False


class AuthServer(Struct, frozen=True, kw_only=True):
    """An authorization server as it describes itself. ``described`` is False where its addresses are only the usual."""

    issuer: str
    authorization_url: str = ""
    token_url: str
    registration_url: str = ""
    revocation_url: str = ""
    scopes: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    protects_codes: bool = True
    names_itself: bool = False
    takes_metadata_urls: bool = False
    described: bool = True


class Place(Struct, frozen=True, kw_only=True):
    """What to sign in for, and where. ``resource`` is None where the server does not describe itself."""

    resource: str | None
    scopes: tuple[str, ...] | None
    server: AuthServer


_PIECE = re.compile(
    r"""[\s,]*(?:(?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))
    |(?P<scheme>[\w!#$%&'*+.^`|~-]+))""",
    re.VERBOSE,
)


def _bearer(response: httpx2.Response) -> dict[str, str]:
    """The parameters of the Bearer challenge in WWW-Authenticate (RFC 9110, 11.6.1)."""
    header, at, scheme = response.headers.get("WWW-Authenticate", ""), 0, ""
    found: dict[str, str] = {}
    while (piece := _PIECE.match(header, at)) and piece.end() > at:
        at = piece.end()
        if piece["scheme"]:
            scheme = piece["scheme"].lower()
        elif scheme == "bearer":
            quoted = piece["quoted"]
            value = piece["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found.setdefault(piece["name"].lower(), value)
    return found


def challenge(response: httpx2.Response) -> Challenge:
    """What a 401 or 403 asks for."""
    said = _bearer(response)
    return Challenge(
        metadata_url=said.get("resource_metadata"),
        scopes=tuple(said["scope"].split()) if "scope" in said else None,
        more=response.status_code == 403,
    )


def wants_more(response: httpx2.Response) -> bool:
    return response.status_code == 403 and _bearer(response).get("error") == "insufficient_scope"


async def discover(
    url: str,
    found: Challenge,
    http: Guarded,
    *,
    issuer: str | None,
    wanted: Sequence[str] = (),
    browser: bool = True,
) -> Place:
    """Where to sign in. ``issuer`` is the one that is wanted; ``browser``: a person signs in there.

    ``wanted`` are scopes that go before what the server names.

    Raises SignInNeeded for what must not be trusted, and ServerError where nobody answers.
    """
    described = await _resource(url, found, http)
    if described is None:
        server = await _auth_server(None, url, http)
    else:
        offered = [str(one) for one in described.authorization_servers]
        chosen = next((one for one in offered if issuer and issuers_match(one, issuer)), offered[0])
        server = await _auth_server(chosen, url, http)
    if issuer is not None and not issuers_match(server.issuer, issuer):
        raise SignInNeeded(f"{url} is signed in to at {server.issuer}, not at {issuer}, as the config has it")
    if browser:
        if not server.protects_codes:
            raise SignInNeeded(
                f"{server.issuer} does not say that it protects sign-ins by PKCE (S256): none is begun there",
                hint="its operator must add code_challenge_methods_supported",
            )
        await http.check(server.authorization_url)
    scopes = found.scopes
    if scopes is None and described is not None and described.scopes_supported is not None:
        scopes = tuple(described.scopes_supported)
    if wanted:
        scopes = joined(wanted, (scopes or ()) if found.more else ())
    if scopes is not None and "offline_access" in (server.scopes or ()) and browser:
        scopes = (*(scope for scope in scopes if scope != "offline_access"), "offline_access")
    return Place(resource=str(described.resource) if described is not None else None, scopes=scopes, server=server)


async def _resource(url: str, found: Challenge, http: Guarded) -> ProtectedResourceMetadata | None:
    """What the server says of itself; None where it says nothing, as servers of 2025-03-26 do."""
    failure = 0
    for place in build_protected_resource_metadata_discovery_urls(found.metadata_url, url):
        if origin(place) != origin(url):
            raise SignInNeeded(f"{url} keeps its description at another place, {place[:200]}: that is not asked")
        page = await http.get(place, _VERSION)
        if page.status >= 500 or page.status == 429:
            failure = page.status
        if page.status != 200:
            continue
        try:
            said = ProtectedResourceMetadata.model_validate(page.said)
        except ValidationError:
            continue
        if not check_resource_allowed(resource_url_from_server_url(url), str(said.resource)):
            raise SignInNeeded(f"{url} describes another server, {said.resource}: its sign-in is not used")
        return said
    if failure:
        raise ServerError(f"{urlsplit(url).hostname} answered HTTP {failure} when asked how to sign in")
    return None


async def _auth_server(issuer: str | None, url: str, http: Guarded) -> AuthServer:
    """The authorization server that has this issuer, as it describes itself; without one, the server's own origin."""
    base = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    expected = issuer or base
    for place in build_oauth_authorization_server_metadata_discovery_urls(issuer, url):
        page = await http.get(place, _VERSION)
        if page.status >= 500 or page.status == 429:
            raise ServerError(f"{urlsplit(place).hostname} answered HTTP {page.status} when asked how to sign in")
        if page.status != 200:
            continue
        try:
            said = OAuthMetadata.model_validate(page.said)
        except ValidationError:
            continue
        if str(said.issuer) != expected and not (issuer is None and issuers_match(str(said.issuer), expected)):
            raise SignInNeeded(f"{place} speaks for another, {said.issuer}: its sign-in is not used")
        return await _checked(said, http)
    if issuer is not None:
        raise SignInNeeded(f"{issuer} does not say how to sign in there")
    return AuthServer(  # what servers of 2025-03-26 had without a word
        issuer=base,
        authorization_url=f"{base}/authorize",
        token_url=f"{base}/token",
        registration_url=f"{base}/register",
        described=False,
    )


async def _checked(said: OAuthMetadata, http: Guarded) -> AuthServer:
    server = AuthServer(
        issuer=str(said.issuer),
        authorization_url=str(said.authorization_endpoint),
        token_url=str(said.token_endpoint),
        registration_url=str(said.registration_endpoint or ""),
        revocation_url=str(said.revocation_endpoint or ""),
        scopes=tuple(said.scopes_supported) if said.scopes_supported is not None else None,
        methods=tuple(said.token_endpoint_auth_methods_supported or ()) or None,
        protects_codes="S256" in (said.code_challenge_methods_supported or ()),
        names_itself=bool(said.authorization_response_iss_parameter_supported),
        takes_metadata_urls=bool(said.client_id_metadata_document_supported),
    )
    for url in filter(None, (server.token_url, server.registration_url, server.revocation_url)):
        await http.check(url)
    return server


def token_methods(server: AuthServer) -> Sequence[str]:
    """How a client may prove itself at the token endpoint; by RFC 8414, "basic" where nothing is said."""
    return server.methods or ("client_secret_basic",)
