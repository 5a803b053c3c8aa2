"""mcpchat batch: many requests, one a line, and one result a line."""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.batch.processing import RequestProcessor, open_processor
from mcpchat.batch.provider_api import BatchState, ProviderBatch
from mcpchat.batch.requests_file import RequestReader, open_requests
from mcpchat.batch.results_file import open_results
from mcpchat.batch.runner import BatchRunner, BatchStats
from mcpchat.batch.session_factory import SessionFactory, open_session_factory
from mcpchat.batch.types import (
    ALL_SHARDS,
    BatchRequest,
    BatchResult,
    PreparedRequest,
    Shard,
    parse_scheduler,
    parse_shard,
    request_key,
)
from mcpchat.cli.inputs import read_schema
from mcpchat.cli.options import (
    NoColorOption,
    QuietOption,
    SchemaOption,
    choice,
    config_and_servers,
    run_options,
    with_options,
)
from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import TerminatedBySignal, build_context, run_async
from mcpchat.config.run import ConfigChoice, RunContext, RunOptions
from mcpchat.core.events import Event, Notice, ServerChanged, to_json
from mcpchat.errors import LimitReached, McpChatError, UsageError
from mcpchat.ui.prompts.sign_in import PlainSignIn
from mcpchat.ui.render import stats, tool_lines
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.ui.render.progress import ProgressBar
from mcpchat.util.sanitize import sanitize_message
from mcpchat.util.signals import graceful_first_signal

app = typer.Typer(add_completion=False, rich_markup_mode=None)
STEPS = ("run", "submit", "wait", "fetch")  # of a batch that the provider runs


@app.command()
@with_options(options=run_options, config=config_and_servers)
def batch(
    options: RunOptions,
    config: ConfigChoice,
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="The requests, one JSON object a line; - is stdin.")],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="RESULTS", help="The results, readable by you alone. Default: stdout."),
    ] = None,
    schema: SchemaOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-j",
            metavar="N",
            min=1,
            max=1000,
            help="Requests at a time. Default: 8, of a cluster what its workers take.",
        ),
    ] = None,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Results in the order of the requests, not as they finish.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue RESULTS of an earlier run: requests with a result are skipped.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: run failed requests again.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option("--shard", metavar="K/N", help="Only every N-th line, from the K-th on."),
    ] = "1/1",
    retries: Annotated[
        int,
        typer.Option("--retries", metavar="N", min=0, help="How often to retry a transient failure."),
    ] = 2,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.001, help="The time limit of one request."),
    ] = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Offer the model no tools.")] = False,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers", metavar="ADDRESS", help="Run them on a Dask cluster: its scheduler, tcp://HOST:PORT."
        ),
    ] = None,
    provider_batch: Annotated[
        str | None,
        choice(
            "--provider-batch",
            of=STEPS,
            metavar="STEP",
            help="Let the provider run it, without tools: run, or submit, wait and fetch separately.",
        ),
    ] = None,
    poll: Annotated[
        float, typer.Option("--poll", metavar="SECONDS", min=0.01, help="How often to ask the provider.")
    ] = 30.0,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
) -> int:
    """Run many requests, one a line, and write one result a line.

    A line is {"prompt": "..."} or {"messages": [...]}, with optional id, agent, model, schema and attach.
    All share the servers and one budget. Ctrl-C lets running requests finish; --resume continues, also after a crash.

    \b
      mcpchat batch requests.jsonl -f results.jsonl
      mcpchat batch requests.jsonl -f results.jsonl --resume
      jq -c '{prompt: .question}' data.jsonl | mcpchat batch - --ordered | jq -r .answer
      mcpchat batch requests.jsonl -f results.jsonl --workers tcp://10.0.0.5:8786
    """
    job = BatchOptions(
        source=source,
        target=None if file == Path("-") else file,
        ordered=ordered,
        resume=resume,
        retry_failed=retry_failed,
        shard=parse_shard(shard),
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
        quiet=quiet,
        no_color=no_color,
    )
    job.check()
    options = replace(
        options,
        schema=read_schema(schema) if schema is not None else None,
        track_cost=True,
        save=False,
        with_tools=not no_tools,
    )
    if workers is not None:
        _validate_cluster_options(workers, config, provider_batch)
    if provider_batch is not None:
        _validate_provider_options(options, job)
        context = build_context(config, quiet=quiet)
        return run_async(_run_provider_batch(context, options, job, provider_batch, poll))
    return run_async(_run_batch(build_context(config, quiet=quiet), options, job, workers))


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """The batch: ``source`` is a file or "-", ``target`` a file, or None for stdout."""

    source: str
    target: Path | None = None
    ordered: bool = False
    resume: bool = False
    retry_failed: bool = False
    shard: Shard = ALL_SHARDS
    concurrency: int | None = None
    retries: int = 2
    timeout: float | None = None
    quiet: bool = False
    no_color: bool = False

    def check(self) -> None:
        """Raise UsageError for what does not go together, before anything is started."""
        if self.retry_failed and not self.resume:
            raise UsageError("--retry-failed is for --resume", hint="--resume --retry-failed")
        if self.resume and self.target is None:
            raise UsageError("--resume needs the file that an earlier run wrote", hint="--file RESULTS --resume")
        if self.source == "-" and is_terminal(sys.stdin):
            raise UsageError("no requests are piped in", hint="mcpchat batch requests.jsonl")
        if self.target is not None and self.source != "-" and _is_same_file(Path(self.source), self.target):
            raise UsageError("the results would overwrite the requests", hint="--file RESULTS")


