"""batch --provider-batch: the provider runs the requests, in steps that may be processes of their own."""

import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from msgspec.structs import replace

from mcpchat.batch.provider_api import ProviderBatch, State
from mcpchat.batch.results_file import open_results
from mcpchat.batch.runner import Tally
from mcpchat.batch.session_factory import open_pool
from mcpchat.batch.types import Asked, Request, Result, key_of
from mcpchat.cli.commands.batch import Failed, Job, Requests, ended, opened_requests, summary, warnings_to
from mcpchat.config.run import Setup, Wishes
from mcpchat.core.events import to_json
from mcpchat.errors import LimitReached, UsageError
from mcpchat.ui.prompts.sign_in import PlainScreen
from mcpchat.ui.render.plain import NobodyToAsk
from mcpchat.ui.render.progress import Bar


def check(wishes: Wishes, job: Job) -> None:
    """Raise UsageError where a provider could not run it: the files are looked at more than once."""
    limits = {"--max-cost": wishes.max_cost, "--max-tokens": wishes.max_tokens, "--timeout": job.timeout}
    if given := [name for name, value in limits.items() if value is not None]:
        raise UsageError(f"{given[0]} does not go with --provider-batch", hint="what is sent is answered, or not")
    if job.target is None or job.source == "-":
        raise UsageError("--provider-batch wants files", hint="batch REQUESTS --file RESULTS --provider-batch run")


async def run(setup: Setup, wishes: Wishes, job: Job, step: str, poll: float) -> int:
    """Take this step, or all. Raises UsageError, ModelError, LimitReached, and Failed where requests failed."""
    assert job.target is not None
    tally, began = Tally(), time.monotonic()
    with (
        opened_requests(job.source, job.shard) as (file, total),
        open_results(job.target, ordered=job.ordered, resume=True, again=job.again) as results,
    ):

        def write(result: Result) -> None:
            results.write(result.line, to_json(result))
            results.done.add(key_of(result.id, result.line))
            tally.count(result)

        bar = Bar(sys.stderr, total=total, quiet=job.quiet, no_color=job.no_color)
        screen = PlainScreen(sys.stderr, bar.say)
        async with open_pool(setup, wishes, emit=warnings_to(bar), asker=NobodyToAsk(), screen=screen) as pool:
            batch = ProviderBatch(pool, Path(f"{job.target}.batch"), _silent if job.quiet else bar.say)
            state = batch.load()
            if step == "submit" or (step == "run" and state is None):
                requests = Requests(file, results.done, results.expect, job.shard)
                async with aclosing(requests.read()) as read:
                    state = await batch.submit(read, write)
            if state is None:
                raise UsageError("nothing was sent yet", hint=f"--provider-batch submit --file {job.target}")
            if step in {"run", "wait"}:
                with bar.showing():
                    state = await batch.wait(state, poll=poll, advance=lambda done: bar.advance(done, 0))
            if step in {"run", "fetch"}:
                missing = await _fetch(batch, state, job, results.done, write)
                if not job.quiet:
                    bar.say(summary(tally, 0, pool, time.monotonic() - began))
                if missing:
                    told = f"{missing:,} requests were not answered"
                    raise Failed(told, hint="--provider-batch run sends them again")
    return ended(tally)


async def _fetch(batch: ProviderBatch, state: State, job: Job, done: set[str], write: Callable[[Result], None]) -> int:
    """Fetch the answers; how many requests have none."""
    state = await batch.look(state)
    if not state.over:
        raise LimitReached("the provider is not done yet", hint="--provider-batch wait waits for it")
    asked = await _asked(job)
    if strange := await batch.fetch(state, asked, done, write):
        told = f"{strange:,} answers belong to no request of {job.source}: it, or --shard, is another now"
        raise UsageError(told, hint="fetch again with what was sent; nothing is lost")
    batch.forget()
    return sum(key_of(one.id, one.line) not in done for one in asked.values())


async def _asked(job: Job) -> dict[int, Asked]:
    """The requests by their lines, without what they say, which may be long."""
    with opened_requests(job.source, job.shard) as (file, _):
        async with aclosing(Requests(file, set(), lambda number, known: None, job.shard).read()) as read:
            return {item.line: _brief(item) async for item in read if isinstance(item, Asked)}


def _brief(asked: Asked) -> Asked:
    return replace(asked, said=(), system="", request=Request(schema=asked.request.schema))


def _silent(text: str) -> None:
    """For --quiet."""
