"""Kills a running conversation at random moments, thousands of times, and checks the stored threads after each kill.

    python -m tests.support.kill_loop [TIMES [SEED]]

Each time a new process opens the thread store, resumes a thread or starts one, and sends messages: questions, parallel
tool calls, large results. It reports each stored message through a pipe, until SIGKILL ends it. Then the thread must
load, be accepted by model APIs, and contain every reported message.
"""

import asyncio
import itertools
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
from mcpchat.core.messages import user_message
from mcpchat.core.protocols import ModelEvent, ModelRequest, SelectedModel
from mcpchat.core.threads import branch, interrupted_results
from mcpchat.engine.compaction import render_history
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.transcript import Transcript
from mcpchat.threads import sqlite
from tests.support.fakes import FakeToolbox, make_call, make_gate, make_tool, model_step
from tests.support.next_request import check_next_request

MAX_DELAY = 0.1  # seconds until the process is killed


@dataclass
class KillStats:
    """Counts of kills (during a tool call, otherwise), checked messages, lost messages and invalid threads."""

    in_flight: int = 0
    between: int = 0
    messages: int = 0
    lost_acknowledged: int = 0
    invalid: int = 0


class ToolCallingModel:
    """A model that calls two tools and then answers."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        number = len(request.messages)
        if request.messages[-1].role == "user":
            tool_calls = (make_call("box__short", call_id=f"a{number}"), make_call("box__long", call_id=f"b{number}"))
            events = model_step("", *tool_calls)
        else:
            events = model_step(f"answer {number}")
        for event in events:
            await asyncio.sleep(0)
            yield event


async def _short(arguments: object) -> str:
    await asyncio.sleep(0.001)
    return "short"


async def _long(arguments: object) -> str:
    await asyncio.sleep(0.003)
    return "long " * 2000


async def _run_conversation(path: Path, report_fd: int, rng: random.Random) -> None:
    store = sqlite.open_threads(path)

    def emit(event: Event) -> None:
        if isinstance(event, MessageAdded):
            os.write(report_fd, f"{session.transcript.thread.id} {event.number}\n".encode())

    session = Session(
        model=SelectedModel(name="m", adapter=ToolCallingModel()),
        toolbox=FakeToolbox({"short": _short, "long": _long}, make_tool("short"), make_tool("long")),
        agent=ActiveAgent(gate=make_gate()),
        emit=emit,
        transcript=Transcript(emit, store),
    )
    latest = store.latest()
    if latest is not None and rng.random() < 0.7:
        session.resume(latest, store.nodes(latest))
    while True:
        await session.send("question " + "x" * rng.randrange(200))
        if rng.random() < 0.2:
            await session.undo()


def kill_repeatedly(path: Path, *, times: int, seed: int, in_flight: int) -> KillStats:
    """Start and kill a conversation on the same database: ``times`` times, and until so many kills hit a tool call.

    On a busy machine a conversation gets longer to come so far.
    """
    rng = random.Random(seed)
    kills = KillStats()
    for number in itertools.count():
        if number >= times and kills.in_flight >= in_flight:
            break
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_fd)
            try:
                asyncio.run(_run_conversation(path, write_fd, random.Random(f"{seed} {number}")))
            finally:
                os._exit(1)
        os.close(write_fd)
        time.sleep(rng.random() * MAX_DELAY * (1 + number // times))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(read_fd, "rb") as pipe:
            report = pipe.read().decode().splitlines()
        _check_store(path, report, kills)
    return kills


def _check_store(path: Path, report: list[str], kills: KillStats) -> None:
    store = sqlite.open_threads(path)
    by_thread: dict[str, set[int]] = {}
    for line in report:
        thread_id, number = line.split()
        by_thread.setdefault(thread_id, set()).add(int(number))
    in_flight = False
    for thread_id, numbers in by_thread.items():
        thread = store.find(thread_id)
        nodes = store.nodes(thread)
        stored = {node.number for node in nodes}
        kills.messages += len(numbers)
        kills.lost_acknowledged += not numbers <= stored or max(stored) > max(numbers) + 1
        messages = [node.message for node in branch(nodes, thread.head)]
        if (results := interrupted_results(messages)) is not None:
            in_flight = True
            messages.append(results)
        conversation = [message for message in messages if message.role != "system"]
        if render_history(messages) != tuple(conversation) or (thread.head and not messages):
            kills.invalid += 1  # the history had to be repaired
            print(f"{thread}: {len(nodes)} messages; {[(n.number, n.parent, n.message.role) for n in nodes][-20:]}")
        check_next_request([*conversation, user_message("go on")])
    kills.in_flight += in_flight
    kills.between += not in_flight
    store.close()


def main() -> None:
    times, seed = (int(arg) for arg in (sys.argv[1:3] + ["2000", "1"][len(sys.argv[1:3]) :]))
    path = Path(tempfile.mkdtemp()) / "threads.db"
    started = time.monotonic()
    kills = kill_repeatedly(path, times=times, seed=seed, in_flight=0)
    store = sqlite.open_threads(path, lambda text: print(f"damaged: {text}"))
    store.check()
    print(f"{times:,} kills in {time.monotonic() - started:.0f} s: {kills}")


if __name__ == "__main__":
    main()
