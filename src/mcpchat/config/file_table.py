"""The config in effect, as a TOML file would have it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mcpchat.config.auth_schema import ProviderConfig
from mcpchat.config.schema import AgentConfig, Config, ModelEntry, ServerConfig, to_plain


def to_file_table(table: Mapping[str, Any], *, defaults: bool) -> dict[str, Any]:
    """The settings of ``to_redacted`` as TOML can have them, without nulls; unless ``defaults``, without defaults."""
    usual = to_plain(Config()) if not defaults else {}
    if not defaults and table["servers"] != usual["servers"]:
        usual["servers"] = {}  # a server of the defaults counts only if it is the only one
    entries: dict[str, dict[str, Any]] = {
        "servers": msgspec.to_builtins(ServerConfig()),
        "agents": msgspec.to_builtins(AgentConfig()),
        "model": msgspec.to_builtins(ModelEntry()),
        "auth": msgspec.to_builtins(ProviderConfig()),
    }
    shortened = {
        section: {
            key: _without(value, entries[section]) if section in entries and isinstance(value, dict) else value
            for key, value in content.items()
        }
        if isinstance(content, dict) and not defaults
        else content
        for section, content in table.items()
    }
    plain: dict[str, Any] = _without(shortened, usual)
    return plain


def _without(value: Any, usual: Any) -> Any:
    """The value without nulls, and without what is as usual; tables are compared key by key."""
    if not isinstance(value, dict):
        return [_without(item, None) for item in value] if isinstance(value, list) else value
    usual = usual if isinstance(usual, dict) else {}
    kept = {
        key: _without(item, usual.get(key))
        for key, item in value.items()
        if item is not None and not (key in usual and item == usual[key])
    }
    return {key: item for key, item in kept.items() if item != {} or key not in usual}
