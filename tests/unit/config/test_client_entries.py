"""Server entries in the JSON of other clients."""

import json
from typing import Any

import pytest

from mcpchat.config.clients.entries import read_client_entry
from mcpchat.errors import UsageError

NPX = {"command": "npx", "args": ["-y", "pkg"], "env": {"KEY": "${KEY}", "MODE": "a"}}


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        (NPX, {"command": "npx", "args": ["-y", "pkg"], "env": {"KEY": "env:KEY", "MODE": "a"}}),
        ({"mcpServers": {"notes": {"command": "a"}, "other": {"command": "b"}}}, {"command": "a"}),
        ({"servers": {"single": {"url": "https://a.example/mcp", "type": "http"}}}, {"url": "https://a.example/mcp"}),
        ({"type": "local", "command": ["a", "b c"]}, {"command": "a", "args": ["b c"]}),
        (
            {"url": "https://a.example/sse", "type": "sse", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
            {"url": "https://a.example/sse", "transport": "sse", "headers": {"Authorization": "Bearer env:TOKEN"}},
        ),
    ],
)
def test_an_entry_is_read(value: dict[str, Any], settings: dict[str, Any]) -> None:
    assert read_client_entry(json.dumps(value), "notes") == settings


def test_an_entry_with_its_name_but_without_braces_is_read() -> None:
    assert read_client_entry('"files": {"command": "a"}', "notes") == {"command": "a"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"command": ', "the JSON is not valid"),
        ('{"mcpServers": {"a": {}, "b": {}}}', "the JSON has the servers a, b: name one of them"),
        ('{"a": {"args": []}}', "the JSON has neither command nor url"),
        ("{}", "the JSON has the servers none"),
    ],
)
def test_other_json_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_client_entry(text, "notes")
