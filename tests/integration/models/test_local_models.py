"""Discovery of model servers on this machine: which answers count, and which servers are ignored."""

import asyncio

import pytest

from mcpchat.models import local_discovery
from mcpchat.models.local_discovery import LocalServer
from tests.support.fake_openai import FakeOpenAI

pytestmark = pytest.mark.no_cover  # in this process; forks are measured


async def test_a_server_that_answers_is_listed_with_its_models(fake_openai: FakeOpenAI) -> None:
    port = int(fake_openai.base_url.split(":")[2].split("/")[0])
    assert await local_discovery.probe("Ollama", port) == LocalServer(
        "Ollama", fake_openai.base_url, ("small", "large")
    )


@pytest.mark.parametrize(
    "response", [b"", b"HTTP/1.0 404 Not Found\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\nnot json", b"SSH-2.0-x\r\n", None]
)
async def test_other_servers_are_ignored(response: bytes | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if response is None:
            await reader.read()  # silent until the client gives up
        else:
            writer.write(response)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await local_discovery.probe("x", port) is None
    assert await local_discovery.probe("x", port) is None  # and no server at all
