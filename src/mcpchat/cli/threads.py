"""What mcpchat threads does."""

import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from mcpchat.app import Setup, write_file
from mcpchat.app import threads as kept
from mcpchat.cli.common import as_json, is_terminal, write_json
from mcpchat.cli.hubs import print_table
from mcpchat.core import foreign_threads, thread_json
from mcpchat.core.errors import UsageError
from mcpchat.core.ports import ThreadStore
from mcpchat.core.sanitize import clean, one_line
from mcpchat.core.spans import moment
from mcpchat.core.threads import Found, Node, Thread, Wanted, branch
from mcpchat.ui import transcripts

_PAGE = 500
_LARGEST = 2**30  # bytes of a file that is brought in


def wanted(agent: str | None, tools: Sequence[str] | None, since: str | None, until: str | None) -> Wanted:
    """Which threads the options ask for. Raises UsageError."""
    return Wanted(
        agent=agent,
        tools=tuple(tools or ()),
        since=moment(since, option="--since") if since else None,
        until=moment(until, option="--until", end=True) if until else None,
    )


@asynccontextmanager
async def _opened(setup: Setup) -> AsyncIterator[ThreadStore]:
    store = await kept.open_store(setup, _warn)
    try:
        yield store
    finally:
        store.close()


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {clean(text)}\n")


async def show_list(setup: Setup, chosen: Wanted, limit: int, output: str) -> int:
    async with _opened(setup) as store:
        found = store.recent(chosen, limit)
    if output == "json":
        write_json(found)
    elif found:
        from mcpchat.ui import tables

        print_table(tables.threads(found))
    else:
        sys.stderr.write("no threads\n")
    return 0


async def search(setup: Setup, chosen: Wanted, asked: str, limit: int, output: str) -> int:
    async with _opened(setup) as store:
        found = store.search(chosen, asked, limit)
    if output == "json":
        write_json(found)
        return 0
    for one in found:
        _print_found(one)
    if not found:
        sys.stderr.write("nothing found\n")
    return 0


def _print_found(found: Found) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if is_terminal(sys.stdout) else ("", "")
    thread = found.thread
    title = one_line(thread.title, 100) or "(untitled)"
    sys.stdout.write(f"{thread.short_id}  {transcripts.when(thread.updated)}  {title}\n")
    for hit in found.hits:
        pieces = [one_line(f"x{piece}x", 400)[1:-1] for piece in hit.snippet]  # a blank at an end counts
        marked = "".join(f"{bold}{piece}{plain}" if place % 2 else piece for place, piece in enumerate(pieces))
        sys.stdout.write(f"    {hit.number:>4} {hit.role}: {marked.strip()}\n")


async def show(setup: Setup, name: str, output: str, *, tree: bool) -> int:
    async with _opened(setup) as store:
        thread, head = kept.found(store, name)
        nodes = setup.secrets.redact_value(list(store.nodes(thread)))
        if head is not None:
            thread = kept.headed(thread, nodes, head)
        if output == "json":
            sys.stdout.write(_document(thread, nodes, store) + "\n")
            return 0
    if tree:
        sys.stdout.write("".join(f"{clean(line)}\n" for line in transcripts.tree(thread, nodes)))
    elif output == "text":
        sys.stdout.write(transcripts.text(thread, nodes))
    else:
        sys.stdout.write(_written(thread, nodes, output))
    return 0


def _document(thread: Thread, nodes: Sequence[Node], store: ThreadStore) -> str:
    text = thread_json.written(thread_json.document(thread, nodes, store.content))
    return as_json(json.loads(text)) if is_terminal(sys.stdout) else text


def _written(thread: Thread, nodes: Sequence[Node], output: str) -> str:
    match output:
        case "html":
            text = transcripts.page(thread, nodes)
        case "markdown":
            text = transcripts.markdown(thread, nodes)
        case _:
            lines = (line.decode() for line in thread_json.events(branch(nodes, thread.head)))
            if is_terminal(sys.stdout):
                lines = (as_json(json.loads(line)) for line in lines)
            return "".join(f"{line}\n" for line in lines)
    return clean(text) if is_terminal(sys.stdout) else text


async def fork(setup: Setup, name: str, at: int | None, title: str) -> int:
    async with _opened(setup) as store:
        thread, head = kept.found(store, name)
        made = kept.fork(store, thread, at if at is not None else head, title)
    sys.stdout.write(f"{made.id}\n")
    return 0


async def rename(setup: Setup, name: str, title: str) -> int:
    async with _opened(setup) as store:
        store.rename(store.find(name), setup.secrets.redact(one_line(title, 200)))
    return 0


