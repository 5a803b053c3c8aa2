"""Whole results of tools, kept with the threads; where nothing is saved, for as long as the program runs."""

from mcpchat.core.errors import StoreError
from mcpchat.core.ports import ThreadStore
from mcpchat.core.stored import KEY, digest

_KEY_LENGTH = 16


class Results:
    """A ResultStore by content: the same result has the same key, and so the same words for the model.

    New ones are kept in ``store``, where there is one; earlier ones are found in ``earlier`` too.
    """

    def __init__(self, store: ThreadStore | None, earlier: ThreadStore | None = None) -> None:
        self._store = store
        self._earlier = store or earlier
        self._here: dict[str, bytes] = {}

    def save(self, text: str) -> str | None:
        data = text.encode(errors="replace")
        key = digest(data)[:_KEY_LENGTH]
        try:
            if self._store is not None:
                self._store.keep(data)
                return key
        except StoreError:
            pass  # that nothing can be written is told where messages are
        self._here[key] = data
        return key

    def load(self, key: str) -> str | None:
        data = self._here.get(key)
        if data is None and self._earlier is not None and KEY.fullmatch(key):
            try:
                data = self._earlier.content(key)
            except StoreError:
                return None
        return data.decode(errors="replace") if data is not None else None
