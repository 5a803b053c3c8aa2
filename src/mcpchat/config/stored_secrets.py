"""The user's secrets in the OS keyring, which ``keyring:NAME`` refers to. A private file lists their names."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from mcpchat.config.secret_refs import KEYRING_SERVICE, use_keyring
from mcpchat.config.validation import REFERENCE
from mcpchat.errors import UsageError
from mcpchat.util.private_json import load_json, locked, save_json
from mcpchat.util.urls import get_parameter, iter_parameters, set_parameter

_FILE = "secrets.json"
_MAX_LENGTH = 100_000  # characters


class SecretNames(Struct, frozen=True, kw_only=True):
    """The names of the secrets that mcpchat has stored: a keyring cannot list them on every platform."""

    names: tuple[str, ...] = ()


class StoredSecrets:
    """Secrets by name. The names are in a file in ``folder``, the secrets in the keyring alone."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def names(self) -> tuple[str, ...]:
        """The names that were stored. Raises StoreError."""
        known = load_json(self._path, SecretNames)
        return known.names if known is not None else ()

    async def exists(self, name: str) -> bool:
        """Whether the keyring has it. Raises ConfigError if it cannot be used."""
        return await use_keyring(lambda keyring: keyring.get_password(KEYRING_SERVICE, name)) is not None

    async def store(self, name: str, secret: str) -> None:
        """Store a secret, or replace it. Raises UsageError, ConfigError and StoreError."""
        _check_name(name)
        if not secret.strip() or len(secret) > _MAX_LENGTH or "\0" in secret:
            raise UsageError("the secret is empty, too long or no text")
        await use_keyring(lambda keyring: keyring.set_password(KEYRING_SERVICE, name, secret))
        self._change({name}, set())

    async def store_new(self, name: str, secret: str) -> str:
        """Store a secret without replacing another one. Returns its name: ``name``, if need be with a number.

        Raises as ``store``.
        """
        for free in (name, *(f"{name}-{number}" for number in range(2, 1000))):
            stored = await use_keyring(lambda keyring, free=free: keyring.get_password(KEYRING_SERVICE, free))  # type: ignore[misc]
            if stored in (None, secret):
                await self.store(free, secret)
                return free
        raise UsageError(f"the keyring has too many secrets named {name}")

    async def find_free(self, name: str, taken: Collection[str] = ()) -> str:
        """A name that no secret has: ``name``, if need be with a number. Raises ConfigError."""
        for free in (name, *(f"{name}-{number}" for number in range(2, 1000))):
            if free not in taken and not await self.exists(free):
                return free
        raise UsageError(f"the keyring has too many secrets named {name}")

    async def delete(self, name: str) -> bool:
        """Delete a secret; False if there was none. Raises ConfigError and StoreError."""
        _check_name(name)
        if existed := await self.exists(name):
            await use_keyring(lambda keyring: keyring.delete_password(KEYRING_SERVICE, name))
        self._change(set(), {name})
        return existed

    def _change(self, added: set[str], removed: set[str]) -> None:
        with locked(self._path):
            names = tuple(sorted({*self.names(), *added} - removed))
            save_json(self._path, SecretNames(names=names))


def _check_name(name: str) -> None:
    """Raise UsageError for the name of a login: those entries of the keyring belong to sign-ins."""
    if not name or not name.isprintable() or name != name.strip() or "/" in name:
        raise UsageError(f"{name!r} is no name for a secret", hint="use letters, digits, . _ and -")


async def move_secret(settings: Mapping[str, Any], server: str, key: str, store: StoredSecrets) -> dict[str, Any]:
    """The settings of a server, whose secret at ``key`` is in the keyring now. Raises as ``store``.

    The key is ``env.NAME``, ``headers.NAME`` or, for a parameter of its address, ``url.NAME``.
    """
    table, _, name = key.partition(".")
    if table == "url":
        secret = unquote(get_parameter(settings["url"], name))
        stored_name = await store.store_new(secret_name(server, name), secret)
        return {**settings, "url": set_parameter(settings["url"], name, f"keyring:{stored_name}")}
    prefix, secret = "", settings[table][name]
    if secret.startswith("Bearer "):
        prefix, secret = "Bearer ", secret[7:]
    stored_name = await store.store_new(secret_name(server, name), secret)
    return {**settings, table: {**settings[table], name: f"{prefix}keyring:{stored_name}"}}


def secret_name(server: str, name: str) -> str:
    """The name in the keyring for a server's secret."""
    return re.sub(r"[^a-z0-9_.-]+", "-", f"{server}-{name}".lower())


def find_keyring_references(table: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The names of secrets that a config refers to, and the key of each."""
    if isinstance(table, Mapping):
        for key, value in table.items():
            yield from find_keyring_references(value, f"{path}.{key}" if path else str(key))
    elif isinstance(table, str):
        texts = [table.removeprefix("Bearer ")]
        texts += [value for _, value in iter_parameters(table)] if path.endswith(".url") else []
        for reference in map(REFERENCE.fullmatch, texts):
            if reference is not None and reference[1] == "keyring":
                yield reference[2], path
