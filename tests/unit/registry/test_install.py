"""Settings for servers of the registry: what they ask for, and the exact command."""

from typing import Any

import msgspec
import pytest

from mcpchat.errors import UsageError
from mcpchat.registry.documents import Server
from mcpchat.registry.install import build_settings
from mcpchat.registry.known_servers import known_servers, search_known
from mcpchat.registry.options import InstallOption, list_options
from tests.support.fake_registry import REMOTE, STDIO, WEATHER, document


def options(value: dict[str, Any]) -> dict[str, InstallOption]:
    return {option.kind: option for option in list_options(msgspec.convert(value, Server))}


def package(**fields: Any) -> InstallOption:
    value = {"registryType": "npm", "identifier": "pkg", "version": "1.0.0", "transport": STDIO, **fields}
    (option,) = options(document("a.b/c", packages=[value])).values()
    return option


def args(option: InstallOption, **values: str) -> list[str]:
    built: list[str] = build_settings(option, values).settings["args"]
    return built


def test_a_package_has_a_fixed_version_and_its_arguments() -> None:
    found = options(WEATHER)
    built = build_settings(found["npm"], {"place": "New York", "WEATHER_API_KEY": "secret-1", "verbose": "true"})
    assert built.settings == {
        "command": "npx",
        "args": ["-y", "@example/weather@2.1.0", "--units", "metric", "--verbose", "New York"],
        "env": {"WEATHER_API_KEY": "secret-1", "LOG_LEVEL": "info"},
    }
    assert built.secret_keys == ("env.WEATHER_API_KEY",)
    assert build_settings(found["npm"], {"place": "x", "WEATHER_API_KEY": "keyring:mine"}).secret_keys == ()
    assert build_settings(found["pypi"], {}).settings == {"command": "uvx", "args": ["weather-mcp@2.1.0"]}
    assert build_settings(found["oci"], {"source": "/tmp", "WEATHER_API_KEY": "x"}).settings["args"] == [
        "run", "-i", "--rm", "--mount", "type=bind,src=/tmp,dst=/data", "-e", "WEATHER_API_KEY", "images.example/example/weather:2.1.0",
    ]  # fmt: skip


def test_what_is_required_is_named() -> None:
    option = options(WEATHER)["npm"]
    inputs = {item.name: item for item in option.inputs}
    assert [name for name, item in inputs.items() if item.is_required] == ["place", "WEATHER_API_KEY"]
    assert (inputs["WEATHER_API_KEY"].is_secret, inputs["units"].choices) == (True, ("metric", "imperial"))
    with pytest.raises(UsageError, match=r"place is required \(Where\)"):
        build_settings(option, {"WEATHER_API_KEY": "x"})
    with pytest.raises(UsageError, match="units: expected one of metric, imperial"):
        build_settings(option, {"WEATHER_API_KEY": "x", "place": "y", "units": "kelvin"})


def test_a_remote_server_has_its_address_and_headers() -> None:
    option = options(REMOTE)["remote"]
    built = build_settings(option, {"tenant": "acme", "token": "secret-1"})
    assert built.settings == {
        "url": "https://acme.example.com/mcp",
        "headers": {"Authorization": "Bearer secret-1", "X-Region": "eu"},
    }
    assert built.secret_keys == ("headers.Authorization",)
    assert build_settings(option, {"tenant": "acme", "token": "env:T"}).secret_keys == ()
    sse = document("a.b/c", remotes=[{"type": "sse", "url": "https://a.example/sse"}])
    assert build_settings(options(sse)["remote"], {}).settings == {"url": "https://a.example/sse", "transport": "sse"}


