"""Project files: found in the working folder or a parent, and used only if the user trusts their exact content."""

import hashlib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from msgspec.structs import replace as replace_fields

from mcpchat.config.clients.conversion import Surroundings
from mcpchat.config.clients.entries import ClientServer, read_client_servers
from mcpchat.config.clients.files import PROJECT_FILES, project_folder
from mcpchat.config.clients.plan import own_name
from mcpchat.config.project import FILE_NAME, Project, merge, parse_client_project, parse_project
from mcpchat.config.project_programs import hash_programs
from mcpchat.config.project_trust import ProjectTrustStore, TrustedFile
from mcpchat.config.run import Paths, working_directory
from mcpchat.config.schema import Config, ProjectServer, ServerConfig
from mcpchat.config.validation import as_tables
from mcpchat.errors import ConfigError, McpChatError, ServerError, UsageError
from mcpchat.util.sanitize import one_line, sanitize
from mcpchat.util.text_files import read_text

NO_PROJECT_FILE = "there is no .mcpchat.toml in this folder or above, and no .mcp.json or .vscode/mcp.json"
_MAX_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ProjectFile:
    """A project file as it was read. This one text is shown, trusted and used.

    ``others`` are the further files of other clients in the same folder, with their texts: they count as one file.
    """

    path: Path
    text: str
    others: tuple[tuple[Path, str], ...] = ()

    @property
    def sha256(self) -> str:
        texts = [self.text, *(f"\0{path.name}\0{text}" for path, text in self.others)]
        return hashlib.sha256("".join(texts).encode()).hexdigest()

    @property
    def label(self) -> str:
        """The file for people, with the others that count with it."""
        return " and ".join(map(str, (self.path, *(path for path, _ in self.others))))

    @property
    def is_own(self) -> bool:
        """Whether it is a .mcpchat.toml, and not the file of another client."""
        return self.path.name == FILE_NAME

    @property
    def folder(self) -> Path:
        """The folder of the project."""
        return self.path.parent if self.is_own else project_folder(self.path)

    @cached_property
    def _client_servers(self) -> list[ClientServer]:
        """The servers of another client's file, by the names that they have for mcpchat. Raises UsageError."""
        named: dict[str, ClientServer] = {}
        surroundings = Surroundings(folder=self.folder, is_set=lambda variable: bool(os.environ.get(variable)))
        texts = (self.text, *(text for _, text in self.others))
        for server in (server for text in texts for server in read_client_servers(text, surroundings)):
            name = own_name(server.name)
            if name in named:
                name = next(free for free in (f"{name[:36]}-{n}" for n in count(2)) if free not in named)
            named[name] = replace_fields(server, name=name)
        return list(named.values())

    @property
    def is_empty(self) -> bool:
        """Whether it is another client's file without servers."""
        try:
            return not self.is_own and not self._client_servers
        except UsageError:
            return False  # parsing it gives the error

    @cached_property
    def programs(self) -> Mapping[str, str]:
        """The SHA-256 of each program and script of the folder that a command line names, by path; read once."""
        try:
            if self.is_own:
                servers = as_tables(tomllib.loads(self.text).get("servers"))
            else:
                servers = {server.name: server.settings for server in self._client_servers}
            return hash_programs(servers, self.folder)
        except (ValueError, RecursionError, UsageError):
            return {}  # parsing it gives the error

    def parse(self, user: Config) -> Project:
        """Parse the file. ``user`` is the user's own config. Raises ConfigError if the file is invalid."""
        if self.is_own:
            return parse_project(self.text, str(self.path), folder=str(self.folder), user=user)
        try:
            servers = self._client_servers
        except UsageError as error:
            raise ConfigError(f"{self.label}: {error.message}") from error
        hint = f"mcpchat import {self.path} asks for its secret"
        unusable = {server.name: server.problem or hint for server in servers if server.problem or server.secrets}
        settings = {server.name: server.settings for server in servers if server.name not in unusable}
        return parse_client_project(settings, unusable, str(self.path), folder=str(self.folder), user=user)


