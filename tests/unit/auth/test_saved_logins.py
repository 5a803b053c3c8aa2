"""The account store in detail: default accounts, renewals that fail, secrets that become known, and its index."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mcpchat.auth.account_store import AccountStore, LoginRevoked, Renewed
from mcpchat.auth.secret_stores import FileStore, MemoryStore, SecretRecord
from mcpchat.core.accounts import Account
from mcpchat.errors import SignInNeeded, StoreError
from mcpchat.util.redaction import REDACTED, SecretRegistry

OLD: SecretRecord = {"access_token": "old-access", "refresh_token": "r1-secret"}
NEW: SecretRecord = {"access_token": "new-access", "refresh_token": "r2-secret"}
ALICE, BOB, CAROL = "google/alice", "google/bob", "google/carol"


class CountingStore(FileStore):
    """Counts the writes; a write or a deletion fails while ``is_broken`` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.writes = 0
        self.is_broken = False

    async def put(self, key: str, record: SecretRecord) -> None:
        self._check()
        self.writes += 1
        await super().put(key, record)

    async def delete(self, key: str) -> bool:
        self._check()
        return await super().delete(key)

    def _check(self) -> None:
        if self.is_broken:
            raise StoreError("it hangs")


class Logins:
    """An account store in a folder, its file store, and what it notified."""

    def __init__(self, folder: Path, memory: MemoryStore | None = None) -> None:
        self.file = CountingStore(folder / "logins")
        self.secrets = SecretRegistry()
        self.notices: list[str] = []
        stores: Any = {"file": self.file, "memory": memory or MemoryStore()}
        self.store = AccountStore(
            folder, stores=stores, default_store="file", secrets=self.secrets, notify=self.notices.append
        )

    @property
    def defaults(self) -> dict[str, bool]:
        return {account.key: account.default for account in self.store.list_accounts()}

    def hides(self, *texts: str) -> bool:
        return all(self.secrets.redact(text) == REDACTED for text in texts)


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    return Logins(tmp_path)


def account(key: str = ALICE, **fields: Any) -> Account:
    return Account(key=key, kind="provider", login=key.partition("/")[0], **{"store": "file", **fields})


def find_valid(record: SecretRecord) -> str | None:
    token = str(record["access_token"])
    return None if token == "old-access" else token


def refresh_to(record: SecretRecord, used_tokens: list[str] | None = None) -> Any:
    async def refresh(old: SecretRecord) -> Renewed[str]:
        if used_tokens is not None:
            used_tokens.append(old["refresh_token"])
        return record, str(record["access_token"])

    return refresh


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- default accounts --------------------------------------------------------------------------------------------


async def test_each_login_has_one_default_account(logins: Logins) -> None:
    for key in (ALICE, "acme/x", BOB, CAROL):
        await logins.store.save(account(key), OLD)
    assert logins.defaults == {ALICE: True, "acme/x": True, BOB: False, CAROL: False}
    await logins.store.save(account(CAROL, default=True), OLD)
    assert logins.defaults == {ALICE: False, "acme/x": True, BOB: False, CAROL: True}


@pytest.mark.parametrize(
    ("removed", "defaults"),
    [
        (ALICE, {BOB: True, CAROL: False, "acme/x": True}),
        (CAROL, {ALICE: True, BOB: False, "acme/x": True}),
        ("acme/x", {ALICE: True, BOB: False, CAROL: False}),
    ],
)
async def test_the_next_account_becomes_the_default_if_the_default_is_removed(
    logins: Logins, removed: str, defaults: dict[str, bool]
) -> None:
    for key in (ALICE, BOB, CAROL, "acme/x"):
        await logins.store.save(account(key), OLD)
    assert await logins.store.remove(account(removed)) == ""
    assert logins.defaults == defaults


async def test_a_default_that_is_not_the_first_stays_the_default(logins: Logins) -> None:
    for key in (ALICE, BOB, CAROL):
        await logins.store.save(account(key, default=key == BOB), OLD)
    await logins.store.remove(account(CAROL))
    assert logins.defaults == {ALICE: False, BOB: True}


# --- what is saved -----------------------------------------------------------------------------------------------


async def test_a_saved_account_says_where_it_is_kept_and_is_no_longer_lost(logins: Logins) -> None:
    saved = await logins.store.save(account(lost="it is over"), OLD)
    assert (saved.kept_in, saved.lost, saved.default) == ("a file (NOT encrypted)", "", False)
    assert logins.store.list_accounts() == (replace(saved, default=True),)
    assert logins.store.get_store() is logins.file


