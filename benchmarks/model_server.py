"""A model server that answers every request with the same stream: ``model_server.py [SECONDS]``, the pause before it.

It prints its port. It is as fast as it can be, so that a benchmark measures mcpchat.
"""

import asyncio
import json
import sys


def _encode(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


_DATA = _encode({"content": "Hel"}) + _encode({"content": "lo."}) + _encode({}, "stop") + b"data: [DONE]\n\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(_DATA)
_PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            if _PAUSE:
                await asyncio.sleep(_PAUSE)
            writer.write(_HEAD + _DATA)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
