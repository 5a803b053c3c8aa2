"""Vectors of texts on disk, beside the cached catalogs, and the nearest of them to another vector."""

import math
import sqlite3
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import mul
from pathlib import Path

from mcpchat.mcp.cache_database import CacheDatabase

_FILE = "vectors-1.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, signs BLOB NOT NULL, vector BLOB NOT NULL, used REAL NOT NULL)
WITHOUT ROWID;
"""
_MAX_UNUSED = 30 * 24 * 3600.0  # seconds after which a vector is forgotten
_MIN_CANDIDATES = 200  # vectors that are compared exactly
_MAX_PARAMETERS = 500  # of one statement


class VectorStore:
    """Keeps vectors by key. They have the length 1 and four bytes a number.

    The signs of a vector's numbers are kept too: vectors with few different signs are near each other, and to count
    them is fast. So only the best by this count are compared exactly.
    """

    def __init__(self, folder: Path) -> None:
        self._database = CacheDatabase(folder, _FILE, _SCHEMA)
        self._signs: dict[bytes, int] = {}  # by key

    def find_missing(self, keys: Iterable[bytes]) -> Sequence[bytes]:
        """The keys that have no vector."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._signs]
        for part in _parts(wanted):
            self._signs |= self._database.run(partial(_load_signs, keys=part), dict[bytes, int]())
        return [key for key in wanted if key not in self._signs]

    def add(self, vectors: Mapping[bytes, Sequence[float]]) -> None:
        """Keep the vectors, and forget those that were not used for a month."""
        units = {key: normalize(vector) for key, vector in vectors.items()}
        rows = [(key, _pack_signs(unit), array("f", unit).tobytes(), time.time()) for key, unit in units.items()]
        if self._database.run(lambda database: _insert(database, rows), default=False):
            self._signs |= {key: int.from_bytes(signs, "big") for key, signs, *_ in rows}

    def rank(self, vector: Sequence[float], keys: Sequence[bytes], limit: int) -> Sequence[bytes]:
        """The keys whose vectors are nearest to this one, at most ``limit``, the nearest first."""
        unit = normalize(vector)
        signs = int.from_bytes(_pack_signs(unit), "big")
        known = [key for key in dict.fromkeys(keys) if key in self._signs]
        known.sort(key=lambda key: (self._signs[key] ^ signs).bit_count())
        scores: dict[bytes, float] = {}
        for part in _parts(known[: max(_MIN_CANDIDATES, 4 * limit)]):
            found = self._database.run(partial(_load_vectors, keys=part), dict[bytes, Sequence[float]]())
            scores |= {key: sum(map(mul, unit, stored)) for key, stored in found.items()}
        return sorted(scores, key=lambda key: -scores[key])[:limit]


def normalize(vector: Sequence[float]) -> Sequence[float]:
    """The vector with the length 1; unchanged if it has none."""
    length = math.sqrt(sum(map(mul, vector, vector)))
    return [number / length for number in vector] if length else vector


def _pack_signs(vector: Sequence[float]) -> bytes:
    bits = int("".join("1" if number > 0 else "0" for number in vector) or "0", 2)
    return bits.to_bytes((len(vector) + 7) // 8, "big")


def _parts(keys: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [keys[start : start + _MAX_PARAMETERS] for start in range(0, len(keys), _MAX_PARAMETERS)]


def _marks(keys: Sequence[bytes]) -> str:
    return ", ".join("?" * len(keys))


def _load_signs(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
    now = time.time()
    statement = f"SELECT key, signs, used FROM vectors WHERE key IN ({_marks(keys)})"  # noqa: S608 - only marks
    rows = database.execute(statement, keys).fetchall()
    aging = [(now, key) for key, _, used in rows if now - used > _MAX_UNUSED / 10]
    if aging:
        database.executemany("UPDATE vectors SET used = ? WHERE key = ?", aging)
    return {key: int.from_bytes(signs, "big") for key, signs, _ in rows}


def _load_vectors(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Sequence[float]]:
    statement = f"SELECT key, vector FROM vectors WHERE key IN ({_marks(keys)})"  # noqa: S608 - only marks
    return {key: array("f", data) for key, data in database.execute(statement, keys)}


def _insert(database: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, bytes, float]]) -> bool:
    with database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("DELETE FROM vectors WHERE used < ?", (time.time() - _MAX_UNUSED,))
        database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
    return True
