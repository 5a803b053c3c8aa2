"""Project files: found from the working folder upwards, and used once the person trusts just what they say."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcpchat.config.project import FILE_NAME, Project, merge, parse_project
from mcpchat.config.project_trust import ProjectTrustStore, TrustedFile
from mcpchat.config.run import Paths, working_directory
from mcpchat.config.schema import Config
from mcpchat.errors import ConfigError, McpChatError
from mcpchat.util.sanitize import one_line, sanitize

_MAX_BYTES = 1_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class ProjectFile:
    """A file as it was read: what is shown, trusted and used is this one text."""

    path: Path
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parse(self, user: Config) -> Project:
        """Raises ConfigError."""
        return parse_project(self.text, str(self.path), folder=str(self.path.parent), user=user)


def find_project(*, exclude: Path) -> ProjectFile | None:
    """The nearest project file in the working folder or above; ``but`` is the user's own. Raises ConfigError."""
    folder = working_directory()
    for directory in (folder, *folder.parents):
        path = directory / FILE_NAME
        try:
            if path.is_file() and not (exclude.exists() and path.samefile(exclude)):
                return ProjectFile(path=path, text=_read_file(path))
        except OSError:
            continue  # a folder that cannot be looked into
    return None


def canonical_path(path: Path) -> Path:
    """The path under which trust in the file is kept, however it is written."""
    return path.absolute().parent.resolve() / path.name


def _read_file(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: not UTF-8 text") from error


def trust_store(paths: Paths) -> ProjectTrustStore:
    return ProjectTrustStore(paths.state / "trusted.json")


def is_trusted(project: ProjectFile, paths: Paths) -> bool:
    """Raises StoreError."""
    return trust_store(paths).is_trusted(project.path, project.sha256)


def trust(project: ProjectFile, paths: Paths) -> None:
    """Raises StoreError."""
    trust_store(paths).trust(project.path, project.sha256)


def trusted_files(paths: Paths) -> tuple[TrustedFile, ...]:
    """Raises StoreError."""
    return trust_store(paths).list_files()


def merge_project_file(
    user: Config, config_path: Path, paths: Paths, *, confirm_trust: Callable[[ProjectFile, Path], bool] | None = None
) -> tuple[Config, tuple[str, ...]]:
    """The user's config, which is the file ``own``, with the project's, where that can be used; and what is said of it.

    Where it is not trusted yet, ``agree`` is asked. Whatever is wrong with it, the user's own stands.
    """
    try:
        project = find_project(exclude=config_path)
        if project is None:
            return user, ()
        if not is_trusted(project, paths):
            if confirm_trust is None or not confirm_trust(project, config_path):
                name = one_line(str(project.path), 500)
                return user, (f"{name} is not trusted and left out; mcpchat trust shows what it says",)
            trust(project, paths)
        return merge(user, project.parse(user))
    except McpChatError as error:
        return user, (f"{sanitize(error.message)}: the project's file is left out",)
