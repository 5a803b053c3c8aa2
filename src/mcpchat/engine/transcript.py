"""What was said on the current branch of one conversation: it grows in one place, and each message is kept there."""

import time
from collections.abc import Callable, MutableMapping, Sequence

from msgspec.structs import replace

from mcpchat.core.events import BranchChanged, Emit, MessageAdded, Notice
from mcpchat.core.messages import Message, user
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Entry, Node, Record, Thread, branch, interrupted, new_id, title_of
from mcpchat.engine.message_codec import keys_in
from mcpchat.errors import StoreError, ThreadMoved

_SLOW = 0.5  # seconds: a failure that took longer would be felt
_REST, _LONGEST_REST = 10.0, 60.0  # times what it took, and seconds
Tail = tuple[Sequence[Message], Sequence[Record], Sequence[int]]


def _as_it_is(entry: Entry) -> Entry:
    return entry


def _named(title: str, clean: Callable[[Entry], Entry]) -> Thread:
    """A new thread; without a title it will be called by its first words."""
    if title:
        title = clean(Entry(message=user(title))).message.words
    return Thread(id=new_id(), title=title, named=bool(title))


class Transcript:
    """The messages, and the thread that they are kept in; without a ``store`` they are kept nowhere.

    A message is written before anybody hears of it. What cannot be written stays in memory and goes along with the
    next one. Where somebody else went on with the thread, this conversation goes on in a fork of it. ``clean`` is what
    becomes of an entry before it is written; ``fresh`` are whole results by their keys: those that a message points to
    are written with it, and leave.
    """

    def __init__(
        self,
        emit: Emit,
        store: ThreadStore | None = None,
        *,
        clean: Callable[[Entry], Entry] = _as_it_is,
        fresh: MutableMapping[str, bytes] | None = None,
        title: str = "",
    ) -> None:
        self.messages: list[Message] = []
        self.records: list[Record] = []
        self.thread = _named(title, clean)
        self._numbers: list[int] = []  # of the messages, as far as they are written
        self._emit = emit
        self._store = store
        self._clean = clean
        self._fresh = {} if fresh is None else fresh
        self._failing = False
        self._not_before = 0.0  # the moment until which a store that did not answer is left alone

    @property
    def numbers(self) -> Sequence[int]:
        """Of the messages in their thread; shorter than they are where the last could not be written."""
        return tuple(self._numbers)

    @property
    def kept(self) -> bool:
        """Whether the messages are written anywhere."""
        return self._store is not None

    @property
    def current(self) -> Thread:
        """The thread, with the message that was last said on this branch as its head."""
        return replace(self.thread, head=self._numbers[-1] if self._numbers else 0)

    @property
    def unsaved(self) -> int:
        """How many messages a store should have, and has not."""
        return len(self.messages) - len(self._numbers) if self._store is not None else 0

    def add(self, message: Message, record: Record | None = None) -> None:
        """The one way in which history grows."""
        record = record if record is not None else Record(at=time.time())
        self.messages.append(message)
        self.records.append(record)
        self.keep(at_once=False)
        number = self._numbers[-1] if self._numbers and not self.unsaved else 0
        self._emit(MessageAdded(message=message, number=number, record=record))

    def keep(self, *, at_once: bool = True) -> None:
        """Write what is not written yet. Where that fails it is told, once.

        A store that took long to fail is left alone for a while, unless it is wanted ``at_once``: nobody waits for it
        with every message.
        """
        began = time.monotonic()
        if self._store is None or not self.unsaved or (began < self._not_before and not at_once):
            return
        try:
            self._write(self._store)
        except ThreadMoved as moved:
            self._fork(self._store, moved)
        except StoreError as error:
            now = time.monotonic()
            if now - began > _SLOW:
                self._not_before = now + min(_LONGEST_REST, _REST * (now - began))
            self._tell_failure(error)
        else:
            self._tell_success()

    def _write(self, store: ThreadStore) -> None:
        begin = len(self._numbers)
        entries = [
            self._clean(Entry(message=message, record=record, contents=self._contents(message)))
            for message, record in zip(self.messages[begin:], self.records[begin:], strict=True)
        ]
        last = entries[-1].record
        thread = replace(self.thread, agent=last.agent, model=last.model or self.thread.model)
        if not thread.title:
            said = next((entry.message.words for entry in entries if entry.message.role == "user"), "")
            thread = replace(thread, title=title_of(said))
        self.thread = store.append(thread, self._numbers[-1] if self._numbers else 0, entries)
        self._numbers += range(self.thread.head - len(entries) + 1, self.thread.head + 1)
        for key in (key for entry in entries for key in keys_in(entry.message)):
            self._fresh.pop(key, None)

    def _contents(self, message: Message) -> tuple[bytes, ...]:
        return tuple(self._fresh[key] for key in keys_in(message) if key in self._fresh)

    def _fork(self, store: ThreadStore, moved: ThreadMoved) -> None:
        """Go on in a new thread, which has all of this branch: the old one is somebody else's now."""
        old = self.thread
        title = f"{old.title} (fork)" if old.title else ""
        self.thread = replace(old, id=new_id(), title=title, forked_from=old.id, head=0, messages=0)
        self._numbers.clear()
        try:
            self._write(store)
        except StoreError as error:
            self._tell_failure(error)
            return
        told = f"{moved.message} meanwhile: this conversation goes on as {self.thread.short_id}, with all of it"
        self._emit(Notice(level="warning", text=told))
        self._tell_branch()

    def _tell_failure(self, error: StoreError) -> None:
        if not self._failing:
            told = f"this conversation is not being saved: {error.message}" + (f"; {error.hint}" if error.hint else "")
            self._emit(Notice(level="warning", text=told))
        self._failing = True

    def _tell_success(self) -> None:
        if self._failing:
            self._emit(Notice(level="info", text="the conversation is being saved again, all of it"))
        self._failing = False

    def cut(self, place: int) -> Tail:
        """End the branch before the message at this place. The rest stays in the thread; it is given back as a tail."""
        tail = self.messages[place:], self.records[place:], self._numbers[place:]
        del self.messages[place:], self.records[place:], self._numbers[place:]
        self.stay()
        return tail

    def restore(self, tail: Tail) -> None:
        """Put back what was cut off, where nothing came after."""
        messages, records, numbers = tail
        self.messages += messages
        self.records += records
        self._numbers += numbers
        self.stay()

    def stay(self) -> None:
        """Make this branch the thread's current one, also where nothing more is said."""
        head = self._numbers[-1] if self._numbers else 0
        if self._store is not None and self.thread.head != head:
            try:
                self.thread = self._store.move(self.thread, head)
            except ThreadMoved:
                pass  # told when there is something to keep
            except StoreError as error:
                self._tell_failure(error)
        self._tell_branch()

    def _tell_branch(self) -> None:
        head = self._numbers[-1] if self._numbers else 0
        self._emit(BranchChanged(thread_id=self.thread.id, head=head, messages=len(self.messages)))

    def begin(self, title: str = "") -> None:
        """A new conversation."""
        self._leave()
        self.thread = _named(title, self._clean)
        self.messages, self.records, self._numbers = [], [], []
        self._failing = False

    def open(self, thread: Thread, nodes: Sequence[Node], head: int | None = None) -> None:
        """Go on with a thread that was kept, at its head or after another of its messages."""
        self._leave()
        path = branch(nodes, thread.head if head is None else head)
        self.thread = thread
        self.messages = [node.message for node in path]
        self.records = [node.record for node in path]
        self._numbers = [node.number for node in path]
        self._failing = False
        self._tell_branch()

    def _leave(self) -> None:
        self.keep()
        if self.unsaved:
            told = f"the last {self.unsaved} messages of {self.thread.short_id} could not be saved"
            self._emit(Notice(level="warning", text=told))

    def settle(self) -> None:
        """Give calls that were running when mcpchat ended a result that says so."""
        if (results := interrupted(self.messages)) is not None:
            self.add(results, Record(at=time.time(), agent=self.records[-1].agent, model=self.records[-1].model))

    def rename(self, title: str, *, named: bool = True) -> None:
        """Give the thread another title; without ``named`` only where no person gave it one. Raises StoreError."""
        if self.thread.named and not named:
            return
        title = _named(title, self._clean).title
        if self._store is not None and self.thread.messages:
            self._store.rename(self.thread, title, named=named)
        self.thread = replace(self.thread, title=title, named=named)