def find_project(*, exclude: Path) -> ProjectFile | None:
    """The nearest project file in the working folder or a parent; None if there is none.

    Without a .mcpchat.toml it is another client's file: .mcp.json or .vscode/mcp.json, unless it has no servers.
    ``exclude`` is the user's own config file, which is never a project file. Raises ConfigError if the project file
    cannot be read.
    """
    folder = working_directory()
    folders = (folder, *folder.parents)
    own = (directory / FILE_NAME for directory in folders)
    for path in (*own, *(directory / name for directory in folders for name in PROJECT_FILES)):
        try:
            is_project_file = path.is_file() and not (exclude.exists() and path.samefile(exclude))
        except OSError:
            continue  # the folder cannot be searched
        if is_project_file:
            others = () if path.name == FILE_NAME else _read_others(path)
            text = read_text(path, max_bytes=_MAX_BYTES, error=ConfigError)
            project = ProjectFile(path=path, text=text, others=others)
            if not project.is_empty:
                return project
    return None


def _read_others(path: Path) -> tuple[tuple[Path, str], ...]:
    """The files of other clients that come after this one in the same folder. Raises ConfigError."""
    folder = project_folder(path)
    files = [folder / name for name in PROJECT_FILES]
    after = files[files.index(path) + 1 :] if path in files else []
    return tuple((file, read_text(file, max_bytes=_MAX_BYTES, error=ConfigError)) for file in after if file.is_file())


def canonical_path(path: Path) -> Path:
    """The path under which trust in the file is stored: absolute, with links in its parents resolved."""
    return path.absolute().parent.resolve() / path.name


def trust_store(paths: Paths) -> ProjectTrustStore:
    """The store of trusted project files."""
    return ProjectTrustStore(paths.state / "trusted.json")


def is_trusted(project: ProjectFile, paths: Paths) -> bool:
    """Whether the user trusts the file and its programs with their current content.

    Raises StoreError if the store cannot be read.
    """
    store = trust_store(paths)  # programs are read only for a file that is trusted itself
    return store.has(project.path, project.sha256) and store.is_trusted(project.path, project.sha256, project.programs)


def changed_programs(project: ProjectFile, paths: Paths) -> list[str]:
    """The programs that changed since the user trusted the file, which is the same; empty if the file is not.

    Raises StoreError if the store cannot be read.
    """
    for file in trust_store(paths).list_files():
        if (file.path, file.sha256) == (str(project.path), project.sha256):
            names = sorted(file.programs.keys() | project.programs.keys())
            return [name for name in names if file.programs.get(name) != project.programs.get(name)]
    return []


def verify_programs(server: ServerConfig, paths: Paths) -> None:
    """Compare the programs of a project's server with those that the user trusted, before it is started.

    Raises ServerError if one changed, StoreError if the store cannot be read.
    """
    project = find_project(exclude=paths.config) if isinstance(server, ProjectServer) else None
    if project is not None and (changed := changed_programs(project, paths)):
        names = ", ".join(one_line(name, 200) for name in changed[:3])
        raise ServerError(f"{names} changed since you trusted the project file", hint="mcpchat trust shows it")


def trust(project: ProjectFile, paths: Paths) -> None:
    """Trust the file and its programs as they were read. Raises StoreError if the store cannot be changed."""
    trust_store(paths).trust(project.path, project.sha256, project.programs)


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
            if trust_store(paths).is_ignored(project.path):
                return user, ()
            if confirm_trust is None or not confirm_trust(project, config_path):
                name = one_line(project.label, 500)
                changed = ", ".join(one_line(path, 200) for path in changed_programs(project, paths)[:3])
                reason = f"not used, because {changed} changed" if changed else "not trusted and left out"
                silent = "" if project.is_own or changed else ", mcpchat trust ignore leaves it out silently"
                return user, (f"{name} is {reason}; mcpchat trust shows its content{silent}",)
            trust(project, paths)
        return merge(user, project.parse(user))
    except McpChatError as error:
        return user, (f"{sanitize(error.message)}: the project file is left out",)
