"""Stores for the secret part of a login: the OS keyring, a plain file if configured, or memory for this run."""

import asyncio
import hashlib
import secrets as random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from mcpchat.config.secret_refs import KEYRING_SERVICE
from mcpchat.core.accounts import StoreName
from mcpchat.errors import StoreError
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.keyring_problems import describe_keyring_error
from mcpchat.util.private_files import read_private, write_private

_T = TypeVar("_T")
USER = "oauth"
TIMEOUT, INTERACTIVE_TIMEOUT = 10.0, 60.0  # seconds for one call; the user may have to unlock the keyring
_HANG_COOLDOWN = 5.0  # seconds for which a keyring that hangs is not called again
_SLOW_AFTER = 2.0  # seconds until the user sees that mcpchat waits for the keyring
_WINDOWS_CHUNK_SIZE = 1200  # UTF-16 units; Windows Credential Manager takes at most 1,280
FILE_STORE_HINT = "to save it in a plain file instead, NOT encrypted: --store file"

SecretRecord = dict[str, Any]


class SecretStore(Protocol):
    """Secret records by key. The store does not interpret them. Every method raises StoreError if the store fails."""

    name: StoreName

    @property
    def label(self) -> str:
        """A description of the store for the user."""
        ...

    async def get(self, key: str) -> SecretRecord | None: ...

    async def put(self, key: str, record: SecretRecord) -> None:
        """Saves the record and reads it back to check it."""
        ...

    async def delete(self, key: str) -> bool:
        """Deletes the record. Returns whether it existed."""
        ...

    async def probe(self) -> None:
        """Saves and deletes a test record. Raises StoreError if that fails."""
        ...


class MemoryStore:
    """Records in the memory of this process."""

    name: StoreName = "memory"
    label = "memory, until mcpchat ends"

    def __init__(self) -> None:
        self._records: dict[str, SecretRecord] = {}

    async def get(self, key: str) -> SecretRecord | None:
        return self._records.get(key)

    async def put(self, key: str, record: SecretRecord) -> None:
        self._records[key] = record

    async def delete(self, key: str) -> bool:
        return self._records.pop(key, None) is not None

    async def probe(self) -> None:
        return


class FileStore:
    """One unencrypted file per login. Every program that can read the user's files can read it."""

    name: StoreName = "file"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def label(self) -> str:
        return "a file (NOT encrypted)"

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    async def get(self, key: str) -> SecretRecord | None:
        data = read_private(self._path(key))
        return None if data is None else _decode_record(data, f"the login in {self._path(key)}")

    async def put(self, key: str, record: SecretRecord) -> None:
        write_private(self._path(key), msgspec.json.encode(record))

    async def delete(self, key: str) -> bool:
        path = self._path(key)
        existed = read_private(path) is not None
        path.unlink(missing_ok=True)
        return existed

    async def probe(self) -> None:
        key = f"probe-{random.token_hex(8)}"
        await self.put(key, {})
        await self.delete(key)


