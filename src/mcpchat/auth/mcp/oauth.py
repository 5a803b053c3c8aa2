"""OAuth requests for remote MCP servers: client registration, token requests, renewal and revocation."""

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

from mcpchat.auth.account_store import LoginRevoked, RenewalRejected
from mcpchat.auth.consent import AuthorizationPrompt, authorize, generate_state, report_exchange
from mcpchat.auth.loopback import CallbackListener, ExpectedCallback, PortInUse, listening
from mcpchat.auth.mcp.discovery import AuthServer, Challenge, SignInTarget, discover, token_auth_methods
from mcpchat.auth.mcp.guarded_http import GuardedHttpClient, JsonResponse
from mcpchat.auth.secret_stores import SecretRecord
from mcpchat.core.accounts import parse_lifetime, union
from mcpchat.errors import ConfigError, ServerError, SignInNeeded
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.sanitize import one_line

_LEEWAY = 60.0  # seconds before its expiry from which a token is renewed


class OAuthClient(Struct, frozen=True, kw_only=True):
    """Our client at one authorization server.

    ``method`` is its authentication at the token endpoint. ``kind`` is "given" (from the config), "document" (its id is
    the URL of its metadata) or "registered". ``redirect_uri`` is the registered one. ``expires`` is when the secret
    expires, in epoch seconds; 0 is never.
    """

    client_id: str
    client_secret: str = ""
    method: str = "none"
    kind: str = "given"
    redirect_uri: str = ""
    expires: float = 0.0


class SignInConfig(Struct, frozen=True, kw_only=True):
    """The sign-in settings of a server in the config. ``private_key`` is PEM text."""

    url: str
    issuer: str | None = None
    client_id: str = ""
    client_secret: str = ""
    private_key: str = ""
    key_algorithm: str = "RS256"
    scopes: tuple[str, ...] = ()
    assume_pkce: bool = False


async def sign_in(
    config: SignInConfig,
    challenge: Challenge,
    prompt: AuthorizationPrompt,
    secrets: SecretRegistry,
    *,
    existing: SecretRecord | None,
    name: str,
) -> SecretRecord:
    """Returns a new record after the user consented in a browser.

    ``existing`` is the record of the previous login, if any. Its scopes are requested again. Its client is used again
    if the server requires more scopes. Raises SignInNeeded if the sign-in is refused, not trusted or not finished in
    time, ServerError if a server does not answer, and UsageError if the port is in use.
    """
    http = GuardedHttpClient(config.url)
    target = await discover(
        config.url,
        challenge,
        http,
        issuer=config.issuer,
        requested=config.scopes,
        assume_pkce=config.assume_pkce,
    )
    existing = existing if existing is not None and existing.get("issuer") == target.server.issuer else None
    scopes = target.scopes
    if existing is not None and (previous_scopes := union(existing.get("scopes", ()), existing.get("asked", ()))):
        scopes = union(previous_scopes, scopes or ())
    # A login that only gets more scopes keeps its client. Otherwise a new client is registered: if the server no longer
    # knows the old one, it shows an error page in the browser and sends no callback.
    previous_client = (
        msgspec.convert(existing["client"], OAuthClient)
        if challenge.insufficient_scope and existing is not None
        else None
    )
    path = f"/callback/{hashlib.sha256(target.server.issuer.encode()).hexdigest()[:12]}"
    flow = _SignInFlow(
        config=config, target=target, scopes=scopes, path=path, name=name, secrets=secrets, prompt=prompt
    )
    try:
        return await _authorize_in_browser(flow, previous_client)
    except (PortInUse, _UnknownClient):
        if previous_client is None or previous_client.kind != "registered":
            raise
        return await _authorize_in_browser(flow, None)


@dataclass(frozen=True, kw_only=True)
class _SignInFlow:
    config: SignInConfig
    target: SignInTarget
    scopes: Sequence[str] | None
    path: str
    name: str
    secrets: SecretRegistry
    prompt: AuthorizationPrompt


class _UnknownClient(SignInNeeded):
    """The authorization server does not know this client, or no longer knows it."""