def _is_same_file(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


class RequestsFailed(McpChatError):
    """Some of the requests failed; their results have the errors."""

    kind = "failed"


async def _run_batch(context: RunContext, options: RunOptions, job: BatchOptions, workers: str | None) -> int:
    """Run the requests. Raises the error that stopped the run early, or RequestsFailed if some failed."""
    with (
        open_requests(job.source, job.shard) as (file, total),
        open_results(job.target, ordered=job.ordered, resume=job.resume, retry_failed=job.retry_failed) as results,
    ):
        bar = ProgressBar(sys.stderr, total=total, quiet=job.quiet, no_color=job.no_color)
        async with open_processor(
            context,
            options,
            workers=workers,
            retries=job.retries,
            timeout=job.timeout,
            emit=_warning_emitter(bar),
            asker=NonInteractiveDialog(),
            screen=PlainSignIn(sys.stderr, bar.print_line),
        ) as processor:
            began = time.monotonic()

            def write(result: BatchResult) -> None:
                results.write(result.line, to_json(result))
                done, failed = len(results.finished_keys) + runner.stats.finished, runner.stats.failed.total()
                bar.update(done, failed, note=processor.note)

            runner = BatchRunner(processor, write, concurrency=job.concurrency)
            requests = RequestReader(file, results.finished_keys, results.expect, job.shard)

            def softly() -> None:
                bar.print_line(f"no new requests; {runner.running} are finishing (Ctrl-C again stops them)")
                runner.stop_accepting()

            with bar.showing(), graceful_first_signal(signal.SIGINT, softly) as interrupted:
                bar.update(len(results.finished_keys), 0, note=processor.note)
                async with aclosing(requests.read()) as read:
                    await runner.run(read)
                results.complete = runner.stop_reason is None and not interrupted
            if not job.quiet:
                seconds = time.monotonic() - began
                bar.print_line(_format_summary(runner.stats, requests.finished_count, processor, seconds))
    if interrupted:
        raise TerminatedBySignal(interrupted[0])
    return _finish(runner, job)


def _validate_cluster_options(workers: str, config: ConfigChoice, provider_batch: str | None) -> None:
    """Raise UsageError for a wrong address, and for options that the workers of a cluster cannot honour."""
    parse_scheduler(workers)
    if provider_batch is not None:
        raise UsageError("--workers and --provider-batch exclude each other")
    if config.servers:
        raise UsageError("--mcp cannot be used with --workers", hint="put the servers into the config of each worker")


def _finish(batch: BatchRunner, job: BatchOptions) -> int:
    if batch.stop_reason is not None:
        if job.target is not None:
            batch.stop_reason.hint = f"{batch.stop_reason.hint}\n  then --resume goes on".strip()
        raise batch.stop_reason
    return _raise_if_failed(batch.stats)


def _raise_if_failed(tally: BatchStats) -> int:
    """Raises RequestsFailed where requests failed."""
    if failed := tally.failed.total():
        raise RequestsFailed(f"{failed:,} of {tally.finished:,} requests failed", hint="their results say how")
    return 0


def _warning_emitter(bar: ProgressBar) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, ServerChanged) and event.state in {"failed", "login"}:
            bar.print_line(f"warning: {tool_lines.format_server_down(event)}")
        elif isinstance(event, Notice) and event.level == "warning":
            bar.print_line(f"warning: {sanitize_message(event.text)}")

    return tell


