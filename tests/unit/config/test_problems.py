"""Problems of a config file that its types cannot express: the whole message that the user reads."""

import pytest

from mcpchat.config import schema
from mcpchat.config.auth_schema import ProviderConfig
from mcpchat.config.schema import ServerConfig
from mcpchat.config.validation import find_literal_secrets
from mcpchat.errors import ConfigError

PROVIDER = '[auth.x]\nclient_id = "i"\nauthorization_url = "https://x.example/a"\ntoken_url = "https://x.example/t"\n'

PROBLEMS = [
    (
        PROVIDER + 'parameters = { state = "1", scope = "mail", prompt = "consent" }',
        "c.toml:5: auth.x.parameters: scope, state: set by mcpchat itself",
    ),
    (
        '[servers.far]\nurl = "https://x.example"\nauth = "client_credentials"',
        'c.toml:3: servers.far.auth: expected "client_id" too\n'
        'c.toml:3: servers.far.auth: expected one of "client_secret" and "private_key" too',
    ),
    (
        '[servers.box]\ncommand = "x"\nauth = 3',
        "c.toml:3: servers.box.auth: expected a string, got a whole number",
    ),
    (
        '[servers.mcpchat]\ncommand = "x"',
        "c.toml:1: servers.mcpchat: this name is reserved: choose another",
    ),
    (
        '[agents.mail]\ninstructions = "Be brief."\ninstructions_file = "mail.md"',
        'c.toml:3: agents.mail.instructions_file: cannot be combined with "instructions"',
    ),
    (
        '[agents."my mail"]\ninstructions = "Be brief."',
        "c.toml:1: agents.my mail: the name of an agent has only letters, digits, and . _ / -",
    ),
    (
        '[model.demo]\nname = "m"',
        "c.toml:1: model.demo: this name is reserved for the built-in model: choose another",
    ),
    (
        '[model."my model"]\nname = "m"',
        "c.toml:1: model.my model: the name of a model table has only letters, digits, and . _ / -",
    ),
    (
        '[servers.far]\nurl = "https://x.example"\nsandbox = true',
        'c.toml:3: servers.far.sandbox: only valid with "command" or "builtin": a remote server runs elsewhere',
    ),
    (
        '[servers.box]\ncommand = "x"\n[servers.box.sandbox]\nread = ["data", "/srv"]\nwrite = ["~/notes"]',
        "c.toml:4: servers.box.sandbox.read: 'data': expected an absolute path, or one that begins with ~",
    ),
    (
        '[approvals]\ndeny = ["calculater.*"]',
        "c.toml:2: approvals.deny: 'calculater.*': no server is named 'calculater'; did you mean calculator?",
    ),
]


@pytest.mark.parametrize(("text", "message"), PROBLEMS)
def test_a_problem_names_its_line_and_key_and_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        schema.parse(text, "c.toml")
    assert (raised.value.message, raised.value.hint) == (message, "mcpchat config validate checks the file again")


def test_a_complete_sign_in_with_client_credentials_is_accepted() -> None:
    secret = (
        '[servers.far]\nurl = "https://x.example"\nauth = "client_credentials"\n'
        'client_id = "i"\nclient_secret = "env:SECRET"\nissuer = "https://login.example"'
    )
    key = secret.replace("client_secret", "private_key")
    server = ServerConfig(
        url="https://x.example", auth="client_credentials", client_id="i", issuer="https://login.example",
        client_secret="env:SECRET",
    )  # fmt: skip
    assert schema.parse(secret, "c.toml").servers == {"far": server}
    assert schema.parse(key, "c.toml").servers["far"].private_key == "env:SECRET"


def test_other_parameters_of_the_authorization_url_are_accepted() -> None:
    config = schema.parse(PROVIDER + 'parameters = { prompt = "consent" }', "c.toml")
    assert config.auth.entries == {
        "x": ProviderConfig(
            client_id="i",
            authorization_url="https://x.example/a",
            token_url="https://x.example/t",
            parameters={"prompt": "consent"},
        )
    }


def test_a_pattern_may_name_a_server_some_of_its_tools_or_mcpchat_itself() -> None:
    text = '[servers.box]\ncommand = "x"\n[approvals]\nallow = ["box", "box.read_*", "*.list", "mcpchat.read_result"]'
    assert schema.parse(text, "c.toml").approvals.allow == ("box", "box.read_*", "*.list", "mcpchat.read_result")


@pytest.mark.parametrize(
    "text",
    [
        '[servers.a]\ncommand = "x"\nauth = ["x"]\n',
        '[servers.a]\nurl = "https://x.y"\nheaders = { Authorization = "env:X" }\nauth = ["x"]\n',
        '[auth.x]\nparameters = 7\n', '[auth.x]\nparameters = [[1]]\n',
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_a_problem_of_the_config(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        schema.parse(text, "c.toml")


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ({"url": "https://x.example", "headers": {"Authorization": "Bearer abc-def-ghi"}}, "headers.Authorization"),
        ({"url": "https://x.example", "headers": {"X-Api-Key": "abcdef"}}, "headers.X-Api-Key"),
        ({"command": "x", "env": {"GITHUB_TOKEN": "abcdefgh1"}}, "env.GITHUB_TOKEN"),
        ({"command": "x", "env": {"PGPASSWORD": "hunter22"}}, "env.PGPASSWORD"),
        ({"command": "x", "env": {"DATABASE_URL": "postgres://u:hunter22@db.example/x"}}, "env.DATABASE_URL"),
        ({"command": "x", "env": {"GIT_AUTHOR_NAME": "Jane Doe 2nd", "AUTHOR_EMAIL": "a1@b.example", "MAX_TOKENS": "1048576"}}, ""),
        ({"command": "x", "env": {"TOKEN_TYPE": "oauth2", "LLM_API_KEY": "not-needed", "KEY_FILE": "./key1.pem"}}, ""),
        ({"url": "https://x.example/?monkey=something1", "headers": {"X-Auth-User": "ann123", "Idempotency-Key": "abc123"}}, ""),
        ({"command": "x", "env": {"SETTING": "ghp_" + "a1B2" * 9}}, "env.SETTING"),
        ({"url": "https://ann:word@x.example/mcp"}, "url"),
        ({"url": "https://x.example/mcp?api_key=abcdefgh"}, "url.api_key"),
        ({"url": "https://x.example/mcp?a=1&api_key=keyring:mine"}, ""),
        ({"url": "https://x.example/ghp_" + "a1B2" * 9}, "url"),
        ({"url": "https://x.example", "headers": {"Authorization": "Bearer env:TOKEN", "X-Key": "keyring:x"}}, ""),
        ({"command": "x", "env": {"TOKEN_FILE": "/run/secrets/token", "KEY_COUNT": "3", "AUTH_URL": "https://x.example"}}, ""),
        ({"url": "https://x.example/mcp?page=1"}, ""),
    ],
)  # fmt: skip
def test_secrets_in_plain_text_are_found(server: dict[str, object], key: str) -> None:
    assert find_literal_secrets({"a": server}) == ([f"servers.a.{key}"] if key else [])
