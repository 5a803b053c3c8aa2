"""Tests of the config file: its values and its errors."""

import json
from pathlib import Path

import jsonschema
import pytest

from mcpchat.config import schema
from mcpchat.config.schema import AgentConfig, ApprovalConfig, Config, ModelConfig, ServerConfig, Timeouts
from mcpchat.errors import ConfigError


def test_the_config_of_the_container_is_valid() -> None:
    text = (Path(__file__).parents[3] / "packaging" / "compose.toml").read_text()
    config = schema.parse(text, "compose.toml")
    assert (config.auth.store, config.threads.password) == ("file", "env:MCPCHAT_DATABASE_PASSWORD")


def test_no_config_means_a_calculator() -> None:
    assert schema.parse("", "c.toml") == Config(servers={"calculator": ServerConfig(builtin="calculator")})


def test_a_full_file_becomes_frozen_values() -> None:
    text = """
[model]
name = "m"
base_url = "http://127.0.0.1:1/v1"
api_key = "env:KEY"
temperature = 1

[servers.files]
command = "npx"
args = ["-y", "x"]
env = { A = "b" }
env_pass = ["C"]
cwd = "/tmp"
timeouts = { start = 5 }

[servers.far]
url = "https://example.com/mcp"
headers = { Authorization = "Bearer env:TOKEN" }
tools = ["search_*"]

[agents.math]
instructions = "Count."
servers = ["files"]

[approvals]
default = "deny"
allow = ["files.read_*"]

[timeouts]
call = 7.5
"""
    assert schema.parse(text, "c.toml") == Config(
        model=ModelConfig(name="m", base_url="http://127.0.0.1:1/v1", api_key="env:KEY", temperature=1.0),
        servers={
            "files": ServerConfig(
                command="npx",
                args=("-y", "x"),
                env={"A": "b"},
                env_pass=("C",),
                cwd="/tmp",
                timeouts=Timeouts(start=5.0),
            ),
            "far": ServerConfig(
                url="https://example.com/mcp", headers={"Authorization": "Bearer env:TOKEN"}, tools=("search_*",)
            ),
        },
        agents={"math": AgentConfig(instructions="Count.", servers=("files",))},
        approvals=ApprovalConfig(default="deny", allow=("files.read_*",)),
        timeouts=Timeouts(call=7.5),
    )


PROBLEMS = [
    ("[model]\nname = 3", "c.toml:2: model.name: expected a string, got a whole number"),
    ("[model]\ntemprature = 1", "c.toml:2: model.temprature: unknown key; did you mean temperature?"),
    ("[model]\ntemperature = 9", "c.toml:2: model.temperature: expected a number <= 2.0"),
    ('[model]\napi_key = "sk-1"', "c.toml:2: model.api_key: secrets are not allowed in this file"),
    ('[servers.a]\ncomand = "x"', "c.toml:2: servers.a.comand: unknown key; did you mean command?"),
    ('[servers.a]\ncommand = "x"\nurl = "https://x"', "c.toml:1: servers.a: expected only one of command and url"),
    ("[servers.a]\nenabled = true", 'c.toml:1: servers.a: expected one of "command", "url" and "builtin"'),
    ('[servers.a]\nurl = "http://"', "c.toml:2: servers.a.url: the URL has no valid host"),
    ('[servers.a]\nurl = "https://a.example:99999/mcp"', "c.toml:2: servers.a.url: the URL has no valid port"),
    ('[registry]\nurl = "https://[a"', "c.toml:2: registry.url: the URL has no valid host"),
    ('[servers.a]\nurl = "example.com"', "c.toml:2: servers.a.url: expected a URL that begins with https://"),
    (
        '[servers.a]\nurl = "https://x"\nargs = []',
        'c.toml:3: servers.a.args: only valid with "command", not with "url"',
    ),
    ('[servers.a]\ncommand = "x"\nheaders = {}', 'c.toml:3: servers.a.headers: only valid with "url"'),
    ('[servers.a]\ncommand = "x"\nassume_pkce = true', 'c.toml:3: servers.a.assume_pkce: only valid with "url"'),
    ('[servers.a]\nbuiltin = "calclator"', "c.toml:2: servers.a.builtin: no bundled server is named 'calclator'"),
    ('[servers."a b"]\ncommand = "x"', "c.toml:1: servers.a b: the name of a server has only letters"),
    (
        '[servers.a]\ncommand = "x"\nenv = { A = 1 }',
        "c.toml:3: servers.a.env: expected a string, got a whole number for A",
    ),
    ('[servers.a]\ncommand = "x"\ntimeouts.start = 0', "c.toml:3: servers.a.timeouts.start: expected a number > 0.0"),
    ("servers = 3", "c.toml:1: servers: expected a table"),
    ("[servers]\na = 3", "c.toml:2: servers.a: expected a table"),
    ('[agents.x]\nservers = ["calcualtor"]', "c.toml:2: agents.x.servers: no server is named 'calcualtor'; did you"),
    ('[approvals]\ndefault = "maybe"', "c.toml:2: approvals.default: expected one of 'allow', 'ask', 'deny'"),
    ("[approvals]\nallow = 'x'", "c.toml:2: approvals.allow: expected an array, got a string"),
    ('tool_search = "some"', "c.toml:1: tool_search: expected one of 'auto', 'on', 'off', 'native', a whole number"),
    ("tool_search = 1.5", "c.toml:1: tool_search: expected one of 'auto', 'on', 'off', 'native', a whole number"),
    ("tool_search = -1", "c.toml:1: tool_search: expected a whole number >= 0"),
    ('[limits]\ntool_search = "on"', "c.toml:2: limits.tool_search: it belongs above the first table"),
    ("[timeouts]\nstrat = 3", "c.toml:2: timeouts.strat: unknown key; did you mean start?"),
    (
        "[approvals]\ndeny = ['delete_file']",
        "c.toml:2: approvals.deny: no server is named 'delete_file'; for a tool write",
    ),
    ("[model]\nbase_url = 'localhost:1'", "c.toml:2: model.base_url: expected a URL that begins with https://"),
    ("[limits]\nmax_steps = 0", "c.toml:2: limits.max_steps: expected a whole number >= 1"),
    ("[modle]\nname = 'x'", "c.toml:1: modle: unknown key; did you mean model?"),
    ("[model\nname = 'x'", "c.toml:1: not valid TOML: "),
    (
        "[servers.a]\nbuiltin='gmail'\nargs=['x']",
        'c.toml:3: servers.a.args: only valid with "command", not with "builtin"',
    ),
    (
        "[servers.a]\nbuiltin='calculator'\nread_only=true",
        'only valid with builtin = "calendar", "drive", "gmail", "sheets"',
    ),
    ("[servers.a]\ncommand='x'\nread_only=true", 'c.toml:3: servers.a.read_only: only valid with builtin = "calendar"'),
    (
        "[servers.a]\nbuiltin='sheets'\nfolders=['~']",
        'c.toml:3: servers.a.folders: only valid with builtin = "drive", "gmail"',
    ),
    ("[servers.a]\nbuiltin='drive'\nfolders=['x']", "'x': expected an absolute path, or one that begins with ~"),
    ("[servers.a]\nbuiltin='drive'\nauth='gogle'", "no provider is named 'gogle'; did you mean google?"),
]


