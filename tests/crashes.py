"""Kills a running conversation at random moments, thousands of times, and looks at what is left of it.

    python -m tests.crashes [TIMES [SEED]]

Each time another process opens the threads, goes on with one of them or begins one, and talks: questions, calls of tools
in parallel, large results. It says through a pipe which messages it was told of. SIGKILL ends it somewhere in between.
Then the thread has to load, to be what model APIs accept, and to have every message that was told of.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from mcpchat.core.events import Event, MessageAdded
from mcpchat.core.messages import user
from mcpchat.core.protocols import ModelChoice, ModelEvent, ModelRequest
from mcpchat.core.threads import branch, interrupted
from mcpchat.engine.context_window import view
from mcpchat.engine.session import Role, Session
from mcpchat.engine.transcript import Transcript
from mcpchat.threads import sqlite
from tests.fakes import FakeToolbox, calls, make_gate, says, tool
from tests.test_sendable import accepted

LONGEST = 0.1  # seconds until it is killed


@dataclass
class Kills:
    """How often it was killed with a call under way, and otherwise; how often anything was not as it must be."""

    in_flight: int = 0
    between: int = 0
    messages: int = 0
    lost_more: int = 0
    invalid: int = 0


class Talker:
    """A model that calls two tools, then answers."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        number = len(request.messages)
        if request.messages[-1].role == "user":
            wanted = (calls("box__short", call_id=f"a{number}"), calls("box__long", call_id=f"b{number}"))
            events = says("", *wanted)
        else:
            events = says(f"answer {number}")
        for event in events:
            await asyncio.sleep(0)
            yield event


async def _short(arguments: object) -> str:
    await asyncio.sleep(0.001)
    return "short"


async def _long(arguments: object) -> str:
    await asyncio.sleep(0.003)
    return "long " * 2000


async def _talk(path: Path, told: int, dice: random.Random) -> None:
    store = sqlite.open_threads(path)

    def emit(event: Event) -> None:
        if isinstance(event, MessageAdded):
            os.write(told, f"{session.transcript.thread.id} {event.number}\n".encode())

    session = Session(
        model=ModelChoice(name="m", adapter=Talker()),
        toolbox=FakeToolbox({"short": _short, "long": _long}, tool("short"), tool("long")),
        role=Role(gate=make_gate()),
        emit=emit,
        transcript=Transcript(emit, store),
    )
    latest = store.latest()
    if latest is not None and dice.random() < 0.7:
        session.resume(latest, store.nodes(latest))
    while True:
        await session.send("question " + "x" * dice.randrange(200))
        if dice.random() < 0.2:
            await session.undo()


def crash(path: Path, *, times: int, seed: int) -> Kills:
    """Do it so often; the database is the same all the time."""
    dice = random.Random(seed)
    kills = Kills()
    for number in range(times):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                asyncio.run(_talk(path, writing, random.Random(f"{seed} {number}")))
            finally:
                os._exit(1)
        os.close(writing)
        time.sleep(dice.random() * LONGEST)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode().splitlines()
        _look(path, said, kills)
    return kills


def _look(path: Path, said: list[str], kills: Kills) -> None:
    store = sqlite.open_threads(path)
    by_thread: dict[str, set[int]] = {}
    for line in said:
        thread_id, number = line.split()
        by_thread.setdefault(thread_id, set()).add(int(number))
    under_way = False
    for thread_id, numbers in by_thread.items():
        thread = store.find(thread_id)
        nodes = store.nodes(thread)
        there = {node.number for node in nodes}
        kills.messages += len(numbers)
        kills.lost_more += not numbers <= there or max(there) > max(numbers) + 1
        messages = [node.message for node in branch(nodes, thread.head)]
        if (results := interrupted(messages)) is not None:
            under_way = True
            messages.append(results)
        said_all = [message for message in messages if message.role != "system"]
        if view(messages) != tuple(said_all) or (thread.head and not messages):
            kills.invalid += 1  # something had to be mended
            print(f"{thread}: {len(nodes)} messages; {[(n.number, n.parent, n.message.role) for n in nodes][-20:]}")
        accepted([*said_all, user("go on")])
    kills.in_flight += under_way
    kills.between += not under_way
    store.close()


def main() -> None:
    times, seed = (int(word) for word in (sys.argv[1:3] + ["2000", "1"][len(sys.argv[1:3]) :]))
    path = Path(tempfile.mkdtemp()) / "threads.db"
    began = time.monotonic()
    kills = crash(path, times=times, seed=seed)
    store = sqlite.open_threads(path, lambda text: print(f"damaged: {text}"))
    store.check()
    print(f"{times:,} kills in {time.monotonic() - began:.0f} s: {kills}")


if __name__ == "__main__":
    main()
