"""The index of tools: what is found, kept, renewed and survived."""

import asyncio
import random
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from mcpchat.core.tools import ToolSpec
from mcpchat.mcp import tool_index
from mcpchat.mcp.tool_index import SqliteToolIndex
from tests.support.fakes import make_tool

TOOLS = (
    make_tool("createCalendarEvent", server="google", description="Add an appointment with guests."),
    make_tool("send_email", server="google", description="Send a message to people."),
    make_tool("list_files", server="drive", description="Show a folder's content.", title="Directory listing"),
    make_tool(
        "convert",
        server="media",
        description="Change a picture.",
        schema={
            "type": "object",
            "properties": {"jpegQuality": {"type": "integer", "description": "Compression level"}},
        },
    ),
)
NOTES = {"media": "Works on photographs."}


def search(index: SqliteToolIndex, *queries: str, tools: tuple[ToolSpec, ...] = TOOLS, limit: int = 10) -> list[str]:
    return [tool.name for tool in asyncio.run(index.search(queries, tools, NOTES, limit))]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("create event", "createCalendarEvent"),
        ("appointments", "createCalendarEvent"),
        ("emails", "send_email"),
        ("directory", "list_files"),
        ("jpeg", "convert"),
        ("compression", "convert"),
        ("photograph", "convert"),
        ("drive", "list_files"),
        ('"; DROP TABLE tools; -- email', "send_email"),
        ("NEAR(email) AND OR NOT *", "send_email"),
    ],
)
def test_a_tool_is_found_by_its_words(tmp_path: Path, query: str, first: str) -> None:
    assert search(SqliteToolIndex(tmp_path), query)[0] == first


def test_nothing_is_found_for_no_words_and_unknown_ones(tmp_path: Path) -> None:
    index = SqliteToolIndex(tmp_path)
    assert search(index, "") == search(index, "?!", "zebra") == search(index) == []


def test_each_query_has_its_turn(tmp_path: Path) -> None:
    found = search(SqliteToolIndex(tmp_path), "send message people", "folder content", limit=2)
    assert found == ["send_email", "list_files"]


def test_only_given_tools_are_found_though_others_are_known(tmp_path: Path) -> None:
    index = SqliteToolIndex(tmp_path)
    many = tuple(make_tool(f"email_{n}", server="mail", description="Send email email.") for n in range(500))
    assert len(search(index, "email", tools=(*TOOLS, *many))) == 10
    assert search(index, "email", tools=TOOLS) == ["send_email"]
    assert search(SqliteToolIndex(tmp_path), "email", tools=TOOLS[:1]) == []


def test_a_changed_list_is_indexed_anew(tmp_path: Path) -> None:
    index = SqliteToolIndex(tmp_path)
    assert search(index, "zebra") == []
    changed = (*TOOLS[:3], make_tool("convert", server="media", description="Paint a zebra."))
    assert search(index, "zebra", tools=changed) == ["convert"]
    assert search(index, "zebra") == []


def test_the_file_is_private_and_used_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    assert search(SqliteToolIndex(folder), "email") == ["send_email"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with monkeypatch.context() as patch:  # nothing is indexed again
        patch.setattr(tool_index, "_SCHEMA", "")
        patch.setattr(tool_index, "_add_missing", lambda database, servers: None)
        assert search(SqliteToolIndex(folder), "email") == ["send_email"]


def test_lists_that_nobody_uses_are_forgotten(tmp_path: Path) -> None:
    assert search(SqliteToolIndex(tmp_path), "email") == ["send_email"]
    (path,) = tmp_path.iterdir()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE lists SET used = used - 40 * 24 * 3600")
    assert search(SqliteToolIndex(tmp_path), "directory", tools=TOOLS[2:3]) == ["list_files"]
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("SELECT count(*) FROM lists").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM tools").fetchone() == (1,)


@pytest.mark.parametrize("query", ["日历", "创建日历事件", "邀请", "événement", "e\u0301ve\u0301nement"])
def test_other_scripts_and_spellings_are_found(tmp_path: Path, query: str) -> None:
    tools = (
        make_tool("add", server="box", description="创建日历事件并邀请客人。 Créer un événement."),
        make_tool("drop", server="box", description="删除文件"),
    )
    assert search(SqliteToolIndex(tmp_path), query, tools=tools) == ["add"]


def test_servers_with_the_same_tools_are_all_found(tmp_path: Path) -> None:
    tools = tuple(make_tool("send", server=server, description="Send.") for server in ("gh-work", "gh_work", "GH-work"))
    found = asyncio.run(SqliteToolIndex(tmp_path).search(["send"], tools, {}, 10))
    assert {tool.server for tool in found} == {"gh-work", "gh_work", "GH-work"}


def test_only_the_latest_lists_of_a_server_are_kept(tmp_path: Path) -> None:
    index = SqliteToolIndex(tmp_path)
    for n in range(9):
        assert search(index, "send", tools=(make_tool("send", server="box", description=f"Send {n}."),)) == ["send"]
    (path,) = tmp_path.iterdir()
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("SELECT count(*) FROM lists").fetchone() == (4,)
        assert database.execute("SELECT count(*) FROM tools").fetchone() == (4,)


def test_a_file_that_was_damaged_anywhere_is_built_again(tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(25):
        for file in tmp_path.iterdir():
            file.unlink()
        assert search(SqliteToolIndex(tmp_path), "email") == ["send_email"]
        (path,) = tmp_path.iterdir()
        data = bytearray(path.read_bytes())
        for _ in range(40):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        search(SqliteToolIndex(tmp_path), "email")
        assert search(SqliteToolIndex(tmp_path), "email") in (["send_email"], [])


@pytest.mark.parametrize("kind", ["garbage", "folder"])
def test_a_file_that_cannot_be_used_does_not_stop_a_search(tmp_path: Path, kind: str) -> None:
    path = tmp_path / tool_index._FILE
    if kind == "garbage":
        path.write_bytes(b"no database " * 1000)
    else:
        path.mkdir()
    index = SqliteToolIndex(tmp_path)
    assert search(index, "email") == search(index, "email") == ["send_email"]
    if kind == "garbage":
        assert search(SqliteToolIndex(tmp_path), "email") == ["send_email"]
        assert path.read_bytes().startswith(b"SQLite format 3")


def test_text_that_cannot_be_encoded_is_indexed(tmp_path: Path) -> None:
    odd = make_tool("odd", server="box", description="A \ud800 zebra.")
    assert search(SqliteToolIndex(tmp_path), "zebra", tools=(odd,)) == ["odd"]
    assert search(SqliteToolIndex(tmp_path), "zebra\ud800", tools=(odd,)) == ["odd"]