async def export(setup: Setup, names: Sequence[str], output: str, file: Path | None, *, everything: bool) -> int:
    if not names and not everything:
        raise UsageError("name a thread, or --all", hint="mcpchat threads list shows them")
    if (everything or len(names) > 1) and output in {"markdown", "html"}:
        raise UsageError(f"{output} is for one thread", hint="-o json or -o jsonl takes several")
    async with _opened(setup) as store:
        pieces = _exported(setup, store, names, output, everything=everything)
        if file is not None and str(file) != "-":
            write_file(file, pieces)
        else:
            for piece in pieces:
                sys.stdout.write(piece)
    return 0


def _exported(
    setup: Setup, store: ThreadStore, names: Sequence[str], output: str, *, everything: bool
) -> Iterator[str]:
    for thread in _all(store) if everything else [store.find(name) for name in names]:
        nodes = setup.secrets.redact_value(list(store.nodes(thread)))
        yield f"{_document(thread, nodes, store)}\n" if output == "json" else _written(thread, nodes, output)


def _all(store: ThreadStore) -> Iterator[Thread]:
    last: Thread | None = None
    while page := store.recent(Wanted(), _PAGE, last):
        yield from page
        last = page[-1]


async def bring(setup: Setup, files: Sequence[str], place: str | None) -> int:
    added = known = 0
    async with _opened(setup) as store:
        for thread, nodes, contents in await _from(setup, place) if place is not None else _read(setup, files):
            for data in contents:
                store.keep(data)
            if store.put(thread, nodes):
                added += 1
            else:
                known += 1
    told = f"{added:,} threads added" + (f", {known:,} were there already" if known else "")
    sys.stderr.write(f"{told}\n")
    return 0


_Brought = tuple[Thread, Sequence[Node], Sequence[bytes]]


async def _from(setup: Setup, place: str) -> Iterator[_Brought]:
    there = await kept.store_at(setup, place, _warn)
    return _moved(there)


def _moved(there: ThreadStore) -> Iterator[_Brought]:
    try:
        for thread in _all(there):
            nodes = there.nodes(thread)
            yield thread, nodes, kept.contents(there, nodes)
    finally:
        there.close()


def _read(setup: Setup, files: Sequence[str]) -> Iterator[_Brought]:
    for name in files:
        for value in _values(name):
            if thread_json.is_ours(value):
                document = setup.secrets.redact_value(thread_json.read(value))
                yield msgspec.structs.replace(document.thread, imported=True), document.nodes, kept.decoded(document)
                continue
            for thread, nodes in foreign_threads.threads(value):
                clean_thread = msgspec.structs.replace(setup.secrets.redact_value(thread), imported=True)
                yield clean_thread, setup.secrets.redact_value(nodes), ()


def _values(name: str) -> Iterator[object]:
    """The JSON values in a file: one, a list of threads of ours, or one a line. Raises UsageError."""
    text = _text(name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise UsageError(f"{name}: not JSON: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as fault:
                raise UsageError(f"{name}: line {number} is not JSON: {fault}") from fault
        return
    if isinstance(value, list) and value and all(thread_json.is_ours(one) for one in value):
        yield from value
    else:
        yield value


def _text(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read(_LARGEST)
        with Path(name).expanduser().open(encoding="utf-8") as file:
            return file.read(_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{name} cannot be read: {reason}") from error


async def delete(setup: Setup, names: Sequence[str], *, yes: bool) -> int:
    async with _opened(setup) as store:
        found = [store.find(name) for name in names]
        for thread in found:
            title = one_line(thread.title, 100) or "(untitled)"
            sys.stderr.write(f"{thread.short_id}  {transcripts.when(thread.updated)}  {title}\n")
        _agree(f"delete {'these' if len(found) > 1 else 'this'} for good?", yes=yes)
        for thread in found:
            store.delete(thread)
    return 0


async def gc(setup: Setup, older_than: str | None, *, yes: bool) -> int:
    before = moment(older_than, option="--older-than") if older_than else None
    async with _opened(setup) as store:
        store.check()
        if before is not None:
            _agree(f"delete all threads that did not change since {transcripts.when(before)}?", yes=yes)
        done = store.tidy(before=before)
    told = [f"{done.threads:,} threads and " * bool(before is not None) + f"{done.contents:,} unused contents deleted"]
    sys.stderr.write(f"{told[0]}, {done.bytes:,} bytes given back\n")
    return 0


def _agree(asked: str, *, yes: bool) -> None:
    """Raise UsageError unless the person agrees, or said so before."""
    if yes:
        return
    if not is_terminal(sys.stdin, sys.stderr):
        raise UsageError("nobody is there to ask", hint="--yes deletes without asking")
    sys.stderr.write(f"{asked} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was deleted")
