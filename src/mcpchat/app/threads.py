"""Where this run keeps its conversations, and which one it goes on with."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mcpchat.adapters.secrets import look_up
from mcpchat.app.setup import Setup, Wishes
from mcpchat.core.config import ThreadsConfig
from mcpchat.core.errors import ConfigError, UsageError
from mcpchat.core.ports import ThreadStore
from mcpchat.core.stored import keys_in
from mcpchat.core.thread_json import Document
from mcpchat.core.threads import Entry, Node, Thread, branch, new_id

_AT = re.compile(r"(.+)@([0-9]+)")


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
        return next((node.record.model for node in reversed(self.path) if node.record.model), "")

    @property
    def path(self) -> list[Node]:
        return branch(self.nodes, self.head)


async def open_store(setup: Setup, warn: Callable[[str], None]) -> ThreadStore:
    """The threads that the config names; nothing is opened before it is needed. Raises ConfigError."""
    from mcpchat.adapters import thread_sqlite

    wanted = setup.config.threads
    if wanted.url is None:
        return thread_sqlite.open_threads(local_file(setup), warn)
    return await _shared(setup, wanted)


async def store_at(setup: Setup, place: str, warn: Callable[[str], None]) -> ThreadStore:
    """The threads in another place: a database file, or an address. Raises ConfigError, UsageError."""
    if re.match(r"postgres(ql)?://|env:|keyring:", place):
        return await _shared(setup, ThreadsConfig(url=place, password=setup.config.threads.password))
    from mcpchat.adapters import thread_sqlite

    return thread_sqlite.open_threads(_database(place), warn)


def _database(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_file():
        raise UsageError(f"there is no file {place}")
    return path


async def _shared(setup: Setup, wanted: ThreadsConfig) -> ThreadStore:
    from mcpchat.adapters import thread_postgres

    assert wanted.url is not None
    keep = setup.secrets.add
    url = await look_up(wanted.url, setup.environ, where="threads.url")
    if not re.match(r"postgres(ql)?://", url):
        raise ConfigError("threads.url: expected an address that begins with postgresql://")
    if secret := re.match(r"postgres(?:ql)?://[^/@]*?:([^/@]*)@", url):
        keep(secret[1])
    password = None
    if wanted.password is not None:
        password = await look_up(wanted.password, setup.environ, where="threads.password", keep=keep)
    return thread_postgres.open_threads(url, password)


def local_file(setup: Setup) -> Path:
    return setup.paths.data / "threads.db"


def begun(store: ThreadStore, wishes: Wishes) -> Begun | None:
    """The thread that the run goes on with, None where it begins one. Raises UsageError, StoreError."""
    if wishes.thread is not None:
        thread, head = found(store, wishes.thread)
    elif wishes.go_on:
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
    if head:
        headed(thread, nodes, head)
    return Begun(thread=thread, nodes=nodes, head=thread.head if head is None else head)


def fork(store: ThreadStore, thread: Thread, head: int | None, title: str = "") -> Thread:
    """A new thread that begins with all up to this message. Raises UsageError for a number that is none."""
    begun = opened(store, thread, head)
    if not begun.path:
        raise UsageError(f"the thread {thread.short_id} has nothing to fork")
    made = Thread(
        id=new_id(),
        title=title or thread.title,
        named=bool(title) or thread.named,
        agent=begun.agent or "",
        model=begun.model,
        forked_from=thread.id,
        imported=thread.imported,
    )
    return store.append(made, 0, [Entry(message=node.message, record=node.record) for node in begun.path])


def keeps(setup: Setup, wishes: Wishes) -> bool:
    """Whether this run is kept."""
    return wishes.save and setup.config.threads.save


def headed(thread: Thread, nodes: Sequence[Node], head: int) -> Thread:
    """The thread as if its current branch ended at this message. Raises UsageError for a number that is none."""
    if head not in {node.number for node in nodes}:
        raise UsageError(f"the thread {thread.short_id} has no message {head}", hint="mcpchat threads show --tree")
    return msgspec.structs.replace(thread, head=head)


def contents(store: ThreadStore, nodes: Sequence[Node]) -> list[bytes]:
    """The whole results that the messages point to."""
    found = (store.content(key) for node in nodes for key in keys_in(node.message))
    return [data for data in found if data is not None]


def decoded(document: Document) -> list[bytes]:
    """The whole results that came with an exported thread. Raises UsageError for what is not base64."""
    try:
        return [base64.b64decode(text, validate=True) for text in document.contents.values()]
    except ValueError as error:
        raise UsageError("the thread cannot be read: its contents are not base64") from error
