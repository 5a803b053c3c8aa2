"""Project files: found from the working folder upwards, and used once the person trusts just what they say."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcpchat.config.project import FILE_NAME, Project, joined, parse_project
from mcpchat.config.project_trust import TrustedFile, TrustFile
from mcpchat.config.run import Paths, working_directory
from mcpchat.config.schema import Config
from mcpchat.errors import ConfigError, McpChatError
from mcpchat.util.sanitize import clean, one_line

_LARGEST = 1_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class ProjectFile:
    """A file as it was read: what is shown, trusted and used is this one text."""

    path: Path
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parsed(self, user: Config) -> Project:
        """Raises ConfigError."""
        return parse_project(self.text, str(self.path), folder=str(self.path.parent), user=user)


def find_project(*, but: Path) -> ProjectFile | None:
    """The nearest project file in the working folder or above; ``but`` is the user's own. Raises ConfigError."""
    folder = working_directory()
    for place in (folder, *folder.parents):
        path = place / FILE_NAME
        try:
            if path.is_file() and not (but.exists() and path.samefile(but)):
                return ProjectFile(path=path, text=_text_of(path))
        except OSError:
            continue  # a folder that cannot be looked into
    return None


def located(path: Path) -> Path:
    """The path under which trust in the file is kept, however it is written."""
    return path.absolute().parent.resolve() / path.name


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: not UTF-8 text") from error


def trust_file(paths: Paths) -> TrustFile:
    return TrustFile(paths.state / "trusted.json")


def is_trusted(project: ProjectFile, paths: Paths) -> bool:
    """Raises StoreError."""
    return trust_file(paths).trusts(project.path, project.sha256)


def trust(project: ProjectFile, paths: Paths) -> None:
    """Raises StoreError."""
    trust_file(paths).trust(project.path, project.sha256)


def trusted_files(paths: Paths) -> tuple[TrustedFile, ...]:
    """Raises StoreError."""
    return trust_file(paths).all()


def with_project(
    user: Config, own: Path, paths: Paths, *, agree: Callable[[ProjectFile, Path], bool] | None = None
) -> tuple[Config, tuple[str, ...]]:
    """The user's config, which is the file ``own``, with the project's, where that can be used; and what is said of it.

    Where it is not trusted yet, ``agree`` is asked. Whatever is wrong with it, the user's own stands.
    """
    try:
        found = find_project(but=own)
        if found is None:
            return user, ()
        if not is_trusted(found, paths):
            if agree is None or not agree(found, own):
                name = one_line(str(found.path), 500)
                return user, (f"{name} is not trusted and left out; mcpchat trust shows what it says",)
            trust(found, paths)
        return joined(user, found.parsed(user))
    except McpChatError as error:
        return user, (f"{clean(error.message)}: the project's file is left out",)
