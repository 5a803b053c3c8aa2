"""What mcpchat threads does."""

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from mcpchat.cli.mcp_session import print_table
from mcpchat.cli.options import is_terminal
from mcpchat.config.run import Setup
from mcpchat.config.validation import SECRET_NAME
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Found, Node, Thread, Wanted, branch
from mcpchat.errors import UsageError
from mcpchat.threads import document, import_checks, importers
from mcpchat.threads import resume as kept
from mcpchat.ui.render import transcripts
from mcpchat.util.dates import moment
from mcpchat.util.private_files import write_file
from mcpchat.util.sanitize import clean, one_line, spelt_out
from mcpchat.util.stdin import read_text

_PAGE = 500
_LARGEST = 2**30  # characters of a file that is brought in


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
    # No command of these needs a secret, but one may stand in what is typed, or have been kept by mistake.
    setup.secrets.add(*(value for name, value in setup.environ.items() if SECRET_NAME.search(name)))
    store = await kept.open_store(setup, _warn)
    try:
        yield store
    finally:
        store.close()


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {clean(text)}\n")


async def show_list(setup: Setup, chosen: Wanted, limit: int, output: str) -> int:
    async with _opened(setup) as store:
        found = store.recent(chosen, limit + 1)
    if output == "json":
        _write_json(found[:limit])
    elif found:
        from mcpchat.ui.render import tables

        print_table(tables.threads(found[:limit]))
        if len(found) > limit:
            sys.stderr.write(f"and more: --limit {2 * limit}\n")
    else:
        sys.stderr.write("no threads\n")
    return 0


async def search(setup: Setup, chosen: Wanted, asked: str, limit: int, output: str) -> int:
    async with _opened(setup) as store:
        found = store.search(chosen, asked, limit)
    if output == "json":
        _write_json(found)
        return 0
    for one in found:
        _print_found(one)
    if not found:
        sys.stderr.write("nothing found\n")
    return 0


def _write_json(found: Sequence[Thread] | Sequence[Found]) -> None:
    text = json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False)
    sys.stdout.write(f"{spelt_out(text)}\n")


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
    if tree and output != "text":
        raise UsageError(f"--tree is for people: not with -o {output}", hint="-o json has all branches")
    async with _opened(setup) as store:
        thread, head = kept.found(store, name)
        thread = setup.secrets.redact_value(thread)
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
    made = document.document(thread, nodes, lambda key: store.content(key, thread))
    return spelt_out(document.written(made))


def _written(thread: Thread, nodes: Sequence[Node], output: str) -> str:
    match output:
        case "html":
            text = transcripts.page(thread, nodes)
        case "markdown":
            text = transcripts.markdown(thread, nodes)
        case _:
            lines = document.events(branch(nodes, thread.head))
            return "".join(f"{spelt_out(line.decode())}\n" for line in lines)
    return text


async def fork(setup: Setup, name: str, at: int | None, title: str) -> int:
    async with _opened(setup) as store:
        thread, head = kept.found(store, name)
        made = kept.fork(store, thread, at if at is not None else head, setup.secrets.redact(one_line(title, 200)))
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
    for thread, head in _chosen(store, names, everything=everything):
        nodes = setup.secrets.redact_value(list(store.nodes(thread)))
        thread = kept.headed(thread, nodes, head) if head is not None else thread
        thread = setup.secrets.redact_value(thread)
        yield f"{_document(thread, nodes, store)}\n" if output == "json" else _written(thread, nodes, output)


def _chosen(store: ThreadStore, names: Sequence[str], *, everything: bool) -> Iterator[tuple[Thread, int | None]]:
    if everything:
        yield from ((thread, None) for thread in _all(store))
    else:
        yield from [kept.found(store, name) for name in names]


def _all(store: ThreadStore) -> Iterator[Thread]:
    last: Thread | None = None
    while page := store.recent(Wanted(), _PAGE, last):
        yield from page
        last = page[-1]


async def bring(setup: Setup, files: Sequence[str], place: str | None) -> int:
    """Whatever cannot be read is told, and the rest brought in all the same; the exit code says so."""
    count = {"added": 0, "known": 0, "bad": 0}
    async with _opened(setup) as store:
        brought = await _from(setup, place) if place is not None else _read(setup, files, count)
        for thread, nodes, contents in brought:
            count["added" if store.put(thread, nodes, contents) else "known"] += 1
    told = f"{count['added']:,} threads added" + f", {count['known']:,} were there already" * bool(count["known"])
    sys.stderr.write(f"{told}\n")
    return 2 if count["bad"] else 0


_Brought = tuple[Thread, Sequence[Node], Sequence[bytes]]


async def _from(setup: Setup, place: str) -> Iterator[_Brought]:
    there = await kept.store_at(setup, place)
    return _moved(there)


def _moved(there: ThreadStore) -> Iterator[_Brought]:
    try:
        for thread in _all(there):
            nodes = there.nodes(thread)
            yield thread, nodes, kept.contents(there, thread, nodes)
    finally:
        there.close()


def _read(setup: Setup, files: Sequence[str], count: dict[str, int]) -> Iterator[_Brought]:
    now = time.time()
    for name in files:
        for number, value in enumerate(_values(name), 1):
            try:
                for thread, nodes, contents in _threads_in(value):
                    made, adopted = import_checks.adopted(thread, nodes, now)
                    yield setup.secrets.redact_value(made), setup.secrets.redact_value(adopted), contents
            except UsageError as error:
                count["bad"] += 1
                where = f"{name}, {number}" if number > 1 else name
                sys.stderr.write(f"error: {clean(where)}: {clean(error.message)}\n")
                if error.hint:
                    sys.stderr.write(f"  {clean(error.hint)}\n")


def _threads_in(value: object) -> Iterator[_Brought]:
    if document.is_ours(value):
        whole = document.read(value)
        yield whole.thread, whole.nodes, document.whole_results(whole)
        return
    for thread, nodes in importers.threads(value):
        yield thread, nodes, ()


def _values(name: str) -> Iterator[object]:
    """The JSON values in a file: one, each of a list of conversations, or one a line. Raises UsageError."""
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
    if isinstance(value, list) and value and all(_is_one(one) for one in value):
        yield from value
    else:
        yield value


def _is_one(value: object) -> bool:
    """Whether it is a conversation of its own, whatever the others are."""
    return document.is_ours(value) or (isinstance(value, dict) and ("mapping" in value or "chat_messages" in value))


def _text(name: str) -> str:
    try:
        if name == "-":
            text = read_text(name, 4 * _LARGEST)
        else:
            with Path(name).expanduser().open(encoding="utf-8") as file:
                text = file.read(_LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{name} cannot be read: {reason}") from error
    if len(text) > _LARGEST:
        raise UsageError(f"{name} holds more than {_LARGEST:,} characters", hint="split it: one thread a line will do")
    return text


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
        if before is not None and (old := store.older(before)):
            _agree(f"delete {old:,} threads that did not change since {transcripts.when(before)}?", yes=yes)
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
