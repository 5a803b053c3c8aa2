"""Checks of the config file, and of the project file of the working folder."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mcpchat.config.load import read_raw_config
from mcpchat.config.project_file import find_project, is_trusted, trust_store
from mcpchat.config.run import Paths
from mcpchat.config.schema import Config
from mcpchat.config.validation import find_literal_secrets
from mcpchat.doctor.check import Check, Subject
from mcpchat.errors import ConfigError, McpChatError


def check_config(path: Path, config: Config, error: ConfigError | None) -> Iterator[Check]:
    """Check the config that was loaded from ``path``, or the error that this gave."""
    subject = Subject("config")
    if error is not None:
        yield subject.wrong("file", error.message, error.hint or "mcpchat config validate", error.exit_code)
        return
    if not path.exists():
        yield subject.ok("file", f"none yet: {path}")
    else:
        yield subject.ok("file", f"{path}, servers: {_count_servers(path)}")
    if keys := find_literal_secrets(msgspec.to_builtins(config.servers)):
        detail = f"in plain text: {', '.join(keys)}"
        yield subject.warning("secrets", detail, 'mcpchat secret set NAME, then write "keyring:NAME"')


def _count_servers(path: Path) -> int:
    try:
        servers = tomllib.loads(read_raw_config(path)).get("servers")
    except (ConfigError, ValueError):  # it has just been read
        return 0
    return len(servers) if isinstance(servers, dict) else 0


def check_project(paths: Paths, user: Config) -> Iterator[Check]:
    """Whether the working folder has a project file, and whether it is in use."""
    subject = Subject("config")
    try:
        project = find_project(exclude=paths.config)
        if project is None or trust_store(paths).is_ignored(project.path):
            return
        content = project.parse(user)
        if is_trusted(project, paths):
            yield subject.ok("project", f"{project.label}, servers: {len(content.servers)}")
        else:
            yield subject.warning("project", f"{project.label} is not trusted, and not used", "mcpchat trust")
    except McpChatError as error:
        yield subject.warning("project", error.message, error.hint)
