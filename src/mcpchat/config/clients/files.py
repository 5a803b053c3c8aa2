"""Where other MCP clients keep their servers, on each platform."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

PROJECT_FILES = (".mcp.json", ".vscode/mcp.json")  # of a folder


class Client(Struct, frozen=True, kw_only=True):
    """Another MCP client.

    ``user_files`` are paths below the folders that ``_folders`` names; the first word of each is the folder.
    ``project_files`` are paths in a project's folder.
    """

    name: str
    title: str
    user_files: tuple[str, ...]
    project_files: tuple[str, ...] = ()


class ClientFile(Struct, frozen=True, kw_only=True):
    """A file of a client that exists. ``folder`` is the project that its servers, or some of them, are for."""

    client: Client
    path: Path
    folder: Path | None = None
    is_project: bool = False


_CODE = ("Code", "Code - Insiders", "VSCodium")
_CLINE = "User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
CLIENTS = (
    Client(name="claude-desktop", title="Claude Desktop", user_files=("data/Claude/claude_desktop_config.json",)),
    Client(
        name="claude-code",
        title="Claude Code",
        user_files=("$CLAUDE_CONFIG_DIR/.claude.json", "home/.claude.json"),
        project_files=(".mcp.json",),
    ),
    Client(
        name="vscode",
        title="VS Code",
        user_files=tuple(f"data/{name}/User/{file}.json" for name in _CODE for file in ("mcp", "settings")),
        project_files=(".vscode/mcp.json",),
    ),
    Client(
        name="cursor",
        title="Cursor",
        user_files=("home/.cursor/mcp.json",),
        project_files=(".cursor/mcp.json",),
    ),
    Client(
        name="codex",
        title="Codex",
        user_files=("$CODEX_HOME/config.toml", "home/.codex/config.toml"),
        project_files=(".codex/config.toml",),
    ),
    Client(
        name="gemini",
        title="Gemini CLI",
        user_files=("home/.gemini/settings.json",),
        project_files=(".gemini/settings.json",),
    ),
    Client(
        name="copilot",
        title="Copilot CLI",
        user_files=("$COPILOT_HOME/mcp-config.json", "home/.copilot/mcp-config.json"),
    ),
    Client(name="windsurf", title="Windsurf", user_files=("home/.codeium/windsurf/mcp_config.json",)),
    Client(
        name="zed",
        title="Zed",
        user_files=("zed/settings.json",),
        project_files=(".zed/settings.json",),
    ),
    Client(name="goose", title="goose", user_files=("goose/config.yaml",)),
    Client(
        name="opencode",
        title="opencode",
        user_files=("config/opencode/opencode.json", "config/opencode/opencode.jsonc"),
        project_files=("opencode.json", "opencode.jsonc"),
    ),
    Client(
        name="cline",
        title="Cline",
        user_files=(*(f"data/{name}/{_CLINE}" for name in _CODE), "home/.cline/data/settings/cline_mcp_settings.json"),
    ),
    Client(
        name="lmstudio",
        title="LM Studio",
        user_files=("home/.lmstudio/mcp.json", "home/.cache/lm-studio/mcp.json"),
    ),
)
GROUPS = {"claude": ("claude-desktop", "claude-code")}
CLIENT_NAMES = (*GROUPS, *(client.name for client in CLIENTS))


def select_clients(name: str) -> tuple[Client, ...]:
    """The clients of this name; empty if there is none."""
    names = GROUPS.get(name.lower(), (name.lower(),))
    return tuple(client for client in CLIENTS if client.name in names)


def project_folder(path: Path) -> Path:
    """The folder whose project a file of servers is for: its own, or the one above ``.vscode`` and the like."""
    folder = path.absolute().parent
    inner = {str(Path(file).parent) for client in CLIENTS for file in client.project_files} - {"."}
    return folder.parent if folder.name in inner else folder


def find_client_files(
    clients: tuple[Client, ...],
    folder: Path,
    environ: Mapping[str, str],
    *,
    with_project: bool = False,
    platform: str = sys.platform,
) -> Iterator[ClientFile]:
    """The files of the clients that exist: the user's, and those of the project at ``folder`` if they are wanted."""
    folders = _folders(environ, platform)
    for client in clients:
        seen: set[Path] = set()
        for file in client.user_files:
            place, _, inner = file.partition("/")
            base = environ.get(place[1:]) if place.startswith("$") else folders[place]
            if base and _is_file(path := Path(base, inner)) and path.resolve() not in seen:
                seen.add(path.resolve())
                # Claude Code has the servers of single folders in the user's file.
                is_claude = client.name == "claude-code"
                yield ClientFile(client=client, path=path, folder=folder if is_claude else None)
        for file in client.project_files if with_project else ():
            if _is_file(path := folder / file) and path.resolve() not in seen:
                yield ClientFile(client=client, path=path, folder=folder, is_project=True)


def _folders(environ: Mapping[str, str], platform: str) -> dict[str, Path]:
    """The folders of the user in which clients keep their files."""
    home = Path.home()
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    roaming = Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    folders = {"home": home, "config": config, "data": config, "zed": config / "zed", "goose": config / "goose"}
    if platform == "darwin":
        return {**folders, "data": home / "Library" / "Application Support"}
    if platform == "win32":
        goose = roaming / "Block" / "goose" / "config"
        return {**folders, "data": roaming, "config": home / ".config", "zed": roaming / "Zed", "goose": goose}
    return folders


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
