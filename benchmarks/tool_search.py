"""Benchmark of the tool search: how often the wanted tools are found, what a request costs, and how fast it is.

    python benchmarks/tool_search.py DATA

DATA is a folder with the public data of LiveMCPBench (github.com/icip-cas/LiveMCPBench): ``tools.json`` and
``all_annotations.json``, and as ``answers.json`` a file of ``baseline/output``, whose recorded queries a model wrote.
Prints recall and cover for the 527 tools of the data, the size of a request, and times for 5,000 tools as ratios to a
search of the data's own tools and to reading the tools' JSON.
"""

import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcpchat.core.tools import ToolSpec, openai_function
from mcpchat.engine.tool_search import (
    ToolSearchSettings,
    add_server_lines,
    describe_servers,
    plain_tokens,
    select_tools,
)
from mcpchat.mcp.tool_index import SqliteToolIndex

MANY = 5000
ROUNDS = 15
_NUMBERED = re.compile(r"^\s*\d+[.)]\s*")


def read_tools(folder: Path) -> tuple[list[ToolSpec], dict[str, str]]:
    """The tools, and the notes of each server."""
    specs: dict[str, ToolSpec] = {}
    notes: dict[str, str] = {}
    for entry in json.loads((folder / "tools.json").read_text()):
        for server, listed in entry["tools"].items():
            notes[server] = f"{entry['name']} {entry.get('description') or ''}"
            for tool in listed.get("tools") or ():
                spec = ToolSpec(
                    server=server,
                    name=tool["name"],
                    description=tool.get("description") or "",
                    schema=tool["inputSchema"],
                    server_title=listed.get("server_name") or "",
                )
                specs[spec.model_name] = spec
    return list(specs.values()), notes


def read_lines(text: str) -> list[str]:
    return [_NUMBERED.sub("", line).strip() for line in text.splitlines() if line.strip()]


def read_steps(annotations: Sequence[Mapping[str, Any]], known: set[str]) -> list[tuple[str, str]]:
    """A step of a task and the tool that does it, of the tasks that have as many steps as tools."""
    pairs = []
    for task in annotations:
        facts = task["Annotator Metadata"]
        steps, tools = read_lines(facts["Steps"]), read_lines(facts["Tools"])
        if len(steps) == len(tools):
            pairs += [(step, tool) for step, tool in zip(steps, tools, strict=True) if tool in known]
    return pairs


def read_queries(answer: Mapping[str, Any]) -> list[str]:
    """What the model searched for in one task."""
    queries = []
    for message in answer["messages"]:
        for call in message.get("tool_calls") or ():
            if call["function"]["name"] == "route":
                query = json.loads(call["function"]["arguments"]).get("query", "")
                queries.append(re.sub(r"</?tool_assistant>|^\s*(server|tool):", " ", query, flags=re.MULTILINE))
    return queries


async def measure_quality(
    folder: Path, tools: Sequence[ToolSpec], notes: Mapping[str, str], index: SqliteToolIndex
) -> None:
    known = {tool.name for tool in tools}
    annotations = json.loads((folder / "all_annotations.json").read_text())
    pairs = read_steps(annotations, known)
    ranks = []
    for step, wanted in pairs:
        names = [tool.name for tool in await index.search([step], tools, notes, 10)]
        ranks.append(names.index(wanted) + 1 if wanted in names else 99)
    recall = {k: sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    print(f"single steps ({len(pairs)}): " + ", ".join(f"recall@{k} {value:.2f}" for k, value in recall.items()))

    wanted_by_task = {task["task_id"]: task["Annotator Metadata"]["Tools"] for task in annotations}
    for k in (3, 10):
        covers, count = [], 0
        for answer in json.loads((folder / "answers.json").read_text()):
            gold = {tool for tool in read_lines(wanted_by_task.get(answer["task_id"], "")) if tool in known}
            queries = read_queries(answer)
            names = {tool.name for query in queries for tool in await index.search([query], tools, notes, k)}
            count += len(queries)
            covers += [len(gold & names) / len(gold)] if gold else []
        print(
            f"queries of a model ({count}): cover@{k} {statistics.mean(covers):.3f}, the mean over {len(covers)} tasks"
        )


def measure_size(tools: Sequence[ToolSpec], notes: Mapping[str, str]) -> None:
    def select(before: Any) -> Any:
        return select_tools(
            tools, ToolSearchSettings(), tokens=plain_tokens(tools), window=None, max_tools=None, used=(), before=before
        )

    selection = select(None)
    lines = add_server_lines("", describe_servers(tools, notes))
    sent = json.dumps([openai_function(tool) for tool in selection.offered], ensure_ascii=False)
    plain = json.dumps([openai_function(tool) for tool in tools], ensure_ascii=False)
    same = select(selection).offered == selection.offered
    print(f"a request has {len(sent.encode()) + len(lines.encode()):,} bytes of tools and server lines, not "
          f"{len(plain.encode()):,}; the next one begins with the same: {same}")  # fmt: skip


def time_best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_speed(tools: Sequence[ToolSpec], index: SqliteToolIndex) -> None:
    copies = [
        ToolSpec(server=f"{tool.server}-{n}", name=tool.name, description=tool.description, schema=tool.schema)
        for n in range(-(-MANY // len(tools)))
        for tool in tools
    ][:MANY]
    data = json.dumps([tool.definition for tool in copies])
    loop = asyncio.new_event_loop()

    def search(found_in: Sequence[ToolSpec]) -> None:
        loop.run_until_complete(index.search(["create a calendar event with guests"], found_in, {}, 10))

    started = time.perf_counter()
    search(copies)
    built = time.perf_counter() - started
    yardstick = time_best(lambda: json.loads(data))
    many, few = time_best(lambda: search(copies)), time_best(lambda: search(tools))
    print(f"{MANY:,} tools: a search takes {many * 1000:.1f} ms, {many / few:.1f} times that of {len(tools)} tools and "
          f"{many / yardstick:.2f} times that of reading their JSON; the first one, which indexes them, "
          f"{built / yardstick:.1f} times that")  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.curdir)
    tools, notes = read_tools(folder)
    print(f"{len(tools)} tools")
    with tempfile.TemporaryDirectory() as cache:
        index = SqliteToolIndex(Path(cache) / "index")
        asyncio.run(measure_quality(folder, tools, notes, index))
        measure_size(tools, notes)
        measure_speed(tools, index)


if __name__ == "__main__":
    main()
