"""Opening the thread store of a run, and resuming or forking threads."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mcpchat.config.run import RunContext, RunOptions
from mcpchat.config.schema import ThreadsConfig
from mcpchat.config.secret_refs import resolve_secret
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import NewMessage, Thread, ThreadMessage, branch, end_of_tool_round, new_id
from mcpchat.engine.message_codec import referenced_results
from mcpchat.errors import UsageError
from mcpchat.util.paths import expand_user

_NAME_AT_NUMBER = re.compile(r"(.+)@([1-9][0-9]{0,8})")


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """A thread to be resumed after its message ``head``."""

    thread: Thread
    nodes: Sequence[ThreadMessage]
    head: int

    @property
    def agent(self) -> str | None:
        """The last agent of the branch. None for an imported thread: its file is untrusted and must not choose one."""
        if self.thread.imported:
            return None
        return self.path[-1].record.agent if self.path else self.thread.agent

    @property
    def model(self) -> str:
        """The selector of the last model that answered; empty if unknown, or if the thread was imported."""
        if self.thread.imported:
            return ""
        answers = (node.record.model for node in reversed(self.path) if node.message.role == "assistant")
        return next(filter(None, answers), "")  # only messages that a model answered count

    @property
    def path(self) -> list[ThreadMessage]:
        """The messages of the branch that ends at ``head``."""
        return branch(self.nodes, self.head)


async def open_store(context: RunContext, warn: Callable[[str], None]) -> ThreadStore:
    """Return the thread store that the config selects. The database is opened on first use.

    ``warn`` receives reports of damage. Raises ConfigError if the PostgreSQL address or password is not valid, or
    psycopg is not installed.
    """
    from mcpchat.threads import sqlite

    settings = context.config.threads
    if settings.url is None:
        return sqlite.open_threads(local_database_path(context), warn)
    return await _open_postgres(context, settings)


async def open_store_at(context: RunContext, location: str) -> ThreadStore:
    """Return another thread store to read from. ``location`` is a database file, or a PostgreSQL address or reference.

    Raises ConfigError if the address is not valid, UsageError if the file does not exist.
    """
    if re.match(r"postgres(ql)?://|env:|keyring:", location):
        return await _open_postgres(context, ThreadsConfig(url=location, password=context.config.threads.password))
    from mcpchat.threads import sqlite

    return sqlite.open_read_only(_require_file(location))


def _require_file(location: str) -> Path:
    path = expand_user(location)
    if not path.is_file():
        raise UsageError(f"no such file: {location}")
    return path


async def _open_postgres(context: RunContext, settings: ThreadsConfig) -> ThreadStore:
    from mcpchat.threads import postgres

    assert settings.url is not None
    on_secret = context.secrets.add
    url = await resolve_secret(settings.url, context.environ, config_key="threads.url")
    on_secret(*postgres.find_passwords(url))
    password = None
    if settings.password is not None:
        password = await resolve_secret(
            settings.password, context.environ, config_key="threads.password", on_secret=on_secret
        )
    return postgres.open_threads(url, password)


def local_database_path(context: RunContext) -> Path:
    return context.paths.data / "threads.db"


def find_resume_point(store: ThreadStore, options: RunOptions) -> ResumePoint | None:
    """Return the thread that the run resumes, or None if it starts a new one.

    Raises UsageError if the thread or message does not exist, StoreError if the store cannot be read.
    """
    if options.thread is not None:
        thread, head = find_thread(store, options.thread)
    elif options.continue_latest:
        latest = store.latest()
        if latest is None:
            raise UsageError("there is no thread to continue", hint="leave out --continue to start one")
        thread, head = latest, None
    else:
        return None
    return load_thread(store, thread, head)


def find_thread(store: ThreadStore, name: str) -> tuple[Thread, int | None]:
    """Find a thread by id or title; NAME@NUMBER also returns the number of a message.

    Raises UsageError if no thread, or more than one, matches.
    """
    try:
        return store.find(name), None
    except UsageError:
        if (match := _NAME_AT_NUMBER.fullmatch(name)) is None:
            raise
        return store.find(match[1]), int(match[2])


def load_thread(store: ThreadStore, thread: Thread, head: int | None = None) -> ResumePoint:
    """Load a thread to resume it after the message ``head``, or at its current head.

    Raises UsageError if the thread has no such message.
    """
    nodes = store.nodes(thread)
    return ResumePoint(thread=thread, nodes=nodes, head=with_head(thread, nodes, head).head if head else thread.head)


def fork(store: ThreadStore, thread: Thread, head: int | None, title: str = "") -> Thread:
    """Create a thread that begins with the messages up to ``head``.

    Raises UsageError if the thread has no such message, or no messages.
    """
    source = load_thread(store, thread, head)
    if not source.path:
        raise UsageError(f"the thread {thread.short_id} has nothing to fork")
    forked = Thread(
        id=new_id(),
        title=title or f"{thread.title} (fork)",
        named=bool(title) or thread.named,
        agent=source.agent or "",
        model=source.model,
        forked_from=thread.id,
        imported=thread.imported,
    )
    return store.append(forked, 0, [NewMessage(message=node.message, metadata=node.record) for node in source.path])


def saves_threads(context: RunContext, options: RunOptions) -> bool:
    """Whether this run saves its conversation."""
    return options.save and context.config.threads.save


def with_head(thread: Thread, nodes: Sequence[ThreadMessage], head: int) -> Thread:
    """Return the thread with this message as the end of its current branch.

    If the message has tool calls, the branch ends at their results. Raises UsageError if the thread has no such
    message.
    """
    if head not in {node.number for node in nodes}:
        message = f"the thread {thread.short_id} has no message {head}"
        raise UsageError(message, hint=f"mcpchat threads show {thread.short_id} lists the numbers")
    return msgspec.structs.replace(thread, head=end_of_tool_round(nodes, head))


def load_blobs(store: ThreadStore, thread: Thread, nodes: Sequence[ThreadMessage]) -> list[bytes]:
    """Return the stored results that the messages refer to; missing ones are left out."""
    blobs = (store.get_blob(key, thread) for node in nodes for key in referenced_results(node.message))
    return [data for data in blobs if data is not None]
