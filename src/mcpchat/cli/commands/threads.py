"""mcpchat threads: saved conversations."""

import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import DeleteOption, TextOrJson, choice, config_file, with_options
from mcpchat.cli.output import is_terminal, print_table, require_confirmation
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.config.known_secrets import is_harmless
from mcpchat.config.run import RunContext
from mcpchat.config.validation import SECRET_NAME
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import SearchResult, Thread, ThreadFilter, ThreadMessage, branch
from mcpchat.errors import UsageError
from mcpchat.threads import resume, transfer
from mcpchat.ui.render import tables, transcript_html, transcripts
from mcpchat.ui.render.thread_tree import format_tree
from mcpchat.ui.render.timeline import format_timeline
from mcpchat.util.dates import parse_time
from mcpchat.util.output_files import write_file
from mcpchat.util.sanitize import escape_unsafe_json, one_line, sanitize, sanitize_message

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)

ThreadArgument = Annotated[
    str, typer.Argument(metavar="ID|TITLE", help="The thread: its id, the beginning of its id, or its title.")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=100_000, help="How many at most.")]


def thread_filter(
    agent: Annotated[str | None, typer.Option("--agent", "-a", metavar="NAME", help="Only with this agent.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", metavar="GLOB", help="Only where this tool was used. Repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only since then: a date, yesterday, 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Only until then.")] = None,
) -> ThreadFilter:
    """Which threads to list. Raises UsageError for a time that cannot be read."""
    return ThreadFilter(
        agent=agent,
        tools=tuple(tool or ()),
        since=parse_time(since, option="--since") if since else None,
        until=parse_time(until, option="--until", end=True) if until else None,
    )


@asynccontextmanager
async def _open_store(context: RunContext) -> AsyncIterator[ThreadStore]:
    # No command here needs a secret, but one may be in what the user types, or may have been saved by mistake.
    variables = context.environ.items()
    context.secrets.add(*(value for name, value in variables if SECRET_NAME.search(name) and not is_harmless(value)))
    store = await resume.open_store(context, _warn)
    try:
        yield store
    finally:
        store.close()


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {sanitize_message(text)}\n")


@app.command("list", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(threads=thread_filter, config=config_file)
def list_threads(
    threads: ThreadFilter, config: Path | None, limit: LimitOption = 20, output: TextOrJson = "text"
) -> int:
    """List the saved threads, the latest first.

    \b
      mcpchat threads
      mcpchat threads search "quarterly numbers" --since 30d
      mcpchat threads show 1a2b3c4d
      mcpchat --thread 1a2b3c4d                 continues it
    """
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            listed = store.recent(threads, limit + 1)
        if output == "json":
            _write_json(listed[:limit])
        elif listed:
            print_table(tables.thread_table(listed[:limit]))
            if len(listed) > limit:
                sys.stderr.write(f"and more: --limit {2 * limit}\n")
        else:
            sys.stderr.write("no threads\n")
        return 0

    return run_async(work())


@app.command()
@with_options(threads=thread_filter, config=config_file)
def search(
    threads: ThreadFilter,
    config: Path | None,
    words: Annotated[list[str], typer.Argument(metavar="WORDS...", help='All of them; "in quotes" as a phrase.')],
    limit: LimitOption = 10,
    output: TextOrJson = "text",
) -> int:
    """Search messages, tool calls and results: the newest thread first, with excerpts.

    All words must be in one message, in any case and with or without accents; word* is the beginning of a word.

    \b
      mcpchat threads search invoice "late fee"
      mcpchat threads search ann@example.com --tool 'gmail.*'
    """
    # The shell took the quotes: a word with a space in it was quoted.
    query = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            results = store.search(threads, query, limit)
        if output == "json":
            _write_json(results)
            return 0
        for result in results:
            _print_search_result(result)
        if not results:
            sys.stderr.write("no matches\n")
        return 0

    return run_async(work())


def _write_json(value: Sequence[Thread] | Sequence[SearchResult]) -> None:
    text = json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)
    sys.stdout.write(f"{escape_unsafe_json(text)}\n")


