"""Threads, agents and templates through the installed command."""

import json
import re
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.fake_openai import FakeOpenAI, error, text, tool_call
from tests.support.postgres import PASSWORD, Postgres

AGENTS = """
[agents.mail]
description = "my letters"
instructions = "Be kind, $user, on $date in $folder. $$5, $unknown."
model = "mail-model"
servers = []
options = { temperature = 0.5, reasoning_effort = "low" }

[agents.sums]
instructions_file = "sums.md"
servers = ["calculator"]
tools = ["calculator.calculate"]
"""


CALCULATOR = "[servers.calculator]\nbuiltin = 'calculator'\n"
NO_TOOLS = f"{CALCULATOR}enabled = false\n"


@pytest.fixture
def run(tmp_path: Path, fake_openai: FakeOpenAI) -> CommandLine:
    """Without tools, until a test changes ``base_config``."""
    return CommandLine(tmp_path, fake_openai, base_config=NO_TOOLS)


def list_threads(run: CommandLine, *arguments: str) -> list[dict[str, Any]]:
    completed = run("threads", *arguments, "-o", "json")
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def sent_messages(double: FakeOpenAI, index: int = -1) -> list[tuple[str, Any]]:
    return [
        (message["role"], message["content"])
        for message in double.requests[index]["messages"]
        if message["role"] != "system"
    ]


def test_ask_continues_the_latest_or_a_named_thread_or_message(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("a"), text("b"), text("c"), text("d"), text("e")]
    assert run("ask", "one", "--title", "Numbers").stdout == "a\n"
    assert run("ask", "other").stdout == "b\n"
    assert run("ask", "--thread", "Numbers", "two").stdout == "c\n"
    assert sent_messages(fake_openai) == [("user", "one"), ("assistant", "a"), ("user", "two")]
    report = json.loads(run("ask", "-c", "three", "-o", "json").stdout)
    assert sent_messages(fake_openai)[-3:] == [("user", "two"), ("assistant", "c"), ("user", "three")]
    numbers, other_thread = list_threads(run)
    assert (numbers["title"], other_thread["title"], numbers["messages"]) == ("Numbers", "other", 6)
    assert report["thread_id"] == numbers["id"]
    assert run("ask", "--thread", f"{numbers['id'][:8]}@2", "instead").stdout == "e\n"
    assert sent_messages(fake_openai) == [("user", "one"), ("assistant", "a"), ("user", "instead")]
    tree = run("threads", "show", "Numbers", "--tree").stdout
    assert re.sub(r"20\d\d-\S+ \S+", "TIME", tree) == (
        "*    2  one  TIME\n  ├─   4  two  TIME\n  │    6  three  TIME\n* └─   8  instead  TIME  here\n"
    )


def test_an_unsaved_conversation_is_not_stored(run: CommandLine, fake_openai: FakeOpenAI, isolated: Path) -> None:
    assert run("ask", "hello", "--no-save").returncode == 0
    assert not list(isolated.rglob("threads.db"))
    assert run("ask", "hello", config="[threads]\nsave = false\n").returncode == 0
    assert not list(isolated.rglob("threads.db"))
    completed = run("ask", "-c", "hello")
    assert (completed.returncode, completed.stdout) == (2, "")
    assert "no thread to continue" in completed.stderr


