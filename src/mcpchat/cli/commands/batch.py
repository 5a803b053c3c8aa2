"""batch: many requests from lines, results as lines."""

import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcpchat.batch.results_file import open_results
from mcpchat.batch.runner import Batch, Tally
from mcpchat.batch.session_factory import Pool, open_pool
from mcpchat.batch.types import ALL, LONGEST_LINE, Asked, Result, Shard, key_of, name_of, read_request
from mcpchat.cli.options import Terminated, is_terminal
from mcpchat.config.run import Setup, Wishes
from mcpchat.core.events import Event, Notice, ServerChanged, to_json
from mcpchat.core.report import fault
from mcpchat.errors import McpChatError, UsageError
from mcpchat.ui.prompts.sign_in import PlainScreen
from mcpchat.ui.render import stats, tool_lines
from mcpchat.ui.render.plain import NobodyToAsk
from mcpchat.ui.render.progress import Bar
from mcpchat.util import stdin
from mcpchat.util.signals import first_softly


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is run: ``source`` is a file or "-", ``target`` a file, or None for stdout."""

    source: str
    target: Path | None = None
    ordered: bool = False
    resume: bool = False
    again: bool = False
    shard: Shard = ALL
    concurrency: int = 8
    retries: int = 2
    timeout: float | None = None
    quiet: bool = False
    no_color: bool = False

    def check(self) -> None:
        """Raise UsageError for what does not go together, before anything is started."""
        if self.again and not self.resume:
            raise UsageError("--retry-failed is for --resume", hint="--resume --retry-failed")
        if self.resume and self.target is None:
            raise UsageError("--resume needs the file that an earlier run wrote", hint="--file RESULTS --resume")
        if self.source == "-" and is_terminal(sys.stdin):
            raise UsageError("no requests are piped in", hint="mcpchat batch requests.jsonl")
        if self.target is not None and self.source != "-" and _same(Path(self.source), self.target):
            raise UsageError("the results would go into the file of the requests", hint="--file RESULTS")


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


class Failed(McpChatError):
    """Some of the requests failed; their results say how."""

    kind = "failed"


async def run(setup: Setup, wishes: Wishes, job: Job) -> int:
    """Run the requests. Raises why it stopped early, or that some failed."""
    with (
        opened_requests(job.source, job.shard) as (file, total),
        open_results(job.target, ordered=job.ordered, resume=job.resume, again=job.again) as results,
    ):
        bar = Bar(sys.stderr, total=total, quiet=job.quiet, no_color=job.no_color)
        screen, asker = PlainScreen(sys.stderr, bar.say), NobodyToAsk()
        async with open_pool(setup, wishes, emit=warnings_to(bar), asker=asker, screen=screen) as pool:
            began = time.monotonic()

            def write(result: Result) -> None:
                results.write(result.line, to_json(result))
                bar.advance(len(results.done) + batch.tally.finished, batch.tally.failed.total())

            batch = Batch(pool, write, concurrency=job.concurrency, retries=job.retries, timeout=job.timeout)
            requests = Requests(file, results.done, results.expect, job.shard)

            def softly() -> None:
                bar.say(f"no more requests are begun; {batch.running} come to their end (Ctrl-C again stops them)")
                batch.drain()

            with bar.showing(), first_softly(signal.SIGINT, softly) as interrupted:
                async with aclosing(requests.read()) as read:
                    await batch.run(read)
                results.whole = batch.stopped is None and not interrupted
            if not job.quiet:
                bar.say(summary(batch.tally, requests.known, pool, time.monotonic() - began))
    if interrupted:
        raise Terminated(interrupted[0])
    return _ended(batch, job)


def _ended(batch: Batch, job: Job) -> int:
    if batch.stopped is not None:
        if job.target is not None:
            batch.stopped.hint = f"{batch.stopped.hint}\n  then --resume goes on".strip()
        raise batch.stopped
    return ended(batch.tally)


def ended(tally: Tally) -> int:
    """Raises Failed where requests failed."""
    if failed := tally.failed.total():
        raise Failed(f"{failed:,} of {tally.finished:,} requests failed", hint="their results say how")
    return 0


def warnings_to(bar: Bar) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, ServerChanged) and event.state in {"failed", "login"}:
            bar.say(f"warning: {tool_lines.down(event)}")
        elif isinstance(event, Notice) and event.level == "warning":
            bar.say(f"warning: {event.text}")

    return tell


def summary(tally: Tally, known: int, pool: Pool, seconds: float) -> str:
    """``9,950 done, 50 failed (overloaded 40, tool 10), 12 not run, 7 were done before · 1,204 in · ... · 61.2 s``."""
    said = [f"{tally.ok:,} done"]
    if tally.failed:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in tally.failed.most_common())
        said.append(f"{tally.failed.total():,} failed ({kinds})")
    if tally.left:
        said.append(f"{tally.left:,} not run")
    if known:
        said.append(f"{known:,} were done before")
    money = f" · {stats.money(pool.spent.cost)}" if pool.priced else ""
    return f"{', '.join(said)} · {stats.tokens(pool.spent.usage)}{money} · {seconds:.1f} s"


@contextmanager
def opened_requests(source: str, shard: Shard) -> Iterator[tuple[BinaryIO, int | None]]:
    """The requests, and how many lines they are, where that can be counted."""
    if source == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        yield sys.stdin.buffer, None
        return
    try:
        with Path(source).expanduser().open("rb") as file:
            total = None
            if file.seekable():
                total = sum(1 for number, line in enumerate(file, 1) if line.strip() and number in shard)
                file.seek(0)
            yield file, total
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot read {source}: {error.strerror}") from error


class Requests:
    """The requests of a file that are still to be run. ``known`` counts those that have a result."""

    def __init__(self, file: BinaryIO, done: set[str], expect: Callable[[int, bool], None], shard: Shard) -> None:
        self.known = 0
        self._file = file
        self._done = done
        self._expect = expect
        self._shard = shard
        self._seen: set[str] = set()

    async def read(self) -> AsyncGenerator[Asked | Result, None]:
        """Each as it is to be run; a line that is none gives its result at once."""
        async with aclosing(stdin.read_lines(self._file, LONGEST_LINE)) as lines:
            async for number, data in lines:
                if number in self._shard and (item := self._item(number, data)) is not None:
                    yield item

    def _item(self, number: int, data: bytes | None) -> Asked | Result | None:
        item: Asked | Result
        try:
            item = read_request(number, data)
        except UsageError as error:
            item = Result(id=name_of(number, data), line=number, error=fault(error))
        key = key_of(item.id, number)
        if key in self._seen:
            told = UsageError(f"the id {item.id!r} is another line's too", hint="each result is found by its id")
            item = Result(id=str(number), line=number, error=fault(told))
            key = key_of(item.id, number)
        self._seen.add(key)
        known = key in self._done
        self._expect(number, known)
        if known:
            self.known += 1
            return None
        return item