@pytest.mark.parametrize(
    ("fields", "values", "expected"),
    [
        ({"registryBaseUrl": "https://npm.example"}, {}, ["-y", "--registry=https://npm.example", "pkg@1.0.0"]),
        ({"runtimeHint": "bunx"}, {}, ["pkg@1.0.0"]),
        ({"runtimeArguments": [{"type": "positional", "value": "pkg@1.0.0"}]}, {}, ["-y", "pkg@1.0.0"]),
        ({"runtimeArguments": [{"type": "positional", "value": "-y"}, {"type": "positional", "value": "pkg"}]}, {},
         ["-y", "pkg@1.0.0"]),
        ({"packageArguments": [{"type": "positional", "default": "aaa"}, {"type": "positional", "default": "bbb"}]}, {},
         ["-y", "pkg@1.0.0", "aaa", "bbb"]),
        ({"registryType": "oci", "identifier": "a/b", "runtimeArguments": [{"type": "positional", "value": "run --interactive"}]}, {},
         ["run", "--rm", "--interactive", "a/b:1.0.0"]),
        ({"registryType": "pypi", "version": "1.0", "identifier": "x-mcp", "runtimeArguments": [
            {"type": "named", "name": "--from", "value": "x-mcp==1.0"}, {"type": "positional", "value": "x-server"}]}, {},
         ["--from", "x-mcp==1.0", "x-server"]),
        ({"runtimeArguments": [{"type": "named", "name": "--yes"}]}, {}, ["--yes", "pkg@1.0.0"]),
        ({"registryType": "pypi", "registryBaseUrl": "https://p.example"}, {}, ["--default-index", "https://p.example", "pkg@1.0.0"]),
        ({"registryType": "nuget"}, {}, ["pkg@1.0.0", "--yes", "--"]),
        ({"registryType": "oci", "identifier": "a/b", "registryBaseUrl": "https://images.example"}, {},
         ["run", "-i", "--rm", "images.example/a/b:1.0.0"]),
        ({"registryType": "oci", "identifier": "a/b", "registryBaseUrl": "https://docker.example"}, {},
         ["run", "-i", "--rm", "a/b:1.0.0"]),
        ({"registryType": "oci", "identifier": "a/b", "runtimeArguments": [{"type": "positional", "value": "run"}]}, {},
         ["run", "-i", "--rm", "a/b:1.0.0"]),
        ({"packageArguments": [{"type": "positional", "valueHint": "dirs", "isRepeated": True}]}, {"dirs": "/a '/b c'"},
         ["-y", "pkg@1.0.0", "/a", "/b c"]),
        ({"packageArguments": [{"type": "positional", "valueHint": "dir"}]}, {"dir": "/b c"}, ["-y", "pkg@1.0.0", "/b c"]),
        ({"packageArguments": [{"type": "named", "name": "--off", "format": "boolean"}]}, {"off": "false"}, ["-y", "pkg@1.0.0"]),
        ({"packageArguments": [{"type": "named", "name": "--level", "description": "x"}]}, {}, ["-y", "pkg@1.0.0"]),
        ({"packageArguments": [{"type": "named", "name": "--stdio"}]}, {}, ["-y", "pkg@1.0.0", "--stdio"]),
        ({"packageArguments": [{"type": "named", "name": "--n", "value": 5}]}, {}, ["-y", "pkg@1.0.0", "--n", "5"]),
        ({"packageArguments": [{"type": "positional", "value": "{unknown}"}]}, {}, ["-y", "pkg@1.0.0", "{unknown}"]),
    ],
)  # fmt: skip
def test_commands_of_packages(fields: dict[str, Any], values: dict[str, str], expected: list[str]) -> None:
    assert args(package(**fields), **values) == expected


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"identifier": "--registry=https://evil.example"}, "is no name of a package"),
        ({"identifier": "pkg; rm -rf /"}, "is no name of a package"),
        ({"version": "--help"}, "is no version"),
        ({"version": ""}, "no fixed version"),
        ({"registryType": "mcpb"}, "no packages of the kind mcpb"),
        ({"registryType": "oci", "identifier": "--privileged"}, "is no name of a package"),
        ({"registryType": "nuget", "registryBaseUrl": "https://evil.example"}, "another source"),
        ({"registryBaseUrl": "http://npm.example"}, "does not begin with https://"),
        ({"registryBaseUrl": "https://[bad"}, "is no address"),
        ({"registryType": "oci", "identifier": "a/b", "registryBaseUrl": "https://[bad"}, "is no address"),
        ({"transport": {"type": "streamable-http", "url": "http://localhost:1"}}, "listen on a port"),
        ({"packageArguments": [{"type": "named", "name": "--key", "isSecret": True}]}, "a secret on its command line"),
        ({"environmentVariables": [{"name": "A B"}]}, "is no name of a variable"),
        ({"packageArguments": [{"type": "positional", "value": "a\nb"}]}, "control characters"),
        ({"packageArguments": [{"type": "positional", "valueHint": "x", "default": "a\x1b[2J"}]}, "control characters"),
        (
            {
                "packageArguments": [{"type": "named", "name": "--TOKEN", "description": "t"}],
                "environmentVariables": [{"name": "TOKEN", "isSecret": True}],
            },
            "a secret on its command line",
        ),
        ({"environmentVariables": [{"name": "A", "value": "cmd:touch ran"}]}, "your own secrets or programs"),
        ({"environmentVariables": [{"name": "A", "default": "keyring:mine"}]}, "your own secrets or programs"),
        ({"environmentVariables": [{"name": "A", "choices": ["env:HOME"]}]}, "your own secrets or programs"),
        ({"version": "latest"}, "no fixed version"),
        ({"version": "1.x"}, "no fixed version"),
        ({"version": "v1"}, "no fixed version"),
        ({"version": "2beta"}, "no fixed version"),
        (
            {"runtimeArguments": [{"type": "positional", "value": "evil-package"}]},
            "something else to run: evil-package",
        ),
        (
            {
                "registryType": "oci",
                "identifier": "good/x:1.0",
                "version": "",
                "runtimeArguments": [{"type": "positional", "value": "evil/y:latest"}],
            },
            "something else to run",
        ),
        (
            {
                "registryType": "pypi",
                "runtimeArguments": [{"type": "named", "name": "--from", "value": "git+https://evil.example/x"}],
            },
            "run from something else",
        ),
        (
            {"packageArguments": [{"type": "named", "name": "--api-key", "description": "k"}]},
            "a secret on its command line",
        ),
        ({"version": "1.2"}, "no fixed version"),
        ({"registryType": "oci", "identifier": "a/b", "version": ""}, "no fixed version"),
        ({"registryType": "oci", "identifier": "a/b:latest", "version": ""}, "no fixed version"),
        ({"runtimeHint": "sh"}, "is to be run with sh"),
        ({"registryType": "pypi", "runtimeHint": "python"}, "is to be run with python"),
    ],
)
def test_a_package_that_cannot_be_used_says_why(fields: dict[str, Any], problem: str) -> None:
    assert problem in package(**fields).problem