async def test_a_login_whose_old_record_cannot_be_deleted_moves_with_a_notice(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    logins.file.is_broken = True
    moved = await logins.store.save(account(store="memory"), NEW)
    assert logins.notices == ["The old login is still in a file (NOT encrypted): it hangs"]
    assert await logins.store.load(moved) == NEW


async def test_an_update_changes_one_account(logins: Logins) -> None:
    for key in (ALICE, BOB):
        await logins.store.save(account(key), OLD)
    await logins.store.update(BOB, lambda current: replace(current, alias="b"))
    assert [login.alias for login in logins.store.list_accounts()] == ["", "b"]


async def test_a_removed_login_leaves_no_record(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    assert await logins.store.remove(account()) == ""
    assert (logins.store.list_accounts(), await logins.store.load(account())) == ((), None)


async def test_a_login_is_removed_even_if_its_record_cannot_be(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    logins.file.is_broken = True
    assert await logins.store.remove(account()) == "it hangs"
    assert logins.store.list_accounts() == ()


async def test_logins_in_memory_are_listed_and_not_written(logins: Logins, tmp_path: Path) -> None:
    await logins.store.save(account(store="memory"), OLD)
    assert not (tmp_path / "accounts.json").exists()
    await logins.store.save(account(BOB), OLD)
    for _ in range(2):
        assert list(logins.defaults) == [ALICE, BOB]
    assert list(Logins(tmp_path).defaults) == [BOB]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{", "the list of logins is damaged: {path}", "remove the file and sign in again"),
        (
            '{"format": 99}',
            "the list of logins was written by another mcpchat version: {path}",
            "use that version, or remove the file and sign in again",
        ),
    ],
)
def test_an_index_that_cannot_be_read_is_named(
    logins: Logins, tmp_path: Path, text: str, message: str, hint: str
) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(text)
    with pytest.raises(StoreError) as error_info:
        logins.store.list_accounts()
    assert (error_info.value.message, error_info.value.hint) == (message.format(path=path), hint)


def _new_time(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(1, 2))


def _new_size(path: Path, text: str) -> None:
    path.write_text(text + "\n")
    os.utime(path, ns=(1, 1))


def _new_file(path: Path, text: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(text)
    os.utime(other, ns=(1, 1))
    other.replace(path)


@pytest.mark.parametrize("change", [_new_time, _new_size, _new_file])
async def test_an_index_that_another_process_changed_is_read_again(
    logins: Logins, tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    await logins.store.save(account(), OLD)
    path = tmp_path / "accounts.json"
    text = path.read_text()
    os.utime(path, ns=(1, 1))
    assert list(logins.defaults) == [ALICE]
    change(path, text.replace(ALICE, "google/clara"[: len(ALICE)]))
    assert list(logins.defaults) == ["google/clara"]


def test_two_processes_do_not_undo_each_others_changes(tmp_path: Path) -> None:
    asyncio.run(Logins(tmp_path).store.save(account(), OLD))
    others_change = Logins(tmp_path).store.update(ALICE, lambda current: replace(current, expires=5.0))
    other = threading.Thread(target=lambda: asyncio.run(others_change))  # type: ignore[arg-type]

    def change(current: Account) -> Account:
        other.start()
        other.join(0.3)  # it must wait for this change
        return replace(current, alias="a")

    asyncio.run(Logins(tmp_path).store.update(ALICE, change))
    other.join(10)
    (saved,) = Logins(tmp_path).store.list_accounts()
    assert (saved.alias, saved.expires) == ("a", 5.0)


# --- secrets -----------------------------------------------------------------------------------------------------

RECORD: SecretRecord = {
    "access_token": "the-access-token",
    "expires_at": 12345678,
    "scope": "not-a-secret",
    "client": {"client_id": "not-a-secret", "client_secret": "the-client-secret", "refresh_token": 12345678},
    "tokens": {"refresh_token": "the-refresh-token"},
}
SECRETS = ("the-access-token", "the-client-secret", "the-refresh-token")


async def test_the_secrets_of_a_record_are_known_after_it_was_saved_or_loaded(logins: Logins, tmp_path: Path) -> None:
    await logins.store.save(account(), RECORD)
    assert logins.hides(*SECRETS)
    other = Logins(tmp_path)
    assert not other.hides(*SECRETS)
    await other.store.load(account())
    assert other.hides(*SECRETS)
    assert other.secrets.redact("not-a-secret 12345678") == "not-a-secret 12345678"


async def test_the_secrets_of_a_renewed_record_are_known(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    await logins.store.renew(ALICE, find_valid, refresh_to({**NEW, "client": {"client_secret": "newer-client"}}))
    assert logins.hides("new-access", "r2-secret", "newer-client")


# --- renewals ----------------------------------------------------------------------------------------------------


async def test_without_an_account_or_its_record_a_new_sign_in_is_needed(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    await logins.file.delete(ALICE)
    for key in (ALICE, BOB):
        with pytest.raises(SignInNeeded) as error_info:
            await logins.store.renew(key, find_valid, refresh_to(NEW))
        assert error_info.value.message == "the login is gone"


async def test_a_renewal_updates_the_index_only_if_the_account_changes(logins: Logins, tmp_path: Path) -> None:
    await logins.store.save(account(), OLD)
    path = tmp_path / "accounts.json"
    before = path.stat().st_ino
    await logins.store.renew(ALICE, find_valid, refresh_to({**NEW, "access_token": "old-access"}))
    assert path.stat().st_ino == before
    used_tokens: list[str] = []
    await logins.store.renew(
        ALICE,
        find_valid,
        refresh_to({**NEW, "expires": 5.0}, used_tokens),
        update_account=lambda current, record: replace(current, expires=record["expires"]),
    )
    assert [login.expires for login in logins.store.list_accounts()] == [5.0]
    assert used_tokens == ["r2-secret"]


async def test_a_record_that_a_renewal_did_not_change_is_not_written(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    await logins.store.renew(ALICE, find_valid, refresh_to(OLD))
    assert logins.file.writes == 1


async def _save_here(logins: Logins, tmp_path: Path) -> None:
    await logins.store.save(account(), OLD)


async def _save_elsewhere_after_removal(logins: Logins, tmp_path: Path) -> None:
    await logins.store.remove(account())
    await Logins(tmp_path).store.save(account(), OLD)


@pytest.mark.parametrize("sign_in", [_save_here, _save_elsewhere_after_removal])
async def test_a_sign_in_replaces_a_renewal_that_could_not_be_saved(
    logins: Logins, tmp_path: Path, sign_in: Callable[[Logins, Path], Any]
) -> None:
    await logins.store.save(account(), OLD)
    logins.file.is_broken = True
    with pytest.raises(StoreError):
        await logins.store.renew(ALICE, find_valid, refresh_to(NEW))
    logins.file.is_broken = False
    await sign_in(logins, tmp_path)
    used_tokens: list[str] = []
    await logins.store.renew(ALICE, find_valid, refresh_to(NEW, used_tokens))
    assert used_tokens == ["r1-secret"]


async def test_a_saved_renewal_does_not_replace_a_later_sign_in(logins: Logins, tmp_path: Path) -> None:
    await logins.store.save(account(), OLD)
    await logins.store.renew(ALICE, find_valid, refresh_to(NEW))
    await Logins(tmp_path).store.save(account(), OLD)
    used_tokens: list[str] = []
    await logins.store.renew(ALICE, find_valid, refresh_to(NEW, used_tokens))
    assert used_tokens == ["r1-secret"]


async def test_a_login_that_has_ended_keeps_its_client_and_has_no_tokens_and_no_expiry(logins: Logins) -> None:
    await logins.store.save(
        account(renews=True, expires=5.0), {**OLD, "tokens": {"x": 1}, "client": {"client_id": "c"}}
    )

    async def revoke(record: SecretRecord) -> Renewed[str]:
        raise LoginRevoked("it is over")

    with pytest.raises(LoginRevoked):
        await logins.store.renew(ALICE, find_valid, revoke)
    (ended,) = logins.store.list_accounts()
    assert (ended.lost, ended.renews, ended.expires) == ("it is over", False, None)
    assert await logins.store.load(ended) == {"client": {"client_id": "c"}}


# --- several tasks -----------------------------------------------------------------------------------------------


class SlowRefresh:
    """A refresh that ends when ``end`` is set."""

    def __init__(self) -> None:
        self.started, self.end = asyncio.Event(), asyncio.Event()

    async def __call__(self, record: SecretRecord) -> Renewed[str]:
        self.started.set()
        await self.end.wait()
        return NEW, "new-access"


async def test_a_login_that_is_removed_during_a_renewal_leaves_no_record(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    refresh = SlowRefresh()
    renewal = asyncio.create_task(logins.store.renew(ALICE, find_valid, refresh))
    await refresh.started.wait()
    removal = asyncio.create_task(logins.store.remove(account()))
    await settle()
    refresh.end.set()
    assert await renewal == "new-access"
    assert await removal == ""
    assert (logins.store.list_accounts(), await logins.store.load(account())) == ((), None)


async def test_a_save_that_has_started_is_not_cancelled(tmp_path: Path) -> None:
    started, end = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryStore):
        async def put(self, key: str, record: SecretRecord) -> None:
            started.set()
            await end.wait()
            await super().put(key, record)

    logins = Logins(tmp_path, SlowStore())
    task = asyncio.create_task(logins.store.save(account(store="memory"), OLD))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end.set()
    await logins.store.wait_for_pending()
    assert await logins.store.load(account(store="memory")) == OLD
    assert list(logins.defaults) == [ALICE]


async def test_waiting_for_renewals_ignores_a_cancel(logins: Logins) -> None:
    await logins.store.save(account(), OLD)
    refresh = SlowRefresh()
    renewal = asyncio.create_task(logins.store.renew(ALICE, find_valid, refresh))
    await refresh.started.wait()
    waiting = asyncio.create_task(logins.store.wait_for_pending())
    await settle()
    waiting.cancel()
    await settle()
    assert not waiting.done()
    refresh.end.set()
    await waiting
    assert await renewal == "new-access"


async def test_a_long_wait_for_another_renewal_is_reported(
    logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await logins.store.save(account(), OLD)
    refresh = SlowRefresh()
    renewal = asyncio.create_task(Logins(tmp_path).store.renew(ALICE, find_valid, refresh))
    await refresh.started.wait()
    waiting = asyncio.create_task(logins.store.renew(ALICE, find_valid, refresh_to(NEW)))
    await settle()
    assert logins.notices == []
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + 10)
    await settle()
    refresh.end.set()
    await asyncio.gather(renewal, waiting)
    assert logins.notices == ["another mcpchat is renewing this login..."]
