"""The secrets of a config that a run knows from its start, and the values that are no secrets."""

import pytest

from mcpchat.config.known_secrets import find_known_secrets, is_harmless
from mcpchat.config.schema import Config, parse
from mcpchat.util.redaction import SecretRegistry

CONFIG = """
[model]
api_key = "env:MODEL_KEY"
[servers.box]
command = "box"
env = { TOKEN = "env:BOX_TOKEN", HOOK = "env:HOOK", PORT = "env:PORT", PASSWORD = "pl4in-password" }
env_pass = ["PASSED_TOKEN", "EDITOR"]
[servers.web]
url = "https://mcp.example.com/mcp?api_key=env:WEB_KEY&team=7"
headers = { Authorization = "Bearer env:BEARER", X-Api-Key = "keyring:web" }
"""
ENVIRONMENT = {
    "MODEL_KEY": "model-key-1",
    "BOX_TOKEN": "box-token-2",
    "HOOK": "https://hooks.example.com/services/T00/B00/abcdefgh12345678",
    "PORT": "8080",
    "PASSED_TOKEN": "passed-token-3",
    "EDITOR": "some-editor",
    "WEB_KEY": "web-key-4",
    "BEARER": "bearer-token-5",
    "UNUSED_TOKEN": "unused-token",
}


def read_config(text: str) -> Config:
    return parse(text, "config.toml")


def test_all_that_can_be_read_without_a_question_is_known() -> None:
    found = set(find_known_secrets(read_config(CONFIG), ENVIRONMENT))
    expected = {"MODEL_KEY", "BOX_TOKEN", "HOOK", "PASSED_TOKEN", "WEB_KEY", "BEARER"}
    assert found == {ENVIRONMENT[name] for name in expected} | {"pl4in-password"}


@pytest.mark.parametrize(
    "value",
    ["", "true", "8080", "127.0.0.1", "/", "https://api.example.com/v1", "http://localhost:8080/a/b-c/" + "x" * 90],
)
def test_ordinary_values_are_harmless(value: str) -> None:
    assert is_harmless(value)


@pytest.mark.parametrize(
    "value",
    [
        "1234567890",
        "https://hooks.example.com/a/abcdefgh12345678",
        "https://me:pw@x",
        "https://x/?a=b",
        "/no/such",
        "x" * 5000,
    ],
)
def test_what_could_be_a_secret_is_not_harmless(value: str) -> None:
    assert not is_harmless(value)


def test_the_password_of_an_address_is_a_secret_by_itself() -> None:
    secrets = SecretRegistry()
    secrets.add("postgresql://me:p%40ssw0rd-9@db.example.com/x")
    assert secrets.redact("it is p@ssw0rd-9, or p%40ssw0rd-9, at db.example.com") == (
        "it is [secret], or [secret], at db.example.com"
    )
