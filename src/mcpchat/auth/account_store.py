"""The account store: an index of the saved logins without secrets, their secret records, and their renewal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.auth.secret_stores import SecretRecord, SecretStore
from mcpchat.core.accounts import Account, StoreName
from mcpchat.errors import SignInNeeded, StoreError
from mcpchat.util.file_lock import locked
from mcpchat.util.private_files import read_private, write_private
from mcpchat.util.redaction import SecretRegistry

_T = TypeVar("_T")
Renewed = tuple[SecretRecord, _T]  # a renewed record and the credential in it
FORMAT = 1
_INDEX_LOCK = "the index"
_SECRET_KEYS = ("access_token", "refresh_token", "client_secret")


class _AccountIndex(Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    accounts: tuple[Account, ...] = ()


class RenewalRejected(SignInNeeded):
    """A server did not renew the login and gave no reason. It may have ended, or something in between fails."""


class LoginRevoked(SignInNeeded):
    """The provider has ended the login. Only a new sign-in helps."""


class AccountStore:
    """The saved logins of this user.

    ``stores`` maps names to secret stores; a new login goes into ``default_store``. Secrets that are read or created
    are added to ``secrets``. ``notify`` shows the user a text, for example during a long wait.
    """

    def __init__(
        self,
        state: Path,
        *,
        stores: Mapping[StoreName, SecretStore],
        default_store: StoreName,
        secrets: SecretRegistry,
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._path = state / "accounts.json"
        self._lock_folder = state / "locks"
        self._stores = stores
        self.default_store = default_store
        self._secrets = secrets
        self._notify = notify
        self._task_locks: dict[str, asyncio.Lock] = {}
        self._cached_index: tuple[tuple[int, int, int], tuple[Account, ...]] | None = None
        self._pending: set[asyncio.Task[Any]] = set()
        # By account key: the record before a renewal and the renewed one, which could not be saved yet. No other copy
        # of these tokens exists.
        self._unsaved: dict[str, tuple[SecretRecord, SecretRecord]] = {}
        # Logins in memory. They are not in the index file, because other processes do not have them.
        self._in_memory: tuple[Account, ...] = ()

    def list_accounts(self) -> Sequence[Account]:
        """Lists the saved accounts without reading a keyring. Raises StoreError if the index cannot be read."""
        try:
            file_stat = self._path.lstat()
        except OSError:
            return self._in_memory
        stamp = (file_stat.st_mtime_ns, file_stat.st_size, file_stat.st_ino)
        if self._cached_index is None or self._cached_index[0] != stamp:
            self._cached_index = (stamp, self._read_index())
        return (*self._in_memory, *self._cached_index[1])

    def _read_index(self) -> tuple[Account, ...]:
        data = read_private(self._path)
        if data is None:
            return ()
        try:
            index = msgspec.json.decode(data, type=_AccountIndex)
        except msgspec.MsgspecError as error:
            raise StoreError(
                f"the list of logins is damaged: {self._path}", hint="remove the file and sign in again"
            ) from error
        if index.format != FORMAT:
            raise StoreError(
                f"the list of logins was written by another mcpchat version: {self._path}",
                hint="use that version, or remove the file and sign in again",
            )
        return index.accounts

    def find(self, key: str) -> Account | None:
        return next((account for account in self.list_accounts() if account.key == key), None)

    def get_store(self, name: StoreName | None = None) -> SecretStore:
        return self._stores[name or self.default_store]

    async def load(self, account: Account) -> SecretRecord | None:
        """Loads the record of an account. Raises StoreError if its secret store fails."""
        record = await self.get_store(account.store).get(account.key)
        self._register_secrets(record)
        return record

    async def save(self, account: Account, record: SecretRecord) -> Account:
        """Saves a login: first the record, then its index entry. An old record in another secret store is deleted.

        Raises StoreError if the record or the index cannot be written.
        """
        return await self._run_to_completion(self._save(account, record))

    async def _save(self, account: Account, record: SecretRecord) -> Account:
        self._register_secrets(record)
        async with self._locked(account.key):
            self._mark_committed()
            self._unsaved.pop(account.key, None)
            return await self._write(account, record)

    async def _write(self, account: Account, record: SecretRecord) -> Account:
        store = self.get_store(account.store)
        previous = self.find(account.key)
        await store.put(account.key, record)
        saved = replace(account, kept_in=store.label, lost="")
        await self._update_index(lambda accounts: _add_account(accounts, saved))
        if previous is not None and previous.store != account.store:
            try:
                await self.get_store(previous.store).delete(account.key)
            except StoreError as error:
                self._notify(f"The old login is still in {previous.kept_in}: {error.message}")
        return saved

    async def update(self, key: str, change: Callable[[Account], Account]) -> None:
        """Changes the current index entry of an account, if it still exists. Raises StoreError."""
        await self._update_index(
            lambda accounts: tuple(change(account) if account.key == key else account for account in accounts)
        )

    async def remove(self, account: Account) -> str:
        """Removes a login from its secret store and the index. Returns why the secret could not be removed, or "".

        Raises StoreError if the index cannot be changed.
        """
        async with self._locked(account.key):
            reason = ""
            self._unsaved.pop(account.key, None)
            try:
                await self.get_store(account.store).delete(account.key)
            except StoreError as error:
                reason = error.message
            await self._update_index(lambda accounts: _remove_account(accounts, account))
        return reason

    async def renew(
        self,
        key: str,
        find_valid: Callable[[SecretRecord], _T | None],
        refresh: Callable[[SecretRecord], Awaitable[Renewed[_T]]],
        *,
        update_account: Callable[[Account, SecretRecord], Account] = lambda account, record: account,
    ) -> _T:
        """Returns a valid credential of the login: the saved one, or the one that ``refresh`` returns.

        ``find_valid`` returns the credential in a record, or None if it is stale; the record may be one that another
        process has renewed. ``refresh`` returns the new record and the credential; the record is saved before the
        credential is returned. ``update_account`` updates the account's index entry from the new record.

        Only one process renews a login at a time. Cancellation does not stop a refresh that has started, because a
        refresh token may be valid only once. Raises SignInNeeded if the login is gone, LoginRevoked if the provider has
        ended it, StoreError if a record cannot be read or saved, and the errors of ``refresh``.
        """
        return await self._run_to_completion(self._renew(key, find_valid, refresh, update_account))

    async def _run_to_completion(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs ``work``. After ``_mark_committed`` it runs to its end even if the caller is cancelled."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._pending.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task not in self._pending:
                task.cancel()
            raise

    def _mark_committed(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pending.add(task)

    async def wait_for_pending(self) -> None:
        """Waits for renewals and saves that have started, and ignores cancellation. Each has a timeout."""
        while self._pending:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(set(self._pending))

    async def _renew(
        self,
        key: str,
        find_valid: Callable[[SecretRecord], _T | None],
        refresh: Callable[[SecretRecord], Awaitable[Renewed[_T]]],
        update_account: Callable[[Account, SecretRecord], Account],
    ) -> _T:
        async with self._locked(key):
            account = self.find(key)
            if account is None:
                raise SignInNeeded("the login is gone")
            record = await self.load(account)
            if record is None:
                raise SignInNeeded("the login is gone")
            previous, unsaved = self._unsaved.get(key, (None, record))
            if record == previous:
                record = unsaved
                await self._save_renewed(account, previous, record, update_account)
            valid = find_valid(record)
            if valid is not None:
                return valid
            self._mark_committed()
            try:
                renewed, credential = await refresh(record)
            except LoginRevoked as error:
                await self._mark_ended(account, record, error.message)
                raise
            except RenewalRejected as error:
                await self._set_problem(account, error.message)
                raise
            self._register_secrets(renewed)
            if renewed != record:
                await self._save_renewed(account, record, renewed, update_account)
            if account.problem:
                await self._set_problem(account, "")
            return credential

    async def _set_problem(self, account: Account, problem: str) -> None:
        """Note in the index why a renewal failed. That the index cannot be written changes nothing else."""
        with suppress(StoreError):
            await self.update(account.key, lambda current: replace(current, problem=problem))

    async def _save_renewed(
        self,
        account: Account,
        previous: SecretRecord,
        record: SecretRecord,
        update_account: Callable[[Account, SecretRecord], Account],
    ) -> None:
        """Saves a renewed record.

        If that fails, the next renewal tries again, unless a newer login was saved in the meantime. Raises StoreError
        if the record cannot be saved.
        """
        self._unsaved[account.key] = (previous, record)
        await self.get_store(account.store).put(account.key, record)
        del self._unsaved[account.key]
        if update_account(account, record) != account:
            await self.update(account.key, lambda current: update_account(current, record))

    @asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[None]:
        """Holds the lock of one login against other tasks and other processes."""
        async with (
            self._task_locks.setdefault(key, asyncio.Lock()),
            locked(self._lock_folder, key, on_slow=lambda: self._notify("another mcpchat is renewing this login...")),
        ):
            yield

    async def _mark_ended(self, account: Account, record: SecretRecord, reason: str) -> None:
        """Marks a login as ended: removes its tokens and keeps the client registration for the next sign-in."""
        remaining = {
            name: value for name, value in record.items() if name not in {"access_token", "refresh_token", "tokens"}
        }
        await self.get_store(account.store).put(account.key, remaining)
        await self.update(account.key, lambda current: replace(current, lost=reason, renews=False, expires=None))

    async def _update_index(self, change: Callable[[tuple[Account, ...]], tuple[Account, ...]]) -> None:
        async with locked(self._lock_folder, _INDEX_LOCK):
            accounts = change((*self._in_memory, *self._read_index()))
            self._in_memory = tuple(account for account in accounts if account.store == "memory")
            persistent = tuple(account for account in accounts if account.store != "memory")
            if persistent or self._path.exists():
                data = msgspec.json.format(msgspec.json.encode(_AccountIndex(accounts=persistent)), indent=1)
                write_private(self._path, data)

    def _register_secrets(self, record: SecretRecord | None) -> None:
        for name, value in (record or {}).items():
            if isinstance(value, dict):
                self._register_secrets(value)
            elif name in _SECRET_KEYS and isinstance(value, str):
                self._secrets.add(value)


def _add_account(accounts: tuple[Account, ...], new: Account) -> tuple[Account, ...]:
    """Returns the accounts with ``new`` added. A login has one default account: the first, or the one marked so."""
    others = [account for account in accounts if account.key != new.key]
    same_login = [account for account in others if account.login == new.login]
    is_first = not any(account.default for account in same_login)
    new = replace(new, default=new.default or is_first)
    if new.default:
        others = [replace(account, default=False) if account.login == new.login else account for account in others]
    return (*others, new)


def _remove_account(accounts: tuple[Account, ...], removed: Account) -> tuple[Account, ...]:
    """Returns the accounts without ``removed``. If it was the default, the next account of the login is."""
    others = [account for account in accounts if account.key != removed.key]
    same_login = [account for account in others if account.login == removed.login]
    if same_login and not any(account.default for account in same_login):
        return tuple(
            replace(account, default=True) if account.key == same_login[0].key else account for account in others
        )
    return tuple(others)