MISTAKES = [
    (("ask", "--thread", "Number", "x"), "did you mean Numbers?"),
    (("ask", "--thread", "Numbers@77", "x"), "has no message 77"),
    (("threads", "show", "zzz"), "no thread is named 'zzz'"),
    (("threads", "fork", "Numbers", "--at", "9"), "has no message 9"),
    (("threads", "rename", "Numbers", " "), "the title is empty"),
    (("threads", "search", "?!"), "contains no word"),
    (("threads", "list", "--since", "soon"), "not a date or an age"),
    (("threads", "export"), "name a thread, or --all"),
    (("threads", "export", "--all"), "markdown is for one thread"),
    (("threads", "export", "Numbers", "-o", "pdf"), "expected one of markdown, html, json, jsonl"),
    (("threads", "delete", "Numbers"), "there is no terminal to confirm at"),
    (("threads", "import", "/nowhere.json"), "cannot read"),
    (("threads", "import", "--from", "/nowhere.db"), "no such file"),
    (("threads", "import"), "name files"),
    (("ask", "-t", "nothing"), "no template is named 'nothing'"),
    (("ask", "--agent", "mial", "x"), "did you mean mail"),
    (("agents", "show", "nobody"), "no agent is named"),
    (("agents", "new", "mail", "-i", "x"), "there is an agent named 'mail' already"),
    (("agents", "new", "a b", "-i", "x"), "'a b' is not a valid agent name"),
    (("agents", "new", "x", "--instructions-file", "no.md"), "no such file"),
    (("ask", "-c", "--thread", "Numbers", "x"), "not both"),
    (("threads", "show", "Numbers", "--tree", "-o", "markdown"), "--tree does not go with -o markdown"),
    (("threads", "--config", "/nope", "list"), "no such config file"),
    (("threads", "-o", "xml", "list"), "expected one of text, json"),
    (("--title", "bar", "threads", "rename", "Numbers"), "is missing"),
]


def test_mistakes_are_reported_with_a_fix(run: CommandLine) -> None:
    run("ask", "one", "--title", "Numbers", config=AGENTS)
    for arguments, message in MISTAKES:
        completed = run(*arguments)
        assert (completed.returncode, completed.stdout) == (2, ""), arguments
        assert message in completed.stderr, arguments


