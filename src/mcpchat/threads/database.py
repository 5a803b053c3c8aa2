"""What the stores need of a database: the seam between SQLite and PostgreSQL."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from mcpchat.errors import StoreError
from mcpchat.threads.search import Phrase

Row = tuple[Any, ...]


class DatabaseRepaired(StoreError):
    """The database was damaged and has been repaired: the operation can be tried again."""


class TextMatch(NamedTuple):
    """The SQL that finds messages by their words.

    ``from_clause`` is a table expression in which the messages are ``n``; ``order_column`` is their id, by which the
    results are ordered. ``values`` are the parameters of ``condition``.
    """

    from_clause: str
    order_column: str
    condition: str
    values: Sequence[Any]


class Database(Protocol):
    """The operations that differ between databases.

    Placeholders are question marks. Every method raises StoreError if the database cannot be used.
    """

    def run(self, sql: str, *values: Any) -> list[Row]:
        """Run a statement and return its rows."""
        ...

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run a statement once for each row of parameters."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block as one transaction, with no other writer in between."""
        ...

    def insert(self, table: str, columns: str, *values: Any) -> int:
        """Insert a row into a table with generated ids; return the id."""
        ...

    def index(self, node: int, text: str) -> None:
        """Add a message to the full-text index. ``text`` is normalized."""
        ...

    def unindex(self, nodes: Sequence[int]) -> None:
        """Remove messages from the full-text index."""
        ...

    def text_match(self, terms: Sequence[Phrase], *, per_thread: bool) -> "TextMatch":
        """Return the SQL that finds messages with all of these phrases.

        ``per_thread`` is for a query that is limited to one thread at a time.
        """
        ...

    def erase_deleted(self) -> None:
        """Make deleted content unreadable in the files, as far as that is quick."""
        ...

    def vacuum(self) -> int:
        """Free unused space; return how many bytes were freed."""
        ...

    def check(self) -> None:
        """Check the whole database, and repair what can be repaired."""
        ...

    def close(self) -> None: ...
