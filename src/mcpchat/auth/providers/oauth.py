"""Logins at OAuth providers whose access tokens servers get: Google, and any that the config describes.

The URL and the exchange are google-auth-oauthlib's, the refresh is google-auth's, for all of them. Their imports take
a third of a second and come with the first use.
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

from mcpchat.auth.account_store import LoginEnded
from mcpchat.auth.consent import Consent, ask, new_state
from mcpchat.auth.loopback import Expected, listening
from mcpchat.auth.secret_stores import Record
from mcpchat.core.accounts import joined, lifetime, plain_scopes
from mcpchat.errors import ConfigError, McpChatError, ServerError, SignInNeeded
from mcpchat.util.blocking import in_daemon_thread
from mcpchat.util.redaction import Secrets
from mcpchat.util.sanitize import one_line

_EXCHANGE, _REFRESH, _REVOKE = 30.0, 60.0, 10.0  # seconds
_ONE_REQUEST = 15.0
_LARGEST = 262_144  # bytes of an answer
IDENTITY = ("openid", "email")


class Provider(Struct, frozen=True, kw_only=True):
    """A provider, and this client of it; ``client_secret`` is empty for a public client."""

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
    """An access token. ``expires`` is in epoch seconds, None where it does not say; ``renews``: others follow it."""

    value: str
    expires: float | None = None
    made: float = 0.0
    renews: bool = True

    @property
    def over(self) -> bool:
        return self.expires is not None and time.time() >= self.expires

    @property
    def near_its_end(self) -> bool:
        """Whether it has under five minutes left, or a tenth of its life where that is less."""
        if self.expires is None or not self.renews:
            return self.over
        return time.time() > self.expires - min(300.0, (self.expires - self.made) / 10)


async def sign_in(
    provider: Provider,
    scopes: Sequence[str],
    consent: Consent,
    secrets: Secrets,
    *,
    hint: str = "",
    another: bool = False,
) -> Record:
    """A new record, after the person consented in a browser.

    ``hint`` is who is to sign in; ``another`` lets an account be chosen. Raises SignInNeeded, ServerError, ConfigError.
    """
    wanted = joined(IDENTITY if provider.is_google or "openid" in scopes else (), scopes)
    async with listening("/callback", consent.port) as listener:
        from google_auth_oauthlib.flow import InstalledAppFlow

        flow = InstalledAppFlow.from_client_config(_client(provider), list(wanted), redirect_uri=listener.redirect_uri)
        state = new_state()
        more = dict(provider.parameters)
        if provider.is_google:
            more |= {
                "include_granted_scopes": "true",
                "prompt": "select_account consent" if another else "consent",  # else there is no refresh token
            }
        if hint:
            more["login_hint"] = hint
        try:
            url, _ = flow.authorization_url(state=state, **more)
        except Exception as error:
            raise ConfigError(
                f"auth.{provider.name}: {error}", hint="authorization_url begins with https://"
            ) from error
        secrets.add(state, flow.code_verifier)
        reply = await ask(consent, listener, url, Expected(state=state, issuer=provider.issuer), whom=provider.title)
    secrets.add(reply.code)
    answer = await _exchanged(provider, flow, reply.code)
    secrets.add(*(str(answer.get(name, "")) for name in ("access_token", "refresh_token", "id_token")))
    return await _record(provider, answer, wanted)


def _client(provider: Provider) -> dict[str, Any]:
    installed = {
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "auth_uri": provider.authorization_url,
        "token_uri": provider.token_url,
    }
    return {"installed": installed}


async def _exchanged(provider: Provider, flow: Any, code: str) -> Mapping[str, Any]:
    # What was granted may be named otherwise, or be less: that is looked at, and no error of the library's.
    flow.oauth2session.scope = None
    flow.oauth2session.max_redirects = 0  # a code goes nowhere else
    flow.oauth2session.register_compliance_hook("access_token_response", functools.partial(_understood, provider))
    public = {} if provider.client_secret else {"include_client_id": True, "client_secret": None}

    def exchange() -> Mapping[str, Any]:
        with _translated(provider, "sign in"):
            answer: Mapping[str, Any] = flow.fetch_token(code=code, timeout=_ONE_REQUEST, **public)
            return answer

    try:
        return await in_daemon_thread(exchange, timeout=_EXCHANGE)
    except TimeoutError as error:
        raise ServerError(f"{provider.title} did not answer within {_EXCHANGE:.0f} s") from error


def _understood(provider: Provider, response: Any) -> Any:
    """The token endpoint's answer, if it is one. Raises ServerError for one that says nothing about the sign-in."""
    try:
        said = msgspec.json.decode(response.content[:_LARGEST])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = None
    if not isinstance(said, dict) or response.status_code >= 500:
        raise _offline(provider, f"answered HTTP {response.status_code}")
    if "error" not in said and not _text(said.get("access_token")):
        raise SignInNeeded(f"{provider.title} gave no token")
    return response


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(values: Sequence[object]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


async def _record(provider: Provider, answer: Mapping[str, Any], wanted: Sequence[str]) -> Record:
    said = answer.get("scope")
    got = plain_scopes(
        said if isinstance(said, str) else " ".join(_texts(said)) if isinstance(said, list | tuple) else wanted
    )
    who = _claims(answer.get("id_token"), provider.client_id) or await _userinfo(
        provider, str(answer.get("access_token"))
    )
    record: Record = {
        "v": 1,
        "client_id": provider.client_id,
        "token_url": provider.token_url,
        "granted": list(got),
        "account": str(who.get("email") or who.get("preferred_username") or who.get("login") or who.get("sub") or ""),
        "subject": str(who.get("sub") or who.get("id") or ""),
        "created": time.time(),
    }
    if refresh := _text(answer.get("refresh_token")):
        return record | {"refresh_token": refresh}
    if provider.is_google:
        raise SignInNeeded(
            "Google gave no refresh token",
            hint="remove mcpchat at https://myaccount.google.com/connections, then sign in again",
        )
    life = lifetime(answer.get("expires_in"))
    expires = None if life is None else time.time() + life
    return record | {"access_token": answer["access_token"], "expires_at": expires}


def _claims(id_token: object, client_id: str) -> dict[str, Any]:
    """What an ID token says. It came from the token endpoint itself over TLS: its signature need not be checked."""
    try:
        body = str(id_token).split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    audience = claims.get("aud") if isinstance(claims, dict) else None
    return claims if client_id == audience or (isinstance(audience, list) and client_id in audience) else {}


async def _userinfo(provider: Provider, token: str) -> dict[str, Any]:
    """What the provider says of who signed in; nothing where it is not asked, or does not say."""
    if not provider.userinfo_url:
        return {}
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def look() -> dict[str, Any]:
        from google.auth.transport.requests import Request

        with _translated(provider, "say who signed in"):
            answer = Request()(provider.userinfo_url, method="GET", headers=headers, timeout=_ONE_REQUEST)
        said = msgspec.json.decode(answer.data[:65_536])
        return said if answer.status == 200 and isinstance(said, dict) else {}

    try:
        return await in_daemon_thread(look, timeout=_EXCHANGE)
    except (TimeoutError, ServerError, SignInNeeded, msgspec.DecodeError):
        return {}  # the login is good without


def kept_token(record: Record, scopes: Sequence[str]) -> Token | None:
    """The token for these scopes that lies in the record: where refresh tokens change, and where there are none."""
    kept = record.get("tokens", {}).get(" ".join(scopes))
    if kept is None and "refresh_token" not in record and record.get("access_token"):
        return Token(value=record["access_token"], expires=record.get("expires_at"), renews=False)
    return Token(value=kept["access_token"], expires=kept["expires_at"], made=kept["made"]) if kept else None


async def refreshed(provider: Provider, record: Record, scopes: Sequence[str]) -> tuple[Record, Token]:
    """A new access token for these scopes alone, and the record, changed where the refresh token did.

    Raises LoginEnded, SignInNeeded for scopes that were not granted, and ServerError where nobody answers.
    """
    if "refresh_token" not in record:
        held = kept_token(record, scopes)
        ended = LoginEnded if held is None or held.over else SignInNeeded  # what is refused once may be taken again
        raise ended(f"the {provider.name} login is over, and does not renew itself", hint=_again(provider))

    def refresh() -> Any:
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
        with _translated(provider, "renew the login"):
            credentials.refresh(functools.partial(Request(), timeout=_ONE_REQUEST, allow_redirects=False))
            _check(provider, credentials)
        return credentials

    try:
        fresh = await in_daemon_thread(refresh, timeout=_REFRESH)
    except TimeoutError as error:
        raise _offline(provider, "did not answer in time") from error
    expires = fresh.expiry.replace(tzinfo=UTC).timestamp() if fresh.expiry is not None else None
    token = Token(value=fresh.token, expires=expires, made=time.time())
    if fresh.refresh_token == record["refresh_token"]:
        return record, token
    kept = {"access_token": token.value, "expires_at": token.expires, "made": token.made}
    tokens = {" ".join(scopes): kept}  # the others belonged to the grant before
    return record | {"refresh_token": fresh.refresh_token, "tokens": tokens}, token


def _check(provider: Provider, credentials: Any) -> None:
    """Raise unless the refresh brought what can be used."""
    if not _text(credentials.token):
        raise _offline(provider, "answered without a token")
    if not _text(credentials.refresh_token):
        raise _offline(provider, "answered with something that is no refresh token")


async def revoke(provider: Provider, record: Record) -> str:
    """Have the provider end the login: empty where it did, else why not."""
    if not provider.revocation_url:
        return f"{provider.title} has no address for that in the config (revocation_url)"
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

        with _translated(provider, "revoke the login"):
            answer = Request()(
                provider.revocation_url,
                method="POST",
                body=urlencode(form),
                headers=headers,
                timeout=_REVOKE,
                allow_redirects=False,
            )
        return answer.status, answer.data

    try:
        status, said = await in_daemon_thread(post, timeout=_REVOKE + 1)
    except TimeoutError:
        return f"{provider.title} did not answer within {_REVOKE:.0f} s"
    except (ServerError, SignInNeeded) as error:
        return error.message
    if status == 200:
        return ""
    if status == 400 and b"invalid_token" in said:
        return ""  # it was over already
    return f"{provider.title} answered HTTP {status}"


@contextmanager
def _translated(provider: Provider, what: str) -> Iterator[None]:
    """The libraries' errors as ours, in words, without what they carry."""
    import requests
    from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
    from oauthlib.oauth2 import OAuth2Error

    try:
        yield
    except (TransportError, requests.RequestException) as error:
        raise _offline(provider, "cannot be reached") from error
    except RefreshError as error:
        raise _refused(provider, what, error) from error
    except OAuth2Error as error:
        raise _no(provider, what, str(error.error or "").strip(), str(error.description or "")) from error
    except McpChatError:
        raise
    except GoogleAuthError as error:
        raise _no(provider, what, "", "an answer that is none") from error
    except Exception as error:  # the libraries believe what they are sent: whatever type it is shows as their error
        raise _offline(provider, "answered in a form that nobody understands") from error


def _refused(provider: Provider, what: str, error: Any) -> SignInNeeded | ServerError:
    said = next((part for part in error.args if isinstance(part, dict)), {})
    code, description = _text(said.get("error")), _text(said.get("error_description"))
    if not code and "scopes" in str(error):
        code = "invalid_scope"
    if error.retryable or not code:  # a proxy's page, or a server in trouble: no word about the login
        return _offline(provider, f"answered: {code or 'not now'}")
    return _no(provider, what, code, description)


def _no(provider: Provider, what: str, code: str, description: str) -> SignInNeeded:
    told = one_line(description or code, 200)
    if code == "invalid_grant" and what == "renew the login":
        why = f"the {provider.name} login has ended: {told}"
        if provider.is_google:
            why += " (an app whose consent screen is in testing has logins of seven days)"
        return LoginEnded(why, hint=_again(provider))
    if code == "invalid_scope":
        return SignInNeeded(f"{provider.title} has not granted what is asked for", hint=_again(provider))
    if code in {"invalid_client", "unauthorized_client", "deleted_client"}:
        return SignInNeeded(
            f"{provider.title} does not know this client: {told}",
            hint=f"check client_id and client_secret of [auth.{provider.name}]",
        )
    return SignInNeeded(f"{provider.title} did not {what}: {told}", hint=_again(provider))


def _offline(provider: Provider, why: str) -> ServerError:
    return ServerError(f"{provider.title} {why}: the login is kept as it is", hint="try again later")


def _again(provider: Provider) -> str:
    return f"mcpchat auth login {provider.name}"