@pytest.mark.parametrize(
    ("remote", "problem"),
    [
        ({"type": "streamable-http", "url": "http://a.example"}, "does not begin with https://"),
        ({"type": "websocket", "url": "https://a.example"}, "no transport websocket"),
        (
            {"type": "sse", "url": "https://a.example/{k}", "variables": {"k": {"isSecret": True}}},
            "a secret in its address",
        ),
        ({"type": "sse", "url": "https://a.example", "headers": [{"name": "A: b"}]}, "no valid name"),
        ({"type": "sse", "url": "https://{tenant}.example"}, "does not declare: tenant"),
        ({"type": "sse", "url": "https://[bad/mcp"}, "is no address"),
        ({"type": "sse", "url": "https://user@a.example"}, "has a user name"),
        (
            {
                "type": "sse",
                "url": "https://a.example/{t}",
                "variables": {"t": {}},
                "headers": [{"name": "A", "value": "Bearer {t}", "variables": {"t": {"isSecret": True}}}],
            },
            "a secret in its address",
        ),
        (
            {"type": "sse", "url": "https://a.example", "headers": [{"name": "A", "value": "cmd:touch ran"}]},
            "your own secrets",
        ),
    ],
)
def test_a_remote_that_cannot_be_used_says_why(remote: dict[str, Any], problem: str) -> None:
    assert problem in options(document("a.b/c", remotes=[remote]))["remote"].problem


def test_variables_that_change_what_runs_are_named() -> None:
    names = [{"name": "LD_PRELOAD", "default": "x"}, {"name": "PLAIN"}]
    assert package(environmentVariables=names).risky_variables == ["LD_PRELOAD"]


def test_the_known_servers_are_found_without_a_network() -> None:
    assert {"deepwiki", "notion", "linear", "github", "huggingface", "sentry"} <= known_servers().keys()
    assert all(server.url.startswith("https://") for server in known_servers().values())
    assert list(search_known("issues linear")) == ["linear"]
    assert search_known("nothing-of-the-kind") == {}


def test_parts_of_a_document_make_no_reference() -> None:
    headers = [{"name": "A", "value": "c{x}", "variables": {"x": {"default": "md:touch ran"}}}]
    option = options(document("a.b/c", remotes=[{"type": "sse", "url": "https://a.example", "headers": headers}]))[
        "remote"
    ]
    assert option.problem == ""
    with pytest.raises(UsageError, match="its publisher refers to your own secrets"):
        build_settings(option, {})


@pytest.mark.parametrize("tenant", ["", "a b", "x@evil.example/"])
def test_a_value_makes_no_other_address(tenant: str) -> None:
    remote = {"type": "sse", "url": "https://{tenant}.example/mcp", "variables": {"tenant": {}}}
    option = options(document("a.b/c", remotes=[remote]))["remote"]
    assert option.inputs[0].is_required
    with pytest.raises(UsageError):
        build_settings(option, {"tenant": tenant})