async def _authorize_in_browser(flow: _SignInFlow, previous_client: OAuthClient | None) -> SecretRecord:
    config, target, scopes, secrets = flow.config, flow.target, flow.scopes, flow.secrets
    http, server = GuardedHttpClient(config.url), target.server
    async with listening(flow.path, flow.prompt.port or _registered_port(previous_client)) as listener:
        client = await _resolve_client(config, server, listener, scopes, previous_client, http)
        verifier, state = random.token_urlsafe(64), generate_state()
        secrets.add(client.client_secret, verifier, state)
        parameters = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": listener.redirect_uri,
            "state": state,
            "code_challenge": _pkce_challenge(verifier),
            "code_challenge_method": "S256",
            **({"resource": target.resource} if target.resource else {}),
            **({"scope": " ".join(scopes)} if scopes else {}),
            **({"prompt": "consent"} if "offline_access" in (scopes or ()) else {}),
        }
        expected = ExpectedCallback(
            state=state, issuer=server.issuer if server.has_metadata else None, issuer_required=server.sends_issuer
        )
        separator = "&" if "?" in server.authorization_url else "?"
        url = f"{server.authorization_url}{separator}{urlencode(parameters, quote_via=quote)}"
        result = await authorize(flow.prompt, listener, url, expected, provider_name=flow.name)
        secrets.add(result.code)
        form = {
            "grant_type": "authorization_code",
            "code": result.code,
            "redirect_uri": parameters["redirect_uri"],
            "code_verifier": verifier,
        }
        with report_exchange(listener, flow.name) as report:
            response = await _request_token(http, server, client, target.resource, form)
            record = _build_record(config, target, client, response, scopes)
            report("", record["scopes"])
    return record


