"""mcpchat import: the servers of other clients."""

import json
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


def test_a_file_is_imported_and_says_what_is_left_to_do(run: CommandLine, tmp_path: Path) -> None:
    entry = {"command": "x", "env": {"KEY": "${input:api-key}"}, "autoApprove": ["t"]}
    value = {"mcpServers": {"a": entry}, "inputs": [{"id": "api-key", "description": "Your key"}]}
    (tmp_path / "m.json").write_text(json.dumps(value))
    code, _, err = unpack(run("import", "m.json", config="# mine\n"))
    assert code == 0
    assert "mcpchat secret set a-api-key stores its secret: Your key" in err
    assert "a: autoApprove is not taken over" in err
    assert servers_of(tmp_path)["a"]["env"] == {"KEY": "keyring:a-api-key"}


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
