"""Resolve references to secrets: ``env:NAME`` from the environment, ``keyring:NAME`` from the OS keyring."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from mcpchat.config.validation import REFERENCE
from mcpchat.errors import ConfigError
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.keyring_problems import describe_keyring_error
from mcpchat.util.urls import is_unencrypted

KEYRING_SERVICE = "mcpchat"  # the service name of all entries in the OS keyring
KEYRING_TIMEOUT = 10.0  # seconds; a locked keyring would block forever

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})

OnSecret = Callable[[str], None]


def _ignore(value: str) -> None:
    """For callers that redact the value themselves."""


async def resolve_secret(
    text: str, environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """Resolve a config value: the secret that it refers to, or the value itself if it is not a reference.

    ``config_key`` is used in error messages. ``on_secret`` is called with each resolved secret.

    Raises ConfigError if the secret does not exist or the keyring cannot be used.
    """
    scheme, space, rest = text.partition(" ")
    if space and scheme == "Bearer" and REFERENCE.fullmatch(rest):
        return f"Bearer {await resolve_secret(rest, environ, config_key=config_key, on_secret=on_secret)}"
    reference = REFERENCE.fullmatch(text)
    if reference is None:
        return text
    kind, name = reference.groups()
    if kind == "env":
        if not environ.get(name):
            raise ConfigError(f"{config_key}: the environment variable {name} is not set", hint=f"export {name}=...")
        on_secret(environ[name])
        return environ[name]
    secret = await _read_keyring(name, config_key)
    if secret is None:
        raise ConfigError(
            f"{config_key}: the keyring has no entry {KEYRING_SERVICE}/{name}",
            hint=f"{sys.executable} -m keyring set {KEYRING_SERVICE} {name}",
        )
    on_secret(secret)
    return secret


async def resolve_header(
    text: str, environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """Resolve the value of an HTTP header as ``resolve_secret`` does, and strip blanks and line ends around it.

    Also raises ConfigError if a header cannot carry the value. The message does not contain the value; the error of the
    HTTP library would.
    """
    value = (await resolve_secret(text, environ, config_key=config_key, on_secret=on_secret)).strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"{config_key}: the value has characters that an HTTP header cannot carry",
            hint="copy it again, on one line",
        )
    return value


async def resolve_headers(
    headers: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    url: str,
    allow_http: bool,
    config_key: str,
    on_secret: OnSecret = _ignore,
) -> dict[str, str]:
    """Resolve the HTTP headers for requests to the URL. ``config_key`` is the key of the table.

    Raises ConfigError as ``resolve_header`` does, and if a secret would be sent without encryption.
    """
    for name, value in headers.items():
        if REFERENCE.fullmatch(value.removeprefix("Bearer ")) or name.lower() in _SECRET_HEADERS:
            check_encrypted(url, allow_http=allow_http, config_key=f"{config_key}.{name}")
    return {
        name: await resolve_header(value, environ, config_key=f"{config_key}.{name}", on_secret=on_secret)
        for name, value in headers.items()
    }


def check_encrypted(url: str, *, allow_http: bool, config_key: str) -> None:
    """Raise ConfigError if what the config key names would be sent without encryption to another machine."""
    if not allow_http and is_unencrypted(url):
        table = re.sub(r"\.(?:headers\..*|api_key)$", "", config_key)
        raise ConfigError(
            f"{config_key} would be sent without encryption to {urlsplit(url).hostname}",
            hint=f"use https, or set allow_http = true under [{table}]",
        )


async def resolve_secrets(
    values: Mapping[str, str], environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> dict[str, str]:
    """Resolve each value as ``resolve_secret`` does. ``config_key`` is the key of the table. Raises ConfigError."""
    return {
        key: await resolve_secret(value, environ, config_key=f"{config_key}.{key}", on_secret=on_secret)
        for key, value in values.items()
    }


def find_references(texts: Iterable[str]) -> tuple[str, ...]:
    """The references to secrets in config values, each once and sorted."""
    matches = (REFERENCE.fullmatch(text.removeprefix("Bearer ")) for text in texts)
    return tuple(sorted({match[0] for match in matches if match}))


def read_variable(reference: str, environ: Mapping[str, str]) -> str:
    """The value of a reference to an environment variable; "" if it is not set, or for one to the keyring."""
    kind, _, name = reference.partition(":")
    return environ.get(name, "") if kind == "env" else ""


async def read_references(references: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The secret behind each reference; "" for one that cannot be read."""
    values: dict[str, str] = {}
    for reference in references:
        try:
            values[reference] = await resolve_secret(reference, environ, config_key="")
        except ConfigError:
            values[reference] = ""
    return values


async def _read_keyring(name: str, config_key: str) -> str | None:
    def read() -> str | None:
        import keyring  # takes 0.25 s, and is needed only for keyring references

        return keyring.get_password(KEYRING_SERVICE, name)

    try:
        return await run_in_daemon_thread(read, timeout=KEYRING_TIMEOUT)
    except TimeoutError as error:
        raise ConfigError(
            f"{config_key}: the keyring did not answer within {KEYRING_TIMEOUT:.0f} s", hint="unlock it, then try again"
        ) from error
    except Exception as error:
        problem = describe_keyring_error(error)
        raise ConfigError(
            f"{config_key}: {problem.message}", hint=f"{problem.hint}, or use an environment variable: env:NAME"
        ) from error
