"""The logins that are kept: an index without secrets, the records behind it, and their renewal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.auth.secret_stores import Record, SecretStore
from mcpchat.core.accounts import Account, StoreName
from mcpchat.errors import SignInNeeded, StoreError
from mcpchat.util.file_lock import locked
from mcpchat.util.private_files import read_private, write_private
from mcpchat.util.redaction import Secrets

_T = TypeVar("_T")
FORMAT = 1
_INDEX_LOCK = "the index"
_SECRET = ("access_token", "refresh_token", "client_secret")


class _Index(Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    accounts: tuple[Account, ...] = ()


class LoginEnded(SignInNeeded):
    """The provider refuses the login for good: signing in again is all that helps."""


class Vault:
    """The kept logins of this user.

    ``stores`` are the places by name; ``usual`` is where a new login goes. What is read or made is added to
    ``secrets``. ``tell`` says what is waited for.
    """

    def __init__(
        self,
        state: Path,
        *,
        stores: Mapping[StoreName, SecretStore],
        usual: StoreName,
        secrets: Secrets,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._path = state / "accounts.json"
        self._locks = state / "locks"
        self._stores = stores
        self.usual = usual
        self._secrets = secrets
        self._tell = tell
        self._turns: dict[str, asyncio.Lock] = {}
        self._read: tuple[tuple[int, int, int], tuple[Account, ...]] | None = None
        self._going: set[asyncio.Task[Any]] = set()
        self._unsaved: dict[str, tuple[Record, Record]] = {}  # renewed, and not yet kept: nobody else has these tokens
        self._passing: tuple[Account, ...] = ()  # logins in memory, which no file may promise to others

    def accounts(self) -> Sequence[Account]:
        """All that is kept, without a look into any keyring. Raises StoreError for an index that cannot be read."""
        try:
            found = self._path.lstat()
        except OSError:
            return self._passing
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if self._read is None or self._read[0] != stamp:
            self._read = (stamp, self._index())
        return (*self._passing, *self._read[1])

    def _index(self) -> tuple[Account, ...]:
        data = read_private(self._path)
        if data is None:
            return ()
        try:
            index = msgspec.json.decode(data, type=_Index)
        except msgspec.MsgspecError as error:
            raise StoreError(
                f"the list of logins is damaged: {self._path}", hint="remove it, and sign in again"
            ) from error
        if index.format != FORMAT:
            raise StoreError(
                f"the list of logins was written by another mcpchat: {self._path}",
                hint="use that one, or remove the file",
            )
        return index.accounts

    def find(self, key: str) -> Account | None:
        return next((account for account in self.accounts() if account.key == key), None)

    def store(self, name: StoreName | None = None) -> SecretStore:
        return self._stores[name or self.usual]

    async def load(self, account: Account) -> Record | None:
        """The record behind an account. Raises StoreError."""
        record = await self.store(account.store).get(account.key)
        self._learn(record)
        return record

    async def keep(self, account: Account, record: Record) -> Account:
        """Keep a login: the record first, then its entry; one of another place, under the same key, goes."""
        return await self._whole(self._keep(account, record))

    async def _keep(self, account: Account, record: Record) -> Account:
        self._learn(record)
        async with self._alone(account.key):
            self._past_return()
            self._unsaved.pop(account.key, None)
            return await self._put(account, record)

    async def _put(self, account: Account, record: Record) -> Account:
        store = self.store(account.store)
        before = self.find(account.key)
        await store.put(account.key, record)
        kept = replace(account, kept_in=store.label, lost="")
        await self._change(lambda accounts: _with(accounts, kept))
        if before is not None and before.store != account.store:
            try:
                await self.store(before.store).delete(account.key)
            except StoreError as error:
                self._tell(f"The old login is still in {before.kept_in}: {error.message}")
        return kept

    async def update(self, key: str, change: Callable[[Account], Account]) -> None:
        """Change an account's entry as it is by then, if it is still there."""
        await self._change(lambda accounts: tuple(change(one) if one.key == key else one for one in accounts))

    async def remove(self, account: Account) -> str:
        """Take a login out of the list and its place: empty, or why its secret could not be removed.

        Raises StoreError where the list cannot be changed.
        """
        async with self._alone(account.key):
            why = ""
            self._unsaved.pop(account.key, None)
            try:
                await self.store(account.store).delete(account.key)
            except StoreError as error:
                why = error.message
            await self._change(lambda accounts: _without(accounts, account))
        return why

    async def renew(
        self,
        key: str,
        stale: Callable[[Record], bool],
        refresh: Callable[[Record], Awaitable[Record]],
        *,
        entry: Callable[[Account, Record], Account] = lambda account, record: account,
    ) -> Record:
        """A record that is not stale: another process's, or one refreshed here, which is kept before it is used.

        One process at a time; a cancellation does not stop it half-way, since a refresh token may serve only once.
        ``entry`` brings the account's entry up to date. Raises LoginEnded, SignInNeeded, StoreError, and what
        ``refresh`` raises.
        """
        return await self._whole(self._renew(key, stale, refresh, entry))

    async def _whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do this. Once it is past its point of no return it goes on to its end, whatever becomes of who waits."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._going.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task not in self._going:
                task.cancel()
            raise

    def _past_return(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._going.add(task)

    async def settle(self) -> None:
        """Wait for what goes on about logins, whoever else is impatient: each is bounded in time."""
        while self._going:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(set(self._going))

    async def _renew(
        self,
        key: str,
        stale: Callable[[Record], bool],
        refresh: Callable[[Record], Awaitable[Record]],
        entry: Callable[[Account, Record], Account],
    ) -> Record:
        async with self._alone(key):
            account = self.find(key)
            if account is None:
                raise SignInNeeded("the login is gone")
            record = await self.load(account)
            if record is None:
                raise SignInNeeded("the login is gone")
            before, unsaved = self._unsaved.get(key, (None, record))
            if record == before:
                record = unsaved
                await self._save(account, before, record, entry)
            if not stale(record):
                return record
            self._past_return()
            try:
                renewed = await refresh(record)
            except LoginEnded as error:
                await self._end(account, record, error.message)
                raise
            self._learn(renewed)
            if renewed != record:
                await self._save(account, record, renewed, entry)
            return renewed

    async def _save(
        self, account: Account, before: Record, record: Record, entry: Callable[[Account, Record], Account]
    ) -> None:
        """Keep what a renewal brought; what cannot be kept now is tried again, unless another login came meanwhile."""
        self._unsaved[account.key] = (before, record)
        await self.store(account.store).put(account.key, record)
        del self._unsaved[account.key]
        if entry(account, record) != account:
            await self.update(account.key, lambda one: entry(one, record))

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Nobody else works on this login: nobody here, and no other process."""
        async with (
            self._turns.setdefault(key, asyncio.Lock()),
            locked(self._locks, key, tell=lambda: self._tell("another mcpchat is renewing this login...")),
        ):
            yield

    async def _end(self, account: Account, record: Record, why: str) -> None:
        """The login is over: its tokens go, the client's registration stays for the next one."""
        kept = {
            name: value for name, value in record.items() if name not in {"access_token", "refresh_token", "tokens"}
        }
        await self.store(account.store).put(account.key, kept)
        await self.update(account.key, lambda one: replace(one, lost=why, renews=False, expires=None))

    async def _change(self, change: Callable[[tuple[Account, ...]], tuple[Account, ...]]) -> None:
        async with locked(self._locks, _INDEX_LOCK):
            accounts = change((*self._passing, *self._index()))
            self._passing = tuple(one for one in accounts if one.store == "memory")
            lasting = tuple(one for one in accounts if one.store != "memory")
            if lasting or self._path.exists():
                data = msgspec.json.format(msgspec.json.encode(_Index(accounts=lasting)), indent=1)
                write_private(self._path, data)

    def _learn(self, record: Record | None) -> None:
        for name, value in (record or {}).items():
            if isinstance(value, dict):
                self._learn(value)
            elif name in _SECRET and isinstance(value, str):
                self._secrets.add(value)


def _with(accounts: tuple[Account, ...], new: Account) -> tuple[Account, ...]:
    """The accounts with this one; the first of a login is its default, and there is only one."""
    others = [one for one in accounts if one.key != new.key]
    mine = [one for one in others if one.login == new.login]
    first = not any(one.default for one in mine)
    new = replace(new, default=new.default or first)
    if new.default:
        others = [replace(one, default=False) if one.login == new.login else one for one in others]
    return (*others, new)


def _without(accounts: tuple[Account, ...], gone: Account) -> tuple[Account, ...]:
    others = [one for one in accounts if one.key != gone.key]
    mine = [one for one in others if one.login == gone.login]
    if mine and not any(one.default for one in mine):
        return tuple(replace(one, default=True) if one.key == mine[0].key else one for one in others)
    return tuple(others)
