"""Servers of other clients: where their files are, and what an import of them would do."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcpchat.config.clients.conversion import Surroundings
from mcpchat.config.clients.entries import ClientServer, read_client_servers
from mcpchat.config.clients.files import CLIENTS, find_client_files, project_folder, select_clients
from mcpchat.config.clients.plan import PlannedServer, plan_import, settings_to_write
from mcpchat.config.schema import parse
from mcpchat.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def suffix_of(text: str) -> str:
    return ".toml" if text.startswith("[") else ".json" if text.startswith("{") else ".yaml"


def one(text: str, surroundings: Surroundings = Surroundings()) -> ClientServer:  # noqa: B008
    (server,) = read_client_servers(text, surroundings, suffix_of(text))
    return server


def plan(path: Path, text: str, config: str = "") -> dict[str, PlannedServer]:
    (file,) = plan_import([write(path, text)], parse(config or "[servers]", "c.toml"), {})
    assert file.problem == ""
    return {server.source_name: server for server in file.servers}


@pytest.mark.parametrize(
    ("platform", "files"),
    [
        (
            "linux",
            {
                "claude-desktop": ".config/Claude/claude_desktop_config.json",
                "claude-code": ".claude.json",
                "vscode": ".config/Code/User/mcp.json",
                "cursor": ".cursor/mcp.json",
                "codex": ".codex/config.toml",
                "gemini": ".gemini/settings.json",
                "copilot": ".copilot/mcp-config.json",
                "windsurf": ".codeium/windsurf/mcp_config.json",
                "zed": ".config/zed/settings.json",
                "goose": ".config/goose/config.yaml",
                "opencode": ".config/opencode/opencode.json",
                "lmstudio": ".lmstudio/mcp.json",
                "cline": ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            },
        ),
        (
            "darwin",
            {
                "claude-desktop": "Library/Application Support/Claude/claude_desktop_config.json",
                "vscode": "Library/Application Support/Code/User/mcp.json",
                "zed": ".config/zed/settings.json",
                "goose": ".config/goose/config.yaml",
            },
        ),
        (
            "win32",
            {
                "claude-desktop": "AppData/Roaming/Claude/claude_desktop_config.json",
                "vscode": "AppData/Roaming/Code/User/mcp.json",
                "zed": "AppData/Roaming/Zed/settings.json",
                "goose": "AppData/Roaming/Block/goose/config/config.yaml",
                "opencode": ".config/opencode/opencode.json",
            },
        ),
    ],
)
def test_each_client_has_its_files_on_each_platform(home: Path, platform: str, files: dict[str, str]) -> None:
    for file in files.values():
        write(home / file, "{}")
    found = find_client_files(CLIENTS, home / "project", {}, platform=platform)
    assert {file.client.name: str(file.path.relative_to(home)) for file in found} == files


def test_a_projects_files_count_if_they_are_wanted(home: Path) -> None:
    project = home / "project"
    write(project / ".mcp.json", "{}")
    write(project / ".vscode" / "mcp.json", "{}")
    claude, vscode = select_clients("claude"), select_clients("VSCode")
    assert [client.name for client in (*claude, *vscode)] == ["claude-desktop", "claude-code", "vscode"]
    assert list(find_client_files((*claude, *vscode), project, {})) == []
    found = list(find_client_files((*claude, *vscode), project, {}, with_project=True))
    assert [(file.path, file.folder, file.is_project) for file in found] == [
        (project / ".mcp.json", project, True),
        (project / ".vscode" / "mcp.json", project, True),
    ]
    assert {project_folder(file.path) for file in found} == {project}


def test_a_variable_moves_the_files_of_a_client(home: Path) -> None:
    write(home / "elsewhere" / "config.toml", "")
    (file,) = find_client_files(select_clients("codex"), home, {"CODEX_HOME": str(home / "elsewhere")})
    assert file.path == home / "elsewhere" / "config.toml"


def test_claude_code_has_servers_of_one_folder(home: Path) -> None:
    here, there = ({"mcpServers": {name: {"command": f"./{name}"}}} for name in ("here", "there"))
    value = {"mcpServers": {"all": {"command": "a"}}, "projects": {str(home): here, "/other": there}}
    servers = read_client_servers(json.dumps(value), Surroundings(folder=home))
    assert {server.name: server.settings for server in servers} == {
        "all": {"command": "a"},
        "here": {"command": str(home / "here")},
    }


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (
            "extensions:\n  fetch: {cmd: uvx, args: [mcp-fetch], envs: {A: b}, env_keys: [KEY], type: stdio}\n"
            "  developer: {type: builtin, bundled: true}",
            {"command": "uvx", "args": ["mcp-fetch"], "env": {"A": "b", "KEY": "keyring:key"}},
        ),
        (
            "extensions:\n  far: {type: streamable_http, uri: 'https://a.example/mcp', enabled: false}",
            {"url": "https://a.example/mcp", "enabled": False},
        ),
        (
            '{"mcp": {"a": {"type": "local", "command": ["x"], "environment": {"K": "{env:K}"}}}}',
            {"command": "x", "env": {"K": "env:K"}},
        ),
        (
            '{"mcpServers": {"a": {"httpUrl": "https://a.example", "trust": true, "excludeTools": ["rm"]}}}',
            {"url": "https://a.example", "exclude": ["rm"]},
        ),
        (
            '[mcp_servers.a]\ncommand = "x"\nenv_vars = ["V"]\nenabled_tools = ["t"]\nstartup_timeout_sec = 9\n',
            {"command": "x", "env_pass": ["V"], "tools": ["t"], "timeouts": {"start": 9}},
        ),
        ('{"mcpServers": {"a": {"type": "local", "command": "x", "tools": ["*"]}}}', {"command": "x"}),
        ('{"mcpServers": {"a": {"url": "https://a.example/sse"}}}', {"url": "https://a.example/sse", "transport": "sse"}),
        (
            '{"servers": {"a": {"command": "x", "env": {"K": "${input:my key}"}}}, "inputs": [{"id": "my key"}]}',
            {"command": "x", "env": {"K": "keyring:my-key"}},
        ),
        (
            '{"context_servers": {"a": {"command": {"path": "x", "env": {"A": "b"}}}}}',
            {"command": "x", "env": {"A": "b"}},
        ),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": "${B:-c}", "N": 1, "T": true}}}}',
         {"command": "x", "env": {"A": "c", "N": "1", "T": "true"}}),
        (
            '[mcp_servers.a]\ncommand = "x"\nenv_vars = ["GH", {name = "R", source = "remote"}]\n',
            {"command": "x", "env_pass": ["GH", "R"]},
        ),
        (
            '{"mcpServers": {"a": {"url": "https://a.example", "auth": {"CLIENT_ID": "c", "CLIENT_SECRET": "s"}}}}',
            {"url": "https://a.example", "client_id": "c", "client_secret": "keyring:client-secret"},
        ),
        ('{"mcpServers": {"a": {"command": "no-such-npx -y \'a b\'"}}}', {"command": "no-such-npx", "args": ["-y", "a b"]}),
        ("extensions:\n  on: {cmd: uvx, type: stdio}", {"command": "uvx"}),
        ("extensions:\n  456: {cmd: uvx, type: stdio}", {"command": "uvx"}),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": "${B:-}", "H": "$lower"}}}}', {"command": "x", "env": {"H": "$lower"}}),
        (
            '{"mcpServers": {"a": {"command": "npx", "args": ["-y", "mcp-remote@0.1", "https://a.example/mcp",'
            ' "--header", "Authorization:${H}"], "env": {"H": "Bearer ${TOKEN}"}}}}',
            {"url": "https://a.example/mcp", "headers": {"Authorization": "Bearer env:TOKEN"}},
        ),
        (
            '{"mcpServers": {"a": {"command": "npx", "args": ["mcp-remote", "https://a.example/mcp", "--resource", "x"]}}}',
            {"command": "npx", "args": ["mcp-remote", "https://a.example/mcp", "--resource", "x"]},
        ),
    ],
)  # fmt: skip
def test_each_clients_own_keys_are_read(text: str, settings: dict[str, Any]) -> None:
    server = one(text)
    assert (server.problem, server.settings) == ("", settings)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('{"command": "x", "envFile": ".env"}', "its variables are in a file, .env"),
        ('{"command": "x", "args": ["${input:k}"]}', "takes no question to the user"),
        ('{"command": "x", "env": {"A": "{file:key}"}}', "its value is in a file"),
        ('{"command": "x", "env": {"A": "keyring:mine"}}', "cannot use your keyring"),
        ('{"url": "wss://a.example", "type": "ws"}', "has no transport ws"),
        ('{"source": "extension", "settings": {}}', "it is an extension of that client"),
        ('{"url": "https://a.example", "headersHelper": "x"}', "its headers come from a program"),
        ('{"command": "x", "args": ["--token", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"]}', "not allowed in args"),
        ('{"url": "https://a.example/?myApiKey=abcdef012345"}', "its address has a secret in plain text"),
        ('{"url": "ftp://a.example"}', "expected a URL that begins with https://"),
        ('{"command": "x", "env": {"A": "${config:foo}"}}', "${config:foo} has no meaning here"),
        ('{"command": "x", "args": ["${command:pick}"]}', "${command:pick}: a command line takes no variables"),
        ('{"command": "x", "env": {"A": {"b": 1}}}', "env.A: expected a text"),
        ('{"url": "https://a.example/?key=${input:k}&tok=SECRETINURL9"}', "${input:k}: an address takes no question"),
    ],
)
def test_an_entry_that_cannot_be_used_says_why(tmp_path: Path, entry: str, problem: str) -> None:
    servers = plan(tmp_path / "m.json", f'{{"mcpServers": {{"a": {entry}, "b": {{"command": "b"}}}}}}')
    assert (servers["a"].state, servers["b"].state) == ("cannot", "new")
    assert problem in servers["a"].detail
    assert "SECRETINURL9" not in servers["a"].detail
    assert "ghp_" not in servers["a"].detail


@pytest.mark.parametrize(
    "entry", [{"command": "${workspaceFolder}/x"}, {"command": "x", "env": {"A": "${workspaceFolder}"}}]
)
def test_a_file_of_the_user_has_no_project(entry: dict[str, Any]) -> None:
    assert "${workspaceFolder}" in one(json.dumps({"mcpServers": {"a": entry}})).problem


def test_a_folder_fills_its_variable(tmp_path: Path) -> None:
    text = '{"servers": {"a": {"command": "${workspaceFolder}/x", "args": ["run.py"], "env": {"H": "${userHome}"}}}}'
    write(tmp_path / "run.py", "")
    server = one(text, Surroundings(folder=tmp_path))
    assert server.settings == {
        "command": f"{tmp_path}/x",
        "args": ["run.py"],
        "cwd": str(tmp_path),
        "env": {"H": str(Path.home())},
    }


ENTRIES = """{"mcpServers": {
  "same": {"command": "x", "env": {"API_KEY": "abcdef0123456789"}},
  "differs": {"command": "x", "args": ["2"]},
  "copy": {"url": "https://a.example/mcp"},
  "My server": {"command": "y", "alwaysAllow": ["t"]},
  "twice": {"command": "y"}
}}"""
CONFIG = """
[servers.same]
command = "x"
env = {API_KEY = "keyring:any"}
trust = true
[servers.differs]
command = "x"
[servers.mine]
url = "https://a.example/mcp"
"""


def test_a_server_is_new_or_one_of_the_config(tmp_path: Path) -> None:
    servers = plan(tmp_path / "m.json", ENTRIES, CONFIG)
    assert {name: (server.name, server.state, server.detail) for name, server in servers.items()} == {
        "same": ("same", "same", ""),
        "differs": ("differs", "differs", "args"),
        "copy": ("copy", "same", "mine"),
        "My server": ("My-server", "new", ""),
        "twice": ("twice", "same", "My-server"),
    }
    assert servers["My server"].omitted == ("alwaysAllow",)


def test_secrets_become_references_with_the_servers_name(tmp_path: Path) -> None:
    text = """{"inputs": [{"id": "pat", "description": "Your token"}], "servers": {"Git": {
      "url": "https://a.example", "headers": {"Authorization": "Bearer ${input:pat}", "X-Api-Key": "abcdef0123456"}}}}"""
    server = plan(tmp_path / "m.json", text)["Git"]
    assert (server.moved_secrets, server.asked_secrets) == (("headers.X-Api-Key",), {"git-pat": "Your token"})
    assert settings_to_write(server)["headers"] == {
        "Authorization": "Bearer keyring:git-pat",
        "X-Api-Key": "keyring:git-x-api-key",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"mcpServers": {"a": {"command": "x", "timeout": ' + "9" * 5000 + "}}}", "a number that is too long"),
        ("extensions:\n  a: [", "the YAML is not valid in line 2"),
        ("[mcp_servers", "the TOML is not valid"),
        ("[" * 100_000, "the TOML is not valid"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_a_file_with_a_fault_says_where(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_client_servers(text, Surroundings(), suffix_of(text))


def test_aliases_of_yaml_are_not_spelt_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    server = one("\n".join([*lines, "extensions:", "  a: {cmd: x, env: {A: *a9}}"]), Surroundings())
    assert server.problem == "env.A: expected a text"


@pytest.mark.parametrize("name", ["mcp", "servers", "extensions", "mcpServers", "context_servers"])
@pytest.mark.parametrize("table", ["mcpServers", "servers", "context_servers", "mcp"])
def test_a_server_may_have_the_name_of_a_table(table: str, name: str) -> None:
    servers = {name: {"command": "x"}, "good": {"command": "y"}}
    found = read_client_servers(json.dumps({table: servers}), Surroundings())
    assert [server.name for server in found] == [name, "good"]
    assert [server.name for server in read_client_servers(json.dumps(servers), Surroundings())] == [name, "good"]


def test_a_variable_that_is_set_is_referred_to() -> None:
    text = '{"mcpServers": {"a": {"command": "x", "env": {"A": "${B:-c}"}, "args": ["${D:-e}"]}}}'
    settings = one(text, Surroundings(is_set=lambda name: name == "B")).settings
    assert settings == {"command": "x", "args": ["e"], "env": {"A": "env:B"}}
