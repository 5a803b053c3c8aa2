"""Storage of full tool results: in memory until their message is saved, then with the thread."""

from collections.abc import Callable

from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Thread
from mcpchat.engine.message_codec import RESULT_ID, digest
from mcpchat.errors import StoreError

_KEY_LENGTH = 16


class ToolResultStore:
    """A ResultStore keyed by content: equal results have the same key, so the model reads the same text.

    ``pending`` holds the results of this run that are not saved yet. Earlier results are read from ``store``, but only
    those of the current thread: a conversation cannot read another one's results.
    """

    def __init__(self, store: ThreadStore | None, *, current_thread: Callable[[], Thread]) -> None:
        self.pending: dict[str, bytes] = {}
        self._store = store
        self._current_thread = current_thread

    def save(self, text: str) -> str | None:
        data = text.encode(errors="replace")
        key = digest(data)[:_KEY_LENGTH]
        self.pending[key] = data
        return key

    def load(self, key: str) -> str | None:
        data = self.pending.get(key)
        if data is None and self._store is not None and RESULT_ID.fullmatch(key):
            try:
                data = self._store.get_blob(key, self._current_thread())
            except StoreError:
                return None
        return data.decode(errors="replace") if data is not None else None
