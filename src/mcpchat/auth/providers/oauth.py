"""OAuth requests to the providers whose access tokens servers get: Google, and those that the config describes.

For all of them, google-auth-oauthlib builds the URL and exchanges the code, and google-auth refreshes tokens. Their
imports take a third of a second, so they happen at first use.
"""

import base64
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct, field

from mcpchat.auth.account_store import LoginRevoked
from mcpchat.auth.consent import AuthorizationPrompt, authorize, generate_state, report_exchange
from mcpchat.auth.loopback import ExpectedCallback, listening
from mcpchat.auth.secret_stores import SecretRecord
from mcpchat.core.accounts import canonical_scopes, parse_lifetime, union
from mcpchat.errors import ConfigError, McpChatError, ServerError, SignInNeeded
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.sanitize import one_line

_EXCHANGE_TIMEOUT, _REFRESH_TIMEOUT, _REVOKE_TIMEOUT = 30.0, 60.0, 10.0  # seconds
_REQUEST_TIMEOUT = 15.0  # seconds for one HTTP request
_MAX_RESPONSE_SIZE = 262_144  # bytes
IDENTITY_SCOPES = ("openid", "email")


class Provider(Struct, frozen=True, kw_only=True):
    """A provider and our client there. ``client_secret`` is empty for a public client."""

    name: str
    title: str
    authorization_url: str
    token_url: str
    revocation_url: str = ""
    userinfo_url: str = ""
    issuer: str | None = None
    client_id: str
    client_secret: str = ""
    is_google: bool = False
    parameters: dict[str, str] = field(default_factory=dict)


class Token(Struct, frozen=True, kw_only=True):
    """An access token. ``expires`` and ``issued_at`` are in epoch seconds.

    ``expires`` is None if the provider does not report it. ``renewable`` is whether a refresh token can replace it.
    """

    value: str
    expires: float | None = None
    issued_at: float = 0.0
    renewable: bool = True

    @property
    def expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires

    @property
    def expires_soon(self) -> bool:
        """Whether the token expires within five minutes, or within a tenth of its lifetime if that is shorter.

        If the token is not renewable: whether it has expired.
        """
        if self.expires is None or not self.renewable:
            return self.expired
        return time.time() > self.expires - min(300.0, (self.expires - self.issued_at) / 10)


async def sign_in(
    provider: Provider,
    scopes: Sequence[str],
    prompt: AuthorizationPrompt,
    secrets: SecretRegistry,
    *,
    login_hint: str = "",
    choose_account: bool = False,
) -> SecretRecord:
    """Returns a new record after the user consented in a browser.

    ``login_hint`` is the e-mail address of the user; ``choose_account`` makes Google show the account selection. Raises
    SignInNeeded if the user or the provider refuses or the time is over, ServerError if the provider does not answer,
    ConfigError if ``authorization_url`` is not valid, and UsageError if the port is in use.
    """
    requested = union(IDENTITY_SCOPES if provider.is_google or "openid" in scopes else (), scopes)
    async with listening("/callback", prompt.port) as listener:
        from google_auth_oauthlib.flow import InstalledAppFlow

        flow = InstalledAppFlow.from_client_config(
            _client_config(provider), list(requested), redirect_uri=listener.redirect_uri
        )
        state = generate_state()
        parameters = dict(provider.parameters)
        if provider.is_google:
            parameters |= {
                "include_granted_scopes": "true",
                # Without "consent", Google sends no refresh token.
                "prompt": "select_account consent" if choose_account else "consent",
            }
        if login_hint:
            parameters["login_hint"] = login_hint
        try:
            url, _ = flow.authorization_url(state=state, **parameters)
        except Exception as error:
            raise ConfigError(
                f"auth.{provider.name}: {error}", hint="authorization_url must begin with https://"
            ) from error
        secrets.add(state, flow.code_verifier)
        result = await authorize(
            prompt, listener, url, ExpectedCallback(state=state, issuer=provider.issuer), provider_name=provider.title
        )
        secrets.add(result.code)
        with report_exchange(listener, provider.title) as report:
            response = await _exchange(provider, flow, result.code)
            secrets.add(*(str(response.get(name, "")) for name in ("access_token", "refresh_token", "id_token")))
            record = await _build_record(provider, response, requested)
            report(str(record["account"]), record["granted"])
    return record


