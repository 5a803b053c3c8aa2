"""mcpchat import: the servers of other clients."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.keyring import MemoryKeyring

SECRET = "abcdef0123456789"
CURSOR: dict[str, Any] = {
    "notes": {"command": "npx", "args": ["-y", "notes"]},
    "git": {"command": "git-mcp", "env": {"API_TOKEN": SECRET, "MODE": "a"}},
    "bad": {"command": "x", "envFile": ".env"},
}


@pytest.fixture
def cursor(isolated: Path) -> Path:
    file = isolated / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"mcpServers": CURSOR}))
    return file


def servers_of(tmp_path: Path) -> dict[str, Any]:
    servers: dict[str, Any] = tomllib.loads((tmp_path / "c.toml").read_text()).get("servers", {})
    return servers


def test_what_was_found_is_shown(run: CommandLine, cursor: Path) -> None:
    code, out, err = unpack(run("import", config='[servers.notes]\ncommand = "other"\n'))
    assert (code, out.splitlines()) == (
        0,
        [
            "cursor  ~/.cursor/mcp.json",
            "  differs  notes  command, args differ from yours",
            "  new      git    git-mcp  (1 secret in plain text)",
            "  cannot   bad    its variables are in a file, .env",
        ],
    )
    assert "mcpchat import cursor copies the new ones" in err
    (file,) = json.loads(run("import", "-o", "json").stdout)
    assert (file["client"], file["path"], [server["state"] for server in file["servers"]]) == (
        "cursor",
        str(cursor),
        ["differs", "new", "cannot"],
    )
    assert SECRET not in json.dumps(file)


def test_new_servers_are_copied_and_their_secrets_move(
    run: CommandLine, cursor: Path, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    before = cursor.read_text()
    code, _, err = unpack(run("import", "cursor", config="# mine\n"))
    assert (code, "git.env.API_TOKEN: secrets in plain text" in err, "--yes" in err) == (2, True, True)
    assert (tmp_path / "c.toml").read_text() == "# mine\n"
    code, out, err = unpack(run("import", "cursor", "--dry-run"))
    assert (code, "+[servers.notes]" in out, '+env = {API_TOKEN = "keyring:git-api_token"' in out) == (0, True, True)
    assert (tmp_path / "c.toml").read_text() == "# mine\n"
    keyring.passwords["mcpchat", "git-api_token"] = "another secret of the user"
    code, out, err = unpack(run("import", "cursor", "--yes"))
    assert (code, out) == (0, "")
    assert "added notes, git" in err
    assert "bad cannot be used: its variables are in a file, .env" in err
    assert (tmp_path / "c.toml").read_text().startswith("# mine\n")
    assert servers_of(tmp_path)["git"] == {
        "command": "git-mcp",
        "env": {"API_TOKEN": "keyring:git-api_token-2", "MODE": "a"},
    }
    assert keyring.passwords["mcpchat", "git-api_token-2"] == SECRET
    assert keyring.passwords["mcpchat", "git-api_token"] == "another secret of the user"
    assert cursor.read_text() == before
    code, _, err = unpack(run("import", "cursor"))
    assert (code, "git is in your config" in err) == (0, True)


def test_one_server_is_named_and_replaces_another(run: CommandLine, cursor: Path, tmp_path: Path) -> None:
    config = '[servers.notes]\ncommand = "other"\nenv = {A = "b"}\ntrust = true\n'
    code, _, err = unpack(run("import", "cursor", "notes", config=config))
    assert (code, "command, args, env differ" in err, "--replace" in err) == (2, True, True)
    assert unpack(run("import", "cursor", "notes", "--replace"))[0] == 0
    assert servers_of(tmp_path) == {"notes": {"trust": True, **CURSOR["notes"]}}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("cursor", "nots"), "cursor has no server named nots; did you mean notes?"),
        (("cursor", "bad"), "bad cannot be used: its variables are in a file, .env"),
        (("zed",), "Zed has no servers here"),
        (("curser",), "no such client or file; did you mean cursor?"),
        (("empty.json",), "the file has no servers"),
        (("broken.json",), "the JSON is not valid from character 17 on"),
    ],
)
def test_what_cannot_be_imported_is_an_error(
    run: CommandLine, cursor: Path, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "broken.json").write_text('{"mcpServers": {')
    code, out, err = unpack(run("import", *arguments, config="# mine\n"))
    assert (code, out) == (2, "")
    assert problem in err
    assert (tmp_path / "c.toml").read_text() == "# mine\n"


ASKS = {
    "mcpServers": {"a": {"command": "x", "env": {"KEY": "${input:api-key}"}, "autoApprove": ["t"]}},
    "inputs": [{"id": "api-key", "description": "Your key"}],
}


def test_a_file_is_imported_and_says_what_is_left_to_do(
    run: CommandLine, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text(json.dumps(ASKS))
    code, _, err = unpack(run("import", "m.json", config="# mine\n"))
    assert code == 0
    assert "mcpchat secret set a-api-key stores its secret: Your key" in err
    assert "a: autoApprove is not taken over" in err
    assert servers_of(tmp_path)["a"]["env"] == {"KEY": "keyring:a-api-key"}


def test_what_is_asked_for_gets_no_secret_that_is_there(
    run: CommandLine, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text(json.dumps(ASKS))
    keyring.passwords["mcpchat", "a-api-key"] = "another secret of the user"
    config = '[servers.b]\ncommand = "b"\nenv = {K = "keyring:a-api-key-2"}\n'
    run("import", "m.json", config=config)
    assert servers_of(tmp_path)["a"]["env"] == {"KEY": "keyring:a-api-key-3"}
    result = run("doctor", "--from", "m.json", "-o", "json")
    assert [(check["name"], check["status"]) for check in json.loads(result.stdout)] == [("secrets", "warning")]


def test_without_a_keyring_it_gets_a_name_that_no_secret_has(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    (tmp_path / "m.json").write_text(json.dumps(ASKS))
    assert unpack(run("import", "m.json", config="# mine\n"))[0] == 0
    assert re.fullmatch("keyring:a-api-key-[0-9a-f]{6}", servers_of(tmp_path)["a"]["env"]["KEY"])


HOSTILE = [
    {"url": "http://127.0.0.1:9", "headers": {"X": "${A:-Bearer cmd:touch ran}"}},
    {"url": "http://127.0.0.1:9", "headers": {"X": "Bearer ${A:-Bearer keyring:mine}"}},
    {"command": "x", "env": {"X": "${A:-Bearer keyring:mine}"}},
    {"url": "http://127.0.0.1:9", "oauth": {"clientId": "Bearer keyring:mine"}},
    {"url": "http://127.0.0.1:9", "headers": {"X": "${A:-cmd:touch ran}"}},
    {"url": "http://127.0.0.1:9", "headers": {"X": "Bearer ${A:-keyring:mine}"}},
    {"command": "x", "env": {"X": "cmd:touch ran"}},
    {"url": "http://127.0.0.1:9", "oauth": {"clientId": "keyring:mine"}},
    {
        "command": "npx",
        "args": ["mcp-remote", "https://127.0.0.1:9", "--header", "X:${A}"],
        "env": {"A": "cmd:touch ran"},
    },
]


@pytest.mark.parametrize("entry", HOSTILE)
def test_a_file_cannot_use_our_references(
    run: CommandLine, keyring: MemoryKeyring, tmp_path: Path, entry: dict[str, Any]
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"mcpServers": {"a": entry}}))
    code, _, err = unpack(run("import", "m.json", "a", config="# mine\n"))
    assert (code, "cannot use your keyring or run commands" in err) == (2, True)
    assert unpack(run("doctor", "--from", "m.json"))[0] == 2
    assert servers_of(tmp_path) == {}
    assert not list(tmp_path.rglob("ran"))


SECRET_ENTRIES = [
    ({"command": "x", "env": {"MYSQL_PASS": "S3cretPass99"}}, "moved"),
    ({"command": "x", "env": {"GMAIL_APP_PASSWORD": "abcd efgh ijkl mnop"}}, "moved"),
    ({"command": "x", "env": {"NEO4J_PASSWORD": "correcthorse"}}, "moved"),
    ({"command": "x", "env": {"API_KEY": "1234567890123"}}, "moved"),
    ({"command": "x", "env": {"DB_PASSWORD": "$ecretPassw0rd"}}, "moved"),
    ({"url": "https://a.example", "headers": {"X-Auth": "abcdefg"}}, "moved"),
    ({"command": "x", "args": ["--jira-token", "abcDEF123456ghi"]}, "cannot"),
    ({"command": "x", "args": ["--key", "3f1c2a9e-0000-4000-8000-000000000000"]}, "cannot"),
    ({"command": "x", "args": ["--config", '{"apiKey":"abc123SECRET99"}']}, "cannot"),
    ({"command": "docker", "args": ["run", "-e", "API_TOKEN=abcdefgh", "i"]}, "cannot"),
    ({"command": "npx", "args": ["mcp-remote", "https://a.example", "--resource", "y", "--header", "Authorization: Bearer lit3ral99"]}, "cannot"),
    ({"command": "npx", "args": ["supergateway", "--header", "Authorization: Basic dXNlcjpwYXNzd29yZA=="]}, "cannot"),
    ({"command": "x", "args": ["-H", "X-Api-Key: 0123456789abcdef"]}, "cannot"),
    ({"command": "x", "env": {"GIT_AUTHOR": "Ann Other", "TOKENIZER": "cl100k_base", "API_KEY_HEADER": "X-Key"}}, "plain"),
    ({"url": "https://actions.example/mcp/s/NDQ4YTk2NzktYjE3OC00ZDRi/mcp"}, "cannot"),
    ({"command": "x", "env": {"AUTH_TYPE": "basic", "LOG_LEVEL": "info", "KEY_FILE": "/etc/key"}}, "plain"),
    ({"command": "x", "args": ["--token-limit", "4000000", "--port", "8080", "-e", "API_TOKEN"]}, "plain"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "kind"), SECRET_ENTRIES)
def test_no_secret_gets_into_the_file(
    run: CommandLine, keyring: MemoryKeyring, tmp_path: Path, entry: dict[str, Any], kind: str
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"mcpServers": {"a": entry}}))
    (file,) = json.loads(run("import", "m.json", "-o", "json", "--dry-run", config="# mine\n").stdout)
    (server,) = file["servers"]
    assert (server["state"], bool(server["moved_secrets"])) == {
        "moved": ("new", True), "cannot": ("cannot", False), "plain": ("new", False),
    }[kind]  # fmt: skip
    run("import", "m.json", "--yes")
    values = [*entry.get("env", {}).values(), *entry.get("headers", {}).values()] if kind == "moved" else []
    assert not any(value in (tmp_path / "c.toml").read_text() for value in values)


def test_an_invalid_config_is_not_written_and_stores_nothing(
    run: CommandLine, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    entry = {"command": "x", "env": {"API_KEY": SECRET}}
    (tmp_path / "m.json").write_text(json.dumps({"mcpServers": {"mcpchat": entry}}))
    assert "reserved" in unpack(run("import", "m.json", "mcpchat", "--yes", config="# mine\n"))[2]
    (tmp_path / "m.json").write_text(json.dumps({"mcpServers": {"notes": entry}}))
    config = '[servers.notes]\nurl = "https://a.example"\nclient_id = "c"\nauth = "oauth"\ntrust = true # important\n'
    assert unpack(run("import", "m.json", "--replace", "--yes", config=config))[0] == 0
    assert servers_of(tmp_path)["notes"] == {
        "command": "x", "env": {"API_KEY": "keyring:notes-api_key"}, "trust": True,
    }  # fmt: skip
    assert "# important" in (tmp_path / "c.toml").read_text()


def test_servers_of_one_name_get_numbers(run: CommandLine, isolated: Path, tmp_path: Path) -> None:
    (isolated / ".config" / "Claude").mkdir(parents=True)
    one, two = ({"mcpServers": {name: {"command": name}}} for name in ("a", "b"))
    one["mcpServers"] |= {"two words": {"command": "d"}, "two-words": {"command": "e"}, "メモ": {"command": "f"}}
    one["mcpServers"]["same"] = two["mcpServers"]["b"]
    (isolated / ".config" / "Claude" / "claude_desktop_config.json").write_text(json.dumps(one))
    (isolated / ".claude.json").write_text(
        json.dumps({"mcpServers": {"a": {"url": "https://a.example"}, **two["mcpServers"]}})
    )
    assert unpack(run("import", "claude", config="[servers]\n"))[0] == 0
    assert {name: settings.get("command") for name, settings in servers_of(tmp_path).items()} == {
        "calculator": None, "a": "a", "two-words": "d", "two-words-2": "e", "server": "f", "same": "b", "a-2": None,
    }  # fmt: skip


def test_a_project_is_shown_but_not_copied_by_the_name_of_its_client(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / ".mcp.json").write_text('{"mcpServers": {"team": {"command": "x"}}}')
    code, out, err = unpack(run("import"))
    assert (code, "(of this project)" in out, "mcpchat trust uses them here" in err) == (0, True, True)
    assert unpack(run("import", "claude"))[0] == 2
    assert unpack(run("trust", "ignore"))[0] == 0
    assert "not trusted" not in unpack(run("tools"))[2]
    assert unpack(run("trust", "revoke"))[0] == 0
    assert "not trusted" in unpack(run("tools"))[2]


def test_without_clients_nothing_is_found(run: CommandLine) -> None:
    code, out, err = unpack(run("import"))
    assert (code, out) == (0, "")
    assert err.startswith("no servers of other clients were found; looked for Claude Desktop, Claude Code, VS Code")


def test_each_server_gets_a_secret_of_its_own(run: CommandLine, keyring: MemoryKeyring, tmp_path: Path) -> None:
    ask = {"headers": {"Authorization": "Bearer ${input:token}"}}
    value = {
        "servers": {"GitHub": {"url": "https://good.example", **ask}, "github": {"url": "https://evil.example", **ask}}
    }
    (tmp_path / "m.json").write_text(json.dumps(value))
    assert unpack(run("import", "m.json", "--yes", config="[servers]\n"))[0] == 0
    names = {
        settings["headers"]["Authorization"] for settings in servers_of(tmp_path).values() if "headers" in settings
    }
    assert names == {"Bearer keyring:github-token", "Bearer keyring:github-token-2"}


def test_one_entry_that_the_config_refuses_does_not_hide_the_others(run: CommandLine, tmp_path: Path) -> None:
    bad = {"url": "https://a.example", "oauth": {"clientId": "abc", "clientSecret": "s"}}
    (tmp_path / "m.json").write_text(json.dumps({"mcpServers": {"bad": bad, "good": {"command": "x"}}}))
    code, _, err = unpack(run("import", "m.json", config="[servers]\n"))
    assert (code, "bad cannot be used: client_secret" in err, "good" in servers_of(tmp_path)) == (0, True, True)


@pytest.mark.parametrize("value", ["${" * 200_000, "{file:" * 100_000, "x" * 40_000])
def test_a_long_value_is_refused_at_once(run: CommandLine, tmp_path: Path, value: str) -> None:
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"a": {"command": "x", "env": {"A": value}}}}))
    assert "longer than 32,768 characters" in unpack(run("import", ".mcp.json", "a", config="# mine\n"))[2]
    assert "not trusted" in unpack(run("tools"))[2]


def test_thousands_of_servers_are_refused_at_once(run: CommandLine, tmp_path: Path) -> None:
    servers = {f"{'n' * 40}{number}": {"command": "x"} for number in range(3000)}
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    assert "more than 500 servers" in unpack(run("import", ".mcp.json", config="# mine\n"))[2]
    assert unpack(run("tools"))[0] == 0
