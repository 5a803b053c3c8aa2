"""References to secrets, looked up: ``env:NAME`` in the environment, ``keyring:NAME`` in the OS keyring."""

import sys
from collections.abc import Callable, Mapping

from mcpchat.config.validation import REFERENCE
from mcpchat.errors import ConfigError
from mcpchat.util.blocking import run_in_daemon_thread

KEYRING_SERVICE = "mcpchat"
KEYRING_TIMEOUT = 10.0  # seconds; a locked keyring that nobody unlocks would block for ever

OnSecret = Callable[[str], None]


def _ignore(value: str) -> None:
    """For values whose holder keeps them out of sight itself."""


async def resolve_secret(
    text: str, environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """The value that a configured text stands for; a text that is no reference stands for itself.

    ``where`` is the config key, for the error; ``keep`` is given what was behind a reference.

    Raises ConfigError when the reference leads nowhere.
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
            f"{config_key}: the keyring has nothing under {KEYRING_SERVICE}/{name}",
            hint=f"{sys.executable} -m keyring set {KEYRING_SERVICE} {name}",
        )
    on_secret(secret)
    return secret


async def resolve_header(
    text: str, environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """As ``look_up``, for what is sent in an HTTP header: the blanks and line ends of a careless paste are dropped.

    Raises ConfigError, without the value, for what no header can carry: the HTTP library's own error would show it.
    """
    value = (await resolve_secret(text, environ, config_key=config_key, on_secret=on_secret)).strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"{config_key}: the value holds characters that no HTTP header can carry", hint="copy it again, on one line"
        )
    return value


async def resolve_secrets(
    values: Mapping[str, str], environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> dict[str, str]:
    return {
        key: await resolve_secret(value, environ, config_key=f"{config_key}.{key}", on_secret=on_secret)
        for key, value in values.items()
    }


async def _read_keyring(name: str, config_key: str) -> str | None:
    def read() -> str | None:
        import keyring  # a quarter of a second, and only who keeps a secret there needs it

        return keyring.get_password(KEYRING_SERVICE, name)

    try:
        return await run_in_daemon_thread(read, timeout=KEYRING_TIMEOUT)
    except TimeoutError as error:
        raise ConfigError(
            f"{config_key}: the keyring did not answer within {KEYRING_TIMEOUT:.0f} s", hint="unlock it, then try again"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{config_key}: the keyring cannot be used: {type(error).__name__}: {error}",
            hint="use an environment variable instead: env:NAME",
        ) from error