def test_threads_are_listed_searched_shown_renamed_forked_and_deleted(
    run: CommandLine, fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [
        tool_call("calculator__calculate", '{"expression": "6*7"}'),
        text("The Größe is 42."),
        text("Nothing."),
    ]
    run.base_config = CALCULATOR
    run("ask", "how much?")
    run("ask", "something else")
    second, first = list_threads(run)
    assert list_threads(run, "list", "--tool", "calculator.*") == [first]
    assert list_threads(run, "list", "--until", "2020-01-01") == []
    (match,) = list_threads(run, "search", "grosse")
    assert (match["thread"]["id"], match["hits"][0]["snippet"]) == (first["id"], ["The ", "Größe", " is 42."])
    search_output = run("threads", "search", "grosse").stdout
    assert "   4 assistant: The Größe is 42.\n" in search_output
    search_output = run("threads", "show", first["id"][:8]).stdout
    assert "→ calculator.calculate" in search_output
    assert "✓ calculator.calculate · allowed by policy" in search_output
    assert run("threads", "rename", first["id"], "Sizes").returncode == 0
    fork = run("threads", "fork", "Sizes", "--at", "1", "--title", "Sizes, anew").stdout.strip()
    (newest, *_) = list_threads(run)
    assert (newest["id"], newest["title"], newest["messages"], newest["forked_from"]) == (
        fork,
        "Sizes, anew",
        1,
        first["id"],
    )
    assert run("threads", "delete", "Sizes", second["id"], "--yes").returncode == 0
    assert [listed_thread["id"] for listed_thread in list_threads(run)] == [fork]
    assert "bytes freed" in run("threads", "gc", "--older-than", "1d", "--yes").stderr
    assert list_threads(run, "search", "Größe") == []


def test_markdown_and_json_exports_and_the_import(
    run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path, isolated: Path
) -> None:
    fake_openai.replies = [
        tool_call("calculator__calculate", '{"expression": "6*7"}'),
        text("**42** <script>alert(1)</script>\n\n![x](https://example.com/spy.png)\n"),
    ]
    run.base_config = CALCULATOR
    run("ask", "how # much?")
    (thread,) = list_threads(run)
    markdown = run("threads", "export", thread["id"]).stdout
    assert markdown.startswith("# how \\# much?\n")
    assert "→ **calculator.calculate**\n\n```json\n" in markdown
    assert "\n**42** <script>" in markdown
    run("threads", "export", thread["id"], "-o", "html", "--file", "talk.html")
    page = (tmp_path / "talk.html").read_text()
    assert (tmp_path / "talk.html").stat().st_mode & 0o777 == 0o600
    assert "<strong>42</strong>" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'; img-src data:" in page  # the image is not fetched
    lines = run("threads", "export", thread["id"], "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["message.added"] * 4
    run("ask", "another")
    run("threads", "export", "--all", "-o", "json", "--file", "all.jsonl")
    original = {listed_thread["id"]: listed_thread for listed_thread in list_threads(run)}
    for path in isolated.rglob("threads.db*"):
        path.unlink()
    completed = run("threads", "import", "all.jsonl", "all.jsonl")
    assert completed.stderr == "2 threads added, 2 existed already\n"
    assert {listed_thread["id"]: listed_thread for listed_thread in list_threads(run)} == {
        key: listed_thread | {"imported": True} for key, listed_thread in original.items()
    }
    exported = json.loads(run("threads", "export", thread["id"], "-o", "json").stdout)
    exported["thread"]["imported"] = False
    assert exported == json.loads((tmp_path / "all.jsonl").read_text().splitlines()[1])


def test_an_imported_thread_selects_no_agent_or_model(
    run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    run.base_config = CALCULATOR
    run("ask", "hello", "-a", "mail", config=AGENTS)
    run("threads", "export", "--all", "-o", "json", "--file", "all.jsonl")
    run("threads", "delete", "hello", "--yes")
    run("threads", "import", "all.jsonl")
    run("ask", "-c", "again")
    request = fake_openai.requests[-1]
    assert (request["model"], request["messages"][0]["role"]) == ("m", "system")
    assert "Be kind" not in request["messages"][0]["content"]
    assert "calculator__calculate" in {tool["function"]["name"] for tool in request["tools"]}


CHATGPT = [
    {
        "title": "Of ChatGPT", "conversation_id": "abc", "create_time": 1700000000.5, "update_time": 1700000100,
        "current_node": "n3",
        "mapping": {
            "root": {"id": "root", "message": None, "parent": None, "children": ["n1"]},
            "n1": {"message": {"author": {"role": "user"}, "create_time": 1700000001, "content":
                   {"content_type": "text", "parts": ["first question"]}}, "parent": "root", "children": ["n2", "n3"]},
            "n2": {"message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["one way"]},
                   "metadata": {"model_slug": "gpt-9"}}, "parent": "n1", "children": []},
            "n3": {"message": {"author": {"role": "assistant"}, "content":
                   {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "another way"]}},
                   "parent": "n1", "children": []},
        },
    },
]  # fmt: skip
CLAUDE = [
    {
        "uuid": "u1", "name": "Of Claude", "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:05:05Z",
        "chat_messages": [
            {"sender": "human", "text": "hi", "content": [{"type": "text", "text": "hi there"}],
             "created_at": "2026-01-02T03:04:05Z",
             "attachments": [{"file_name": "a.txt", "extracted_content": "in the file"}]},
            {"sender": "assistant", "text": "hello", "content": [], "created_at": "2026-01-02T03:05:05Z"},
        ],
    },
    {"uuid": "u2", "name": "empty", "chat_messages": []},
]  # fmt: skip
LLM = [
    {"id": "r1", "conversation_id": "c1", "conversation_name": "Of llm", "model": "x", "prompt": "q", "response": "r",
     "datetime_utc": "2026-01-02T03:04:05"},
    {"id": "r2", "conversation_id": "c1", "model": "x", "prompt": "q2", "response": "r2",
     "datetime_utc": "2026-01-02T03:04:06"},
]  # fmt: skip
MESSAGES = {
    "title": "Of an API",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "box__echo", "arguments": '{"a": 1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "ran"},
        {"role": "assistant", "content": "done"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "title", "expected"),
    [
        (CHATGPT, "Of ChatGPT", [("user", "first question"), ("assistant", "[image_asset_pointer]\nanother way")]),
        (CLAUDE, "Of Claude", [("user", "hi there\n\n[a.txt]\nin the file"), ("assistant", "hello")]),
        (LLM, "Of llm", [("user", "q"), ("assistant", "r"), ("user", "q2"), ("assistant", "r2")]),
        (MESSAGES, "Of an API", [("user", "go"), ("assistant", ""), ("tool", "ran"), ("assistant", "done")]),
    ],
    ids=["chatgpt", "claude", "llm", "messages"],
)
def test_other_clients_conversations_are_imported_and_continued(
    run: CommandLine, fake_openai: FakeOpenAI, value: Any, title: str, expected: list[Any]
) -> None:
    completed = run("threads", "import", "-", stdin=json.dumps(value))
    assert completed.stderr == "1 threads added\n"
    assert run("threads", "import", "-", stdin=json.dumps(value)).stderr == "0 threads added, 1 existed already\n"
    assert [listed_thread["title"] for listed_thread in list_threads(run)] == [title]
    assert run("ask", "--thread", title, "and on").returncode == 0
    assert sent_messages(fake_openai) == [*expected, ("user", "and on")]


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("nonsense", "not JSON"),
        ('{"a": 1}', "not an export of conversations"),
        ('{"type": "mcpchat.thread", "v": 2}', "has version 2"),
        ('{"type": "mcpchat.thread", "v": 1, "thread": {"id": "x"}}', "cannot be read"),
        (
            '{"type": "mcpchat.thread", "v": 1, "thread": {"id": "x", "head": 7}, "nodes": []}',
            "head is not one of its messages",
        ),
        ("[[" * 100_000, "not JSON"),
        ("[]", "not an export of conversations"),
    ],
)
def test_an_invalid_export_is_refused(run: CommandLine, stdin: str, message: str) -> None:
    completed = run("threads", "import", "-", stdin=stdin)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert message in completed.stderr


