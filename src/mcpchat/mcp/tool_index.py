"""A full-text index of tools on disk, beside the cached catalogs: which tools a few words are about."""

import hashlib
import re
import sqlite3
import time
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import msgspec

from mcpchat.core.tools import ToolSpec
from mcpchat.mcp.cache_database import CacheDatabase
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.text import replace_surrogates

_FORMAT = 1
_FILE = f"tools-{_FORMAT}.sqlite3"
_MAX_UNUSED = 30 * 24 * 3600.0  # seconds after which the tools of a server are forgotten
_MAX_LISTS = 4  # of one server: older ones are forgotten
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0eff]+")  # scripts without blanks
_CASE_CHANGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # createIssue, readPDFFile
_MAX_WORDS = 40  # of a query
_MAX_PARAMETERS, _MAX_NOTES = 4000, 500  # characters that are indexed
_SCHEMA = """
CREATE TABLE IF NOT EXISTS lists (digest TEXT PRIMARY KEY, server TEXT NOT NULL, used REAL NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS tools USING fts5 (
    digest UNINDEXED, position UNINDEXED, name, description, parameters, server, tokenize = 'porter unicode61'
);
"""
# The weights are of name, description, parameters and server: benchmarks/tool_search.py measures them.
_SEARCH = """
SELECT digest, position FROM tools WHERE tools MATCH ? {condition}
ORDER BY bm25(tools, 0, 0, 2.0, 2.0, 0.5, 1.0), rowid LIMIT ?
"""
_CHECK = "INSERT INTO tools (tools) VALUES ('integrity-check')"
_OLDER_LISTS = "SELECT digest FROM lists WHERE server = ? ORDER BY used DESC LIMIT -1 OFFSET ?"
_OF_LISTS = "AND digest IN (SELECT value FROM json_each(?))"
_SPARE = 200  # rows that may be of other lists: to check each of all rows would take most of the time


class _ServerTools(NamedTuple):
    """The tools of one server, and its notes."""

    notes: str
    specs: tuple[ToolSpec, ...]


