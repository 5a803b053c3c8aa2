"""The current branch of one conversation: the one place where its history grows and is saved."""

import time
from collections.abc import Callable, MutableMapping, Sequence

from msgspec.structs import replace

from mcpchat.core.events import BranchChanged, Emit, MessageAdded, Notice
from mcpchat.core.messages import Message, user_message
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import (
    MessageMetadata,
    NewMessage,
    Thread,
    ThreadMessage,
    branch,
    derive_title,
    interrupted_results,
    new_id,
)
from mcpchat.engine.message_codec import referenced_results
from mcpchat.errors import StoreError, ThreadConflict

_SLOW_FAILURE = 0.5  # seconds: the user would notice a longer failure
_RETRY_FACTOR, _MAX_RETRY_DELAY = 10.0, 60.0  # times the duration of the failure; seconds
Tail = tuple[Sequence[Message], Sequence[MessageMetadata], Sequence[int]]


def _unchanged(entry: NewMessage) -> NewMessage:
    return entry


def _new_thread(title: str, redact: Callable[[NewMessage], NewMessage]) -> Thread:
    """A new thread; without a title it gets one from its first message."""
    if title:
        title = redact(NewMessage(message=user_message(title))).message.user_text
    return Thread(id=new_id(), title=title, named=bool(title))


