"""References to secrets, looked up: ``env:NAME`` in the environment, ``keyring:NAME`` in the OS keyring."""

import asyncio
import sys
import threading
from collections.abc import Mapping

from mcpchat.core.config_faults import REFERENCE
from mcpchat.core.errors import ConfigError

SERVICE = "mcpchat"
KEYRING_TIMEOUT = 10.0  # seconds; a locked keyring that nobody unlocks would block for ever


async def look_up(text: str, environ: Mapping[str, str], *, where: str) -> str:
    """The value that a configured text stands for; a text that is no reference stands for itself.

    ``where`` is the config key, for the error. Raises ConfigError when the reference leads nowhere.
    """
    scheme, space, rest = text.partition(" ")
    if space and scheme == "Bearer" and REFERENCE.fullmatch(rest):
        return f"Bearer {await look_up(rest, environ, where=where)}"
    reference = REFERENCE.fullmatch(text)
    if reference is None:
        return text
    kind, name = reference.groups()
    if kind == "env":
        if not environ.get(name):
            raise ConfigError(f"{where}: the environment variable {name} is not set", hint=f"export {name}=...")
        return environ[name]
    secret = await _from_keyring(name, where)
    if secret is None:
        raise ConfigError(
            f"{where}: the keyring has nothing under {SERVICE}/{name}",
            hint=f"{sys.executable} -m keyring set {SERVICE} {name}",
        )
    return secret


async def header_value(text: str, environ: Mapping[str, str], *, where: str) -> str:
    """As ``look_up``, for what is sent in an HTTP header: the blanks and line ends of a careless paste are dropped.

    Raises ConfigError, without the value, for what no header can carry: the HTTP library's own error would show it.
    """
    value = (await look_up(text, environ, where=where)).strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"{where}: the value holds characters that no HTTP header can carry", hint="copy it again, on one line"
        )
    return value


async def look_up_all(values: Mapping[str, str], environ: Mapping[str, str], *, where: str) -> dict[str, str]:
    return {key: await look_up(value, environ, where=f"{where}.{key}") for key, value in values.items()}


async def _from_keyring(name: str, where: str) -> str | None:
    """Ask in a daemon thread: a pool's thread that hangs would keep the process from leaving."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def settle(value: str | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)

    def ask() -> None:
        try:
            import keyring  # a quarter of a second, and only who keeps a secret there needs it

            result, failure = keyring.get_password(SERVICE, name), None
        except Exception as error:  # noqa: BLE001 - back-ends raise their own kinds: D-Bus, Windows and import errors
            result, failure = None, error
        loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=ask, daemon=True, name="keyring").start()
    try:
        async with asyncio.timeout(KEYRING_TIMEOUT):
            return await answer
    except TimeoutError as error:
        raise ConfigError(
            f"{where}: the keyring did not answer within {KEYRING_TIMEOUT:.0f} s", hint="unlock it, then try again"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{where}: the keyring cannot be used: {type(error).__name__}: {error}",
            hint="use an environment variable instead: env:NAME",
        ) from error
