"""Project files: found in the working folder or a parent, and used only if the user trusts their exact content."""

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
from mcpchat.util.text_files import read_text

_MAX_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ProjectFile:
    """A project file as it was read. This one text is shown, trusted and used."""

    path: Path
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parse(self, user: Config) -> Project:
        """Parse the file. ``user`` is the user's own config. Raises ConfigError if the file is invalid."""
        return parse_project(self.text, str(self.path), folder=str(self.path.parent), user=user)


def find_project(*, exclude: Path) -> ProjectFile | None:
    """The nearest project file in the working folder or a parent; None if there is none.

    ``exclude`` is the user's own config file, which is never a project file. Raises ConfigError if the project file
    cannot be read.
    """
    folder = working_directory()
    for directory in (folder, *folder.parents):
        path = directory / FILE_NAME
        try:
            is_project_file = path.is_file() and not (exclude.exists() and path.samefile(exclude))
        except OSError:
            continue  # the folder cannot be searched
        if is_project_file:
            return ProjectFile(path=path, text=read_text(path, max_bytes=_MAX_BYTES, error=ConfigError))
    return None


def canonical_path(path: Path) -> Path:
    """The path under which trust in the file is stored: absolute, with links in its parents resolved."""
    return path.absolute().parent.resolve() / path.name


def trust_store(paths: Paths) -> ProjectTrustStore:
    """The store of trusted project files."""
    return ProjectTrustStore(paths.state / "trusted.json")


def is_trusted(project: ProjectFile, paths: Paths) -> bool:
    """Whether the user trusts the file with its current content. Raises StoreError if the store cannot be read."""
    return trust_store(paths).is_trusted(project.path, project.sha256)


def trust(project: ProjectFile, paths: Paths) -> None:
    """Trust the file with its current content. Raises StoreError if the store cannot be changed."""
    trust_store(paths).trust(project.path, project.sha256)


def trusted_files(paths: Paths) -> tuple[TrustedFile, ...]:
    """All trusted project files. Raises StoreError if the store cannot be read."""
    return trust_store(paths).list_files()


def merge_project_file(
    user: Config, config_path: Path, paths: Paths, *, confirm_trust: Callable[[ProjectFile, Path], bool] | None = None
) -> tuple[Config, tuple[str, ...]]:
    """Merge the project file, if there is a trusted one, into the user's config. Also returns notices for the user.

    ``config_path`` is the user's own config file. ``confirm_trust`` asks the user about a file that is not trusted yet.
    If the project file is invalid or not trusted, the user's config is returned unchanged.
    """
    try:
        project = find_project(exclude=config_path)
        if project is None:
            return user, ()
        if not is_trusted(project, paths):
            if confirm_trust is None or not confirm_trust(project, config_path):
                name = one_line(str(project.path), 500)
                return user, (f"{name} is not trusted and left out; mcpchat trust shows its content",)
            trust(project, paths)
        return merge(user, project.parse(user))
    except McpChatError as error:
        return user, (f"{sanitize(error.message)}: the project file is left out",)
