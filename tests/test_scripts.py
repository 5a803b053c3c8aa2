"""What scripts build on: streams, formats held against their schemas, every exit code, files in and out, the docs."""

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
    def run(*words: str, config: str = "", stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "c.toml").write_text(config)
        named = {
            "OPENAI_BASE_URL": fake_openai.base_url,
            "MCPCHAT_MODEL": "m",
            "MCPCHAT_CONFIG": str(tmp_path / "c.toml"),
        }
        done = run_mcpchat(*words, stdin=stdin, env={**os.environ, **named, **environ}, cwd=tmp_path)
        assert b"Traceback" not in done.stderr
        return done

    return run


# --- one error object, with the code of the process -------------------------------------------------------------------

DOWN = '[servers.down]\ncommand = "no-such-program"\nrequired = true\n'
LOGIN = '[servers.mail]\nbuiltin = "gmail"\nrequired = true\n'


@pytest.mark.parametrize(
    ("code", "kind", "words", "config"),
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
    run: Run, fake_openai: FakeOpenAI, code: int, kind: str, words: tuple[str, ...], config: str
) -> None:
    fake_openai.replies = [CannedResponse(hang=True) if kind == "limit" else error(401, "bad key")]
    for form in ("json", "jsonl"):
        if form == "jsonl" and words[0] != "ask":
            continue
        done = run(*words, "-o", form, config=config)
        assert done.returncode == code, done.stderr
        lines = (
            [json.loads(line) for line in done.stdout.splitlines()] if form == "jsonl" else [json.loads(done.stdout)]
        )
        if (form, kind) != ("json", "tool"):
            found = [line for line in lines if line["type"] == "error"]
            assert [(one["class"], one["code"]) for one in found] == [(kind, code)]
            assert found[0]["message"]
            EVENT.validate(found[0])
    if words != ("ask", "--nonsense"):
        assert b"error: " in done.stderr


def test_exit_3_when_a_sign_in_is_needed(run: Run) -> None:
    for words in (("ask", "x"), ("call", "mail.list_labels")):
        done = run(*words, "-o", "json", config=LOGIN)
        told = json.loads(done.stdout)
        assert (done.returncode, told["class"], told["code"]) == (3, "sign_in", 3), done.stderr


