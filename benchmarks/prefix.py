"""Benchmark of the common prefix of requests, which a provider's cache can serve: ten turns with tools.

    python benchmarks/prefix.py

Prints for each API how much of each request the next one repeats from its start (apart from the closing brackets), and
the share of all sent bytes that were such a repetition. The baseline is the same conversation with the tools after the
messages, derived from the same requests.
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

from tests.support.fake_openai import (  # noqa: E402
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
    """Return for each turn a call of the calculator, then an answer."""
    canned: list[CannedResponse] = []
    for turn in range(TURNS):
        call = ("calculator__calculate", json.dumps({"expression": f"{turn} * 7"}), f"c{turn}")
        answer = f"The answer to question {turn} is {turn * 7}, as the calculator says."
        if api == "chat":
            canned += [tool_call(*call), text(answer)]
        else:
            canned += [
                CannedResponse(response(reasoning_item(f"rs_{turn}"), call_item(*call))),
                CannedResponse(response(message_item(answer, f"msg_{turn}"))),
            ]
    return canned


async def converse(home: Path, fake: FakeOpenAI, api: str) -> None:
    model = f'[model]\nname = "m"\nbase_url = "{fake.base_url}"\napi = "{api}"\n'
    config = f'{model}[servers.calculator]\nbuiltin = "calculator"\n'
    paths = Paths(config=home / "c.toml", cache=home / "cache", state=home / "state", data=home / "data")
    context = RunContext(config=schema.parse(config, "c.toml"), environ=dict(os.environ), paths=paths)
    async with open_chat(
        context, RunOptions(), emit=lambda event: None, asker=NonInteractiveDialog(), screen=PlainSignIn(sys.stderr)
    ) as chat:
        for turn in range(TURNS):
            await chat.session.send(f"Question {turn}: what is {turn} * 7? " + "Some words of context. " * 10)


def common_prefix(before: bytes, after: bytes) -> int:
    """Return how many bytes the two requests have in common from their start."""
    return next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(before))


def report(name: str, bodies: list[bytes]) -> None:
    shares = [min(1.0, common_prefix(a, b) / len(a.rstrip(b"]}"))) for a, b in pairwise(bodies)]
    total = sum(len(body) for body in bodies)
    served = sum(common_prefix(a, b) for a, b in pairwise(bodies))
    print(
        f"{name:34} {len(bodies):3} requests   each repeats {min(shares):6.1%} or more of the previous one   "
        f"{served / total:5.1%} of {total:,} bytes were repetitions"
    )


def tools_last(body: bytes) -> bytes:
    """Return the same request with its tools at the end."""
    request: dict[str, Any] = json.loads(body)
    tools = request.pop("tools")
    return json.dumps({**request, "tools": tools}, separators=(",", ":"), ensure_ascii=False).encode()


def main() -> None:
    for api in ("chat", "responses"):
        with tempfile.TemporaryDirectory() as home, FakeOpenAI() as fake:
            fake.replies = replies(api)
            asyncio.run(converse(Path(home), fake, api))
            report(f"mcpchat, {api}", fake.bodies)
            report("the same, tools after the messages", [tools_last(body) for body in fake.bodies])


if __name__ == "__main__":
    main()