async def _resolve_client(
    config: SignInConfig,
    server: AuthServer,
    listener: CallbackListener,
    scopes: Sequence[str] | None,
    previous: OAuthClient | None,
    http: GuardedHttpClient,
) -> OAuthClient:
    """Returns our client: from the config, by its metadata document, as registered before, or newly registered.

    Raises SignInNeeded if the server does not register clients, and ServerError if it does not answer.
    """
    methods = token_auth_methods(server)
    is_metadata_url = is_valid_client_metadata_url(config.client_id)
    if config.client_id and not is_metadata_url:
        method = _choose_secret_method(methods) if config.client_secret else "none"
        return OAuthClient(client_id=config.client_id, client_secret=config.client_secret, method=method)
    if is_metadata_url and server.supports_metadata_urls:
        return OAuthClient(client_id=config.client_id, kind="document")
    is_reusable = (
        previous is not None and previous.kind == "registered" and previous.redirect_uri == listener.redirect_uri
    )
    if previous is not None and is_reusable and not (previous.expires and previous.expires < time.time()):
        return previous
    if not server.registration_url:
        raise SignInNeeded(
            f"{server.issuer} does not support client registration",
            hint='register mcpchat there by hand and set client_id = "..." in the server\'s table',
        )
    # More scopes may be requested later, so the client is registered with all of them.
    all_scopes = union(scopes or (), server.scopes or ())
    body = {
        "client_name": "mcpchat",
        "redirect_uris": [listener.redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "native",
        "token_endpoint_auth_method": "none"
        if server.auth_methods is None or "none" in methods
        else _choose_secret_method(methods),
        **({"scope": " ".join(all_scopes)} if all_scopes else {}),
    }
    response = await http.post_json(server.registration_url, body)
    # The server may not know the scopes of its resources yet. Then it rejects them here: register without scopes.
    if 400 <= response.status < 500 and "scope" in body:
        response = await http.post_json(server.registration_url, {k: v for k, v in body.items() if k != "scope"})
    return _parse_registration(response, server, listener, methods)


def _parse_registration(
    response: JsonResponse, server: AuthServer, listener: CallbackListener, methods: Sequence[str]
) -> OAuthClient:
    body = response.body
    client_id = body.get("client_id")
    if response.status not in {200, 201} or not isinstance(client_id, str) or not client_id:
        reason = one_line(str(body.get("error_description") or body.get("error") or f"HTTP {response.status}"), 200)
        raise SignInNeeded(
            f"{server.issuer} did not register mcpchat: {reason}",
            hint='register it there by hand and set client_id = "..." in the server\'s table',
        )
    secret = body.get("client_secret")
    secret = secret if isinstance(secret, str) else ""
    method = _as_text(body.get("token_endpoint_auth_method")) or (_choose_secret_method(methods) if secret else "none")
    if method not in {"none", "client_secret_basic", "client_secret_post"} or (method != "none" and not secret):
        raise SignInNeeded(f"{server.issuer} registered mcpchat for {method!r}, which mcpchat does not support")
    expires = body.get("client_secret_expires_at")  # 0 is never
    return OAuthClient(
        client_id=client_id,
        client_secret=secret,
        method=method,
        kind="registered",
        redirect_uri=listener.redirect_uri,
        expires=float(expires) if isinstance(expires, int | float) and 0 < expires < 1e12 else 0.0,
    )


def _choose_secret_method(methods: Sequence[str]) -> str:
    return "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"


def _registered_port(client: OAuthClient | None) -> int:
    """The port in the redirect URI of a registered client, else 0."""
    if client is None or client.kind != "registered":
        return 0
    try:
        return int(client.redirect_uri.rpartition(":")[2].partition("/")[0])
    except ValueError:
        return 0


def _pkce_challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


async def client_credentials_token(config: SignInConfig, challenge: Challenge) -> SecretRecord:
    """Requests a token with the client's own credentials, without the user. Returns its record.

    Raises SignInNeeded if the server gives no token or cannot be trusted, ServerError if it does not answer, and
    ConfigError if ``private_key`` is not valid.
    """
    http = GuardedHttpClient(config.url)
    target = await discover(config.url, challenge, http, issuer=config.issuer, requested=config.scopes, browser=False)
    scopes = target.scopes or ()
    form = {"grant_type": "client_credentials", **({"scope": " ".join(scopes)} if scopes else {})}
    method = "private_key_jwt" if config.private_key else _choose_secret_method(token_auth_methods(target.server))
    client = OAuthClient(client_id=config.client_id, client_secret=config.client_secret, method=method)
    if config.private_key:
        form |= {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": _sign_client_assertion(config, target.server.issuer),
        }
    response = await _request_token(http, target.server, client, target.resource, form)
    return _build_record(config, target, client, {**response, "refresh_token": None}, scopes)


def _sign_client_assertion(config: SignInConfig, audience: str) -> str:
    """Builds a JWT that authenticates the client (RFC 7523). Raises ConfigError if the key is not valid."""
    now = int(time.time())
    claims = {
        "iss": config.client_id,
        "sub": config.client_id,
        "aud": audience,
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
    }
    try:
        return jwt.encode(claims, config.private_key, algorithm=config.key_algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"private_key of {config.url} is not a key for {config.key_algorithm}",
            hint="use PEM text; check key_algorithm",
        ) from error


def is_stale(record: SecretRecord) -> bool:
    """Whether the access token has expired or expires soon."""
    expires = record.get("expires_at")
    if not record.get("access_token"):
        return True
    if expires is None or not record.get("refresh_token"):
        return expires is not None and bool(time.time() >= expires)
    token_lifetime = max(0.0, expires - record.get("renewed", expires - 3600))
    return bool(time.time() > expires - min(_LEEWAY, token_lifetime / 10))


class InvalidScope(SignInNeeded):
    """The server does not accept the scopes that a renewal names."""


async def refresh(record: SecretRecord) -> SecretRecord:
    """Returns the record with new tokens. They come only from the token endpoint in the record.

    Raises LoginRevoked if the login has ended, RenewalRejected if the server gives no token and no reason, SignInNeeded
    if it gives no token for another reason, and ServerError if it does not answer.
    """
    if not record.get("refresh_token"):
        # A token that was rejected before it expired may be accepted later.
        error_type = LoginRevoked if is_stale(record) else SignInNeeded
        raise error_type("the login has ended and cannot be renewed")
    http = GuardedHttpClient(record["url"])
    client = msgspec.convert(record["client"], OAuthClient)
    server = AuthServer(issuer=record["issuer"], token_url=record["token_url"])
    form = {"grant_type": "refresh_token", "refresh_token": record["refresh_token"]}
    if scopes := record.get("scopes"):  # some servers, such as Entra ID, require it
        form["scope"] = " ".join(scopes)
    try:
        response = await _request_token(http, server, client, record.get("resource"), form)
    except InvalidScope:
        form.pop("scope")  # the server wrote the granted scopes in a way that it does not read
        response = await _request_token(http, server, client, record.get("resource"), form)
    return {
        **record,
        **_token_fields(response),
        "refresh_token": _as_text(response.get("refresh_token")) or record["refresh_token"],
        "scopes": response["scope"].split() if isinstance(response.get("scope"), str) else record.get("scopes", []),
    }


async def revoke(record: SecretRecord) -> str:
    """Asks the authorization server to revoke the login. Returns why it did not, or ""."""
    token = record.get("refresh_token") or record.get("access_token")
    if not token:
        return "there is no token left to revoke"
    if not record.get("revocation_url"):
        return f"{record['issuer']} has no revocation endpoint"
    client = msgspec.convert(record["client"], OAuthClient)
    form, headers = _add_client_authentication(client, {"token": token})
    try:
        response = await GuardedHttpClient(record["url"]).post(record["revocation_url"], form, headers)
    except (ServerError, SignInNeeded) as error:
        return error.message
    return "" if response.status == 200 else f"{record['issuer']} answered HTTP {response.status}"


async def _request_token(
    http: GuardedHttpClient, server: AuthServer, client: OAuthClient, resource: str | None, form: Mapping[str, str]
) -> Mapping[str, Any]:
    """Sends a request to the token endpoint. Returns its JSON object, which has an access token.

    Raises LoginRevoked if a login has ended, _UnknownClient if the server does not know the client, SignInNeeded if it
    gives no usable token for another reason, and ServerError if it does not answer or fails.
    """
    body, headers = _add_client_authentication(client, {**form, **({"resource": resource} if resource else {})})
    response = await http.post(server.token_url, body, headers)
    if response.status == 200 and _as_text(response.body.get("access_token")):
        if str(response.body.get("token_type") or "bearer").lower() != "bearer":
            raise SignInNeeded(f"{server.issuer} returned a token of a type that mcpchat does not support")
        return response.body
    code = _as_text(response.body.get("error"))
    message = one_line(str(response.body.get("error_description") or code or f"HTTP {response.status}"), 200)
    if not code and response.status in {400, 401, 403} and form["grant_type"] == "refresh_token":
        raise RenewalRejected(
            f"{server.issuer} did not renew the login (HTTP {response.status}, without a reason): "
            "the saved login is unchanged"
        )
    if (
        not code
        or response.status >= 500
        or response.status == 429
        or code in {"temporarily_unavailable", "server_error"}
    ):
        raise ServerError(
            f"{server.issuer} answered HTTP {response.status}: the saved login is unchanged", hint="try again later"
        )
    if code == "invalid_grant" and form["grant_type"] == "refresh_token":
        raise LoginRevoked(f"the login has ended: {message}")
    if code in {"invalid_client", "unauthorized_client"}:
        if form["grant_type"] == "refresh_token" and client.kind == "registered":
            raise LoginRevoked(f"{server.issuer} no longer knows this client: {message}")
        raise _UnknownClient(
            f"{server.issuer} does not know this client: {message}", hint="check client_id in the config"
        )
    if code == "invalid_scope" and "scope" in form and form["grant_type"] == "refresh_token":
        raise InvalidScope(f"{server.issuer} does not accept the scopes: {message}")
    raise SignInNeeded(f"{server.issuer} returned no token: {message}")


def _add_client_authentication(client: OAuthClient, form: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the form and the headers of a request with the authentication method of the client."""
    match client.method:
        case "client_secret_basic":
            credentials = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
            return dict(form), {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
        case "client_secret_post":
            return {**form, "client_id": client.client_id, "client_secret": client.client_secret}, {}
        case _:
            return {**form, "client_id": client.client_id}, {}


def _build_record(
    config: SignInConfig,
    target: SignInTarget,
    client: OAuthClient,
    response: Mapping[str, Any],
    scopes: Sequence[str] | None,
) -> SecretRecord:
    granted = response["scope"].split() if isinstance(response.get("scope"), str) else list(scopes or ())
    refresh_token = _as_text(response.get("refresh_token"))
    return {
        "v": 1,
        "url": config.url,
        "resource": target.resource,
        "issuer": target.server.issuer,
        "token_url": target.server.token_url,
        "revocation_url": target.server.revocation_url,
        "client": msgspec.to_builtins(client),
        "created": time.time(),
        "scopes": granted,
        "asked": list(scopes or ()),
        **_token_fields(response),
        **({"refresh_token": refresh_token} if refresh_token else {}),
    }


def _token_fields(response: Mapping[str, Any]) -> dict[str, Any]:
    now = time.time()
    seconds = parse_lifetime(response.get("expires_in"))
    return {
        "access_token": response["access_token"],
        "expires_at": None if seconds is None else now + seconds,
        "renewed": now,
    }


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""