def _format_summary(tally: BatchStats, known: int, pool: RequestProcessor | SessionFactory, seconds: float) -> str:
    """``9,950 done, 50 failed (overloaded 40, tool 10), 12 not run, 7 were done before · 1,204 in · ... · 61.2 s``."""
    parts = [f"{tally.succeeded:,} done"]
    if tally.failed:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in tally.failed.most_common())
        parts.append(f"{tally.failed.total():,} failed ({kinds})")
    if tally.skipped:
        parts.append(f"{tally.skipped:,} not run")
    if known:
        parts.append(f"{known:,} were done before")
    money = f" · {stats.format_cost(pool.run_usage.cost)}" if pool.track_cost else ""
    return f"{', '.join(parts)} · {stats.format_tokens(pool.run_usage.usage)}{money} · {seconds:.1f} s"


def _validate_provider_options(options: RunOptions, job: BatchOptions) -> None:
    """Raise UsageError for options that a provider cannot honour, and without files: they are read more than once."""
    limits = {"--max-cost": options.max_cost, "--max-tokens": options.max_tokens, "--timeout": job.timeout}
    if options_given := [name for name, value in limits.items() if value is not None]:
        raise UsageError(
            f"{options_given[0]} does not go with --provider-batch", hint="a provider runs every request that it gets"
        )
    if job.target is None or job.source == "-":
        raise UsageError("--provider-batch wants files", hint="batch REQUESTS --file RESULTS --provider-batch run")


async def _run_provider_batch(
    context: RunContext, options: RunOptions, job: BatchOptions, step: str, poll: float
) -> int:
    """Take this step, or all. Raises UsageError, ModelError, LimitReached, and RequestsFailed where requests failed."""
    assert job.target is not None
    tally, began = BatchStats(), time.monotonic()
    with (
        open_requests(job.source, job.shard) as (file, total),
        open_results(job.target, ordered=job.ordered, resume=True, retry_failed=job.retry_failed) as results,
    ):

        def write(result: BatchResult) -> None:
            results.write(result.line, to_json(result))
            results.finished_keys.add(request_key(result.id, result.line))
            tally.count(result)

        bar = ProgressBar(sys.stderr, total=total, quiet=job.quiet, no_color=job.no_color)
        screen = PlainSignIn(sys.stderr, bar.print_line)
        async with open_session_factory(
            context, options, emit=_warning_emitter(bar), asker=NonInteractiveDialog(), screen=screen
        ) as pool:
            batch = ProviderBatch(pool, Path(f"{job.target}.batch"), _discard if job.quiet else bar.print_line)
            state = batch.load()
            if step == "submit" or (step == "run" and state is None):
                requests = RequestReader(file, results.finished_keys, results.expect, job.shard)
                async with aclosing(requests.read()) as read:
                    state = await batch.submit(read, write)
            if state is None:
                raise UsageError("nothing was sent yet", hint=f"--provider-batch submit --file {job.target}")
            if step in {"run", "wait"}:
                with bar.showing():
                    state = await batch.wait(state, interval=poll, on_progress=lambda done: bar.update(done, 0))
            if step in {"run", "fetch"}:
                missing = await _fetch(batch, state, job, results.finished_keys, write)
                if not job.quiet:
                    bar.print_line(_format_summary(tally, 0, pool, time.monotonic() - began))
                if missing:
                    message = f"{missing:,} requests were not answered"
                    raise RequestsFailed(message, hint="--provider-batch run sends them again")
    return _raise_if_failed(tally)


async def _fetch(
    batch: ProviderBatch, state: BatchState, job: BatchOptions, done: set[str], write: Callable[[BatchResult], None]
) -> int:
    """Fetch the answers; how many requests have none."""
    state = await batch.poll(state)
    if not state.is_finished:
        raise LimitReached("the provider is not done yet", hint="--provider-batch wait waits for it")
    requests = await _requests_by_line(job)
    if unmatched := await batch.fetch(state, requests, done, write):
        message = f"{unmatched:,} answers belong to no request of {job.source}: the file, or --shard, has changed"
        raise UsageError(message, hint="fetch again with the file that was sent; nothing is lost")
    batch.forget()
    return sum(request_key(request.id, request.line) not in done for request in requests.values())


async def _requests_by_line(job: BatchOptions) -> dict[int, PreparedRequest]:
    """The requests by their lines, without their messages, which may be long."""
    with open_requests(job.source, job.shard) as (file, _):
        async with aclosing(RequestReader(file, set(), lambda number, known: None, job.shard).read()) as read:
            return {item.line: _without_content(item) async for item in read if isinstance(item, PreparedRequest)}


def _without_content(request: PreparedRequest) -> PreparedRequest:
    return msgspec.structs.replace(request, messages=(), system="", source=BatchRequest(schema=request.source.schema))


def _discard(text: str) -> None:
    """For --quiet."""
