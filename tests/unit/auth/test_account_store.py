"""Accounts, the account store, and the redaction of secrets in texts."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from mcpchat.auth.account_store import AccountStore, LoginRevoked, RenewalRejected, Renewed
from mcpchat.auth.secret_stores import FileStore, MemoryStore, SecretRecord
from mcpchat.config.schema import parse
from mcpchat.core.accounts import (
    Account,
    canonical_scopes,
    format_duration,
    format_scopes,
    missing_scopes,
    parse_lifetime,
    sign_in_command,
    union,
)
from mcpchat.core.messages import Text, ToolResult
from mcpchat.errors import ConfigError, ServerError, SignInNeeded, StoreError
from mcpchat.util.file_lock import locked
from mcpchat.util.redaction import SecretRegistry

GOOGLE = "https://www.googleapis.com/auth/"


def open_store(tmp_path: Path, secrets: SecretRegistry | None = None) -> AccountStore:
    stores: Any = {"file": FileStore(tmp_path / "logins"), "memory": MemoryStore()}
    return AccountStore(tmp_path, stores=stores, default_store="file", secrets=secrets or SecretRegistry())


def account(key: str = "google/alice", **fields: Any) -> Account:
    return Account(key=key, kind="provider", login=key.partition("/")[0], **{"store": "file", **fields})


async def test_the_first_login_is_the_default_until_removed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"refresh_token": "one-secret"})
    await store.save(account("google/bob"), {"refresh_token": "two-secret"})
    assert [(login.key, login.default) for login in store.list_accounts()] == [
        ("google/alice", True),
        ("google/bob", False),
    ]
    assert await store.remove(store.list_accounts()[0]) == ""
    assert [(login.key, login.default) for login in store.list_accounts()] == [("google/bob", True)]
    assert b"secret" not in (tmp_path / "accounts.json").read_bytes()


async def test_a_login_that_moves_leaves_its_old_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"refresh_token": "one-secret"})
    await store.save(account(store="memory"), {"refresh_token": "two-secret"})
    assert list((tmp_path / "logins").iterdir()) == []
    (saved_account,) = store.list_accounts()
    assert await store.load(saved_account) == {"refresh_token": "two-secret"}
    assert open_store(tmp_path).list_accounts() == ()


async def test_concurrent_processes_do_not_lose_logins(tmp_path: Path) -> None:
    await asyncio.gather(*(open_store(tmp_path).save(account(f"p{n}/x"), {"n": n}) for n in range(12)))
    assert {login.key for login in open_store(tmp_path).list_accounts()} == {f"p{n}/x" for n in range(12)}


async def test_an_unreadable_index_is_reported(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        open_store(tmp_path).list_accounts()
    (tmp_path / "accounts.json").write_text('{"format": 99, "accounts": []}')
    with pytest.raises(StoreError, match="another mcpchat"):
        open_store(tmp_path).list_accounts()


def find_valid(record: SecretRecord) -> str | None:
    token = str(record["access_token"])
    return None if token == "old-access" else token


async def test_a_renewal_is_stored_before_use_and_shared(tmp_path: Path) -> None:
    await open_store(tmp_path).save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    refresh_tokens: list[str] = []

    async def refresh(record: SecretRecord) -> Renewed[str]:
        refresh_tokens.append(record["refresh_token"])
        await asyncio.sleep(0.1)
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    renewals = (open_store(tmp_path).renew("google/alice", find_valid, refresh) for _ in range(5))
    assert set(await asyncio.gather(*renewals)) == {"new-access"}
    assert refresh_tokens == ["r1-secret"]


async def test_a_renewal_without_a_reason_is_remembered_until_one_succeeds(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    outcomes: list[RenewalRejected | None] = [RenewalRejected("no reason"), None]

    async def refresh(record: SecretRecord) -> Renewed[str]:
        if error := outcomes.pop(0):
            raise error
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    with pytest.raises(RenewalRejected):
        await store.renew("google/alice", find_valid, refresh)
    assert [(login.problem, login.lost) for login in store.list_accounts()] == [("no reason", "")]
    assert await store.renew("google/alice", find_valid, refresh) == "new-access"
    assert [login.problem for login in store.list_accounts()] == [""]


async def test_a_cancel_during_a_renewal_loses_no_token(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    started = asyncio.Event()

    async def refresh(record: SecretRecord) -> Renewed[str]:
        started.set()
        await asyncio.sleep(0.2)
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    task = asyncio.create_task(store.renew("google/alice", find_valid, refresh))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.wait_for_pending()
    assert (await open_store(tmp_path).load(store.list_accounts()[0]) or {})["refresh_token"] == "r2-secret"


async def test_only_a_definite_refusal_ends_a_login(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    saved_record = {"access_token": "old-access", "refresh_token": "r1-secret", "client": {"client_id": "c"}}
    await store.save(account(), saved_record)

    async def fail_to_renew(record: SecretRecord) -> Renewed[str]:
        raise ServerError("down")

    async def revoke(record: SecretRecord) -> Renewed[str]:
        raise LoginRevoked("it is over")

    with pytest.raises(ServerError):
        await store.renew("google/alice", find_valid, fail_to_renew)
    assert await store.load(store.list_accounts()[0]) == saved_record
    with pytest.raises(LoginRevoked):
        await store.renew("google/alice", find_valid, revoke)
    (ended_account,) = store.list_accounts()
    assert ended_account.lost == "it is over"
    assert await store.load(ended_account) == {"client": {"client_id": "c"}}
    with pytest.raises(SignInNeeded, match="gone"):
        await store.renew("google/nobody", find_valid, fail_to_renew)


async def test_a_lock_held_too_long_is_reported(tmp_path: Path) -> None:
    notices: list[str] = []
    async with locked(tmp_path, "x"), locked(tmp_path, "another"):
        with pytest.raises(StoreError, match="another mcpchat"):
            async with locked(tmp_path, "x", on_slow=lambda: notices.append("waiting"), timeout=0.3, slow_after=0.1):
                pass
    assert notices == ["waiting"]
    async with locked(tmp_path, "x"):
        pass


def test_scopes_are_normalized() -> None:
    assert canonical_scopes(f"openid {GOOGLE}userinfo.email email") == ("openid", "email")
    assert canonical_scopes("a,b c") == ("a", "b", "c")
    assert union(("a", "b"), ("b", "c")) == ("a", "b", "c")
    assert missing_scopes(("email", "x"), (f"{GOOGLE}userinfo.email",)) == ("x",)
    assert format_scopes(("openid", f"{GOOGLE}gmail.send", f"{GOOGLE}rare", "tickets")) == "Gmail (send), rare, tickets"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "60 min"), (7200, "2 h"), (300_000, "3 days")],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


def test_exact_values_are_redacted_in_every_form() -> None:
    secrets = SecretRegistry()
    secrets.add("ya29.a/b+c=", None, "short", 'quo"ted-secret')
    text = "ya29.a/b+c= ya29.a%2Fb%2Bc%3D eWEyOS5hL2IrYz0 short"
    assert secrets.redact(text) == "[secret] [secret] [secret] short"
    result = ToolResult(call_id="c", parts=(Text(text='it is quo"ted-secret'),), structured={"t": ["ya29.a/b+c="]})
    expected = ToolResult(call_id="c", parts=(Text(text="it is [secret]"),), structured={"t": ["[secret]"]})
    assert secrets.redact_value(result) == expected
    assert secrets.redact_value(expected) is expected


def test_logs_redact_likely_secrets_and_keep_the_rest() -> None:
    secrets = SecretRegistry()
    line = 'GET /callback?code=abcdef123&state=qwertyui {"refresh_token": "1//abcdef"} Authorization: Bearer abcdefgh12'
    redacted = secrets.redact_log(line)
    for secret in ("abcdef123", "qwertyui", "1//abcdef", "abcdefgh12"):
        assert secret not in redacted
    assert (
        secrets.redact_log("exit code=12345678 state=started, 3 tokens: many")
        == "exit code=12345678 state=started, 3 tokens: many"
    )


def test_library_loggers_that_log_secrets_are_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    from mcpchat.cli.runtime import _RedactingFormatter

    record = logging.LogRecord("x", logging.DEBUG, "f", 1, "token is %s", ("a-long-secret",), None)
    secrets = SecretRegistry()
    secrets.add("a-long-secret")
    assert _RedactingFormatter(secrets).format(record) == "DEBUG:x:token is [secret]"


CONFIG_ERRORS = [
    ('[auth]\nstore = "cupboard"', "auth.store: expected one of 'keyring', 'file', 'memory'"),
    ("[auth]\nstoer = 1", "auth.stoer: unknown key; did you mean store?"),
    ('[auth.google]\nclient_sceret = "env:X"', "unknown key; did you mean client_secret?"),
    ('[auth.google]\nclient_secret = "GOCSPX-1"', "secrets are not allowed in this file"),
    ('[auth.google]\nrefresh_token = "1//x"', "secrets are not allowed in this file"),
    ("[auth.acme]\nscopes = []", 'auth.acme: expected "authorization_url"'),
    (
        '[auth.oauth]\nauthorization_url = "https://a"\ntoken_url = "https://a"',
        "the name of a provider has only letters",
    ),
    ('[auth.acme]\nauthorization_url = "https://a"\ntoken_url = "http://a"', "begins with https://"),
    ('[servers.s]\ncommand = "x"\nauth = "gogle"', "did you mean google?"),
    ('[servers.s]\ncommand = "x"\nauth = "google"', 'expected "scopes" too'),
    ('[servers.s]\ncommand = "x"\nscopes = ["a"]', 'servers.s.scopes: only valid with "auth"'),
    ('[servers.s]\ncommand = "x"\nauth = "google"\nscopes = ["a"]\ntoken_env = "9"', "the name of an environment"),
    ('[servers.s]\ncommand = "x"\nclient_id = "a"', 'only valid with "url"'),
    ('[servers.s]\nurl = "https://a"\nauth = "google"', "expected one of 'oauth'"),
    ('[servers.s]\nurl = "https://a"\nauth = "client_credentials"', 'expected "client_id" too'),
    ('[servers.s]\nurl = "https://a"\nclient_secret = "abc"', "secrets are not allowed in this file"),
    ('[servers.s]\nurl = "https://a"\nclient_id = "a"\nclient_secret = "env:S"', 'expected "issuer" too'),
    ('[servers.s]\nurl = "https://a"\nprivate_key = "env:K"', 'only valid with auth = "client_credentials"'),
    ('[servers.s]\nurl = "https://a"\ntoken_env = "T"', 'only valid with "command"'),
    (
        '[servers.s]\nurl = "https://a"\nauth = "oauth"\nheaders = {authorization = "env:T"}',
        "headers already has Authorization",
    ),
]


@pytest.mark.parametrize(("text", "message"), CONFIG_ERRORS)
def test_contradictory_sign_in_settings_are_reported(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error_info:
        parse(text, "c.toml")
    assert message in error_info.value.message
    assert error_info.value.message.startswith("c.toml:")


async def test_a_renewal_does_not_undo_a_newer_login(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    started = asyncio.Event()

    async def revoke(record: SecretRecord) -> Renewed[str]:
        started.set()
        await asyncio.sleep(0.2)
        raise LoginRevoked("it is over")

    renewal = asyncio.create_task(store.renew("google/alice", find_valid, revoke))
    await started.wait()
    await open_store(tmp_path).save(account(), {"access_token": "new-access", "refresh_token": "r9-secret"})
    with pytest.raises(LoginRevoked):
        await renewal
    (saved_account,) = store.list_accounts()
    assert saved_account.lost == ""
    assert (await store.load(saved_account) or {})["refresh_token"] == "r9-secret"


async def test_a_rotated_token_that_was_not_saved_is_saved_later(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    used_tokens: list[str] = []

    async def refresh(record: SecretRecord) -> Renewed[str]:
        used_tokens.append(record["refresh_token"])
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    unreliable = UnreliableStore(FileStore(tmp_path / "logins"))
    stores: Any = {"file": unreliable}
    store = AccountStore(tmp_path, stores=stores, default_store="file", secrets=SecretRegistry())
    with pytest.raises(StoreError):
        await store.renew("google/alice", find_valid, refresh)
    unreliable.broken = False
    assert await store.renew("google/alice", find_valid, refresh) == "new-access"
    assert used_tokens == ["r1-secret"]
    assert (await store.load(store.list_accounts()[0]) or {})["refresh_token"] == "r2-secret"


async def test_an_unsaved_renewal_does_not_undo_a_newer_login(tmp_path: Path) -> None:
    unreliable = UnreliableStore(FileStore(tmp_path / "logins"))
    await open_store(tmp_path).save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    stores: Any = {"file": unreliable}
    store = AccountStore(tmp_path, stores=stores, default_store="file", secrets=SecretRegistry())

    async def refresh(record: SecretRecord) -> Renewed[str]:
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    with pytest.raises(StoreError):
        await store.renew("google/alice", find_valid, refresh)
    unreliable.broken = False
    await open_store(tmp_path).save(account(), {"access_token": "newest-access", "refresh_token": "r9-secret"})
    assert await store.renew("google/alice", find_valid, refresh) == "newest-access"


async def test_waiting_for_a_renewal_can_be_cancelled(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})

    async def refresh(record: SecretRecord) -> Renewed[str]:
        raise AssertionError("this is never reached")

    async with store._locked("google/alice"):
        task = asyncio.create_task(store.renew("google/alice", find_valid, refresh))
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(1):
            await store.wait_for_pending()
            with pytest.raises(asyncio.CancelledError):
                await task


class UnreliableStore:
    """A store whose writes fail while ``broken`` is set."""

    name = "file"
    label = "flaky"

    def __init__(self, inner: FileStore) -> None:
        self._inner = inner
        self.broken = True

    async def get(self, key: str) -> SecretRecord | None:
        return await self._inner.get(key)

    async def put(self, key: str, record: SecretRecord) -> None:
        if self.broken:
            raise StoreError("it hangs")
        await self._inner.put(key, record)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600.0),
        (" 3600 ", 3600.0),
        (0, 1.0),
        (-5, 1.0),
        (10**400, None),
        ("nan", None),
        ("infinity", None),
        (float("inf"), None),
        (1e30, 315_360_000.0),
        (None, None),
        (True, None),
        ([], None),
        ("soon", None),
    ],
)
def test_a_lifetime_is_parsed_from_any_number(value: object, seconds: float | None) -> None:
    assert parse_lifetime(value) == seconds


def test_the_sign_in_command_is_quoted() -> None:
    assert sign_in_command("notes", scopes=["x;$(id)"]) == "mcpchat auth login notes --scope 'x;$(id)'"


def test_a_numeric_secret_does_not_change_numbers() -> None:
    secrets = SecretRegistry()
    secrets.add("1234567890")
    result = ToolResult(call_id="c", structured={"n": 1234567890, "1234567890": "1234567890"})
    assert secrets.redact_value(result).structured == {"n": 1234567890, "[secret]": "[secret]"}
