"""Finds model servers on this machine by asking on their default ports."""

import asyncio
from dataclasses import dataclass

import msgspec

_DEFAULT_PORTS = (("Ollama", 11434), ("LM Studio", 1234), ("llama.cpp", 8080), ("vLLM", 8000))
_PROBE_TIMEOUT = 0.5  # seconds; enough on the same machine
_MAX_RESPONSE_BYTES = 1_000_000


@dataclass(frozen=True)
class LocalServer:
    """An OpenAI-compatible server on this machine, and the names of its models."""

    name: str
    base_url: str
    models: tuple[str, ...]


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model] | None = None  # null from Ollama if it has no models


async def discover() -> list[LocalServer]:
    """The OpenAI-compatible servers that answer on this machine now, in the order of the known ports."""
    servers = await asyncio.gather(*(probe(name, port) for name, port in _DEFAULT_PORTS))
    return [server for server in servers if server is not None]


async def probe(name: str, port: int) -> LocalServer | None:
    """The server on this port, or None if no list of models arrives within half a second."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /v1/models HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
                response = b""
                while len(response) < _MAX_RESPONSE_BYTES and (chunk := await reader.read(65536)):
                    response += chunk
            finally:
                writer.close()
        head, _, body = response.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            return None
        models = msgspec.json.decode(body, type=_ModelList)
    except (OSError, TimeoutError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return LocalServer(name, f"http://127.0.0.1:{port}/v1", tuple(model.id for model in models.data or ()))
