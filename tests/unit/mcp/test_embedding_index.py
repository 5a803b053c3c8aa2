"""The search by meaning: what it finds, keeps, and does without."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcpchat.core.events import Event
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import ModelError
from mcpchat.mcp import embedding_index, vector_store
from mcpchat.mcp.embedding_index import EmbeddingToolIndex, join_rankings
from mcpchat.mcp.tool_index import SqliteToolIndex
from mcpchat.mcp.vector_store import VectorStore
from tests.support.fake_openai import embed
from tests.support.fakes import make_tool

TOOLS = (
    make_tool("send_letter", server="post", description="Send a letter."),
    make_tool("list_files", server="drive", description="Show a folder."),
    make_tool("delete_files", server="drive", description="Delete a folder."),
)


class FakeEmbedder:
    """An embedder that knows synonyms. ``problem`` is raised instead of an answer."""

    def __init__(self, size: int = 64) -> None:
        self.name = "m at here"
        self.texts: list[str] = []
        self.problem: Exception | None = None
        self._size = size
        self.is_open = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["FakeEmbedder"]:
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        assert self.is_open
        await asyncio.sleep(0)
        if self.problem is not None:
            raise self.problem
        self.texts += texts
        return [embed(text, self._size) for text in texts]


def make_index(folder: Path, embedder: FakeEmbedder, events: list[Event] | None = None, **more: object):
    emit = (events if events is not None else []).append
    return EmbeddingToolIndex(SqliteToolIndex(folder), folder, embedder.connect, emit, **more)  # type: ignore[arg-type]


def search(index: EmbeddingToolIndex, *queries: str, tools: Sequence[ToolSpec] = TOOLS, limit: int = 3) -> list[str]:
    return [tool.name for tool in asyncio.run(index.search(queries, tools, {}, limit))]


def test_a_tool_is_found_by_a_word_that_it_does_not_have(tmp_path: Path) -> None:
    assert search(make_index(tmp_path, FakeEmbedder()), "email")[0] == "send_letter"
    assert asyncio.run(SqliteToolIndex(tmp_path).search(["email"], TOOLS, {}, 3)) == []


def test_each_query_has_its_best_tools(tmp_path: Path) -> None:
    assert search(make_index(tmp_path, FakeEmbedder()), "erase", "email", limit=2) == ["delete_files", "send_letter"]


def test_texts_are_embedded_once_for_all_runs_of_the_same_model(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    search(make_index(tmp_path, embedder), "email")
    assert len(embedder.texts) == 4
    search(make_index(tmp_path, embedder), "erase")
    assert embedder.texts[4:] == ["erase"]
    changed = (*TOOLS[:2], make_tool("delete_files", server="drive", description="Delete all."))
    search(make_index(tmp_path, embedder), "erase", tools=changed)
    assert embedder.texts[5:] == ["erase", "drive delete_files:  Delete all. Parameters: text."]
    other = FakeEmbedder(size=32)  # the model's server has another model under this name now
    assert search(make_index(tmp_path, other), "email")[0] == "send_letter"
    assert len(other.texts) == 4


@pytest.mark.parametrize("problem", [ModelError("out of memory", kind="server"), TimeoutError()])
def test_without_the_model_words_decide_and_one_notice_says_so(tmp_path: Path, problem: Exception) -> None:
    now = [0.0]
    events: list[Event] = []
    embedder = FakeEmbedder()
    index = make_index(tmp_path, embedder, events, clock=lambda: now[0])
    embedder.problem = problem
    assert search(index, "folder", limit=1) == ["list_files"]
    assert search(index, "folder", limit=1) == ["list_files"]
    assert len(events) == 1
    embedder.problem = None
    assert search(index, "email") == []  # not asked again at once
    now[0] = 61.0
    assert search(index, "email")[0] == "send_letter"


def test_what_takes_too_long_is_left_for_the_next_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_index, "_BATCH", 1)
    monkeypatch.setattr(embedding_index, "_PARALLEL", 1)
    times = iter([0.0, 0.0, 0.0, 99.0])
    index = make_index(tmp_path, embedder := FakeEmbedder(), clock=lambda: next(times, 99.0))
    search(index, "email")
    assert len(embedder.texts) == 2  # the query, and one tool
    search(index, "email")
    assert len(embedder.texts) == 5  # the query again, and the other two


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    search(make_index(tmp_path, FakeEmbedder()), "email")
    file = tmp_path / "vectors-1.sqlite3"
    file.write_bytes(b"x" * file.stat().st_size)
    embedder = FakeEmbedder()
    assert search(make_index(tmp_path, embedder), "email")[0] == "send_letter"
    assert len(embedder.texts) == 4
    assert file.read_bytes().startswith(b"SQLite format 3")


def test_the_nearest_vectors_are_found_among_many(tmp_path: Path) -> None:
    source = random.Random(1)
    vectors = {bytes([n // 256, n % 256]): [source.gauss(0, 1) for _ in range(100)] for n in range(700)}
    store = VectorStore(tmp_path)
    store.add(vectors)
    assert VectorStore(tmp_path).find_missing([*vectors, b"new"]) == [b"new"]
    for wanted in (b"\0\0", b"\1\7"):
        near = [number + source.gauss(0, 0.3) for number in vectors[wanted]]
        assert store.rank(near, list(vectors), 3)[0] == wanted
    assert store.rank([0.0] * 100, list(vectors)[:2], 3)


def test_unused_vectors_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VectorStore(tmp_path)
    store.add({b"a": [1.0], b"b": [2.0]})
    now = vector_store.time.time()
    for days in (20, 40):
        monkeypatch.setattr(vector_store.time, "time", lambda days=days: now + days * 24 * 3600.0)
        assert VectorStore(tmp_path).find_missing([b"a"]) == []
    store.add({b"c": [3.0]})
    assert VectorStore(tmp_path).find_missing([b"a", b"b", b"c"]) == [b"b"]


def test_vectors_have_the_length_1() -> None:
    assert math.isclose(sum(number**2 for number in vector_store.normalize([3.0, 4.0])), 1)


def test_a_tool_that_both_rank_high_comes_first() -> None:
    first, second, third = TOOLS
    assert list(join_rankings([[first, second], [third, second]])) == [second, first, third]
