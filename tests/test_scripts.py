"""The interface for scripts: streams, output formats and their schemas, exit codes, files, and the docs."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcpchat.core import jsonl_protocol
from tests.command_line import run_mcpchat
from tests.fake_openai import CannedResponse, FakeOpenAI, chunk, error, text, tool_call

SERVERS = Path(__file__).with_name("servers")
BOX = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{SERVERS / "quirky.py"}"]\n'
FILES = f'[servers.files]\ncommand = "{sys.executable}"\nargs = ["{SERVERS / "content_types.py"}"]\ntrust = true\n'
EVENT = jsonschema.Draft202012Validator(jsonl_protocol.output_schema())
ANSWER = jsonschema.Draft202012Validator(jsonl_protocol.answer_schema())
DOCS = Path(__file__).parent.parent / "docs"
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(fake_openai: FakeOpenAI, tmp_path: Path) -> Run:
    def run(
        *arguments: str, config: str = "", stdin: bytes = b"", **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "c.toml").write_text(config)
        variables = {
            "OPENAI_BASE_URL": fake_openai.base_url,
            "MCPCHAT_MODEL": "m",
            "MCPCHAT_CONFIG": str(tmp_path / "c.toml"),
        }
        completed = run_mcpchat(*arguments, stdin=stdin, env={**os.environ, **variables, **environ}, cwd=tmp_path)
        assert b"Traceback" not in completed.stderr
        return completed

    return run


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


def test_exit_1_if_output_cannot_be_written(mcpchat_command: str) -> None:
    completed = subprocess.run(
        ["bash", "-c", f"{mcpchat_command} schema events >/dev/full"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=50,
    )
    assert (completed.returncode, b"No space left" in completed.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_time_leaves_complete_lines(mcpchat_command: str, fake_openai: FakeOpenAI, number: int) -> None:
    chunks = [chunk({"content": f"word {n} "}) for n in range(200)]
    fake_openai.replies = [CannedResponse(chunks, pause=0.02, hang=True)]
    environ = {**os.environ, "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    rng = random.Random(int(number))
    for _ in range(3):
        process = subprocess.Popen(
            [mcpchat_command, "ask", "x", "-o", "jsonl", "--no-save"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ,
        )  # fmt: skip
        time.sleep(0.5 + 2.5 * rng.random())
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert process.returncode in {128 + number, -signal.SIGTERM}  # the second value: while it is still loading
        assert err == b""
        events = [json.loads(line) for line in out.splitlines()]
        for line in events:
            EVENT.validate(line)
        end_events = [line["type"] for line in events if line["type"] in {"error", "turn.finished", "turn.failed"}]
        assert end_events in (["turn.finished", "error"], ["error"], [])


@pytest.mark.parametrize("spelling", ["-qojson", "-qo json", "--output=json"])
def test_every_spelling_of_the_format_gives_json_errors(run: Run, spelling: str) -> None:
    completed = run("ask", *spelling.split(), "--nonsense")
    assert (completed.returncode, json.loads(completed.stdout)["code"]) == (2, 2)


def test_a_full_log_device_loses_no_answer(mcpchat_command: str) -> None:
    command = f"{mcpchat_command} ask -m demo -v 'What is 6 * 7?' 2>/dev/full"
    completed = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=50)
    assert (completed.returncode, completed.stdout) == (0, b"calculator.calculate(6 * 7) = 42\n")


@pytest.mark.parametrize(
    "arguments",
    ["ask x --schema -", "ask x --config -", "call calculator.calculate expression=-", "call calculator.calculate --json -",
     "batch - --schema -", "threads import -", "ask x --attach -"],
)  # fmt: skip
def test_a_dash_without_input_is_reported(mcpchat_command: str, arguments: str) -> None:
    completed = subprocess.run(["bash", "-c", f"{mcpchat_command} {arguments} <&-"], capture_output=True, timeout=50)
    assert completed.returncode == 2, completed.stderr
    assert b"should not" not in completed.stderr


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
    published = json.loads((Path(__file__).with_name("events.v1.json")).read_text())
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


def test_arguments_come_from_pairs_json_files_and_stdin(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("of a file")
    (tmp_path / "b.json").write_text('{"k": [1]}')

    def call_repeat(*arguments: str, stdin: bytes = b"") -> Any:
        completed = run("call", "files.repeat", *arguments, config=FILES, stdin=stdin)
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
        completed = run("call", "files.repeat", *arguments, config=FILES)
        assert (completed.returncode, complaint in completed.stderr) == (2, True)


def test_results_are_written_to_files_unchanged(run: Run, tmp_path: Path) -> None:
    picture = (SERVERS / "content_types.py").read_bytes()[:0] + b"\x89PNG\r\n\x1a\n\x00\xff"
    completed = run("call", "files.picture", "count=1", "-f", "p.png", config=FILES)
    assert (completed.returncode, completed.stdout) == (0, b"here\n")
    assert (tmp_path / "p.png").read_bytes() == picture
    assert (tmp_path / "p.png").stat().st_mode & 0o777 == 0o600
    assert run("call", "files.picture", "count=2", "-f", "q.png", config=FILES).returncode == 0
    assert (tmp_path / "q-2.png").read_bytes() == picture
    assert run("call", "files.picture", "count=1", "-o", "raw", config=FILES).stdout == picture + b"here"
    assert run("read", "files:file:///p.png", "-f", "r.png", config=FILES).returncode == 0
    assert (tmp_path / "r.png").read_bytes() == picture
    assert run("call", "files.repeat", "text=x", "-f", "no/such/folder", config=FILES).returncode == 2
    assert run("call", "files.slow", "--timeout", "0.3", config=FILES).returncode == 7


# --- the docs ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_the_blocks_of_the_scripting_page_run_unchanged(tmp_path: Path) -> None:
    page = (DOCS / "scripting.md").read_text()
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    scripts = [f"python3 - <<'ENDOFBLOCK'\n{body}ENDOFBLOCK\n" if kind == "python" else body for kind, body in blocks]
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    completed = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(scripts)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=200,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "calculator.calculate(6 * 7) = 42" in completed.stdout
    assert "exit code 2" in completed.stdout
    assert (tmp_path / "results.jsonl").read_text().count("\n") == 3
    python = next(body for kind, body in blocks if kind == "python" and "subprocess" in body)
    assert len([line for line in python.splitlines() if line.strip()]) <= 40
