"""A transport to a server of the official SDK in the same process: the least that a transport has to be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client._memory import InMemoryTransport

from mcpchat.mcp.message_filter import MessageFilter
from mcpchat.mcp.transports.base import Streams, Transport, pump_messages


class MemoryTransport(Transport):
    def __init__(self, server: Any) -> None:
        self._server = server

    @asynccontextmanager
    async def open(self, message_filter: MessageFilter) -> AsyncIterator[Streams]:
        async with (
            InMemoryTransport(self._server) as (source, sink),
            pump_messages(message_filter, source, sink) as streams,
        ):
            yield streams
