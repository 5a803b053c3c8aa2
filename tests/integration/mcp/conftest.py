"""Fixtures of the MCP tests: a hub, and servers over HTTP."""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.core.events import Event
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.mcp import connection
from mcpchat.mcp.catalog_cache import CatalogCache
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.limits import ToolLimits
from mcpchat.mcp.managed_server import HubContext
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.util.json_schema import find_error
from mcpchat.util.redaction import SecretRegistry
from tests.support.fakes import NoCredentials
from tests.support.hub import HubFixture, MemoryConnector, OpenHub, StartRemote
from tests.support.paths import SERVERS
from tests.support.processes import PIPE, running


@pytest.fixture
def open_test_hub(tmp_path: Path) -> OpenHub:
    @asynccontextmanager
    async def open_hub(
        environ: dict[str, str] | None = None,
        refresh: bool = False,
        watch: bool = False,
        asker: Any = None,
        credentials: Any = None,
        most_bytes: int = 16 * 2**20,
        in_memory: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        **servers: ServerConfig,
    ) -> AsyncIterator[HubFixture]:
        events: list[Event] = []
        dialog = asker or NonInteractiveDialog()
        hub = McpHub(
            servers,
            HubContext(
                connector=MemoryConnector(
                    environ=os.environ | (environ or {}),
                    request_handler=ServerRequestHandler(dialog, emit=events.append, check=find_error),
                    load_sdk=lambda: connection,
                    max_message_bytes=most_bytes,
                    secrets=SecretRegistry(),
                    in_memory=in_memory or {},
                ),
                credentials=credentials or NoCredentials(),
                timeouts=Timeouts(),
                tool_limits=ToolLimits(),
                cache=CatalogCache(tmp_path / "cache"),
                log_directory=tmp_path / "logs",
                watch=watch,
                emit=events.append,
                **(context or {}),
            ),
            ignore_cache=refresh,
        )
        await hub.prestart_uncached()
        try:
            yield HubFixture(hub, events)
        finally:
            await hub.aclose()

    return open_hub


@pytest.fixture
def start_remote() -> Iterator[StartRemote]:
    """Start a server of tests/support/servers that prints its port; returns the URL of its MCP endpoint."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, script: str = "remote.py") -> str:
            command = [sys.executable, str(SERVERS / script), *arguments]
            process = stack.enter_context(running(command, stdout=PIPE, text=True))
            return f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"

        yield start
