"""The key of the cached lists: what may change them, and nothing else."""

import os
import sys
from pathlib import Path

import pytest

from mcpchat.config.schema import ServerConfig
from mcpchat.mcp.catalog_cache import cache_key


def key(folder: Path, *args: str, command: str = sys.executable) -> str:
    return cache_key(ServerConfig(command=command, args=args, cwd=str(folder)), {"PATH": os.environ["PATH"]})


def touch(path: Path, text: str = "x") -> None:
    """Write the file with a time of change that it did not have."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("server.py",), "server.py"),
        (("-u", "server.mjs"), "server.mjs"),
        (("script",), "script"),
        (("-m", "package.server"), "package/server.py"),
        (("-m", "package"), "package/__main__.py"),
    ],
)
def test_a_changed_script_changes_the_key(tmp_path: Path, args: tuple[str, ...], name: str) -> None:
    touch(tmp_path / name)
    before = key(tmp_path, *args)
    assert key(tmp_path, *args) == before
    touch(tmp_path / name)
    assert key(tmp_path, *args) != before


def test_a_changed_program_changes_the_key(tmp_path: Path) -> None:
    program = tmp_path / "program"
    touch(program, "#!/bin/sh")
    program.chmod(0o755)
    before = key(tmp_path, command=str(program))
    touch(program, "#!/bin/sh")
    assert key(tmp_path, command=str(program)) != before


@pytest.mark.parametrize("name", ["notes.db", "server.log", "data.json", "settings.toml", "no-suffix"])
def test_changed_data_does_not(tmp_path: Path, name: str) -> None:
    args = ("server.py", "--db-path", name, str(tmp_path / name))
    touch(tmp_path / "server.py")
    before = key(tmp_path, *args)
    touch(tmp_path / name)  # it is made by the first run
    assert key(tmp_path, *args) == before
    touch(tmp_path / name)
    assert key(tmp_path, *args) == before


def test_a_script_with_its_interpreter_named_in_it_counts_anywhere(tmp_path: Path) -> None:
    touch(tmp_path / "tool", "#!/usr/bin/env python3")
    before = key(tmp_path, "-p", "server", "tool", command="env")
    touch(tmp_path / "tool", "#!/usr/bin/env python3")
    assert key(tmp_path, "-p", "server", "tool", command="env") != before