def _print_search_result(result: SearchResult) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if is_terminal(sys.stdout) else ("", "")
    sys.stdout.write(f"{_describe(result.thread)}\n")
    for hit in result.hits:
        parts = [one_line(f"x{part}x", 400)[1:-1] for part in hit.snippet]  # a blank at an end counts
        marked = "".join(f"{bold}{part}{plain}" if index % 2 else part for index, part in enumerate(parts))
        sys.stdout.write(f"    {hit.number:>4} {hit.role}: {marked.strip()}\n")


def _describe(thread: Thread) -> str:
    title = one_line(thread.title, 100) or "(untitled)"
    return f"{thread.short_id}  {transcripts.format_time(thread.updated)}  {title}"


@app.command()
@with_options(config=config_file)
def show(
    config: Path | None,
    name: ThreadArgument,
    tree: Annotated[bool, typer.Option("--tree", help="Its branches instead of its messages.")] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="The steps and calls of each turn, with their times and tokens.")
    ] = False,
    output: Annotated[str, choice("--output", "-o", of=("text", "markdown", "json", "jsonl"))] = "text",
) -> int:
    """Show a thread: its current branch, who decided on each call, what each answer took."""
    if tree and timeline:
        raise UsageError("--tree and --timeline exclude each other")
    if (tree or timeline) and output != "text":
        option = "--tree" if tree else "--timeline"
        raise UsageError(f"{option} does not go with -o {output}", hint="-o json has all branches and times")
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            thread, head = resume.find_thread(store, name)
            thread, nodes = _load(context, store, thread, head)
            if output == "json":
                sys.stdout.write(transfer.export_json(thread, nodes, store) + "\n")
        if tree:
            sys.stdout.write("".join(f"{sanitize(line)}\n" for line in format_tree(thread, nodes)))
        elif timeline:
            lines = format_timeline(branch(nodes, thread.head), sys.stdout.encoding)
            sys.stdout.write("".join(f"{sanitize(line)}\n" for line in lines))
        elif output == "text":
            sys.stdout.write(transcripts.to_text(thread, nodes))
        elif output != "json":
            sys.stdout.write(_format(thread, nodes, output))
        return 0

    return run_async(work())


def _load(
    context: RunContext, store: ThreadStore, thread: Thread, head: int | None
) -> tuple[Thread, Sequence[ThreadMessage]]:
    """The thread and its messages, without secrets; ``head`` is the message to end at."""
    redact = context.secrets.redact_value
    nodes: list[ThreadMessage] = redact(list(store.nodes(thread)))
    thread = redact(thread)
    return (resume.with_head(thread, nodes, head) if head is not None else thread), nodes


def _format(thread: Thread, nodes: Sequence[ThreadMessage], output: str) -> str:
    match output:
        case "html":
            return transcript_html.to_html(thread, nodes)
        case "markdown":
            return transcripts.to_markdown(thread, nodes)
        case _:
            return transfer.export_events(thread, nodes)


@app.command()
@with_options(config=config_file)
def fork(
    config: Path | None,
    name: ThreadArgument,
    at: Annotated[
        int | None, typer.Option("--at", metavar="NUMBER", min=1, help="Up to this message, on any branch.")
    ] = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The title of the fork.")] = "",
) -> int:
    """Make a new thread that begins as another; its id goes to stdout."""
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            thread, head = resume.find_thread(store, name)
            new_title = context.secrets.redact(one_line(title, 200))
            fork = resume.fork(store, thread, at if at is not None else head, new_title)
        sys.stdout.write(f"{fork.id}\n")
        return 0

    return run_async(work())


@app.command()
@with_options(config=config_file)
def rename(
    config: Path | None,
    name: ThreadArgument,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="The new title.")],
) -> int:
    """Rename a thread."""
    if not title.strip():
        raise UsageError("the title is empty")
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            store.rename(store.find(name), context.secrets.redact(one_line(title, 200)))
        return 0

    return run_async(work())


