"""Logins at remote MCP servers: the client made known, a code or a key turned into tokens, and their renewal."""

import base64
import hashlib
import secrets as random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import msgspec
from mcp.client.auth.utils import is_valid_client_metadata_url
from msgspec import Struct

from mcpchat.auth.account_store import LoginEnded
from mcpchat.auth.consent import Consent, ask, new_state
from mcpchat.auth.loopback import Expected, Listener, PortTaken, listening
from mcpchat.auth.mcp.discovery import AuthServer, Challenge, Place, discover, token_methods
from mcpchat.auth.mcp.guarded_http import Guarded, Page
from mcpchat.auth.secret_stores import Record
from mcpchat.core.accounts import joined, lifetime
from mcpchat.errors import ConfigError, ServerError, SignInNeeded
from mcpchat.util.redaction import Secrets
from mcpchat.util.sanitize import one_line

_LEEWAY = 60.0  # seconds before its end in which a token is renewed
_KEYS = ("RS256", "ES256", "EdDSA")


class Client(Struct, frozen=True, kw_only=True):
    """This client at one authorization server. ``redirect_uri`` is the registered one; ``expires`` the secret's end."""

    client_id: str
    client_secret: str = ""
    method: str = "none"
    kind: str = "given"
    redirect_uri: str = ""
    expires: float = 0.0


class Wanted(Struct, frozen=True, kw_only=True):
    """What the config says of a server's sign-in. ``private_key`` is PEM text."""

    url: str
    issuer: str | None = None
    client_id: str = ""
    client_secret: str = ""
    private_key: str = ""
    key_algorithm: str = "RS256"
    scopes: tuple[str, ...] = ()


async def sign_in(
    wanted: Wanted, found: Challenge, consent: Consent, secrets: Secrets, *, before: Record | None, name: str
) -> Record:
    """A new record, after the person consented in a browser.

    ``before`` is the login that there was: its client is used again, and its scopes are asked for again where the
    server wants more. Raises SignInNeeded, ServerError.
    """
    http = Guarded(wanted.url)
    place = await discover(wanted.url, found, http, issuer=wanted.issuer, wanted=wanted.scopes)
    before = before if before is not None and before.get("issuer") == place.server.issuer else None
    scopes = place.scopes
    if before is not None and (had := joined(before.get("scopes", ()), before.get("asked", ()))):
        scopes = joined(had, scopes or ())
    # A login that only grows is the same client's. Else a new one is registered: whether a server has forgotten the
    # old one would show on a page of its own, which leads nowhere.
    known = msgspec.convert(before["client"], Client) if found.more and before is not None else None
    path = f"/callback/{hashlib.sha256(place.server.issuer.encode()).hexdigest()[:12]}"
    asking = _Asking(wanted=wanted, place=place, scopes=scopes, path=path, name=name, secrets=secrets, consent=consent)
    try:
        return await _through_browser(asking, known)
    except (PortTaken, _ClientUnknown):
        if known is None or known.kind != "registered":
            raise
        return await _through_browser(asking, None)


@dataclass(frozen=True, kw_only=True)
class _Asking:
    wanted: Wanted
    place: Place
    scopes: Sequence[str] | None
    path: str
    name: str
    secrets: Secrets
    consent: Consent


class _ClientUnknown(SignInNeeded):
    """The authorization server does not know this client, or no longer."""


async def _through_browser(asking: _Asking, known: Client | None) -> Record:
    wanted, place, scopes, secrets = asking.wanted, asking.place, asking.scopes, asking.secrets
    http, server = Guarded(wanted.url), place.server
    async with listening(asking.path, asking.consent.port or _port_of(known)) as listener:
        client = await _client(wanted, server, listener, scopes, known, http)
        verifier, state = random.token_urlsafe(64), new_state()
        secrets.add(client.client_secret, verifier, state)
        asked = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": listener.redirect_uri,
            "state": state,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
            **({"resource": place.resource} if place.resource else {}),
            **({"scope": " ".join(scopes)} if scopes else {}),
            **({"prompt": "consent"} if "offline_access" in (scopes or ()) else {}),
        }
        expected = Expected(
            state=state, issuer=server.issuer if server.described else None, issuer_required=server.names_itself
        )
        join = "&" if "?" in server.authorization_url else "?"
        url = f"{server.authorization_url}{join}{urlencode(asked, quote_via=quote)}"
        reply = await ask(asking.consent, listener, url, expected, whom=asking.name)
    secrets.add(reply.code)
    form = {
        "grant_type": "authorization_code",
        "code": reply.code,
        "redirect_uri": asked["redirect_uri"],
        "code_verifier": verifier,
    }
    return _record(wanted, place, client, await _token(http, server, client, place.resource, form), scopes)