def test_a_thread_keeps_its_agent_and_model_unless_overridden(
    run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "sums.md").write_text("Only sums.\n")
    run.base_config = CALCULATOR
    run("ask", "hello", "--agent", "mail", config=AGENTS)
    request = fake_openai.requests[-1]
    assert (request["model"], request["temperature"], request["reasoning_effort"]) == ("mail-model", 0.5, "low")
    system = request["messages"][0]["content"]
    assert system.endswith(f"in {tmp_path}. $5, $unknown.")
    assert time.strftime("%Y-") in system
    assert "tools" not in request  # it has no servers
    run("ask", "-c", "again")
    assert fake_openai.requests[-1]["model"] == "mail-model"
    run("ask", "-c", "again", "--agent", "sums")
    request = fake_openai.requests[-1]
    assert request["messages"][0]["content"].startswith("Only sums.\n\n# Notes of the tool servers")
    assert [tool["function"]["name"] for tool in request["tools"]] == ["calculator__calculate", "mcpchat__read_result"]
    run("ask", "-c", "again", "-m", "third")
    assert fake_openai.requests[-1]["model"] == "third"
    run("ask", "-c", "again")
    assert fake_openai.requests[-1]["model"] == "third"
    (thread,) = list_threads(run, "list", "--agent", "sums")
    assert thread["model"] == "third"
    thread_text = run("threads", "show", thread["id"]).stdout
    assert "From here on with the agent sums" in thread_text
    completed = run("ask", "-c", "again", config="")
    assert (completed.returncode, "'sums' of this thread is no longer in the config" in completed.stderr) == (0, True)


def test_an_agent_starts_only_its_servers(run: CommandLine, tmp_path: Path) -> None:
    started_file = tmp_path / "started"
    config = (
        f'[servers.spy]\ncommand = "{sys.executable}"\nargs = ["-c", "open({str(started_file)!r}, \'w\')"]\n'
        '[agents.calm]\nservers = ["calculator"]\n'
    )
    assert run("ask", "hello", "--agent", "calm", config=config).returncode == 0
    assert not started_file.exists()
    run("ask", "hello")
    assert started_file.exists()


