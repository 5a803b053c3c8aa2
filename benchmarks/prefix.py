"""What a provider's cache can serve: a conversation of ten turns with tools, its requests compared byte by byte.

    python benchmarks/prefix.py

For each API: how much of each request the next one repeats from its start (its closing brackets apart), and which
share of all bytes sent was such a repetition. The yardstick is the same conversation as a client would send it that
puts its tools after its messages, from the same requests.
"""

import asyncio
import json
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fake_openai import (  # noqa: E402
    CannedResponse,
    FakeOpenAI,
    call_item,
    message_item,
    reasoning_item,
    response,
    text,
    tool_call,
)

from mcpchat.app.chat import open_chat  # noqa: E402
from mcpchat.config import schema  # noqa: E402
from mcpchat.config.run import Paths, RunContext, RunOptions  # noqa: E402 - the path is set above
from mcpchat.ui.prompts.sign_in import PlainSignIn  # noqa: E402
from mcpchat.ui.render.plain import NonInteractiveDialog  # noqa: E402

TURNS = 10


def replies(api: str) -> list[CannedResponse]:
    """For each turn a call of the calculator, then an answer."""
    made: list[CannedResponse] = []
    for turn in range(TURNS):
        call = ("calculator__calculate", json.dumps({"expression": f"{turn} * 7"}), f"c{turn}")
        words = f"The answer to question {turn} is {turn * 7}, as the calculator says."
        if api == "chat":
            made += [tool_call(*call), text(words)]
        else:
            made += [
                CannedResponse(response(reasoning_item(f"rs_{turn}"), call_item(*call))),
                CannedResponse(response(message_item(words, f"msg_{turn}"))),
            ]
    return made


async def converse(home: Path, double: FakeOpenAI, api: str) -> None:
    model = f'[model]\nname = "m"\nbase_url = "{double.base_url}"\napi = "{api}"\n'
    text = f'{model}[servers.calculator]\nbuiltin = "calculator"\n'
    paths = Paths(config=home / "c.toml", cache=home / "cache", state=home / "state", data=home / "data")
    context = RunContext(config=schema.parse(text, "c.toml"), environ=dict(os.environ), paths=paths)
    async with open_chat(
        context, RunOptions(), emit=lambda event: None, asker=NonInteractiveDialog(), screen=PlainSignIn(sys.stderr)
    ) as chat:
        for turn in range(TURNS):
            await chat.session.send(f"Question {turn}: what is {turn} * 7? " + "Some words of context. " * 10)


def repeated(before: bytes, after: bytes) -> int:
    """How many bytes of the earlier request the later one begins with."""
    return next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(before))


def told(name: str, bodies: list[bytes]) -> None:
    shares = [min(1.0, repeated(a, b) / len(a.rstrip(b"]}"))) for a, b in pairwise(bodies)]
    total = sum(len(body) for body in bodies)
    served = sum(repeated(a, b) for a, b in pairwise(bodies))
    print(
        f"{name:34} {len(bodies):3} requests   each repeats {min(shares):6.1%} or more of the one before   "
        f"{served / total:5.1%} of {total:,} bytes were repetitions"
    )


def tools_last(body: bytes) -> bytes:
    request: dict[str, Any] = json.loads(body)
    tools = request.pop("tools")
    return json.dumps({**request, "tools": tools}, separators=(",", ":"), ensure_ascii=False).encode()


def main() -> None:
    for api in ("chat", "responses"):
        with tempfile.TemporaryDirectory() as home, FakeOpenAI() as double:
            double.replies = replies(api)
            asyncio.run(converse(Path(home), double, api))
            told(f"mcpchat, {api}", double.bodies)
            told("the same, tools after the messages", [tools_last(body) for body in double.bodies])


if __name__ == "__main__":
    main()