@pytest.mark.parametrize(("text", "error"), PROBLEMS)
def test_an_error_names_file_line_key_and_expected_value(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        schema.parse(text, "c.toml")
    assert error in raised.value.message


def test_all_errors_are_reported_in_the_order_of_the_file() -> None:
    text = "\n".join(["[model]", "nam = 1", "[limits]", "max_steps = 'x'"])
    with pytest.raises(ConfigError) as raised:
        schema.parse(text, "c.toml")
    assert [line.split(":")[1] for line in raised.value.message.splitlines()] == ["2", "4"]


def test_the_schema_accepts_the_example_and_rejects_each_invalid_file() -> None:
    import tomllib

    schema = json.loads(Path("docs/config.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    check.validate(tomllib.loads(Path("config.example.toml").read_text()))
    for text in ("[model]\nname = 3", "[servers.a]\ncomand = 'x'", "[servers.a]\ncommand='x'\nurl='http://x'"):
        assert list(check.iter_errors(tomllib.loads(text)))


def test_every_line_of_the_example_works_uncommented() -> None:
    lines = Path("config.example.toml").read_text().splitlines()
    text = "\n".join(line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines)
    config = schema.parse(text, "example")
    assert sorted(config.servers) == ["calculator", "calendar", "company", "files", "mail", "notion"]
    assert config.auth.entries["google"].client_secret == "keyring:google-client-secret"
    assert config.model.api_key == "env:OPENAI_API_KEY"
    assert config.agents["math"].servers == ("calculator",)


def test_a_bundled_server_has_its_login_and_scopes() -> None:
    text = """
[servers.mail]
builtin = "gmail"
[servers.reading]
builtin = "drive"
read_only = true
account = "work"
[servers.narrow]
builtin = "drive"
auth = "google"
scopes = ["https://www.googleapis.com/auth/drive.file"]
[servers.own]
builtin = "sheets"
env = { GOOGLE_ACCESS_TOKEN = "env:TOKEN" }
[servers.passed]
builtin = "sheets"
env_pass = ["GOOGLE_APPLICATION_CREDENTIALS"]
[servers.sum]
builtin = "calculator"
"""
    config = schema.parse(text, "c.toml").servers
    scopes = {
        name: (server.auth, [scope.rpartition("/")[2] for scope in server.scopes]) for name, server in config.items()
    }
    assert scopes == {
        "mail": ("google", ["gmail.modify"]),
        "reading": ("google", ["drive.readonly"]),
        "narrow": ("google", ["drive.file"]),
        "own": (None, []),
        "passed": (None, []),
        "sum": (None, []),
    }
    assert config["mail"].token_env == "GOOGLE_ACCESS_TOKEN"


def test_a_bundled_server_gets_its_token_variable_from_any_provider() -> None:
    text = """
[auth.other]
client_id = "x"
authorization_url = "https://x.example/a"
token_url = "https://x.example/t"
[servers.mail]
builtin = "gmail"
auth = "other"
"""
    mail = schema.parse(text, "c.toml").servers["mail"]
    assert (mail.auth, mail.token_env) == ("other", "GOOGLE_ACCESS_TOKEN")