class SqliteToolIndex:
    """Finds tools by words with SQLite's FTS5 and BM25.

    The list of each server is indexed once and kept under its digest, so that a changed list is another one. If the
    file in ``folder`` cannot be used, the index is kept in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._database = CacheDatabase(folder, _FILE, _SCHEMA, check=_CHECK)
        self._digests: dict[str, tuple[_ServerTools, str]] = {}  # by server

    async def search(
        self, queries: Sequence[str], tools: Sequence[ToolSpec], notes: Mapping[str, str], limit: int
    ) -> Sequence[ToolSpec]:
        """The tools that the queries are about, at most ``limit``, the best first; each query in turn has one.

        ``notes`` are what the servers say of themselves, by server.
        """
        return take_in_turn(await self.rank(queries, tools, notes, limit), limit)

    async def rank(
        self, queries: Sequence[str], tools: Sequence[ToolSpec], notes: Mapping[str, str], limit: int
    ) -> Sequence[Sequence[ToolSpec]]:
        """The tools for each query, at most ``limit``, the best first."""
        return await run_in_daemon_thread(lambda: self._rank(queries, tools, notes, limit))

    def _rank(
        self, queries: Sequence[str], tools: Sequence[ToolSpec], notes: Mapping[str, str], limit: int
    ) -> Sequence[Sequence[ToolSpec]]:
        servers = {self._digest(name, server): server for name, server in _group_by_server(tools, notes).items()}
        nothing: Sequence[Sequence[ToolSpec]] = [()] * len(queries)
        return self._database.run(lambda database: _rank(database, queries, servers, limit), nothing)

    def _digest(self, name: str, server: _ServerTools) -> str:
        known = self._digests.get(name)
        if known is None or known[0] != server:
            texts = [_index_texts(name, server.notes, spec) for spec in server.specs]
            known = server, hashlib.sha256(msgspec.json.encode((replace_surrogates(name), texts))).hexdigest()
            self._digests[name] = known
        return known[1]


def take_in_turn(rankings: Sequence[Sequence[ToolSpec]], limit: int) -> Sequence[ToolSpec]:
    """The best tools of each ranking, then the second best, and so on, each once."""
    in_turn = (spec for spec in chain.from_iterable(zip_longest(*rankings)) if spec is not None)
    return list({spec.model_name: spec for spec in in_turn}.values())[:limit]


def _group_by_server(tools: Sequence[ToolSpec], notes: Mapping[str, str]) -> Mapping[str, _ServerTools]:
    groups: dict[str, list[ToolSpec]] = {}
    for spec in tools:
        groups.setdefault(spec.server, []).append(spec)
    return {name: _ServerTools(notes.get(name, "")[:_MAX_NOTES], tuple(specs)) for name, specs in groups.items()}


def _rank(
    database: sqlite3.Connection, queries: Sequence[str], servers: Mapping[str, _ServerTools], limit: int
) -> list[Sequence[ToolSpec]]:
    """The tools for each query, the best first."""
    _add_missing(database, servers)
    rankings: list[Sequence[ToolSpec]] = []
    for query in queries:
        words = list(dict.fromkeys(_add_pairs(" ".join(_split_words(query))).split()))[:_MAX_WORDS]
        match = " OR ".join(f'"{word}"' for word in words)
        rows = _find(database, match, servers, limit) if words else ()
        rankings.append([servers[digest].specs[position] for digest, position in rows])
    return rankings


def _find(database: sqlite3.Connection, match: str, servers: Collection[str], limit: int) -> Sequence[tuple[str, int]]:
    """The digests and positions of the best tools of these lists."""
    rows = database.execute(_SEARCH.format(condition=""), (match, limit + _SPARE)).fetchall()
    found = [row for row in rows if row[0] in servers][:limit]
    if len(found) == limit or len(rows) < limit + _SPARE:
        return found
    digests = msgspec.json.encode(list(servers)).decode()
    return database.execute(_SEARCH.format(condition=_OF_LISTS), (match, digests, limit)).fetchall()


def _add_missing(database: sqlite3.Connection, servers: Mapping[str, _ServerTools]) -> None:
    """Index the lists that are not in the database yet, and delete old ones."""
    now = time.time()
    known = dict(database.execute("SELECT digest, used FROM lists"))
    missing = [digest for digest in servers if digest not in known]
    aging = [digest for digest in servers if digest in known and now - known[digest] > _MAX_UNUSED / 10]
    if not missing and not aging:
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        outdated = [(digest,) for digest, used in known.items() if now - used > _MAX_UNUSED and digest not in servers]
        for digest in missing:
            name = replace_surrogates(servers[digest].specs[0].server)
            older = database.execute(_OLDER_LISTS, (name, _MAX_LISTS - 1)).fetchall()
            outdated += [row for row in older if row[0] not in servers]
        database.executemany("DELETE FROM tools WHERE digest = ?", outdated)
        database.executemany("DELETE FROM lists WHERE digest = ?", outdated)
        database.executemany("UPDATE lists SET used = ? WHERE digest = ?", [(now, digest) for digest in aging])
        for digest in missing:
            notes, specs = servers[digest]
            row = digest, replace_surrogates(specs[0].server), now
            # Another process may have added it meanwhile.
            if database.execute("INSERT OR IGNORE INTO lists VALUES (?, ?, ?)", row).rowcount:
                rows = ((digest, n, *_index_texts(specs[0].server, notes, spec)) for n, spec in enumerate(specs))
                database.executemany("INSERT INTO tools VALUES (?, ?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _index_texts(server: str, notes: str, spec: ToolSpec) -> tuple[str, str, str, str]:
    """The name, description, parameters and server of a tool as words."""
    texts = (
        " ".join(_split_words(f"{spec.name} {spec.title}")),
        spec.description,
        " ".join(_iter_parameters(spec.schema))[:_MAX_PARAMETERS],
        " ".join((*_split_words(f"{server} {spec.server_title}"), notes)),
    )
    name, description, parameters, about = (_add_pairs(replace_surrogates(text)) for text in texts)
    return name, description, parameters, about


def _add_pairs(text: str) -> str:
    """The text in NFC. Runs of scripts without blanks become pairs of characters, so that a word in them is found."""
    if text.isascii():
        return text
    return _UNSPACED.sub(lambda match: f" {' '.join(_pairs(match[0]))} ", unicodedata.normalize("NFC", text))


def _pairs(run: str) -> list[str]:
    return [run[n : n + 2] for n in range(max(1, len(run) - 1))]


def _iter_parameters(schema: Mapping[str, object]) -> Iterator[str]:
    properties = schema.get("properties")
    for name, value in properties.items() if isinstance(properties, dict) else ():
        yield from _split_words(str(name))
        if isinstance(value, dict) and isinstance(value.get("description"), str):
            yield value["description"]


def _split_words(text: str) -> list[str]:
    words = _WORD.findall(_CASE_CHANGE.sub(" ", unicodedata.normalize("NFC", replace_surrogates(text))))
    return [word.lower() for word in words]