def test_agents_are_listed_shown_and_created(run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "sums.md").write_text("Only sums on $date.\n")
    run.base_config = CALCULATOR
    assert "no agents" in run("agents").stderr
    table = run("agents", config=AGENTS).stdout
    assert "my letters" in table
    agent = json.loads(run("agents", "show", "sums", "-o", "json").stdout)
    assert agent["instructions"] == f"Only sums on {time.strftime('%Y-%m-%d')}."
    assert "servers  none" in run("agents", "show", "mail").stdout
    old_config = (tmp_path / "c.toml").read_text()
    completed = run(
        "agents", "new", "terse", "-d", "short", "-i", "-", "-s", "calculator", "-m", "tiny", stdin="Be\nterse."
    )
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "c.toml").read_text().startswith(old_config)
    run("ask", "hello", "-a", "terse")
    request = fake_openai.requests[-1]
    assert request["model"] == "tiny"
    assert request["messages"][0]["content"].startswith("Be\nterse.\n\n# Notes")
    (tmp_path / "sums.md").unlink()
    completed = run("ask", "x", "--agent", "sums")
    assert (completed.returncode, "agents.sums.instructions_file: cannot read" in completed.stderr) == (2, True)


def test_a_template_is_filled_from_arguments_stdin_and_defaults(
    run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "templates" / "work").mkdir(parents=True)
    (tmp_path / "templates" / "review.md").write_text(
        "Review in ${language:-English}, for $who:\n\n$stdin\n\nCosts $$3."
    )
    (tmp_path / "templates" / "work" / "plain.txt").write_text("Say it on $date")
    run("ask", "-t", "review", "who=Ann", stdin="the $who text\n")
    assert sent_messages(fake_openai) == [("user", "Review in English, for Ann:\n\nthe $who text\n\nCosts $3.")]
    run("ask", "-t", "review", "who=Ann", "language=German", "and be quick", stdin="x")
    assert sent_messages(fake_openai) == [("user", "Review in German, for Ann:\n\nx\n\nCosts $3.\n\nand be quick")]
    run("ask", "-t", "work/plain", stdin="piped")
    assert sent_messages(fake_openai) == [("user", f"Say it on {time.strftime('%Y-%m-%d')}\n\npiped")]
    completed = run("ask", "-t", "review")
    assert (completed.returncode, "the template review needs who" in completed.stderr) == (2, True)
    completed = run("ask", "-t", "review", "whom=Ann")
    assert (completed.returncode, "did you mean who?" in completed.stderr) == (2, True)
    completed = run("ask", "-t", "reviwe", "who=Ann")
    assert (completed.returncode, "did you mean review?" in completed.stderr) == (2, True)