async def _client(
    wanted: Wanted,
    server: AuthServer,
    listener: Listener,
    scopes: Sequence[str] | None,
    known: Client | None,
    http: Guarded,
) -> Client:
    """Who we are there: as the config has it, by our metadata document, as registered before, else registered now."""
    methods = token_methods(server)
    is_document = is_valid_client_metadata_url(wanted.client_id)
    if wanted.client_id and not is_document:
        method = _secret_method(methods) if wanted.client_secret else "none"
        return Client(client_id=wanted.client_id, client_secret=wanted.client_secret, method=method)
    if is_document and server.takes_metadata_urls:
        return Client(client_id=wanted.client_id, kind="document")
    usable = known is not None and known.kind == "registered" and known.redirect_uri == listener.redirect_uri
    if known is not None and usable and not (known.expires and known.expires < time.time()):
        return known
    if not server.registration_url:
        raise SignInNeeded(
            f"{server.issuer} registers no clients by itself",
            hint='register mcpchat there by hand, and put client_id = "..." into the server\'s table',
        )
    # Scopes beyond the first ones may be asked for later: what the client is registered with must not bar them.
    everything = joined(scopes or (), server.scopes or ())
    body = {
        "client_name": "mcpchat",
        "redirect_uris": [listener.redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "native",
        "token_endpoint_auth_method": "none"
        if server.methods is None or "none" in methods
        else _secret_method(methods),
        **({"scope": " ".join(everything)} if everything else {}),
    }
    page = await http.post_json(server.registration_url, body)
    if 400 <= page.status < 500 and "scope" in body:  # it may know the scopes of its resources only when they are asked
        page = await http.post_json(server.registration_url, {k: v for k, v in body.items() if k != "scope"})
    return _registered(page, server, listener, methods)


def _registered(page: Page, server: AuthServer, listener: Listener, methods: Sequence[str]) -> Client:
    said = page.said
    client_id = said.get("client_id")
    if page.status not in {200, 201} or not isinstance(client_id, str) or not client_id:
        why = one_line(str(said.get("error_description") or said.get("error") or f"HTTP {page.status}"), 200)
        raise SignInNeeded(
            f"{server.issuer} did not register mcpchat: {why}",
            hint='register it there by hand, and put client_id = "..." into the server\'s table',
        )
    secret = said.get("client_secret")
    secret = secret if isinstance(secret, str) else ""
    method = _text(said.get("token_endpoint_auth_method")) or (_secret_method(methods) if secret else "none")
    if method not in {"none", "client_secret_basic", "client_secret_post"} or (method != "none" and not secret):
        raise SignInNeeded(f"{server.issuer} registered mcpchat for {method!r}, which it cannot do")
    expires = said.get("client_secret_expires_at")  # 0 is never
    return Client(
        client_id=client_id,
        client_secret=secret,
        method=method,
        kind="registered",
        redirect_uri=listener.redirect_uri,
        expires=float(expires) if isinstance(expires, int | float) and 0 < expires < 1e12 else 0.0,
    )


def _secret_method(methods: Sequence[str]) -> str:
    return "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"


def _port_of(known: Client | None) -> int:
    """The port that the client is registered with."""
    if known is None or known.kind != "registered":
        return 0
    try:
        return int(known.redirect_uri.rpartition(":")[2].partition("/")[0])
    except ValueError:
        return 0


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


async def machine_token(wanted: Wanted, found: Challenge) -> Record:
    """A record by the client's own credentials, no person asked. Raises SignInNeeded, ServerError."""
    http = Guarded(wanted.url)
    place = await discover(wanted.url, found, http, issuer=wanted.issuer, wanted=wanted.scopes, browser=False)
    scopes = place.scopes or ()
    form = {"grant_type": "client_credentials", **({"scope": " ".join(scopes)} if scopes else {})}
    method = "private_key_jwt" if wanted.private_key else _secret_method(token_methods(place.server))
    client = Client(client_id=wanted.client_id, client_secret=wanted.client_secret, method=method)
    if wanted.private_key:
        form |= {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": _assertion(wanted, place.server.issuer),
        }
    said = await _token(http, place.server, client, place.resource, form)
    return _record(wanted, place, client, {**said, "refresh_token": None}, scopes)


def _assertion(wanted: Wanted, audience: str) -> str:
    """A statement, signed with the client's key, that this is the client (RFC 7523)."""
    at = int(time.time())
    claims = {
        "iss": wanted.client_id,
        "sub": wanted.client_id,
        "aud": audience,
        "iat": at,
        "exp": at + 300,
        "jti": str(uuid.uuid4()),
    }
    try:
        return jwt.encode(claims, wanted.private_key, algorithm=wanted.key_algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"private_key of {wanted.url} is no key for {wanted.key_algorithm}", hint="PEM text; see key_algorithm"
        ) from error


def stale(record: Record) -> bool:
    """Whether the access token has ended, or is about to."""
    expires = record.get("expires_at")
    if not record.get("access_token"):
        return True
    if expires is None or not record.get("refresh_token"):
        return expires is not None and bool(time.time() >= expires)
    life = max(0.0, expires - record.get("renewed", expires - 3600))
    return bool(time.time() > expires - min(_LEEWAY, life / 10))


async def refreshed(record: Record) -> Record:
    """The record with new tokens, from the endpoint that it was made with and from no other.

    Raises LoginEnded where the login is over, ServerError where nobody answers.
    """
    if not record.get("refresh_token"):
        ended = LoginEnded if stale(record) else SignInNeeded  # what is refused once may be taken again
        raise ended("the login is over, and does not renew itself")
    http = Guarded(record["url"])
    client = msgspec.convert(record["client"], Client)
    server = AuthServer(issuer=record["issuer"], token_url=record["token_url"])
    form = {"grant_type": "refresh_token", "refresh_token": record["refresh_token"]}
    said = await _token(http, server, client, record.get("resource"), form)
    return {
        **record,
        **_tokens(said),
        "refresh_token": _text(said.get("refresh_token")) or record["refresh_token"],
        "scopes": said["scope"].split() if isinstance(said.get("scope"), str) else record.get("scopes", []),
    }


async def revoke(record: Record) -> str:
    """Have the authorization server end the login: empty where it did, else why not."""
    token = record.get("refresh_token") or record.get("access_token")
    if not token:
        return "there is no token left to revoke"
    if not record.get("revocation_url"):
        return f"{record['issuer']} has no address for that"
    client = msgspec.convert(record["client"], Client)
    form, headers = _proven(client, {"token": token})
    try:
        page = await Guarded(record["url"]).post(record["revocation_url"], form, headers)
    except (ServerError, SignInNeeded) as error:
        return error.message
    return "" if page.status == 200 else f"{record['issuer']} answered HTTP {page.status}"


async def _token(
    http: Guarded, server: AuthServer, client: Client, resource: str | None, form: Mapping[str, str]
) -> Mapping[str, Any]:
    """What the token endpoint answers. Raises SignInNeeded, ServerError."""
    body, headers = _proven(client, {**form, **({"resource": resource} if resource else {})})
    page = await http.post(server.token_url, body, headers)
    if page.status == 200 and _text(page.said.get("access_token")):
        if str(page.said.get("token_type") or "bearer").lower() != "bearer":
            raise SignInNeeded(f"{server.issuer} gave a token of a kind that mcpchat does not know")
        return page.said
    code = _text(page.said.get("error"))
    told = one_line(str(page.said.get("error_description") or code or f"HTTP {page.status}"), 200)
    if not code or page.status >= 500 or page.status == 429 or code in {"temporarily_unavailable", "server_error"}:
        raise ServerError(
            f"{server.issuer} answered HTTP {page.status}: the login is kept as it is", hint="try again later"
        )
    if code == "invalid_grant" and form["grant_type"] == "refresh_token":
        raise LoginEnded(f"the login has ended: {told}")
    if code in {"invalid_client", "unauthorized_client"}:
        if form["grant_type"] == "refresh_token" and client.kind == "registered":
            raise LoginEnded(f"{server.issuer} no longer knows this client: {told}")
        raise _ClientUnknown(f"{server.issuer} does not know this client: {told}", hint="check client_id in the config")
    raise SignInNeeded(f"{server.issuer} gave no token: {told}")


def _proven(client: Client, form: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The form and headers of a request by this client, proving as it was registered to that it is the one."""
    match client.method:
        case "client_secret_basic":
            pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
            return dict(form), {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        case "client_secret_post":
            return {**form, "client_id": client.client_id, "client_secret": client.client_secret}, {}
        case _:
            return {**form, "client_id": client.client_id}, {}


def _record(
    wanted: Wanted, place: Place, client: Client, said: Mapping[str, Any], scopes: Sequence[str] | None
) -> Record:
    granted = said["scope"].split() if isinstance(said.get("scope"), str) else list(scopes or ())
    refresh = _text(said.get("refresh_token"))
    return {
        "v": 1,
        "url": wanted.url,
        "resource": place.resource,
        "issuer": place.server.issuer,
        "token_url": place.server.token_url,
        "revocation_url": place.server.revocation_url,
        "client": msgspec.to_builtins(client),
        "created": time.time(),
        "scopes": granted,
        "asked": list(scopes or ()),
        **_tokens(said),
        **({"refresh_token": refresh} if refresh else {}),
    }


def _tokens(said: Mapping[str, Any]) -> dict[str, Any]:
    at = time.time()
    life = lifetime(said.get("expires_in"))
    return {
        "access_token": said["access_token"],
        "expires_at": None if life is None else at + life,
        "renewed": at,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
