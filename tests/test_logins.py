"""Logins as values, the vault behind them, and what is taken out of texts."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from mcpchat.auth.account_store import AccountStore, LoginRevoked, Renewed
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


def vault(tmp_path: Path, secrets: SecretRegistry | None = None) -> AccountStore:
    stores: Any = {"file": FileStore(tmp_path / "logins"), "memory": MemoryStore()}
    return AccountStore(tmp_path, stores=stores, default_store="file", secrets=secrets or SecretRegistry())


def account(key: str = "google/alice", **more: Any) -> Account:
    return Account(key=key, kind="provider", login=key.partition("/")[0], **{"store": "file", **more})


async def test_the_first_login_is_the_default_until_it_goes(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    await kept.save(account(), {"refresh_token": "one-secret"})
    await kept.save(account("google/bob"), {"refresh_token": "two-secret"})
    assert [(one.key, one.default) for one in kept.list_accounts()] == [("google/alice", True), ("google/bob", False)]
    assert await kept.remove(kept.list_accounts()[0]) == ""
    assert [(one.key, one.default) for one in kept.list_accounts()] == [("google/bob", True)]
    assert b"secret" not in (tmp_path / "accounts.json").read_bytes()


async def test_a_login_that_moves_leaves_its_old_place(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    await kept.save(account(), {"refresh_token": "one-secret"})
    await kept.save(account(store="memory"), {"refresh_token": "two-secret"})
    assert list((tmp_path / "logins").iterdir()) == []
    (only,) = kept.list_accounts()
    assert await kept.load(only) == {"refresh_token": "two-secret"}
    assert vault(tmp_path).list_accounts() == ()


async def test_logins_of_many_processes_do_not_lose_each_other(tmp_path: Path) -> None:
    await asyncio.gather(*(vault(tmp_path).save(account(f"p{n}/x"), {"n": n}) for n in range(12)))
    assert {one.key for one in vault(tmp_path).list_accounts()} == {f"p{n}/x" for n in range(12)}


async def test_an_index_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        vault(tmp_path).list_accounts()
    (tmp_path / "accounts.json").write_text('{"format": 99, "accounts": []}')
    with pytest.raises(StoreError, match="another mcpchat"):
        vault(tmp_path).list_accounts()


def find_valid(record: SecretRecord) -> str | None:
    token = str(record["access_token"])
    return None if token == "old-access" else token


async def test_a_renewal_is_stored_before_it_is_used_and_others_adopt_it(tmp_path: Path) -> None:
    await vault(tmp_path).save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    asked: list[str] = []

    async def refresh(record: SecretRecord) -> Renewed[str]:
        asked.append(record["refresh_token"])
        await asyncio.sleep(0.1)
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    renewals = (vault(tmp_path).renew("google/alice", find_valid, refresh) for _ in range(5))
    assert set(await asyncio.gather(*renewals)) == {"new-access"}
    assert asked == ["r1-secret"]


async def test_a_cancel_in_mid_renewal_loses_nothing(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    await kept.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    begun = asyncio.Event()

    async def refresh(record: SecretRecord) -> Renewed[str]:
        begun.set()
        await asyncio.sleep(0.2)
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    task = asyncio.create_task(kept.renew("google/alice", find_valid, refresh))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await kept.wait_for_pending()
    assert (await vault(tmp_path).load(kept.list_accounts()[0]) or {})["refresh_token"] == "r2-secret"


async def test_a_definite_refusal_ends_a_login_and_trouble_does_not(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    before = {"access_token": "old-access", "refresh_token": "r1-secret", "client": {"client_id": "c"}}
    await kept.save(account(), before)

    async def fails(record: SecretRecord) -> Renewed[str]:
        raise ServerError("down")

    async def ends(record: SecretRecord) -> Renewed[str]:
        raise LoginRevoked("it is over")

    with pytest.raises(ServerError):
        await kept.renew("google/alice", find_valid, fails)
    assert await kept.load(kept.list_accounts()[0]) == before
    with pytest.raises(LoginRevoked):
        await kept.renew("google/alice", find_valid, ends)
    (ended,) = kept.list_accounts()
    assert ended.lost == "it is over"
    assert await kept.load(ended) == {"client": {"client_id": "c"}}
    with pytest.raises(SignInNeeded, match="gone"):
        await kept.renew("google/nobody", find_valid, fails)


async def test_a_lock_that_is_held_too_long_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    async with locked(tmp_path, "x"), locked(tmp_path, "another"):
        with pytest.raises(StoreError, match="another mcpchat"):
            async with locked(tmp_path, "x", on_slow=lambda: told.append("waiting"), timeout=0.3, slow_after=0.1):
                pass
    assert told == ["waiting"]
    async with locked(tmp_path, "x"):
        pass


def test_scopes_have_one_spelling() -> None:
    assert canonical_scopes(f"openid {GOOGLE}userinfo.email email") == ("openid", "email")
    assert canonical_scopes("a,b c") == ("a", "b", "c")
    assert union(("a", "b"), ("b", "c")) == ("a", "b", "c")
    assert missing_scopes(("email", "x"), (f"{GOOGLE}userinfo.email",)) == ("x",)
    assert format_scopes(("openid", f"{GOOGLE}gmail.send", f"{GOOGLE}rare", "tickets")) == "Gmail (send), rare, tickets"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "60 min"), (7200, "2 h"), (300_000, "3 days")],
)
def test_spans_are_short(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_exact_values_are_taken_out_in_every_form() -> None:
    secrets = SecretRegistry()
    secrets.add("ya29.a/b+c=", None, "short", 'quo"ted-secret')
    text = "ya29.a/b+c= ya29.a%2Fb%2Bc%3D eWEyOS5hL2IrYz0 short"
    assert secrets.redact(text) == "[secret] [secret] [secret] short"
    result = ToolResult(call_id="c", parts=(Text(text='it is quo"ted-secret'),), structured={"t": ["ya29.a/b+c="]})
    clean = ToolResult(call_id="c", parts=(Text(text="it is [secret]"),), structured={"t": ["[secret]"]})
    assert secrets.redact_value(result) == clean
    assert secrets.redact_value(clean) is clean


def test_logs_lose_what_only_looks_like_a_secret_and_keep_the_rest() -> None:
    secrets = SecretRegistry()
    line = 'GET /callback?code=abcdef123&state=qwertyui {"refresh_token": "1//abcdef"} Authorization: Bearer abcdefgh12'
    shown = secrets.redact_log(line)
    for secret in ("abcdef123", "qwertyui", "1//abcdef", "abcdefgh12"):
        assert secret not in shown
    assert (
        secrets.redact_log("exit code=12345678 state=started, 3 tokens: many")
        == "exit code=12345678 state=started, 3 tokens: many"
    )


def test_the_loggers_of_the_libraries_that_tell_all_are_kept_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    from mcpchat.cli.runtime import _RedactingFormatter

    record = logging.LogRecord("x", logging.DEBUG, "f", 1, "token is %s", ("a-long-secret",), None)
    secrets = SecretRegistry()
    secrets.add("a-long-secret")
    assert _RedactingFormatter(secrets).format(record) == "DEBUG:x:token is [secret]"


FAULTS = [
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


@pytest.mark.parametrize(("text", "words"), FAULTS)
def test_a_contradiction_in_the_sign_in_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.toml")
    assert words in caught.value.message
    assert caught.value.message.startswith("c.toml:")


async def test_a_new_login_waits_for_a_renewal_and_is_not_undone_by_it(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    await kept.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    begun = asyncio.Event()

    async def ends(record: SecretRecord) -> Renewed[str]:
        begun.set()
        await asyncio.sleep(0.2)
        raise LoginRevoked("it is over")

    renewal = asyncio.create_task(kept.renew("google/alice", find_valid, ends))
    await begun.wait()
    await vault(tmp_path).save(account(), {"access_token": "new-access", "refresh_token": "r9-secret"})
    with pytest.raises(LoginRevoked):
        await renewal
    (only,) = kept.list_accounts()
    assert only.lost == ""
    assert (await kept.load(only) or {})["refresh_token"] == "r9-secret"


async def test_a_rotated_token_that_could_not_be_kept_is_kept_with_the_next_renewal(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    await kept.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    used: list[str] = []

    async def refresh(record: SecretRecord) -> Renewed[str]:
        used.append(record["refresh_token"])
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    flaky = Flaky(FileStore(tmp_path / "logins"))
    stores: Any = {"file": flaky}
    kept = AccountStore(tmp_path, stores=stores, default_store="file", secrets=SecretRegistry())
    with pytest.raises(StoreError):
        await kept.renew("google/alice", find_valid, refresh)
    flaky.broken = False
    assert await kept.renew("google/alice", find_valid, refresh) == "new-access"
    assert used == ["r1-secret"]
    assert (await kept.load(kept.list_accounts()[0]) or {})["refresh_token"] == "r2-secret"


async def test_a_renewal_that_could_not_be_kept_does_not_undo_a_newer_login(tmp_path: Path) -> None:
    flaky = Flaky(FileStore(tmp_path / "logins"))
    await vault(tmp_path).save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})
    stores: Any = {"file": flaky}
    kept = AccountStore(tmp_path, stores=stores, default_store="file", secrets=SecretRegistry())

    async def refresh(record: SecretRecord) -> Renewed[str]:
        return {"access_token": "new-access", "refresh_token": "r2-secret"}, "new-access"

    with pytest.raises(StoreError):
        await kept.renew("google/alice", find_valid, refresh)
    flaky.broken = False
    await vault(tmp_path).save(account(), {"access_token": "newest-access", "refresh_token": "r9-secret"})
    assert await kept.renew("google/alice", find_valid, refresh) == "newest-access"


async def test_whoever_only_waits_can_be_interrupted(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    await kept.save(account(), {"access_token": "old-access", "refresh_token": "r1-secret"})

    async def refresh(record: SecretRecord) -> Renewed[str]:
        raise AssertionError("nobody gets here")

    async with kept._locked("google/alice"):
        task = asyncio.create_task(kept.renew("google/alice", find_valid, refresh))
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(1):
            await kept.wait_for_pending()
            with pytest.raises(asyncio.CancelledError):
                await task


class Flaky:
    """A store that cannot be written to for a while."""

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
    ("said", "seconds"),
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
def test_a_lifetime_is_whatever_a_number_can_be_made_of(said: object, seconds: float | None) -> None:
    assert parse_lifetime(said) == seconds


def test_what_is_to_be_typed_can_be_pasted() -> None:
    assert sign_in_command("notes", scopes=["x;$(id)"]) == "mcpchat auth login notes --scope 'x;$(id)'"


def test_a_secret_of_digits_leaves_numbers_alone() -> None:
    secrets = SecretRegistry()
    secrets.add("1234567890")
    result = ToolResult(call_id="c", structured={"n": 1234567890, "1234567890": "1234567890"})
    assert secrets.redact_value(result).structured == {"n": 1234567890, "[secret]": "[secret]"}
