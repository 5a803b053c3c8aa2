"""References to secrets: which values are resolved, who learns of them, and what is said if there is none."""

import threading
from collections.abc import Callable

import pytest
from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError

from mcpchat.config import secret_refs
from mcpchat.config.secret_refs import check_encrypted, resolve_header, resolve_headers, resolve_secret, resolve_secrets
from mcpchat.errors import ConfigError
from tests.support.keyring import Keyring

ENVIRONMENT = {"TOKEN": "from-env", "EMPTY": "", "LINES": " from-env\r\n", "BROKEN": "ä\n"}


@pytest.fixture
def use_keyring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, str], str | None]], None]:
    """Replace the keyring of the operating system, without a look for it."""
    return lambda read: monkeypatch.setattr("keyring.core._keyring_backend", Keyring(read))


async def test_references_are_replaced_and_reported() -> None:
    seen: list[str] = []
    values = {"A": "env:TOKEN", "B": "Bearer env:TOKEN", "C": "plain", "D": "Basic env:TOKEN"}
    resolved = await resolve_secrets(values, ENVIRONMENT, config_key="servers.a.env", on_secret=seen.append)
    assert resolved == {"A": "from-env", "B": "Bearer from-env", "C": "plain", "D": "Basic env:TOKEN"}
    assert seen == ["from-env", "from-env"]


@pytest.mark.parametrize("name", ["MISSING", "EMPTY"])
async def test_a_variable_without_a_value_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        await resolve_secrets({"A": f"env:{name}"}, ENVIRONMENT, config_key="servers.a.env")
    assert raised.value.message == f"servers.a.env.A: the environment variable {name} is not set"
    assert raised.value.hint == f"export {name}=..."


async def test_a_header_loses_line_ends_and_cannot_have_others() -> None:
    assert await resolve_header("env:LINES", ENVIRONMENT, config_key="k") == "from-env"
    with pytest.raises(ConfigError) as raised:
        await resolve_header("env:BROKEN", ENVIRONMENT, config_key="k")
    assert raised.value.message == "k: the value has characters that an HTTP header cannot carry"
    assert raised.value.hint == "copy it again, on one line"


async def test_a_secret_comes_from_the_keyring(use_keyring: Callable[..., None]) -> None:
    seen: list[str] = []
    use_keyring(lambda service, name: f"{service}/{name}")
    assert await resolve_secret("keyring:mail", {}, config_key="k", on_secret=seen.append) == "mcpchat/mail"
    assert await resolve_secret("keyring:mail", {}, config_key="k") == "mcpchat/mail"
    assert seen == ["mcpchat/mail"]


async def test_a_missing_entry_of_the_keyring_is_an_error(use_keyring: Callable[..., None]) -> None:
    use_keyring(lambda service, name: None)
    with pytest.raises(ConfigError) as raised:
        await resolve_secret("Bearer keyring:mail", {}, config_key="servers.a.headers.Authorization")
    assert raised.value.message == "servers.a.headers.Authorization: the keyring has no entry mcpchat/mail"
    assert raised.value.hint == "mcpchat secret set mail"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file or directory"), "the keyring does not answer"),
        (RuntimeError("DBus transports ({'tcp'}) not supported"), "the keyring does not answer"),
        (InitError("Failed to unlock the collection!"), "the keyring does not answer"),
        (NoKeyringError("No recommended backend was available."), "there is no keyring"),
        (KeyringLocked("Failed to unlock the item!"), "the keyring is locked and was not unlocked"),
        (KeyringError("Can't get password from keychain: (-25308, 'x')"), "the keyring is locked and was not unlocked"),
        (KeyringError("Can't fetch password from system: (7, 'x')"), "the keyring refused"),
    ],
)
async def test_an_unusable_keyring_is_an_error_in_plain_words(
    use_keyring: Callable[..., None], error: Exception, message: str
) -> None:
    def fail(service: str, name: str) -> str:
        raise error

    use_keyring(fail)
    with pytest.raises(ConfigError) as raised:
        await resolve_secret("keyring:mail", {}, config_key="k")
    assert raised.value.message.startswith(f"k: {message}")
    assert str(error) not in raised.value.message
    assert raised.value.hint.endswith(", or use an environment variable: env:NAME")


async def test_a_locked_keyring_does_not_block(
    use_keyring: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = threading.Event()
    use_keyring(lambda service, name: "late" if unlocked.wait(30) else None)
    monkeypatch.setattr(secret_refs, "KEYRING_TIMEOUT", 0.01)
    with pytest.raises(ConfigError) as raised:
        await resolve_secret("keyring:mail", {}, config_key="k")
    unlocked.set()
    assert raised.value.message == "k: the keyring did not answer within 0 s"
    assert raised.value.hint == "unlock it, then try again"


# --- encryption -------------------------------------------------------------------------------------------------------


async def headers_for(url: str, *, allow_http: bool = False, **headers: str) -> dict[str, str]:
    return await resolve_headers(
        headers,
        ENVIRONMENT,
        url=url,
        allow_http=allow_http,
        config_key="servers.a.headers",
        on_secret=lambda value: None,
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "env:TOKEN"}, {"X": "Bearer env:TOKEN"}, {"Authorization": "x"}, {"api-key": "x"}, {"apikey": "x"},
        {"X-Company-Token": "x"}, {"Ocp-Apim-Subscription-Key": "x"}, {"X-Session": "x"}, {"X-Auth": "x"},
        {"X": "Basic dXNlcjpwYXNz"}, {"X": "token abc123"}, {"X": "ghp_" + "a1B2" * 9},
    ],
)  # fmt: skip
@pytest.mark.parametrize("url", ["http://10.0.0.5/mcp", "http://printer.local:8000/", "http://[2001:db8::1]/"])
async def test_a_secret_is_not_sent_without_encryption(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"servers\.a\.headers\.\S+ would be sent without encryption to") as caught:
        await headers_for(url, **headers)
    assert caught.value.hint == "use https, or set allow_http = true under [servers.a]"
    assert len(await headers_for(url, allow_http=True, **headers)) == 1


@pytest.mark.parametrize(
    "url", ["https://x.example/", "http://127.0.0.1:8000/", "http://localhost/", "http://[::1]/mcp"]
)
async def test_a_secret_is_sent_with_encryption_or_within_this_machine(url: str) -> None:
    assert await headers_for(url, X="Bearer env:TOKEN") == {"X": "Bearer from-env"}


async def test_a_header_without_a_secret_is_sent_anywhere() -> None:
    harmless = {"Accept": "x", "X-Trace": "abc", "Idempotency-Key": "abc123", "X-Auth-User": "ann", "X-Note": "token"}
    assert await headers_for("http://10.0.0.5/", **harmless) == harmless


async def test_a_secret_is_not_sent_to_a_proxy_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    check_encrypted("http://127.0.0.1:8000", allow_http=False, config_key="servers.a.url")
    check_encrypted("https://mcp.example.com", allow_http=False, config_key="servers.a.url")
    with pytest.raises(ConfigError, match=r"would be sent without encryption to the proxy of http_proxy"):
        check_encrypted("http://127.0.0.2/", allow_http=False, config_key="servers.a.url")
