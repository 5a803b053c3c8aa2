"""References to secrets, looked up: ``env:NAME`` in the environment, ``keyring:NAME`` in the OS keyring."""

import sys
from collections.abc import Callable, Mapping

from mcpchat.config.validation import REFERENCE
from mcpchat.errors import ConfigError
from mcpchat.util.blocking import in_daemon_thread

SERVICE = "mcpchat"
KEYRING_TIMEOUT = 10.0  # seconds; a locked keyring that nobody unlocks would block for ever

Keep = Callable[[str], None]


def _ignore(value: str) -> None:
    """For values whose holder keeps them out of sight itself."""


async def look_up(text: str, environ: Mapping[str, str], *, where: str, keep: Keep = _ignore) -> str:
    """The value that a configured text stands for; a text that is no reference stands for itself.

    ``where`` is the config key, for the error; ``keep`` is given what was behind a reference.

    Raises ConfigError when the reference leads nowhere.
    """
    scheme, space, rest = text.partition(" ")
    if space and scheme == "Bearer" and REFERENCE.fullmatch(rest):
        return f"Bearer {await look_up(rest, environ, where=where, keep=keep)}"
    reference = REFERENCE.fullmatch(text)
    if reference is None:
        return text
    kind, name = reference.groups()
    if kind == "env":
        if not environ.get(name):
            raise ConfigError(f"{where}: the environment variable {name} is not set", hint=f"export {name}=...")
        keep(environ[name])
        return environ[name]
    secret = await _from_keyring(name, where)
    if secret is None:
        raise ConfigError(
            f"{where}: the keyring has nothing under {SERVICE}/{name}",
            hint=f"{sys.executable} -m keyring set {SERVICE} {name}",
        )
    keep(secret)
    return secret


async def header_value(text: str, environ: Mapping[str, str], *, where: str, keep: Keep = _ignore) -> str:
    """As ``look_up``, for what is sent in an HTTP header: the blanks and line ends of a careless paste are dropped.

    Raises ConfigError, without the value, for what no header can carry: the HTTP library's own error would show it.
    """
    value = (await look_up(text, environ, where=where, keep=keep)).strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"{where}: the value holds characters that no HTTP header can carry", hint="copy it again, on one line"
        )
    return value


async def look_up_all(
    values: Mapping[str, str], environ: Mapping[str, str], *, where: str, keep: Keep = _ignore
) -> dict[str, str]:
    return {key: await look_up(value, environ, where=f"{where}.{key}", keep=keep) for key, value in values.items()}


async def _from_keyring(name: str, where: str) -> str | None:
    def ask() -> str | None:
        import keyring  # a quarter of a second, and only who keeps a secret there needs it

        return keyring.get_password(SERVICE, name)

    try:
        return await in_daemon_thread(ask, timeout=KEYRING_TIMEOUT)
    except TimeoutError as error:
        raise ConfigError(
            f"{where}: the keyring did not answer within {KEYRING_TIMEOUT:.0f} s", hint="unlock it, then try again"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{where}: the keyring cannot be used: {type(error).__name__}: {error}",
            hint="use an environment variable instead: env:NAME",
        ) from error