class KeyringStore:
    """The OS keyring.

    ``notify`` shows the user that mcpchat waits for the keyring. If it is given, the timeout is longer, so that the
    user can unlock the keyring. ``chunk_size`` is the longest text that the backend takes, in UTF-16 units; by default
    it depends on the backend. ``timeout`` is in seconds per call.
    """

    name: StoreName = "keyring"

    def __init__(
        self,
        *,
        notify: Callable[[str], None] | None = None,
        chunk_size: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self._notify = notify
        self._chunk_size = chunk_size
        self._timeout = timeout or (INTERACTIVE_TIMEOUT if notify is not None else TIMEOUT)
        self._backend: Any = None
        self._lock = asyncio.Lock()
        self._hung_until = 0.0

    @property
    def label(self) -> str:
        module = type(self._backend).__module__ if self._backend is not None else ""
        titles = {
            "SecretService": "Secret Service",
            "libsecret": "Secret Service",
            "Windows": "Windows Credential Manager",
        }
        titles |= {"macOS": "macOS Keychain", "kwallet": "KWallet"}
        return titles.get(module.rpartition(".")[2], "the keyring")

    async def get(self, key: str) -> SecretRecord | None:
        text = await self._run(lambda backend: _read_chunks(backend, key))
        return None if text is None else _decode_record(text.encode(), f"the login {key} in the keyring")

    async def put(self, key: str, record: SecretRecord) -> None:
        text = msgspec.json.encode(record).decode()

        def write(backend: Any) -> bool:
            _write_chunks(backend, key, text, self._chunk_size or _max_chunk_size(backend))
            return _read_chunks(backend, key) == text

        if not await self._run(write):
            raise StoreError(f"{self.label} did not save the login")

    async def delete(self, key: str) -> bool:
        return await self._run(lambda backend: _delete(backend, key))

    async def probe(self) -> None:
        key = f"probe-{random.token_hex(8)}"
        try:
            await self.put(key, {"v": 1})
            await self.delete(key)
        except StoreError as error:
            error.hint = "; ".join(filter(None, (error.hint, FILE_STORE_HINT)))
            raise

    def _timeout_error(self) -> StoreError:
        return StoreError(
            f"the keyring did not answer within {self._timeout:g} s: it is locked or it hangs",
            hint="unlock it, then try again",
        )

    async def _run(self, work: Callable[[Any], _T]) -> _T:
        """Calls ``work`` with the backend in a daemon thread. Calls run one at a time. Raises StoreError."""

        def call_backend() -> _T:
            if self._backend is None:
                self._backend = _open_backend()
            return work(self._backend)

        def on_slow() -> None:
            if self._notify is not None:
                self._notify("waiting for the keyring to be unlocked...")

        async with self._lock:
            if time.monotonic() < self._hung_until:  # calls that waited for the lock fail at once
                raise self._timeout_error()
            try:
                return await run_in_daemon_thread(
                    call_backend, timeout=self._timeout, slow_after=_SLOW_AFTER, on_slow=on_slow
                )
            except StoreError:
                raise
            except TimeoutError as error:
                self._hung_until = time.monotonic() + _HANG_COOLDOWN
                raise self._timeout_error() from error
            except Exception as error:
                raise _translate(error) from error


def _open_backend() -> Any:
    """Opens the backend that keyring selects. Its import is slow.

    Raises StoreError if there is no backend, or if the backend does not store secrets safely.
    """
    import keyring
    from keyring.backends import fail, null

    keyring.core.init_backend(limit=keyring.core.recommended)
    backend = keyring.get_keyring()
    if isinstance(backend, fail.Keyring):
        raise keyring.errors.NoKeyringError
    if isinstance(backend, null.Keyring) or backend.priority < 1:
        name = f"{type(backend).__module__}.{type(backend).__name__}"
        raise StoreError(f"keyring is configured with {name}, which does not store secrets safely")
    if hasattr(backend, "persist"):
        backend.persist = "local machine"  # on Windows: otherwise logins roam to other machines
    return backend


def _translate(error: Exception) -> StoreError:
    problem = describe_keyring_error(error)
    return StoreError(problem.message, hint=problem.hint)


def _max_chunk_size(backend: Any) -> int | None:
    return _WINDOWS_CHUNK_SIZE if type(backend).__module__ == "keyring.backends.Windows" else None


# A record that is too long for a backend is split into chunks. The first item is a header with their number and
# generation. All new chunks are written before the header names them, and the old chunks are deleted last, so that an
# interrupted write leaves a complete record.


def _write_chunks(backend: Any, key: str, text: str, chunk_size: int | None) -> None:
    previous = _parse_header(backend.get_password(_service_name(key), USER))
    if chunk_size is None or _utf16_length(text) <= chunk_size:
        backend.set_password(_service_name(key), USER, text)
    else:
        chunks = _split_chunks(text, chunk_size)
        generation = random.token_hex(4)
        for number, chunk in enumerate(chunks):
            backend.set_password(_service_name(key, generation, number), USER, chunk)
        digest = hashlib.sha256(text.encode()).hexdigest()
        header = {"pieces": len(chunks), "generation": generation, "sha256": digest}
        backend.set_password(_service_name(key), USER, msgspec.json.encode(header).decode())
    _delete_chunks(backend, key, previous)


def _read_chunks(backend: Any, key: str) -> str | None:
    text: str | None = backend.get_password(_service_name(key), USER)
    header = _parse_header(text)
    if header is None:
        return text
    chunks = [
        backend.get_password(_service_name(key, header["generation"], number), USER)
        for number in range(header["pieces"])
    ]
    joined = "".join(chunk or "" for chunk in chunks)
    if hashlib.sha256(joined.encode()).hexdigest() != header["sha256"]:
        raise StoreError(f"the login {key} in the keyring is damaged", hint="sign in again")
    return joined


def _delete(backend: Any, key: str) -> bool:
    text = backend.get_password(_service_name(key), USER)
    if text is None:
        return False
    backend.delete_password(_service_name(key), USER)
    _delete_chunks(backend, key, _parse_header(text))
    return True


def _delete_chunks(backend: Any, key: str, header: Mapping[str, Any] | None) -> None:
    """Deletes the chunks of a generation that no header names any more."""
    for number in range(header["pieces"] if header else 0):
        assert header is not None
        service = _service_name(key, header["generation"], number)
        if backend.get_password(service, USER) is not None:
            backend.delete_password(service, USER)


def _parse_header(text: str | None) -> dict[str, Any] | None:
    if text is None or '"pieces"' not in text[:40]:
        return None
    try:
        header = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return header if isinstance(header, dict) and isinstance(header.get("pieces"), int) else None


def _service_name(key: str, generation: str = "", number: int = 0) -> str:
    """The service name of one item. Names differ because the Windows backend moves entries that share a service."""
    return f"{KEYRING_SERVICE}/{key}" + (f"#{generation}.{number}" if generation else "")


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _split_chunks(text: str, chunk_size: int) -> list[str]:
    chunks, chunk, size = [], "", 0
    for char in text:
        width = _utf16_length(char)
        if size + width > chunk_size:
            chunks.append(chunk)
            chunk, size = "", 0
        chunk += char
        size += width
    return [*chunks, chunk]


def _decode_record(data: bytes, description: str) -> SecretRecord:
    try:
        return msgspec.json.decode(data, type=SecretRecord)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{description} is damaged", hint="sign in again") from error
