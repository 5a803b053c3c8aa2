"""Threads in and out: files of this and other clients, other databases, exports."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mcpchat.config.run import RunContext
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Thread, ThreadFilter, ThreadMessage, branch
from mcpchat.errors import UsageError
from mcpchat.threads import document, import_checks, importers, resume
from mcpchat.util.sanitize import escape_unsafe_json
from mcpchat.util.stdin import read_text

_PAGE = 500  # threads
_MAX_FILE = 2**30  # characters
ImportedThread = tuple[Thread, Sequence[ThreadMessage], Sequence[bytes]]  # with the large contents of its messages


def iter_threads(store: ThreadStore) -> Iterator[Thread]:
    """All threads of the store, the latest first."""
    last: Thread | None = None
    while page := store.recent(ThreadFilter(), _PAGE, last):
        yield from page
        last = page[-1]


def read_store(store: ThreadStore) -> Iterator[ImportedThread]:
    """All threads of another store, which is closed at the end."""
    try:
        for thread in iter_threads(store):
            nodes = store.nodes(thread)
            yield thread, nodes, resume.load_blobs(store, thread, nodes)
    finally:
        store.close()


def read_files(
    context: RunContext, files: Sequence[str], on_error: Callable[[str, UsageError], None]
) -> Iterator[ImportedThread]:
    """The threads in the files, checked and without secrets; "-" is standard input.

    ``on_error`` hears of each value that cannot be used, with the file's name and the number of the value. Raises
    UsageError for a file that cannot be read.
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
    """The JSON values in a file: one, each of a list of conversations, or one a line. Raises UsageError."""
    text = _read_file(name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise UsageError(f"{name}: not JSON: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as line_error:
                raise UsageError(f"{name}: line {number} is not JSON: {line_error}") from line_error
        return
    if isinstance(value, list) and value and all(_is_conversation(item) for item in value):
        yield from value
    else:
        yield value


def _is_conversation(value: object) -> bool:
    """Whether the value is a conversation by itself, not a message of one."""
    return document.is_native(value) or (isinstance(value, dict) and ("mapping" in value or "chat_messages" in value))


def _read_file(name: str) -> str:
    try:
        if name == "-":
            text = read_text(name, 4 * _MAX_FILE)
        else:
            with Path(name).expanduser().open(encoding="utf-8") as file:
                text = file.read(_MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"cannot read {name}: {reason}") from error
    if len(text) > _MAX_FILE:
        raise UsageError(f"{name} holds more than {_MAX_FILE:,} characters", hint="split it: one thread a line is fine")
    return text


def export_json(thread: Thread, nodes: Sequence[ThreadMessage], store: ThreadStore) -> str:
    """The thread with all its branches as one line of JSON, escaped for a terminal."""
    exported = document.build(thread, nodes, lambda key: store.get_blob(key, thread))
    return escape_unsafe_json(document.serialize(exported))


def export_events(thread: Thread, nodes: Sequence[ThreadMessage]) -> str:
    """The current branch as lines of JSON, one event each, escaped for a terminal."""
    return "".join(
        f"{escape_unsafe_json(line.decode())}\n" for line in document.iter_event_lines(branch(nodes, thread.head))
    )
