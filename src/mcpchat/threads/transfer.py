"""Import and export of threads: files of mcpchat and other clients, and other databases."""

import json
import time
from collections.abc import Callable, Iterator, Sequence

from mcpchat.config.run import RunContext
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Thread, ThreadFilter, ThreadMessage, branch
from mcpchat.errors import UsageError
from mcpchat.threads import document, import_checks, importers, resume
from mcpchat.util import stdin
from mcpchat.util.json_problems import describe_json_error
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import escape_unsafe_json
from mcpchat.util.text_files import read_text

_PAGE = 500  # threads read in one query
_MAX_FILE = 2**30  # characters
ImportedThread = tuple[Thread, Sequence[ThreadMessage], Sequence[bytes]]  # with the stored tool results


def iter_threads(store: ThreadStore) -> Iterator[Thread]:
    """Yield all threads of the store, latest first."""
    last: Thread | None = None
    while page := store.recent(ThreadFilter(), _PAGE, last):
        yield from page
        last = page[-1]


def read_store(store: ThreadStore) -> Iterator[ImportedThread]:
    """Yield all threads of another store, and close it at the end."""
    try:
        for thread in iter_threads(store):
            nodes = store.nodes(thread)
            yield thread, nodes, resume.load_blobs(store, thread, nodes)
    finally:
        store.close()


def read_files(
    context: RunContext, files: Sequence[str], on_error: Callable[[str, UsageError], None]
) -> Iterator[ImportedThread]:
    """Yield the threads in the files, checked and with secrets redacted; "-" is standard input.

    ``on_error`` receives each value that cannot be imported: the file's name with the number of the value, and the
    error. Raises UsageError if a file cannot be read or is not JSON.
    """
    now, redact = time.time(), context.secrets.redact_value
    for name in files:
        for number, value in enumerate(_iter_json_values(name), 1):
            try:
                for thread, nodes, contents in _parse_threads(value):
                    thread, nodes = import_checks.sanitize_import(thread, nodes, now)
                    yield redact(thread), redact(nodes), contents
            except UsageError as error:
                on_error(f"{name}, {number}" if number > 1 else name, error)


def _parse_threads(value: object) -> Iterator[ImportedThread]:
    if document.is_native(value):
        exported = document.parse(value)
        yield exported.thread, exported.nodes, document.decode_results(exported)
        return
    for thread, nodes in importers.import_conversations(value):
        yield thread, nodes, ()


def _iter_json_values(name: str) -> Iterator[object]:
    """Yield the JSON values in a file: one value, each conversation of a list, or one value per line.

    Raises UsageError if the file cannot be read or is not JSON.
    """
    text = _read_file(name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise UsageError(f"{name}: not JSON: {describe_json_error(error)}") from error
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as line_error:
                raise UsageError(
                    f"{name}: line {number} is not JSON: {describe_json_error(line_error)}"
                ) from line_error
        return
    if isinstance(value, list) and value and all(_is_conversation(item) for item in value):
        yield from value
    else:
        yield value


def _is_conversation(value: object) -> bool:
    """Whether the value is a whole conversation, not a message."""
    return document.is_native(value) or (isinstance(value, dict) and ("mapping" in value or "chat_messages" in value))


def _read_file(name: str) -> str:
    max_bytes = 4 * _MAX_FILE
    if name == "-":
        text = stdin.read_text(name, max_bytes)
    else:
        text = read_text(expand_user(name), max_bytes=max_bytes, error=UsageError)
    if len(text) > _MAX_FILE:
        raise UsageError(
            f"{name} has more than {_MAX_FILE:,} characters", hint="split the file; one thread per line works"
        )
    return text


def export_json(thread: Thread, nodes: Sequence[ThreadMessage], store: ThreadStore) -> str:
    """Return the thread with all its branches as one line of JSON, escaped for a terminal."""
    exported = document.build(thread, nodes, lambda key: store.get_blob(key, thread))
    return escape_unsafe_json(document.serialize(exported))


def export_events(thread: Thread, nodes: Sequence[ThreadMessage]) -> str:
    """Return the current branch as JSON lines, one event per line, escaped for a terminal."""
    return "".join(
        f"{escape_unsafe_json(line.decode())}\n" for line in document.iter_event_lines(branch(nodes, thread.head))
    )
