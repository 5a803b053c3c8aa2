"""servers search, and servers add with a name of the registry."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_registry import FakeRegistry, document
from tests.support.keyring import MemoryKeyring

NAME = "io.github.example/weather-mcp-server"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


def config(registry: FakeRegistry) -> str:
    return f'[registry]\nurl = "{registry.url}/"\n'


def found(run: CommandLine, *args: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads(run("servers", "search", *args, "-o", "json").stdout)
    return result


def test_a_search_finds_known_servers_and_those_of_the_registry(run: CommandLine, registry: FakeRegistry) -> None:
    registry.documents += [document("io.github.example/weather-two"), {"name": "broken/weather", "packages": 1}]
    registry.statuses = {"io.github.example/weather-two": "deleted"}
    code, out, err = unpack(run("servers", "search", "weather", config=config(registry)))
    assert (code, err, len(out.splitlines())) == (0, "", 2)
    assert out.splitlines()[1].split() == [NAME, "2.1.0", "npm,", "pypi,", "oci", "Forecasts", "for", "any", "place"]
    assert [server["name"] for server in found(run, "forecasts", "weather")] == [NAME]
    assert [server["name"] for server in found(run, "github", "repositories")] == ["deepwiki", "github"]
    assert "no server was found" in unpack(run("servers", "search", "xyzzy"))[2]


def test_pages_are_followed_up_to_the_limit(run: CommandLine, registry: FakeRegistry) -> None:
    registry.documents = [document(f"a.b/n{number}") for number in range(9)]
    registry.page = 2
    run("servers", "search", "x", config=config(registry))
    assert len(found(run, "a.b", "--limit", "5")) == 5
    assert sum("cursor" in path for path in registry.paths) == 2


def test_without_words_nothing_is_sent(run: CommandLine, registry: FakeRegistry) -> None:
    run("tools", config=config(registry))
    assert {"notion", "deepwiki"} <= {server["name"] for server in found(run)}
    assert registry.paths == []


def test_without_the_registry_the_known_ones_are_found(run: CommandLine) -> None:
    code, out, err = unpack(run("servers", "search", "notion", config='[registry]\nurl = "http://127.0.0.1:9"\n'))
    assert (code, "notion" in out, "cannot reach the registry http://127.0.0.1:9" in err) == (0, True, True)
    code, out, err = unpack(run("servers", "search", "weather"))
    assert (code, out, "cannot reach the registry" in err) == (4, "", True)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (500, None, "HTTP status 500"),
        (200, b"<html>", "did not answer as a registry does"),
        (200, b"[]", "did not answer"),
    ],
)
def test_a_registry_that_fails_is_named(
    run: CommandLine, registry: FakeRegistry, status: int, body: bytes | None, problem: str
) -> None:
    registry.status, registry.body = status, body
    code, _, err = unpack(run("servers", "search", "weather", config=config(registry)))
    assert (code, problem in err) == (4, True)


def test_a_companys_registry_gets_its_header(run: CommandLine, registry: FakeRegistry) -> None:
    headers = 'headers = {Authorization = "Bearer env:REG"}\n'
    run("servers", "search", "weather", config=config(registry) + headers, REG="sk-registry-1")
    assert registry.headers[-1]["authorization"] == "Bearer sk-registry-1"
    assert "env:REG" in run("config", "show").stdout


def servers_of(tmp_path: Path) -> dict[str, Any]:
    servers: dict[str, Any] = tomllib.loads((tmp_path / "c.toml").read_text()).get("servers", {})
    return servers


def test_a_server_is_added_with_its_exact_command(
    run: CommandLine, registry: FakeRegistry, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    words = ("servers", "add", NAME, "--as", "npm", "--no-check", "--input", "place=Rome", "--input")
    code, out, err = unpack(run(*words, "WEATHER_API_KEY=secret-1", config=config(registry)))
    assert (code, out, "runs      npx -y @example/weather@2.1.0 --units metric Rome" in err) == (2, "", True)
    assert "from      @example/weather 2.1.0 of npm" in err
    assert "WEATHER_API_KEY = in the keyring" in err
    assert "--yes adds it" in err
    assert (servers_of(tmp_path), keyring.passwords) == ({}, {})
    code, _, err = unpack(run(*words, "WEATHER_API_KEY=secret-1", "--yes", "--sandbox"))
    assert (code, "sandbox   network" in err, "secret-1" in err) == (0, True, False)
    assert servers_of(tmp_path)["weather"] == {
        "command": "npx",
        "args": ["-y", "@example/weather@2.1.0", "--units", "metric", "Rome"],
        "env": {"WEATHER_API_KEY": "keyring:weather-weather_api_key", "LOG_LEVEL": "info"},
        "sandbox": {"network": True, "write": ["~/.npm"]},
    }
    assert keyring.passwords == {("mcpchat", "weather-weather_api_key"): "secret-1"}


def test_a_version_and_a_name_can_be_chosen(run: CommandLine, registry: FakeRegistry, tmp_path: Path) -> None:
    words = ("--yes", "--no-check", "--input", "tenant=acme", "--input", "token=env:T")
    assert unpack(run("servers", "add", "mine", "com.example/notes@1.0.0", *words, config=config(registry)))[0] == 0
    assert servers_of(tmp_path)["mine"]["headers"]["Authorization"] == "Bearer env:T"
    code, _, err = unpack(run("servers", "add", "com.example/notes@9.9.9", *words))
    assert (code, f"the registry {registry.url} has no com.example/notes 9.9.9" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((NAME, "--as", "npm"), "place is required (Where)"),
        ((NAME, "--as", "remote"), "has no remote; it has npm, pypi, oci"),
        ((NAME, "--as", "pypi", "--input", "x=y"), "it asks for nothing"),
        ((NAME, "--as", "oci", "--sandbox", "--input", "source=/", "--input", "WEATHER_API_KEY=env:K"), "no sandbox"),
        (("com.example/gone",), "has no com.example/gone"),
        (("io.github.example/evil",), "cannot be used: npm: '--registry=x' is no name of a package"),
        (("io.github.example/empty",), "it names no package or address"),
        (("notoin",), "did you mean notion?"),
    ],
)
def test_what_cannot_be_added_says_why(
    run: CommandLine, registry: FakeRegistry, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    evil = {"registryType": "npm", "identifier": "--registry=x", "version": "1", "transport": {"type": "stdio"}}
    registry.documents += [document("io.github.example/evil", packages=[evil]), document("io.github.example/empty")]
    code, _, err = unpack(run("servers", "add", *words, "--yes", config=config(registry)))
    assert (code, problem in err) == (2, True), err
    assert servers_of(tmp_path) == {}


def test_a_known_server_is_added_by_its_name(run: CommandLine, tmp_path: Path) -> None:
    assert unpack(run("servers", "add", "notion", "--no-check", config="# mine\n"))[0] == 0
    assert servers_of(tmp_path)["notion"] == {"url": "https://mcp.notion.com/mcp"}


def test_a_deprecated_server_is_marked(run: CommandLine, registry: FakeRegistry) -> None:
    registry.statuses = {NAME: "deprecated"}
    words = ("servers", "add", NAME, "--as", "pypi", "--no-check")
    code, _, err = unpack(run(*words, "--yes", config=config(registry)))
    assert (code, "its publisher marks it as deprecated" in err) == (0, True)
    registry.statuses = {NAME: "deleted"}
    assert "was deleted from the registry" in unpack(run(*words, "--replace", "--yes"))[2]


def test_headers_go_to_the_registry_alone(run: CommandLine, registry: FakeRegistry) -> None:
    with FakeRegistry() as other:
        registry.redirect = other.url
        headers = 'headers = {X-Api-Key = "env:REG"}\n'
        code, _, err = unpack(
            run("servers", "search", "weather", config=config(registry) + headers, REG="sk-registry-1")
        )
        assert (code, f"sends to another address: {other.url}" in err) == (4, True)
        assert other.headers == []
        registry.redirect = registry.url
        assert "redirects without end" in unpack(run("servers", "search", "weather", REG="k"))[2]


def test_a_password_in_the_address_is_not_shown(run: CommandLine) -> None:
    url = "http://user:regpassw0rd@127.0.0.1:9"
    code, out, err = unpack(run("servers", "search", "weather", config=f'[registry]\nurl = "{url}"\n'))
    assert (code, out, "regpassw0rd" in err) == (4, "", False)


def test_nothing_is_stored_for_a_server_that_cannot_be_added(
    run: CommandLine, registry: FakeRegistry, keyring: MemoryKeyring
) -> None:
    words = ("com.example/notes", "--input", "tenant=acme", "--input", "token=secret-1", "--yes")
    code, _, err = unpack(run("servers", "add", *words, config=config(registry) + '[servers.notes]\ncommand = "x"\n'))
    assert (code, "there is a server named 'notes' already" in err) == (2, True)
    code, _, err = unpack(run("servers", "add", "mcpchat", *words))
    assert (code, "this name is reserved" in err) == (2, True)
    assert keyring.passwords == {}


def test_all_of_a_long_command_is_shown(run: CommandLine, registry: FakeRegistry) -> None:
    arguments = [
        {"type": "named", "name": "-e", "value": "A=" + "a" * 3000},
        {"type": "named", "name": "-v", "value": "/:/h\u200bost"},
    ]
    package = {
        "registryType": "oci",
        "identifier": "a/b:1.0",
        "transport": {"type": "stdio"},
        "runtimeArguments": arguments,
    }
    registry.documents = [document("io.github.example/long", packages=[package])]
    err = unpack(run("servers", "add", "io.github.example/long", config=config(registry)))[2]
    assert "/:/h" in err
    assert "\u200b" not in err
    assert "200b" in err.lower()
