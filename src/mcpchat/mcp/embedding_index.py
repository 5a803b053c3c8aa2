"""An index of tools by meaning: the full-text ranking, joined with that of a model's embeddings."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from mcpchat.core.events import Emit, Notice
from mcpchat.core.protocols import Embedder
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError
from mcpchat.mcp.tool_index import SqliteToolIndex, take_in_turn
from mcpchat.mcp.vector_store import VectorStore
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.text import replace_surrogates

_JOINED = 50  # results of each ranking that are joined
_RANK_OFFSET = 60  # of reciprocal rank fusion: how little the very first ranks stand out
_BATCH, _PARALLEL = 32, 4  # texts in one request, and requests at once
_MAX_TEXT, _MAX_PARAMETERS = 1500, 400  # characters of a tool, and of its parameters: servers take 500 tokens
_QUERY_TIMEOUT, _INDEX_TIME = 10.0, 20.0  # seconds
_PAUSE = 60.0  # seconds without another try after a failure


class EmbeddingToolIndex:
    """Finds tools by words and by meaning.

    ``connect`` opens the model that embeds; the vectors of the tools are kept in ``folder``. If it fails, the words
    alone decide, and one notice says so.
    """

    def __init__(
        self,
        words: SqliteToolIndex,
        folder: Path,
        connect: Callable[[], AbstractAsyncContextManager[Embedder]],
        emit: Emit,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._words = words
        self._vectors = VectorStore(folder)
        self._connect = connect
        self._emit = emit
        self._clock = clock
        self._paused_until = float("-inf")
        self._warned = False

    async def search(
        self, queries: Sequence[str], tools: Sequence[ToolSpec], notes: Mapping[str, str], limit: int
    ) -> Sequence[ToolSpec]:
        """The tools that the queries are about, at most ``limit``, the best first; each query in turn has one."""
        rankings = await self._words.rank(queries, tools, notes, _JOINED)
        if queries and tools and self._clock() >= self._paused_until:
            try:
                by_meaning = await self._rank(queries, tools)
                rankings = [join_rankings(pair) for pair in zip(rankings, by_meaning, strict=True)]
            except (McpChatError, TimeoutError) as error:
                self._paused_until = self._clock() + _PAUSE
                self._warn(error.message if isinstance(error, McpChatError) else "the model's server takes too long")
        return take_in_turn(rankings, limit)

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._emit(Notice(level="warning", text=f"tools are searched by their words alone: {problem}"))
        self._warned = True

    async def _rank(self, queries: Sequence[str], tools: Sequence[ToolSpec]) -> Sequence[Sequence[ToolSpec]]:
        """The nearest tools of each query. Raises McpChatError and TimeoutError."""
        async with self._connect() as embedder:
            async with asyncio.timeout(_QUERY_TIMEOUT):
                vectors = await embedder.embed(queries)
            texts = await run_in_daemon_thread(lambda: _describe_tools(f"{embedder.name} {len(vectors[0])}", tools))
            await self._add_missing(embedder, {key: text for key, (text, _) in texts.items()})
        rankings = await run_in_daemon_thread(
            lambda: [self._vectors.rank(vector, list(texts), _JOINED) for vector in vectors]
        )
        return [[texts[key][1] for key in ranking] for ranking in rankings]

    async def _add_missing(self, embedder: Embedder, texts: Mapping[bytes, str]) -> None:
        """Embed the texts that have no vector yet. What takes too long is left for the next search."""
        missing = await run_in_daemon_thread(lambda: self._vectors.find_missing(texts))
        batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
        ends_at = self._clock() + _INDEX_TIME
        for start in range(0, len(batches), _PARALLEL):
            if self._clock() > ends_at:
                return
            group = batches[start : start + _PARALLEL]
            try:
                async with asyncio.timeout(_INDEX_TIME), asyncio.TaskGroup() as tasks:
                    for batch in group:
                        tasks.create_task(self._add(embedder, {key: texts[key] for key in batch}))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _add(self, embedder: Embedder, texts: Mapping[bytes, str]) -> None:
        vectors = dict(zip(texts, await embedder.embed(list(texts.values())), strict=True))
        await run_in_daemon_thread(lambda: self._vectors.add(vectors))


def join_rankings(rankings: Sequence[Sequence[ToolSpec]]) -> Sequence[ToolSpec]:
    """Join rankings of the same tools by reciprocal rank fusion: a tool that several rank high comes first."""
    scores: dict[str, float] = {}
    tools: dict[str, ToolSpec] = {}
    for ranking in rankings:
        for rank, tool in enumerate(ranking, 1):
            tools[tool.model_name] = tool
            scores[tool.model_name] = scores.get(tool.model_name, 0.0) + 1 / (_RANK_OFFSET + rank)
    return [tools[name] for name in sorted(tools, key=lambda name: -scores[name])]


def _describe_tools(model: str, tools: Sequence[ToolSpec]) -> Mapping[bytes, tuple[str, ToolSpec]]:
    """The text of each tool that is embedded, and the tool, by the key of its vector."""
    texts = {_describe_tool(tool): tool for tool in tools}
    return {hashlib.sha256(f"{model}\0{text}".encode()).digest(): (text, tool) for text, tool in texts.items()}


def _describe_tool(tool: ToolSpec) -> str:
    properties = tool.schema.get("properties")
    names = ", ".join(properties)[:_MAX_PARAMETERS] if isinstance(properties, dict) else ""
    parameters = f" Parameters: {names}." if names else ""
    text = f"{tool.server} {tool.name}: {tool.title} {tool.description[:_MAX_TEXT]}"
    return replace_surrogates(f"{text[: _MAX_TEXT - len(parameters)]}{parameters}")[:_MAX_TEXT]