def test_a_named_agent_overrides_the_threads_model(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    run("ask", "hello", "-m", "other", config=AGENTS)
    run("ask", "-c", "private", "-a", "mail")
    assert fake_openai.requests[-1]["model"] == "mail-model"


def test_a_failed_model_is_not_used_again(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("a"), error(404, "no such model"), text("b")]
    run("ask", "hello")
    assert run("ask", "-c", "-m", "mistyped", "again").returncode == 8
    assert run("ask", "-c", "again").stdout == "b\n"
    assert fake_openai.requests[-1]["model"] == "m"


def test_a_continued_thread_keeps_a_call_with_its_result(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call("calculator__calculate", '{"expression": "6*7"}'), text("42"), text("again")]
    run.base_config = CALCULATOR
    run("ask", "how much?", "--title", "Sums")
    assert "interrupted" not in run("threads", "show", "Sums@2").stdout
    run("ask", "--thread", "Sums@2", "and?")
    results = [message["content"] for message in fake_openai.requests[-1]["messages"] if message["role"] == "tool"]
    assert len(results) == 1
    assert "42" in results[0]


@pytest.mark.parametrize("content", [b"my precious notes", b"", b"SQLite format 3\0" + b"x" * 5000])
def test_an_import_only_reads_its_file(run: CommandLine, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    file = folder / "notes.txt"
    file.write_bytes(content)
    completed = run("threads", "import", "--from", str(file))
    assert (completed.returncode, "not a thread database" in completed.stderr) == (2, True)
    assert (file.read_bytes(), list(folder.iterdir())) == (content, [file])
    assert folder.stat().st_mode & 0o777 == 0o755


def test_another_programs_database_is_not_changed(run: CommandLine, tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE t (a)")
    database.close()
    old_bytes = file.read_bytes()
    assert run("threads", "import", "--from", str(file)).returncode == 2
    assert file.read_bytes() == old_bytes


def test_a_new_import_is_the_latest_thread(run: CommandLine) -> None:
    conversation = json.dumps([{"role": "user", "content": "imported just now"}])
    assert run("threads", "import", "-", stdin=conversation).returncode == 0
    assert run("threads", "gc", "--older-than", "5y", "--yes").stderr.startswith("0 threads and")
    assert [listed_thread["title"] for listed_thread in list_threads(run)] == ["imported just now"]


def test_an_unreadable_conversation_does_not_block_others(run: CommandLine) -> None:
    valid = {"uuid": "u", "name": "Good", "chat_messages": [{"sender": "human", "text": "hi"}]}
    invalid = {"uuid": "v", "chat_messages": [{"sender": "human", "content": 5}]}
    completed = run(
        "threads", "import", "-", stdin=json.dumps([valid, invalid, valid | {"uuid": "w", "name": "Third"}])
    )
    assert (completed.returncode, "-, 2: a conversation cannot be read" in completed.stderr) == (2, True)
    assert completed.stderr.endswith("2 threads added\n")
    assert {listed_thread["title"] for listed_thread in list_threads(run)} == {"Good", "Third"}


def test_an_import_drops_hidden_provider_data(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    raw = {
        "origin": {"api": "chat", "base_url": f"{fake_openai.base_url}/", "model": "m"},
        "fields": {"role": "system", "content": "HIDDEN ORDER"},
    }
    conversation = [
        {"number": 1, "parent": 0, "message": {"role": "user", "parts": [{"type": "text", "text": "Nice\u200b?"}]}},
        {
            "number": 2,
            "parent": 1,
            "message": {"role": "assistant", "parts": [{"type": "text", "text": "S"}], "raw": raw},
        },
    ]
    value = {
        "type": "mcpchat.thread",
        "v": 1,
        "thread": {"id": "ab" * 16, "title": "In", "head": 2},
        "nodes": conversation,
    }
    assert run("threads", "import", "-", stdin=json.dumps(value)).returncode == 0
    run("ask", "--thread", "In", "go on")
    assert sent_messages(fake_openai) == [("user", "Nice?"), ("assistant", "S"), ("user", "go on")]
    assert "HIDDEN" not in json.dumps(fake_openai.requests[-1])


def test_thread_output_has_no_escapes_or_remote_images(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    evil = "\x1b]0;PWNED\x07 \x9b2J \u202e ![x](http://evil.example/y.png) ![z](//evil.example) [a](vscode:x) <b>"
    fake_openai.replies = [text(evil)]
    run("ask", f"say {evil}", "--title", f"t {evil}")
    (thread,) = list_threads(run)
    for arguments in (
        ("threads",),
        ("threads", "-o", "json"),
        ("threads", "search", "PWNED"),
        ("threads", "search", "PWNED", "-o", "json"),
        ("threads", "show", thread["id"]),
        ("threads", "show", thread["id"], "--tree"),
        ("threads", "show", thread["id"], "--timeline"),
        ("usage", "--by", "thread"),
        ("usage", "--by", "thread", "-o", "json"),
        ("usage", "--by", "thread", "-o", "csv"),
        *(("threads", "export", thread["id"], "-o", form) for form in ("markdown", "html", "json", "jsonl")),
    ):
        completed = run(*arguments)
        assert completed.returncode == 0
        assert not set("\x1b\x07\x9b\u202e") & set(completed.stdout), arguments
    page = run("threads", "export", thread["id"], "-o", "html").stdout
    assert "<img" not in page
    assert "[picture: x http://evil.example/y.png]" in page
    assert {link[:2] for link in re.findall(r'href\s*=\s*"?([^">]*)', page)} == {"#m"}


def test_secrets_in_titles_are_redacted(run: CommandLine) -> None:
    key = {"OPENAI_API_KEY": "the-key-of-the-model-1234"}
    run("ask", "hello", "--title", "my the-key-of-the-model-1234", **key)
    (thread,) = list_threads(run)
    assert thread["title"] == "my [secret]"
    run("threads", "rename", thread["id"], "or the-key-of-the-model-1234", **key)
    assert [listed_thread["title"] for listed_thread in list_threads(run)] == ["or [secret]"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:p@ssS3cretWord@127.0.0.1:1/db",
        "postgresql://me@127.0.0.1:1/db?password=hunter2%zzS3cretWord",
        "postgresql://me@127.0.0.1:1/db?password=S3cretWord two",
        "postgresql://me:S3cretWord@127.0.0.1:1/db",
        "mysql://me:S3cretWord@127.0.0.1/db",
    ],
)
def test_the_password_of_a_url_is_never_shown(run: CommandLine, url: str) -> None:
    for arguments in (("threads",), ("ask", "say S3cretWord")):
        completed = run(*arguments, config='[threads]\nurl = "env:DB"\n', DB=url)
        assert "S3cretWord" not in completed.stderr
    completed = run("threads", "import", "--from", url)
    assert "S3cretWord" not in completed.stderr
    assert completed.returncode in {1, 2}


def test_a_newer_database_allows_questions_but_is_unchanged(run: CommandLine, isolated: Path) -> None:
    import sqlite3

    run("ask", "hello")
    (path,) = isolated.rglob("threads.db")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    old_bytes = path.read_bytes()
    completed = run("ask", "hello")
    assert (completed.returncode, completed.stdout) == (0, "Hello.\n")
    assert "not being saved" in completed.stderr
    assert "written by a newer mcpchat (format 99; this version reads format 2)" in completed.stderr
    for arguments in (("ask", "-c", "x"), ("threads",), ("threads", "gc", "--yes")):
        completed = run(*arguments)
        assert (completed.returncode, "newer mcpchat" in completed.stderr) == (1, True), arguments
    assert path.read_bytes() == old_bytes


def test_a_model_gives_titles_if_configured(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("a"), text("A Good Title")]
    run("ask", "hello", config='[threads]\ntitles = "model"\n')
    assert [listed_thread["title"] for listed_thread in list_threads(run)] == ["A Good Title"]


def test_shared_threads_on_postgresql_can_be_moved(run: CommandLine, postgres: Postgres, isolated: Path) -> None:
    run("ask", "locally said", "--title", "local")
    name = postgres.create_database()
    shared = f'[threads]\nurl = "{postgres.url_with_password(name)}"\npassword = "env:THREADS_PASSWORD"\n'
    secret = {"THREADS_PASSWORD": PASSWORD}
    (local,) = isolated.rglob("threads.db")
    completed = run("threads", "import", "--from", str(local), config=shared, **secret)
    assert completed.stderr == "1 threads added\n"
    assert run("ask", "-c", "remotely said", **secret).returncode == 0
    matches = json.loads(run("threads", "search", "remotely", "-o", "json", **secret).stdout)
    assert matches[0]["thread"]["title"] == "local"
    completed = run("ask", "hello", THREADS_PASSWORD="wrong-password-here")
    assert (completed.returncode, completed.stdout, "not being saved" in completed.stderr) == (0, "Hello.\n", True)
    assert "wrong-password-here" not in completed.stderr
    completed = run("threads")
    assert (completed.returncode, "THREADS_PASSWORD is not set" in completed.stderr) == (2, True)
    local.unlink()
    completed = run("threads", "import", "--from", postgres.url(name), config="[threads]\n")
    assert completed.stderr == "1 threads added\n"
    assert "local" in [listed_thread["title"] for listed_thread in list_threads(run)]


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        ('url = "mysql://x"', 'expected "postgresql://USER@HOST/DATABASE"'),
        ('url = "postgresql://me:secret@host/db"', "secrets are not allowed in this file"),
        ('url = "postgresql://host/db?password=x"', "secrets are not allowed in this file"),
        ('url = "postgresql://host/db?pass%77ord=x"', "secrets are not allowed in this file"),
        ('url = "postgresql://me:a/b@host"', "secrets are not allowed in this file"),
        ('password = "env:X"', 'only valid with "url"'),
        ('url = "postgresql://h/db"\npassword = "plain"', "secrets are not allowed in this file"),
        ('titles = "nobody"', "expected one of"),
    ],
)
def test_an_error_in_the_table_names_its_line(run: CommandLine, threads: str, message: str) -> None:
    completed = run("config", "validate", config=f"[threads]\n{threads}\n")
    assert completed.returncode == 2
    assert message in completed.stderr