def test_exit_1_for_what_cannot_be_written(mcpchat_command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{mcpchat_command} schema events >/dev/full"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=50,
    )
    assert (done.returncode, b"No space left" in done.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_leaves_whole_lines_and_its_code(
    mcpchat_command: str, fake_openai: FakeOpenAI, number: int
) -> None:
    pieces = [chunk({"content": f"word {n} "}) for n in range(200)]
    fake_openai.replies = [CannedResponse(pieces, pause=0.02, hang=True)]
    environ = {**os.environ, "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    chance = random.Random(int(number))
    for _ in range(3):
        process = subprocess.Popen(
            [mcpchat_command, "ask", "x", "-o", "jsonl", "--no-save"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ,
        )  # fmt: skip
        time.sleep(0.5 + 2.5 * chance.random())
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert process.returncode in {128 + number, -signal.SIGTERM}  # the latter while it is still loading
        assert err == b""
        lines = [json.loads(line) for line in out.splitlines()]
        for line in lines:
            EVENT.validate(line)
        ends = [line["type"] for line in lines if line["type"] in {"error", "turn.finished", "turn.failed"}]
        assert ends in (["turn.finished", "error"], ["error"], [])


@pytest.mark.parametrize("spelling", ["-qojson", "-qo json", "--output=json"])
def test_however_the_format_is_spelt_the_error_is_json(run: Run, spelling: str) -> None:
    done = run("ask", *spelling.split(), "--nonsense")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (2, 2)


def test_a_log_that_is_full_loses_no_answer(mcpchat_command: str) -> None:
    line = f"{mcpchat_command} ask -m demo -v 'What is 6 * 7?' 2>/dev/full"
    done = subprocess.run(["bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, b"calculator.calculate(6 * 7) = 42\n")


@pytest.mark.parametrize(
    "words",
    ["ask x --schema -", "ask x --config -", "call calculator.calculate expression=-", "call calculator.calculate --json -",
     "batch - --schema -", "threads import -", "ask x --attach -"],
)  # fmt: skip
def test_a_dash_where_nothing_is_piped_in_is_told(mcpchat_command: str, words: str) -> None:
    done = subprocess.run(["bash", "-c", f"{mcpchat_command} {words} <&-"], capture_output=True, timeout=50)
    assert done.returncode == 2, done.stderr
    assert b"should not" not in done.stderr


# --- what is written fits its schema ------------------------------------------------------------------------------------


def test_events_and_answers_fit_the_published_schemas(run: Run, fake_openai: FakeOpenAI) -> None:
    def turns() -> list[CannedResponse]:
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        reasoned = CannedResponse([chunk({"reasoning_content": "hm"}), chunk({"content": "done"}, "stop", usage=usage)])
        return [tool_call("box__echo", '{"text": "a"}'), tool_call("box__nosuch", "{"), reasoned]

    events = json.loads(run("schema", "events").stdout)
    answers = json.loads(run("schema", "answer").stdout)
    fake_openai.replies = turns()
    done = run("ask", "x", "-o", "jsonl", "--yes", config=BOX)
    assert done.returncode == 0
    for line in done.stdout.splitlines():
        jsonschema.Draft202012Validator(events).validate(json.loads(line))
    fake_openai.replies = turns()
    done = run("ask", "x", "-o", "json", "--yes", config=BOX)
    answer = json.loads(done.stdout)
    jsonschema.Draft202012Validator(answers).validate(answer)
    assert [call["result"]["is_error"] for call in answer["tools"]] == [False, True]
    assert (answer["answer"], answer["stop"], answer["steps"]) == ("done", "end", 3)
    schema = {"type": "object", "required": ["n"]}
    fake_openai.replies = [text('{"n": 1}')]
    done = run("ask", "x", "-o", "json", "--schema", "-", stdin=json.dumps(schema).encode())
    assert json.loads(done.stdout)["error"]["code"] if done.returncode else json.loads(done.stdout)["value"] == {"n": 1}
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["events", "input", "answer", "batch", "result", "config"])
def test_each_schema_is_one(run: Run, name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(run("schema", name).stdout))


def test_the_stream_only_ever_grew(run: Run) -> None:
    """What version 1 had when it was published is still there: types, fields, and no more that must be given."""
    kept = json.loads((Path(__file__).with_name("events.v1.json")).read_text())
    now = {
        definition["properties"]["type"]["enum"][0]: set(definition["properties"])
        for definition in json.loads(run("schema", "events").stdout)["$defs"].values()
        if "enum" in definition.get("properties", {}).get("type", {})
    }
    for kind, fields in kept.items():
        assert set(fields) <= now[kind], kind


# --- streams ----------------------------------------------------------------------------------------------------------


def test_verbose_explains_and_quiet_is_silent(run: Run, fake_openai: FakeOpenAI) -> None:
    for form in ("text", "json"):
        fake_openai.replies = [tool_call("box__echo", '{"text": "a"}'), text("done")]
        done = run("ask", "-v", "x", "--allow", "box.*", "-o", form, config=BOX)
        told = done.stderr.decode()
        assert "model m, thread " in told
        assert "box.echo: allowed by policy (--allow box.*)" in told
        assert "end after 2 requests" in told
    fake_openai.replies = [tool_call("box__echo", '{"text": "a"}'), text("done")]
    done = run("ask", "-q", "x", "--allow", "box.*", config=BOX)
    assert (done.stdout, done.stderr) == (b"done\n", b"")


def test_input_is_bounded_text_and_a_byte_order_mark_is_none_of_it(run: Run, fake_openai: FakeOpenAI) -> None:
    done = run("ask", "x", stdin=b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100)
    assert (done.returncode, b"--attach -" in done.stderr) == (2, True)
    done = run("ask", "x", stdin=b"a" * 10_000_001)
    assert (done.returncode, b"more than 10,000,000" in done.stderr) == (2, True)
    assert run("ask", stdin="\ufeffhello\r\nthere\r\n".encode()).returncode == 0
    assert fake_openai.requests[-1]["messages"][-1]["content"] == "hello\nthere"


def test_a_dash_is_standard_input_wherever_a_file_is_named(run: Run, fake_openai: FakeOpenAI) -> None:
    assert run("ask", "x", "--attach", "-", stdin=b"a note").returncode == 0
    assert "a note" in str(fake_openai.requests[-1]["messages"])
    config = f'[model]\nname = "n"\nbase_url = "{fake_openai.base_url}"\n'
    assert run("ask", "x", "--config", "-", stdin=config.encode()).returncode == 0
    assert fake_openai.requests[-1]["model"] == "n"


# --- tools, resources and prompts by hand -----------------------------------------------------------------------------


def test_arguments_come_from_words_json_files_and_the_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("of a file")
    (tmp_path / "b.json").write_text('{"k": [1]}')

    def said(*words: str, stdin: bytes = b"") -> Any:
        done = run("call", "files.repeat", *words, config=FILES, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert said("text=a=b", "value:=@b.json", "data=@a.txt") == {
        "text": "a=b", "value": {"k": [1]}, "data": "b2YgYSBmaWxl"
    }  # fmt: skip
    assert said("text=@a.txt", "value:=[1, null]") == {"text": "of a file", "value": [1, None], "data": ""}
    assert said("text=@@a.txt")["text"] == "@a.txt"
    assert said("text=-", stdin=b"piped")["text"] == "piped"
    assert said("--json", "-", stdin=b'{"text": "j"}')["text"] == "j"
    assert said("--json", "@b.json", "text=x")["text"] == "x"
    for words, complaint in [
        (("text=@nowhere",), b"cannot read nowhere"),
        (("value:=nope",), b"not JSON"),
        (("value:=NaN",), b"not JSON"),
        (("text",), b"not KEY=VALUE"),
        (("text=@/dev/full",), b""),
    ]:
        done = run("call", "files.repeat", *words, config=FILES)
        assert (done.returncode, complaint in done.stderr) == (2, True)


def test_what_comes_goes_into_files_as_it_came(run: Run, tmp_path: Path) -> None:
    picture = (SERVERS / "content_types.py").read_bytes()[:0] + b"\x89PNG\r\n\x1a\n\x00\xff"
    done = run("call", "files.picture", "count=1", "-f", "p.png", config=FILES)
    assert (done.returncode, done.stdout) == (0, b"here\n")
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
def test_the_blocks_of_the_scripting_page_run_as_they_stand(tmp_path: Path) -> None:
    page = (DOCS / "scripting.md").read_text()
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    pieces = [f"python3 - <<'ENDOFBLOCK'\n{body}ENDOFBLOCK\n" if kind == "python" else body for kind, body in blocks]
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(pieces)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "calculator.calculate(6 * 7) = 42" in done.stdout
    assert "exit code 2" in done.stdout
    assert (tmp_path / "results.jsonl").read_text().count("\n") == 3
    python = next(body for kind, body in blocks if kind == "python" and "subprocess" in body)
    assert len([line for line in python.splitlines() if line.strip()]) <= 40
