"""Servers that a command line names."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcpchat.config.clients.conversion import Surroundings
from mcpchat.config.clients.entries import ClientServer, read_client_servers
from mcpchat.config.named_servers import add_named_servers, find_named_server, name_address, parse_named_server
from mcpchat.config.schema import Config, parse
from mcpchat.errors import UsageError


def settings_of(servers: list[ClientServer]) -> dict[str, Any]:
    assert not [server.problem for server in servers if server.problem]
    return {server.name: server.settings for server in servers}


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a=https://a.example/mcp?x=1", {"a": {"url": "https://a.example/mcp?x=1"}}),
        ("https://mcp.linear.app/mcp", {"linear": {"url": "https://mcp.linear.app/mcp"}}),
        ("notes=npx -y 'a b'", {"notes": {"command": "npx", "args": ["-y", "a b"]}}),
        ("t = server", None),
        ("t=server", {"t": {"command": "server"}}),
    ],
)
def test_a_text_names_a_server(text: str, entries: dict[str, Any] | None) -> None:
    if entries is None:
        with pytest.raises(UsageError, match="no such file"):
            parse_named_server(text, {})
    else:
        assert settings_of(parse_named_server(text, {})) == entries


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://mcp.deepwiki.com/mcp", "deepwiki"),
        ("https://huggingface.co/mcp", "huggingface"),
        ("https://api.githubcopilot.com/mcp/", "githubcopilot"),
        ("http://127.0.0.1:8000/mcp", "127-0-0-1"),
        ("http://localhost:8000/mcp", "localhost"),
        ("http://[::1]/mcp", "1"),
        ("https://mcp.io/", "mcp-io"),
        ("https://mcp.bücher.example/", "b-cher"),
        ("https://mcp.shop.co.uk/", "shop"),
        ("https://mcp.example.de/", "example"),
    ],
)
def test_an_address_gives_a_name(url: str, name: str) -> None:
    assert name_address(url) == name


def test_a_file_of_another_client_names_its_servers(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(
        """{ // my servers
          "mcpServers": {
            "one": {"command": "./run", "args": ["${ROOT}/x", "${NONE:-y}"], "env": {"KEY": "${KEY}"},},
            "two": {"httpUrl": "https://two.example/mcp", "headers": {"Authorization": "Bearer $TOKEN"}},
          },
        }"""
    )
    assert settings_of(parse_named_server(str(file), {"ROOT": "/r"})) == {
        "one": {"command": str(tmp_path / "run"), "args": ["/r/x", "y"], "env": {"KEY": "env:KEY"}},
        "two": {"url": "https://two.example/mcp", "headers": {"Authorization": "Bearer env:TOKEN"}},
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"mcpServers": {"a": {"command": "x", "args": ["${NONE}"]}}}', "a: the environment variable NONE is not set"),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": "b-${C}"}}}}', "a: env.A: expected a variable alone"),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": "${input:key}"}}}}', "a: its client asks for key"),
        ('{"mcpServers": {"a": {}}}', "a: the JSON has neither command nor url"),
        ('{"command": "x"}', "the file has no servers"),
        ("[1]", "the file has no servers"),
        ("{'url':", "the JSON is not valid from character 2 on"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_without_usable_servers_says_why(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(content)
    with pytest.raises(UsageError) as raised:
        parse_named_server(str(file), {})
    assert raised.value.message.startswith(str(file))
    assert problem in raised.value.message


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (
            '[mcp_servers.a]\ncommand = "x"\nargs = ["y"]\n[mcp_servers.a.env]\nK = "v"',
            {"command": "x", "args": ["y"], "env": {"K": "v"}},
        ),
        (
            '[mcp_servers.a]\nurl = "https://a.example"\nbearer_token_env_var = "T"\nenv_http_headers = {X = "Y"}',
            {"url": "https://a.example", "headers": {"X": "env:Y", "Authorization": "Bearer env:T"}},
        ),
        (
            '{"context_servers": {"a": {"command": {"path": "x", "args": ["y"]}}}}',
            {"command": "x", "args": ["y"]},
        ),
        (
            '{"mcp": {"a": {"type": "local", "command": ["x", "y"], "environment": {"K": "v"}}}}',
            {"command": "x", "args": ["y"], "env": {"K": "v"}},
        ),
        (
            '{"servers": {"a": {"type": "sse", "url": "https://a.example"}}}',
            {"url": "https://a.example", "transport": "sse"},
        ),
        ('{"mcpServers": {"a": {"serverUrl": "https://a.example"}}}', {"url": "https://a.example"}),
    ],
)
def test_each_clients_entries_are_read(text: str, entry: dict[str, Any]) -> None:
    assert settings_of(read_client_servers(text, Surroundings({}), ".toml" if text.startswith("[") else ".json")) == {
        "a": entry
    }


def test_a_named_server_is_added_or_is_one_of_the_config() -> None:
    config = parse(
        '[servers.mine]\nurl = "https://a.example/mcp"\nenabled = false\n[servers.b]\ncommand = "b"', "c.toml"
    )
    added, names, _ = add_named_servers(config, ["https://a.example/mcp", "new=c d", "other=b"], {})
    assert names == ["mine", "new", "b"]
    assert (added.servers["mine"].enabled, list(added.servers)) == (True, ["mine", "b", "new"])
    _, names, _ = add_named_servers(config, ["https://mine.example.com/", "https://example.org/mcp"], {})
    assert names == ["example", "example-2"]
    with pytest.raises(UsageError, match="another server is named b"):
        add_named_servers(config, ["b=c"], {})


def test_a_server_that_the_config_has_is_found_by_the_typed_name() -> None:
    config = parse('[servers.mine]\nurl = "https://a.example/mcp"', "c.toml")
    texts = ["other=https://a.example/mcp", "third=c"]
    assert find_named_server(config, texts, "other") == "mine"
    assert find_named_server(config, texts, "mine") == "mine"
    assert find_named_server(config, texts, "third") == "third"


def test_a_secret_of_a_file_is_the_one_that_the_config_refers_to(tmp_path: Path) -> None:
    url, secret = "https://a.example/mcp", "Bearer abcdef0123456789"
    config = parse(f'[servers.a]\nurl = "{url}"\nheaders = {{ Authorization = "Bearer keyring:a" }}', "c.toml")
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"a": {"url": url, "headers": {"Authorization": secret}}}}))
    added, names, notices = add_named_servers(config, [str(file)], {})
    assert (names, notices, added.servers["a"].headers) == (["a"], [], {"Authorization": "Bearer keyring:a"})


def test_a_file_whose_name_is_taken_gets_another(tmp_path: Path) -> None:
    config = parse('[servers.a]\ncommand = "mine"', "c.toml")
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"a": {"command": "theirs"}, "b": {"command": "other"}}}))
    added, names, (notice,) = add_named_servers(config, [str(file)], {})
    assert names == ["a-2", "b"]
    assert (added.servers["a"].command, added.servers["a-2"].command) == ("mine", "theirs")
    assert notice.endswith("mcp.json: a is a-2 here: the config has another server a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a='b", "the quotes do not match"),
        ("a=ftp://x", "expected a URL that begins with https:// or http://"),
        ("https://", "has no valid host"),
        ("a=http://[x", "has no valid host"),
        ("a=http://x:99999", "has no valid port"),
        ("a" * 41 + "=x", "at most 40"),
        ("mcpchat=x", "reserved"),
    ],
)
def test_a_wrong_text_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        add_named_servers(Config(), [text], {})