def _client_config(provider: Provider) -> dict[str, Any]:
    installed = {
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "auth_uri": provider.authorization_url,
        "token_uri": provider.token_url,
    }
    return {"installed": installed}


async def _exchange(provider: Provider, flow: Any, code: str) -> Mapping[str, Any]:
    # The granted scopes may have other names or be fewer. mcpchat checks them itself; the library must not raise.
    flow.oauth2session.scope = None
    flow.oauth2session.max_redirects = 0  # the code must not be sent to another URL
    flow.oauth2session.register_compliance_hook("access_token_response", functools.partial(_parse_response, provider))
    client_arguments = {} if provider.client_secret else {"include_client_id": True, "client_secret": None}

    def exchange() -> Mapping[str, Any]:
        with _translate_errors(provider, "complete the sign-in"):
            response: Mapping[str, Any] = flow.fetch_token(code=code, timeout=_REQUEST_TIMEOUT, **client_arguments)
            return response

    try:
        return await run_in_daemon_thread(exchange, timeout=_EXCHANGE_TIMEOUT)
    except TimeoutError as error:
        raise ServerError(f"{provider.title} did not answer within {_EXCHANGE_TIMEOUT:.0f} s") from error


def _parse_response(provider: Provider, response: Any) -> Any:
    """Returns the token endpoint's response if it is a JSON object with a token or an error.

    Raises ServerError if it is not a JSON object or the status is 5xx, and SignInNeeded if it has neither.
    """
    try:
        body = msgspec.json.decode(response.content[:_MAX_RESPONSE_SIZE])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = None
    if not isinstance(body, dict) or response.status_code >= 500:
        raise _unreachable(provider, f"answered HTTP {response.status_code}")
    if "error" not in body and not _as_text(body.get("access_token")):
        raise SignInNeeded(f"{provider.title} returned no token")
    return response


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _filter_texts(values: Sequence[object]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


async def _build_record(provider: Provider, response: Mapping[str, Any], requested: Sequence[str]) -> SecretRecord:
    scope = response.get("scope")
    granted = canonical_scopes(
        scope
        if isinstance(scope, str)
        else " ".join(_filter_texts(scope))
        if isinstance(scope, list | tuple)
        else requested
    )
    claims = _read_claims(response.get("id_token"), provider.client_id) or await _fetch_userinfo(
        provider, str(response.get("access_token"))
    )
    record: SecretRecord = {
        "v": 1,
        "client_id": provider.client_id,
        "token_url": provider.token_url,
        "granted": list(granted),
        "account": str(
            claims.get("email") or claims.get("preferred_username") or claims.get("login") or claims.get("sub") or ""
        ),
        "subject": str(claims.get("sub") or claims.get("id") or ""),
        "created": time.time(),
    }
    if refresh_token := _as_text(response.get("refresh_token")):
        return record | {"refresh_token": refresh_token}
    if provider.is_google:
        raise SignInNeeded(
            "Google returned no refresh token",
            hint="remove mcpchat at https://myaccount.google.com/connections, then sign in again",
        )
    seconds = parse_lifetime(response.get("expires_in"))
    expires = None if seconds is None else time.time() + seconds
    return record | {"access_token": response["access_token"], "expires_at": expires}


def _read_claims(id_token: object, client_id: str) -> dict[str, Any]:
    """Returns the claims of an ID token, or {} if it is not valid or is for another client.

    The signature is not checked, because the token came directly from the token endpoint over TLS.
    """
    try:
        body = str(id_token).split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    audience = claims.get("aud") if isinstance(claims, dict) else None
    return claims if client_id == audience or (isinstance(audience, list) and client_id in audience) else {}


async def _fetch_userinfo(provider: Provider, token: str) -> dict[str, Any]:
    """Returns the provider's user information, or {} if it has no userinfo endpoint or the request fails."""
    if not provider.userinfo_url:
        return {}
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def fetch() -> dict[str, Any]:
        from google.auth.transport.requests import Request

        with _translate_errors(provider, "report who signed in"):
            response = Request()(provider.userinfo_url, method="GET", headers=headers, timeout=_REQUEST_TIMEOUT)
        body = msgspec.json.decode(response.data[:65_536])
        return body if response.status == 200 and isinstance(body, dict) else {}

    try:
        return await run_in_daemon_thread(fetch, timeout=_EXCHANGE_TIMEOUT)
    except (TimeoutError, ServerError, SignInNeeded, msgspec.DecodeError):
        return {}  # the login works without it


def cached_token(record: SecretRecord, scopes: Sequence[str]) -> Token | None:
    """Returns the token for these scopes from the record, if there is one.

    A record holds access tokens if the provider rotates refresh tokens, or if it issued no refresh token.
    """
    cached = record.get("tokens", {}).get(" ".join(scopes))
    if cached is None and "refresh_token" not in record and record.get("access_token"):
        return Token(value=record["access_token"], expires=record.get("expires_at"), renewable=False)
    return (
        Token(value=cached["access_token"], expires=cached["expires_at"], issued_at=cached["made"]) if cached else None
    )


async def refresh(provider: Provider, record: SecretRecord, scopes: Sequence[str]) -> tuple[SecretRecord, Token]:
    """Requests an access token with only these scopes. The record changes if the provider rotates the refresh token.

    Raises LoginRevoked if the login has ended, SignInNeeded if the scopes were not granted or the client is refused,
    and ServerError if the provider does not answer.
    """
    if "refresh_token" not in record:
        cached = cached_token(record, scopes)
        # A token that was rejected before it expired may be accepted later.
        error_type = LoginRevoked if cached is None or cached.expired else SignInNeeded
        raise error_type(f"the {provider.name} login has ended and cannot be renewed", hint=_sign_in_hint(provider))

    def request_refresh() -> Any:
        from google.auth.transport.requests import Request
        from google.oauth2.credentials import Credentials

        credentials = Credentials(
            token=None,
            refresh_token=record["refresh_token"],
            token_uri=provider.token_url,
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            scopes=list(scopes) or None,
        )
        with _translate_errors(provider, "renew the login"):
            credentials.refresh(functools.partial(Request(), timeout=_REQUEST_TIMEOUT, allow_redirects=False))
            _check_credentials(provider, credentials)
        return credentials

    try:
        renewed = await run_in_daemon_thread(request_refresh, timeout=_REFRESH_TIMEOUT)
    except TimeoutError as error:
        raise _unreachable(provider, "did not answer in time") from error
    expires = renewed.expiry.replace(tzinfo=UTC).timestamp() if renewed.expiry is not None else None
    token = Token(value=renewed.token, expires=expires, issued_at=time.time())
    if renewed.refresh_token == record["refresh_token"]:
        return record, token
    saved = {"access_token": token.value, "expires_at": token.expires, "made": token.issued_at}
    tokens = {" ".join(scopes): saved}  # the other tokens belonged to the previous grant
    return record | {"refresh_token": renewed.refresh_token, "tokens": tokens}, token


def _check_credentials(provider: Provider, credentials: Any) -> None:
    """Raises ServerError unless the refresh returned an access token and a valid refresh token."""
    if not _as_text(credentials.token):
        raise _unreachable(provider, "returned no token")
    if not _as_text(credentials.refresh_token):
        raise _unreachable(provider, "returned an invalid refresh token")


async def revoke(provider: Provider, record: SecretRecord) -> str:
    """Asks the provider to revoke the login. Returns why it did not, or ""."""
    if not provider.revocation_url:
        return f"the config has no revocation_url for {provider.title}"
    token = record.get("refresh_token") or record.get("access_token")
    if not token:
        return "there is no token left to revoke"
    form = {"token": token}
    if not provider.is_google:
        form |= {"token_type_hint": "refresh_token", "client_id": provider.client_id}
        form |= {"client_secret": provider.client_secret} if provider.client_secret else {}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    def post() -> tuple[int, bytes]:
        from google.auth.transport.requests import Request

        with _translate_errors(provider, "revoke the login"):
            response = Request()(
                provider.revocation_url,
                method="POST",
                body=urlencode(form),
                headers=headers,
                timeout=_REVOKE_TIMEOUT,
                allow_redirects=False,
            )
        return response.status, response.data

    try:
        status, body = await run_in_daemon_thread(post, timeout=_REVOKE_TIMEOUT + 1)
    except TimeoutError:
        return f"{provider.title} did not answer within {_REVOKE_TIMEOUT:.0f} s"
    except (ServerError, SignInNeeded) as error:
        return error.message
    if status == 200:
        return ""
    if status == 400 and b"invalid_token" in body:
        return ""  # it was revoked already
    return f"{provider.title} answered HTTP {status}"


@contextmanager
def _translate_errors(provider: Provider, action: str) -> Iterator[None]:
    """Turns the libraries' errors into ours, with a short text and without the data that they carry."""
    import requests
    from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
    from oauthlib.oauth2 import OAuth2Error

    try:
        yield
    except (TransportError, requests.RequestException) as error:
        raise _unreachable(provider, "cannot be reached") from error
    except RefreshError as error:
        raise _refresh_error(provider, action, error) from error
    except OAuth2Error as error:
        raise _rejected(provider, action, str(error.error or "").strip(), str(error.description or "")) from error
    except McpChatError:
        raise
    except GoogleAuthError as error:
        raise _rejected(provider, action, "", "the response is not valid") from error
    except Exception as error:  # the libraries do not check responses, so wrong types cause any error
        raise _unreachable(provider, "sent a response that is not valid") from error


def _refresh_error(provider: Provider, action: str, error: Any) -> SignInNeeded | ServerError:
    details = next((part for part in error.args if isinstance(part, dict)), {})
    code, description = _as_text(details.get("error")), _as_text(details.get("error_description"))
    if not code and "scopes" in str(error):
        code = "invalid_scope"
    if error.retryable or not code:  # a proxy's page or a failing server: this says nothing about the login
        failure = _unreachable(provider, f"answered: {code or 'an error without a reason'}")
        failure.hint += f"; if it goes on: {_sign_in_hint(provider)}"
        return failure
    return _rejected(provider, action, code, description)


def _rejected(provider: Provider, action: str, code: str, description: str) -> SignInNeeded:
    message = one_line(description or code, 200)
    if code == "invalid_grant" and action == "renew the login":
        reason = f"the {provider.name} login has ended: {message}"
        if provider.is_google:
            reason += " (if the app's consent screen is in testing, a login ends after seven days)"
        return LoginRevoked(reason, hint=_sign_in_hint(provider))
    if code == "invalid_scope":
        return SignInNeeded(f"{provider.title} has not granted the requested scopes", hint=_sign_in_hint(provider))
    if code in {"invalid_client", "unauthorized_client", "deleted_client"}:
        return SignInNeeded(
            f"{provider.title} does not know this client: {message}",
            hint=f"check client_id and client_secret of [auth.{provider.name}]",
        )
    return SignInNeeded(f"{provider.title} did not {action}: {message}", hint=_sign_in_hint(provider))


def _unreachable(provider: Provider, reason: str) -> ServerError:
    return ServerError(f"{provider.title} {reason}: the saved login is unchanged", hint="try again later")


def _sign_in_hint(provider: Provider) -> str:
    return f"mcpchat auth login {provider.name}"