@app.command()
@with_options(config=config_file)
def export(
    config: Path | None,
    names: Annotated[list[str] | None, typer.Argument(metavar="[ID|TITLE]...", help="The threads.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All threads; with json, one a line.")] = False,
    output: Annotated[
        str,
        choice(
            "--output",
            "-o",
            of=("markdown", "html", "json", "jsonl"),
            help="markdown, html, json (all branches) or jsonl (events).",
        ),
    ] = "markdown",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Write to this file, readable by you alone.")
    ] = None,
) -> int:
    """Export threads for other programs, and for people.

    \b
      mcpchat threads export 1a2b3c4d > talk.md
      mcpchat threads export 1a2b3c4d -o html --file talk.html
      mcpchat threads export --all -o json --file backup.jsonl
    """
    if not names and not everything:
        raise UsageError("name a thread, or --all", hint="mcpchat threads lists them")
    if (everything or len(names or ()) > 1) and output in {"markdown", "html"}:
        raise UsageError(f"{output} is for one thread", hint="-o json or -o jsonl takes several")
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            chosen = (
                ((thread, None) for thread in transfer.iter_threads(store))
                if everything
                else [resume.find_thread(store, name) for name in names or ()]
            )
            texts = _export(context, store, chosen, output)
            if file is not None and str(file) != "-":
                write_file(file, texts)
            else:
                for text in texts:
                    sys.stdout.write(text)
        return 0

    return run_async(work())


def _export(
    context: RunContext, store: ThreadStore, chosen: Iterable[tuple[Thread, int | None]], output: str
) -> Iterator[str]:
    for thread, head in chosen:
        thread, nodes = _load(context, store, thread, head)
        yield (
            f"{transfer.export_json(thread, nodes, store)}\n" if output == "json" else _format(thread, nodes, output)
        )


@app.command("import")
@with_options(config=config_file)
def import_threads(
    config: Path | None,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE|-]...", help="Exports of mcpchat or of another client.")
    ] = None,
    place: Annotated[
        str | None,
        typer.Option("--from", metavar="PLACE", help="All threads of another database: a file, or postgresql://..."),
    ] = None,
) -> int:
    """Add threads: mcpchat's JSON, conversations.json of ChatGPT and of Claude, llm logs --json, lists of messages.

    Threads that exist already stay as they are.

    \b
      mcpchat threads import backup.jsonl
      mcpchat threads import --from ~/.local/share/mcpchat/threads.db
    """
    if bool(files) == (place is not None):
        raise UsageError("name files, or a database with --from", hint="mcpchat threads import FILE")
    context = build_context(config)
    failures = []

    def on_error(where: str, error: UsageError) -> None:
        failures.append(where)
        hint = f"  {sanitize_message(error.hint)}\n" if error.hint else ""
        sys.stderr.write(f"error: {sanitize_message(f'{where}: {error.message}')}\n{hint}")

    async def work() -> int:
        added = existing = 0
        async with _open_store(context) as store:
            if place is not None:
                source = transfer.read_store(await resume.open_store_at(context, place))
            else:
                source = transfer.read_files(context, files or [], on_error)
            for thread, nodes, contents in source:
                if store.import_thread(thread, nodes, contents):
                    added += 1
                else:
                    existing += 1
        skipped = f", {existing:,} existed already" if existing else ""
        sys.stderr.write(f"{added:,} threads added{skipped}\n")
        return 2 if failures else 0

    return run_async(work())


@app.command()
@with_options(config=config_file)
def delete(
    config: Path | None,
    names: Annotated[list[str], typer.Argument(metavar="ID|TITLE...", help="The threads.")],
    yes: DeleteOption = False,
) -> int:
    """Delete threads, with all their branches and contents."""
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            threads = [store.find(name) for name in names]
            for thread in threads:
                sys.stderr.write(f"{_describe(thread)}\n")
            require_confirmation(f"delete {'these' if len(threads) > 1 else 'this'} for good?", yes=yes)
            for thread in threads:
                store.delete(thread)
        return 0

    return run_async(work())


@app.command()
@with_options(config=config_file)
def gc(
    config: Path | None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="WHEN", help="Delete threads that did not change since: 90d, a date."),
    ] = None,
    yes: DeleteOption = False,
) -> int:
    """Check the database, delete unused contents, and shrink it."""
    before = parse_time(older_than, option="--older-than") if older_than else None
    context = build_context(config)

    async def work() -> int:
        async with _open_store(context) as store:
            store.check()
            if before is not None and (old := store.count_older(before)):
                require_confirmation(
                    f"delete {old:,} threads that did not change since {transcripts.format_time(before)}?", yes=yes
                )
            report = store.clean_up(before=before)
        threads = f"{report.threads:,} threads and " if before is not None else ""
        sys.stderr.write(f"{threads}{report.blobs:,} unused contents deleted, {report.bytes:,} bytes freed\n")
        return 0

    return run_async(work())
