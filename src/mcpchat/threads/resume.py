"""Where this run keeps its conversations, and which one it goes on with."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mcpchat.config.run import RunContext, RunOptions
from mcpchat.config.schema import ThreadsConfig
from mcpchat.config.secret_refs import look_up
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Entry, Node, Thread, branch, end_of_round, new_id
from mcpchat.engine.message_codec import keys_in
from mcpchat.errors import UsageError

_AT = re.compile(r"(.+)@([1-9][0-9]{0,8})")


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A thread that is gone on with, after its message ``head``."""

    thread: Thread
    nodes: Sequence[Node]
    head: int

    @property
    def agent(self) -> str | None:
        """The agent that was talked to last; None where nobody here chose it: a file can say anything."""
        if self.thread.imported:
            return None
        return self.path[-1].record.agent if self.path else self.thread.agent

    @property
    def model(self) -> str:
        """The model that was talked to last, by what chooses it; empty where that is not known, or came in a file."""
        if self.thread.imported:
            return ""
        answers = (node.record.model for node in reversed(self.path) if node.message.role == "assistant")
        return next(filter(None, answers), "")  # who did not answer is not asked again

    @property
    def path(self) -> list[Node]:
        return branch(self.nodes, self.head)


async def open_store(context: RunContext, warn: Callable[[str], None]) -> ThreadStore:
    """The threads that the config names; nothing is opened before it is needed. Raises ConfigError."""
    from mcpchat.threads import sqlite

    wanted = context.config.threads
    if wanted.url is None:
        return sqlite.open_threads(local_file(context), warn)
    return await _shared(context, wanted)


async def store_at(context: RunContext, place: str) -> ThreadStore:
    """The threads in another place, to be read: a database file, or an address. Raises ConfigError, UsageError."""
    if re.match(r"postgres(ql)?://|env:|keyring:", place):
        return await _shared(context, ThreadsConfig(url=place, password=context.config.threads.password))
    from mcpchat.threads import sqlite

    return sqlite.open_to_read(_database(place))


def _database(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_file():
        raise UsageError(f"there is no file {place}")
    return path


async def _shared(context: RunContext, wanted: ThreadsConfig) -> ThreadStore:
    from mcpchat.threads import postgres

    assert wanted.url is not None
    keep = context.secrets.add
    url = await look_up(wanted.url, context.environ, where="threads.url")
    keep(*postgres.passwords(url))
    password = None
    if wanted.password is not None:
        password = await look_up(wanted.password, context.environ, where="threads.password", keep=keep)
    return postgres.open_threads(url, password)


def local_file(context: RunContext) -> Path:
    return context.paths.data / "threads.db"


def begun(store: ThreadStore, options: RunOptions) -> Begun | None:
    """The thread that the run goes on with, None where it begins one. Raises UsageError, StoreError."""
    if options.thread is not None:
        thread, head = found(store, options.thread)
    elif options.continue_latest:
        latest = store.latest()
        if latest is None:
            raise UsageError("there is no thread to go on with", hint="without --continue one begins")
        thread, head = latest, None
    else:
        return None
    return opened(store, thread, head)


def found(store: ThreadStore, name: str) -> tuple[Thread, int | None]:
    """The thread of this id or title, and with NAME@NUMBER the number. Raises UsageError."""
    try:
        return store.find(name), None
    except UsageError:
        if (at := _AT.fullmatch(name)) is None:
            raise
        return store.find(at[1]), int(at[2])


def opened(store: ThreadStore, thread: Thread, head: int | None = None) -> Begun:
    """The thread with its messages, to go on after this one. Raises UsageError for a number that is none."""
    nodes = store.nodes(thread)
    return Begun(thread=thread, nodes=nodes, head=headed(thread, nodes, head).head if head else thread.head)


def fork(store: ThreadStore, thread: Thread, head: int | None, title: str = "") -> Thread:
    """A new thread that begins with all up to this message. Raises UsageError for a number that is none."""
    begun = opened(store, thread, head)
    if not begun.path:
        raise UsageError(f"the thread {thread.short_id} has nothing to fork")
    made = Thread(
        id=new_id(),
        title=title or f"{thread.title} (fork)",
        named=bool(title) or thread.named,
        agent=begun.agent or "",
        model=begun.model,
        forked_from=thread.id,
        imported=thread.imported,
    )
    return store.append(made, 0, [Entry(message=node.message, record=node.record) for node in begun.path])


def keeps(context: RunContext, options: RunOptions) -> bool:
    """Whether this run is kept."""
    return options.save and context.config.threads.save


def headed(thread: Thread, nodes: Sequence[Node], head: int) -> Thread:
    """The thread as if its current branch ended at this message; after calls, at their results.

    Raises UsageError for a number that is none.
    """
    if head not in {node.number for node in nodes}:
        told = f"the thread {thread.short_id} has no message {head}"
        raise UsageError(told, hint=f"mcpchat threads show {thread.short_id} numbers them")
    return msgspec.structs.replace(thread, head=end_of_round(nodes, head))


def contents(store: ThreadStore, thread: Thread, nodes: Sequence[Node]) -> list[bytes]:
    """The whole results that the thread's messages point to."""
    found = (store.content(key, thread) for node in nodes for key in keys_in(node.message))
    return [data for data in found if data is not None]
