"""Notices changes of the config while a chat runs, and says what they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpchat.config.clients.files import PROJECT_FILES
from mcpchat.config.project import FILE_NAME
from mcpchat.config.run import Paths, working_directory
from mcpchat.config.schema import Config

_Signature = tuple[tuple[int, int, int] | None, ...]


class ConfigFiles:
    """The files that the config comes from: the user's own, a project's, and the list of trusted projects."""

    def __init__(self, paths: Paths) -> None:
        folder = working_directory()
        projects = [one / name for one in (folder, *folder.parents) for name in (FILE_NAME, *PROJECT_FILES)]
        self._paths = [paths.config, paths.state / "trusted.json", *projects]
        self._signature = self._read()

    def have_changed(self) -> bool:
        """Whether a file has changed since this was asked last."""
        before, self._signature = self._signature, self._read()
        return before != self._signature

    def _read(self) -> _Signature:
        return tuple(map(_stat, self._paths))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except (OSError, ValueError):
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def describe_changes(old: Config, new: Config) -> str:
    """What differs, as in ``added notes; removed files; rules``; empty if nothing does."""
    parts = [
        *_describe_tables(old.servers, new.servers, ""),
        *_describe_tables(old.agents, new.agents, "agent "),
    ]
    if old.approvals != new.approvals:
        parts.append("rules")
    others = [
        name
        for name in Config.__struct_fields__
        if name not in ("servers", "agents", "approvals") and getattr(old, name) != getattr(new, name)
    ]
    return "; ".join([*parts, *([", ".join(others)] if others else [])])


def _describe_tables(old: Mapping[str, Any], new: Mapping[str, Any], kind: str) -> list[str]:
    groups = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    return [f"{verb} {', '.join(f'{kind}{name}' for name in names)}" for verb, names in groups.items() if names]
