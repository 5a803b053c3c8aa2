"""Whole results of tools: in memory until their message is kept with them, then with the thread."""

from collections.abc import Callable

from mcpchat.core.protocols import ThreadStore
from mcpchat.core.threads import Thread
from mcpchat.engine.message_codec import RESULT_ID, digest
from mcpchat.errors import StoreError

_KEY_LENGTH = 16


class ToolResultStore:
    """A ResultStore by content: the same result has the same key, and so the same words for the model.

    ``fresh`` are those that this run brought and no thread has yet. Earlier ones are found in ``store``, as far as the
    ``thread`` in use has them: no conversation reads another's.
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
