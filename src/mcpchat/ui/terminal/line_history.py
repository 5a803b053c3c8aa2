"""The history of typed lines. Each line is prepared before it is kept, so that it holds no secret."""

from collections.abc import Callable, Iterable

from prompt_toolkit.history import History


class LineHistory(History):
    """Keeps lines in ``storage``, in the form that ``prepare`` returns: Up offers that form as well."""

    def __init__(self, storage: History, prepare: Callable[[str], str]) -> None:
        super().__init__()
        self._storage = storage
        self._prepare = prepare

    def append_string(self, string: str) -> None:
        super().append_string(self._prepare(string))

    def load_history_strings(self) -> Iterable[str]:
        return self._storage.load_history_strings()

    def store_string(self, string: str) -> None:
        self._storage.store_string(string)
