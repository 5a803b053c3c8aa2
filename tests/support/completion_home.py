"""A home whose names shell completion offers, among them hostile ones."""

import json
from pathlib import Path

CONFIG = """
[servers.notes]
command = "no-such-program"
[servers.company]
url = "https://mcp.example.com/mcp"
[model.local]
name = "qwen3"
base_url = "http://127.0.0.1:9/v1"
[agents.librarian]
description = "my notes"
"""
HOSTILE_NAMES = "x$(touch ran);touch ran"


def write_completion_home(home: Path) -> None:
    """Write a config and a cached catalog of one server, with hostile names."""
    folder = home / ".config/mcpchat"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    (folder / "templates").mkdir()
    (folder / "templates" / "review.md").write_text("Review: $input")
    schema = {
        "properties": {
            "path": {"description": "Which\x1b[31m file"},
            "mode": {"enum": ["r", "rw"]},
            "raw": {"type": "boolean"},
            "odd": {"enum": 5},
            HOSTILE_NAMES: {},
        }
    }
    tools = [{"server": "notes", "name": "read_file", "description": "Reads", "schema": schema}]
    tools += [{"server": "notes", "name": name, "schema": {}} for name in (HOSTILE_NAMES, "a b", "a\nb", "`x`")]
    catalog = {
        "tools": tools,
        "resources": [{"server": "notes", "uri": "file:///todo.md", "title": "Things"}],
        "prompts": [{"server": "notes", "name": "summary", "arguments": [{"name": "style"}]}],
    }
    cache = home / ".cache/mcpchat/servers"
    (cache / "0.json").write_text(json.dumps({"format": 3, "catalog": catalog}))
    (cache / "broken.json").write_text("{")