class Transcript:
    """The messages, and the thread that they are saved in; without a ``store`` nothing is saved.

    A message is saved before its event is emitted. A message that cannot be saved stays in memory and is saved with the
    next one. If another process continued the thread, this conversation continues in a fork of it. ``redact`` is
    applied to each message before it is saved. ``pending_results`` are whole results by their ids: those that a message
    points to are saved with it, and removed.
    """

    def __init__(
        self,
        emit: Emit,
        store: ThreadStore | None = None,
        *,
        redact: Callable[[NewMessage], NewMessage] = _unchanged,
        pending_results: MutableMapping[str, bytes] | None = None,
        title: str = "",
    ) -> None:
        self.messages: list[Message] = []
        self.metadata: list[MessageMetadata] = []
        self.thread = _new_thread(title, redact)
        self._numbers: list[int] = []  # of the saved messages
        self._emit = emit
        self._store = store
        self._redact = redact
        self._pending_results = {} if pending_results is None else pending_results
        self._failing = False
        self._retry_after = 0.0  # monotonic time before which a slow store is not tried again

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of the saved messages in their thread; fewer than the messages if some are not saved."""
        return tuple(self._numbers)

    @property
    def is_persistent(self) -> bool:
        """Whether the messages are saved."""
        return self._store is not None

    @property
    def current_thread(self) -> Thread:
        """The thread, with the last message of this branch as its head."""
        return replace(self.thread, head=self._numbers[-1] if self._numbers else 0)

    @property
    def unsaved_count(self) -> int:
        """The number of messages that should be saved and are not."""
        return len(self.messages) - len(self._numbers) if self._store is not None else 0

    def add(self, message: Message, metadata: MessageMetadata | None = None) -> None:
        """Add a message: the only way in which the history grows."""
        metadata = metadata if metadata is not None else MessageMetadata(at=time.time())
        self.messages.append(message)
        self.metadata.append(metadata)
        self.flush(force=False)
        number = self._numbers[-1] if self._numbers and not self.unsaved_count else 0
        self._emit(MessageAdded(message=message, number=number, record=metadata))

    def flush(self, *, force: bool = True) -> None:
        """Save the messages that are not saved yet. A failure emits one warning.

        After a slow failure the store is not tried again for a while, unless ``force`` is set: otherwise every message
        would wait for it.
        """
        started_at = time.monotonic()
        if self._store is None or not self.unsaved_count or (started_at < self._retry_after and not force):
            return
        try:
            self._write(self._store)
        except ThreadConflict as conflict:
            self._fork(self._store, conflict)
        except StoreError as error:
            now = time.monotonic()
            if now - started_at > _SLOW_FAILURE:
                self._retry_after = now + min(_MAX_RETRY_DELAY, _RETRY_FACTOR * (now - started_at))
            self._report_failure(error)
        else:
            self._report_recovery()

    def _write(self, store: ThreadStore) -> None:
        start = len(self._numbers)
        entries = [
            self._redact(NewMessage(message=message, metadata=metadata, blobs=self._result_contents(message)))
            for message, metadata in zip(self.messages[start:], self.metadata[start:], strict=True)
        ]
        last = entries[-1].metadata
        thread = replace(self.thread, agent=last.agent, model=last.model or self.thread.model)
        if not thread.title:
            first_text = next((entry.message.user_text for entry in entries if entry.message.role == "user"), "")
            thread = replace(thread, title=derive_title(first_text))
        self.thread = store.append(thread, self._numbers[-1] if self._numbers else 0, entries)
        self._numbers += range(self.thread.head - len(entries) + 1, self.thread.head + 1)
        for key in (key for entry in entries for key in referenced_results(entry.message)):
            self._pending_results.pop(key, None)

    def _result_contents(self, message: Message) -> tuple[bytes, ...]:
        return tuple(self._pending_results[key] for key in referenced_results(message) if key in self._pending_results)

    def _fork(self, store: ThreadStore, conflict: ThreadConflict) -> None:
        """Continue in a new thread that has all of this branch, as another process continued the old one."""
        old = self.thread
        title = f"{old.title} (fork)" if old.title else ""
        self.thread = replace(old, id=new_id(), title=title, forked_from=old.id, head=0, messages=0)
        self._numbers.clear()
        try:
            self._write(store)
        except StoreError as error:
            self._report_failure(error)
            return
        text = f"{conflict.message} meanwhile: this conversation continues as {self.thread.short_id}, with all messages"
        self._emit(Notice(level="warning", text=text))
        self._emit_branch_changed()

    def _report_failure(self, error: StoreError) -> None:
        if not self._failing:
            text = f"this conversation is not being saved: {error.message}" + (f"; {error.hint}" if error.hint else "")
            self._emit(Notice(level="warning", text=text))
        self._failing = True

    def _report_recovery(self) -> None:
        if self._failing:
            self._emit(Notice(level="info", text="the conversation is being saved again, with all messages"))
        self._failing = False

    def truncate(self, index: int) -> Tail:
        """End the branch before the message at ``index``; returns the rest, which stays in the thread as a branch."""
        tail = self.messages[index:], self.metadata[index:], self._numbers[index:]
        del self.messages[index:], self.metadata[index:], self._numbers[index:]
        self.make_current()
        return tail

    def undo_truncate(self, tail: Tail) -> None:
        """Restore a tail that ``truncate`` removed, if nothing was added since."""
        messages, metadata, numbers = tail
        self.messages += messages
        self.metadata += metadata
        self._numbers += numbers
        self.make_current()

    def make_current(self) -> None:
        """Make this branch the thread's current one, even if no message follows."""
        head = self._numbers[-1] if self._numbers else 0
        if self._store is not None and self.thread.head != head:
            try:
                self.thread = self._store.move(self.thread, head)
            except ThreadConflict:
                pass  # reported with the next message
            except StoreError as error:
                self._report_failure(error)
        self._emit_branch_changed()

    def _emit_branch_changed(self) -> None:
        head = self._numbers[-1] if self._numbers else 0
        self._emit(BranchChanged(thread_id=self.thread.id, head=head, messages=len(self.messages)))

    def start_new(self, title: str = "") -> None:
        """Start a new conversation."""
        self._finish_thread()
        self.thread = _new_thread(title, self._redact)
        self.messages, self.metadata, self._numbers = [], [], []
        self._failing = False

    def load(self, thread: Thread, nodes: Sequence[ThreadMessage], head: int | None = None) -> None:
        """Continue a saved thread, at its head or after another of its messages."""
        self._finish_thread()
        path = branch(nodes, thread.head if head is None else head)
        self.thread = thread
        self.messages = [node.message for node in path]
        self.metadata = [node.record for node in path]
        self._numbers = [node.number for node in path]
        self._failing = False
        self._emit_branch_changed()

    def _finish_thread(self) -> None:
        self.flush()
        if self.unsaved_count:
            text = f"the last {self.unsaved_count} messages of {self.thread.short_id} could not be saved"
            self._emit(Notice(level="warning", text=text))

    def close_open_calls(self) -> None:
        """Add results for calls that were running when mcpchat ended."""
        if (results := interrupted_results(self.messages)) is not None:
            self.add(
                results, MessageMetadata(at=time.time(), agent=self.metadata[-1].agent, model=self.metadata[-1].model)
            )

    def rename(self, title: str, *, named: bool = True) -> None:
        """Rename the thread. Without ``named`` only if the user gave it no title. Raises StoreError."""
        if self.thread.named and not named:
            return
        title = _new_thread(title, self._redact).title
        if self._store is not None and self.thread.messages:
            self._store.rename(self.thread, title, named=named)
        self.thread = replace(self.thread, title=title, named=named)
