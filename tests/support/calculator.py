"""The catalog of the bundled calculator in a home's cache, so that a test that only lists it does not start it."""

import asyncio
import functools
import tempfile
from pathlib import Path

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.mcp import connection
from mcpchat.mcp.catalog_cache import CatalogCache
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.limits import ToolLimits
from mcpchat.mcp.managed_server import HubContext
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.util.json_schema import find_error
from mcpchat.util.redaction import SecretRegistry
from mcpchat_servers.calculator import server
from tests.support.fakes import NoCredentials
from tests.support.hub import MemoryConnector


def cache_calculator(home: Path) -> None:
    """Write the cached catalog into this home."""
    folder = home / ".cache/mcpchat/servers"
    folder.mkdir(parents=True)
    for path in (folder, *folder.relative_to(home).parents):
        (home / path).chmod(0o700)
    name, data = _cached_catalog()
    (folder / name).write_bytes(data)
    (folder / name).chmod(0o600)


@functools.cache
def _cached_catalog() -> tuple[str, bytes]:
    """List the calculator within this process; returns the name and the content of its cache file."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_list_calculator(Path(folder)))
        (file,) = Path(folder).glob("*.json")
        return file.name, file.read_bytes()


async def _list_calculator(folder: Path) -> None:
    hub = McpHub(
        {"calculator": ServerConfig(builtin="calculator")},
        HubContext(
            connector=MemoryConnector(
                environ={},
                request_handler=ServerRequestHandler(NonInteractiveDialog(), emit=lambda event: None, check=find_error),
                load_sdk=lambda: connection,
                max_message_bytes=2**20,
                secrets=SecretRegistry(),
                in_memory={"calculator": server},
            ),
            credentials=NoCredentials(),
            timeouts=Timeouts(),
            tool_limits=ToolLimits(),
            cache=CatalogCache(folder),
            log_directory=folder / "logs",
            watch=False,
            emit=lambda event: None,
        ),
    )
    await hub.list_tools()
    await hub.aclose()
