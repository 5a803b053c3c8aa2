"""The interface for scripts: streams, output formats and their schemas, exit codes, files, and the docs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcpchat.core import jsonl_protocol
from tests.support.command_line import CommandLine
from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, error, text, tool_call
from tests.support.paths import QUIRKY, ROOT, SERVERS
from tests.support.processes import server_table

BOX = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'
EVENT = jsonschema.Draft202012Validator(jsonl_protocol.output_schema())
ANSWER = jsonschema.Draft202012Validator(jsonl_protocol.answer_schema())
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def files_config() -> str:
    return server_table("files", SERVERS / "content_types.py") + "trust = true\n"


@pytest.fixture
def run(fake_openai: FakeOpenAI, tmp_path: Path) -> Run:
    """Run ``mcpchat`` with the fake API as its model; each run has the config that it is given, or none."""
    command_line = CommandLine(tmp_path, fake_openai, base_config="\n", text=False)
    return lambda *arguments, config="", **options: command_line(*arguments, config=config, **options)


# --- one error object, with the code of the process -------------------------------------------------------------------

DOWN = '[servers.down]\ncommand = "no-such-program"\nrequired = true\n'
LOGIN = '[servers.mail]\nbuiltin = "gmail"\nrequired = true\n'


@pytest.mark.parametrize(
    ("code", "error_class", "arguments", "config"),
    [
        (2, "usage", ("ask", "--nonsense"), ""),
        (2, "usage", ("ask",), ""),
        (2, "config", ("ask", "x"), "[servers.x]\n"),
        (2, "usage", ("ask", "x", "--agent", "nobody"), ""),
        (4, "server", ("ask", "x"), DOWN),
        (
            5,
            "tool",
            ("call", "calculator.calculate", "expression=1/0"),
            "[servers.calculator]\nbuiltin = 'calculator'\n",
        ),
        (6, "denied", ("call", "box.write", "text=x"), BOX),
        (7, "limit", ("ask", "x", "--timeout", "0.5"), ""),
        (8, "auth", ("ask", "x"), ""),
    ],
)
def test_every_failure_is_one_object_with_the_exit_code(
    run: Run, fake_openai: FakeOpenAI, code: int, error_class: str, arguments: tuple[str, ...], config: str
) -> None:
    fake_openai.replies = [CannedResponse(hang=True) if error_class == "limit" else error(401, "bad key")]
    for form in ("json", "jsonl"):
        if form == "jsonl" and arguments[0] != "ask":
            continue
        completed = run(*arguments, "-o", form, config=config)
        assert completed.returncode == code, completed.stderr
        documents = (
            [json.loads(line) for line in completed.stdout.splitlines()]
            if form == "jsonl"
            else [json.loads(completed.stdout)]
        )
        if (form, error_class) != ("json", "tool"):
            errors = [line for line in documents if line["type"] == "error"]
            assert [(document["class"], document["code"]) for document in errors] == [(error_class, code)]
            assert errors[0]["message"]
            EVENT.validate(errors[0])
    if arguments != ("ask", "--nonsense"):
        assert b"error: " in completed.stderr


def test_exit_3_when_a_sign_in_is_needed(run: Run) -> None:
    for arguments in (("ask", "x"), ("call", "mail.list_labels")):
        completed = run(*arguments, "-o", "json", config=LOGIN)
        report = json.loads(completed.stdout)
        assert (completed.returncode, report["class"], report["code"]) == (3, "sign_in", 3), completed.stderr


@pytest.mark.parametrize("spelling", ["-qojson", "-qo json", "--output=json"])
def test_every_spelling_of_the_format_gives_json_errors(run: Run, spelling: str) -> None:
    completed = run("ask", *spelling.split(), "--nonsense")
    assert (completed.returncode, json.loads(completed.stdout)["code"]) == (2, 2)


# --- output fits its schema ---------------------------------------------------------------------------------------------


def test_events_and_answers_fit_the_published_schemas(run: Run, fake_openai: FakeOpenAI) -> None:
    def turns() -> list[CannedResponse]:
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        reasoned = CannedResponse([chunk({"reasoning_content": "hm"}), chunk({"content": "done"}, "stop", usage=usage)])
        return [tool_call("box__echo", '{"text": "a"}'), tool_call("box__nosuch", "{"), reasoned]

    events = json.loads(run("schema", "events").stdout)
    answer_schema = json.loads(run("schema", "answer").stdout)
    fake_openai.replies = turns()
    completed = run("ask", "x", "-o", "jsonl", "--yes", config=BOX)
    assert completed.returncode == 0
    for line in completed.stdout.splitlines():
        jsonschema.Draft202012Validator(events).validate(json.loads(line))
    fake_openai.replies = turns()
    completed = run("ask", "x", "-o", "json", "--yes", config=BOX)
    answer = json.loads(completed.stdout)
    jsonschema.Draft202012Validator(answer_schema).validate(answer)
    assert [call["result"]["is_error"] for call in answer["tools"]] == [False, True]
    assert (answer["answer"], answer["stop"], answer["steps"]) == ("done", "end", 3)
    schema = {"type": "object", "required": ["n"]}
    fake_openai.replies = [text('{"n": 1}')]
    completed = run("ask", "x", "-o", "json", "--schema", "-", stdin=json.dumps(schema).encode())
    assert (
        json.loads(completed.stdout)["error"]["code"]
        if completed.returncode
        else json.loads(completed.stdout)["value"] == {"n": 1}
    )
    assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize("name", ["events", "input", "answer", "batch", "result", "config"])
def test_each_schema_is_valid(run: Run, name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(run("schema", name).stdout))


def test_the_event_stream_is_compatible(run: Run) -> None:
    """Version 1 still has its published types and fields, and no further required ones."""
    published = json.loads((ROOT / "tests/support/events.v1.json").read_text())
    current = {
        definition["properties"]["type"]["enum"][0]: set(definition["properties"])
        for definition in json.loads(run("schema", "events").stdout)["$defs"].values()
        if "enum" in definition.get("properties", {}).get("type", {})
    }
    for kind, fields in published.items():
        assert set(fields) <= current[kind], kind


# --- streams ----------------------------------------------------------------------------------------------------------


def test_verbose_explains_and_quiet_is_silent(run: Run, fake_openai: FakeOpenAI) -> None:
    for form in ("text", "json"):
        fake_openai.replies = [tool_call("box__echo", '{"text": "a"}'), text("done")]
        completed = run("ask", "-v", "x", "--allow", "box.*", "-o", form, config=BOX)
        log = completed.stderr.decode()
        assert "model m, thread " in log
        assert "box.echo: allowed by policy (--allow box.*)" in log
        assert "end after 2 requests" in log
    fake_openai.replies = [tool_call("box__echo", '{"text": "a"}'), text("done")]
    completed = run("ask", "-q", "x", "--allow", "box.*", config=BOX)
    assert (completed.stdout, completed.stderr) == (b"done\n", b"")


def test_input_is_limited_text_without_byte_order_mark(run: Run, fake_openai: FakeOpenAI) -> None:
    completed = run("ask", "x", stdin=b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100)
    assert (completed.returncode, b"--attach -" in completed.stderr) == (2, True)
    completed = run("ask", "x", stdin=b"a" * 10_000_001)
    assert (completed.returncode, b"more than 10,000,000" in completed.stderr) == (2, True)
    assert run("ask", stdin="\ufeffhello\r\nthere\r\n".encode()).returncode == 0
    assert fake_openai.requests[-1]["messages"][-1]["content"] == "hello\nthere"


def test_a_dash_is_standard_input_for_every_file_option(run: Run, fake_openai: FakeOpenAI) -> None:
    assert run("ask", "x", "--attach", "-", stdin=b"a note").returncode == 0
    assert "a note" in str(fake_openai.requests[-1]["messages"])
    config = f'[model]\nname = "n"\nbase_url = "{fake_openai.base_url}"\n'
    assert run("ask", "x", "--config", "-", stdin=config.encode()).returncode == 0
    assert fake_openai.requests[-1]["model"] == "n"


# --- tools, resources and prompts by hand -----------------------------------------------------------------------------


def test_arguments_come_from_pairs_json_files_and_stdin(run: Run, tmp_path: Path, files_config: str) -> None:
    (tmp_path / "a.txt").write_text("of a file")
    (tmp_path / "b.json").write_text('{"k": [1]}')

    def call_repeat(*arguments: str, stdin: bytes = b"") -> Any:
        completed = run("call", "files.repeat", *arguments, config=files_config, stdin=stdin)
        assert completed.returncode == 0, completed.stderr
        return json.loads(completed.stdout)

    assert call_repeat("text=a=b", "value:=@b.json", "data=@a.txt") == {
        "text": "a=b", "value": {"k": [1]}, "data": "b2YgYSBmaWxl"
    }  # fmt: skip
    assert call_repeat("text=@a.txt", "value:=[1, null]") == {"text": "of a file", "value": [1, None], "data": ""}
    assert call_repeat("text=@@a.txt")["text"] == "@a.txt"
    assert call_repeat("text=-", stdin=b"piped")["text"] == "piped"
    assert call_repeat("--json", "-", stdin=b'{"text": "j"}')["text"] == "j"
    assert call_repeat("--json", "@b.json", "text=x")["text"] == "x"
    for arguments, complaint in [
        (("text=@nowhere",), b"cannot read nowhere"),
        (("value:=nope",), b"not JSON"),
        (("value:=NaN",), b"not JSON"),
        (("text",), b"not KEY=VALUE"),
        (("text=@/dev/full",), b""),
    ]:
        completed = run("call", "files.repeat", *arguments, config=files_config)
        assert (completed.returncode, complaint in completed.stderr) == (2, True)


def test_results_are_written_to_files_unchanged(run: Run, tmp_path: Path, files_config: str) -> None:
    picture = (SERVERS / "content_types.py").read_bytes()[:0] + b"\x89PNG\r\n\x1a\n\x00\xff"
    completed = run("call", "files.picture", "count=1", "-f", "p.png", config=files_config)
    assert (completed.returncode, completed.stdout) == (0, b"here\n")
    assert (tmp_path / "p.png").read_bytes() == picture
    assert (tmp_path / "p.png").stat().st_mode & 0o777 == 0o600
    assert run("call", "files.picture", "count=2", "-f", "q.png", config=files_config).returncode == 0
    assert (tmp_path / "q-2.png").read_bytes() == picture
    assert run("call", "files.picture", "count=1", "-o", "raw", config=files_config).stdout == picture + b"here"
    assert run("read", "files:file:///p.png", "-f", "r.png", config=files_config).returncode == 0
    assert (tmp_path / "r.png").read_bytes() == picture
    assert run("call", "files.repeat", "text=x", "-f", "no/such/folder", config=files_config).returncode == 2
    assert run("call", "files.slow", "--timeout", "0.3", config=files_config).returncode == 7


# --- the docs ---------------------------------------------------------------------------------------------------------


def test_standard_input_is_left_to_others(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    assert run("ask", "-n", "hi", stdin="not for us").returncode == 0
    assert fake_openai.requests[-1]["messages"][-1]["content"] == "hi"
    for options in (("--attach", "-"), ("--schema", "-"), ("--input-format", "jsonl", "-o", "jsonl")):
        assert run("ask", "--no-stdin", *options, "hi").returncode == 2
