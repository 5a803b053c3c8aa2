"""Third-party model servers: llama.cpp with a model of one megabyte, and a published fake of OpenAI's APIs.

scripts/published.py installs them; no test connects beyond loopback.
"""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import openai_rules
from tests.support.paths import MCPCHAT, NODE, NODE_MODULES, PYTHON_PROGRAMS, ROOT
from tests.support.processes import run_process
from tests.support.published import needs_published

pytestmark = needs_published

SENTENCE = "Tiny engine here: random weights speaking.\n"
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start llama.cpp's server; yield its address, which ends in /v1."""
    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    python, folder = str(PYTHON_PROGRAMS / "python"), ROOT / "tests/support/llama"
    subprocess.run([python, str(folder / "tiny_model.py"), str(model)], check=True, timeout=50)
    process = subprocess.Popen(
        [python, str(folder / "serve.py"), str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    yield f"{process.stdout.readline().strip()}/v1"
    process.stdin.close()
    process.wait(20)
    process.stdout.close()


def ask(config: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    environ = os.environ | {"MCPCHAT_CONFIG": str(config)}
    completed = run_process([MCPCHAT, "ask", *arguments], input=stdin, env=environ)
    assert "Traceback" not in completed.stderr
    return completed.returncode, completed.stdout, completed.stderr


@pytest.fixture
def config(engine: str, tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[model]\nname = "tiny"\nbase_url = "{engine}"\nmax_output_tokens = 200\n'
        '[model.responses]\nname = "tiny"\napi = "responses"\nmax_output_tokens = 200\n'
        '[servers.calculator]\nbuiltin = "calculator"\n'
    )
    return path


APIS = pytest.mark.parametrize("api", [(), ("-m", "responses")], ids=["chat", "responses"])


@APIS
def test_a_real_engine_calls_a_tool_and_answers(config: Path, api: Sequence[str]) -> None:
    code, out, err = ask(config, *api, "--stats", "What is 1234 * 5678?")
    assert (code, out) == (0, SENTENCE)
    assert re.search(
        r'calculator\.calculate .*expression="1234 \* 5678"  \{"expression": "1234 \* 5678", "result": 7006652\}', err
    )
    assert "cached)" in err  # the second request begins with the first


@APIS
def test_a_real_engines_reasoning_is_separate(config: Path, api: Sequence[str]) -> None:
    events = [json.loads(line) for line in ask(config, *api, "-o", "jsonl", "THINK")[1].splitlines()]
    assert "".join(event["text"] for event in events if event["type"] == "reasoning.delta") == "Let me think."
    assert "".join(event["text"] for event in events if event["type"] == "text.delta") == SENTENCE.strip()


@APIS
def test_a_real_engines_refusal_of_images_is_handled(config: Path, api: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, out, err = ask(config, *api, "--attach", str(tmp_path / "a.png"), "THINK")
    assert (code, out) == (0, SENTENCE)
    assert err.startswith("warning: tiny takes no images: sent without")


@APIS
def test_a_real_engines_limits_are_reported(config: Path, api: Sequence[str]) -> None:
    code, out, err = ask(config, *api, "LONG")
    assert (code, out.startswith("round and-round it-goes,")) == (7, True)
    assert "cut at the model's output limit" in err
    code, out, err = ask(config, *api, stdin="many words " * 20_000)
    assert (code, out) == (8, "")
    assert "exceeds the available context size" in err


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_real_engine_fills_its_window(config: Path, engine: str, api: str) -> None:
    with config.open("a") as file:
        file.write(f'[model.unlimited]\nname = "tiny"\nbase_url = "{engine}"\napi = "{api}"\n')
    code, out, err = ask(config, "-m", "unlimited", "-o", "json", "x" * 1000 + "LONG")  # a byte is a token
    answer = json.loads(out)
    assert (code, answer.get("stop")) == (7, "window"), out
    assert "cut where the model's context window was full" in err


def test_a_real_engine_follows_a_schema(config: Path) -> None:
    code, out, err = ask(config, "--schema", json.dumps(NUMBER), "FILL")
    assert code == 0, err
    assert isinstance(json.loads(out)["n"], int)


def test_a_real_engine_lists_its_model(config: Path) -> None:
    environ = os.environ | {"MCPCHAT_CONFIG": str(config)}
    completed = run_process([MCPCHAT, "models", "-o", "json"], env=environ)
    row = next(row for row in json.loads(completed.stdout) if row["window"])
    assert (row["model"].endswith("tiny.gguf"), row["window"]) == (True, 4096)


# --- a published fake of OpenAI -----------------------------------------------------------------------------------

FIXTURES = [
    {"match": {"userMessage": "slow down", "sequenceIndex": 0},
     "response": {"error": {"message": "too fast", "type": "rate_limit_error"}, "status": 429, "retryAfter": 1}},
    {"match": {"userMessage": "slow down"}, "response": {"content": "Better."}},
    {"match": {"userMessage": "cut"}, "response": {"content": "a long answer " * 20}, "truncateAfterChunks": 8},
    {"match": {"userMessage": "6*7", "hasToolResult": True}, "response": {"content": "It is 42."}},
    {"match": {"userMessage": "6*7"},
     "response": {"toolCalls": [{"name": "calculator__calculate", "arguments": {"expression": f"6*{n}"}} for n in (7, 8)]}},
]  # fmt: skip


@pytest.fixture
def published_fake(tmp_path: Path) -> Iterator[str]:
    """Start the published fake; yield its address."""
    (tmp_path / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    command = [
        str(NODE),
        str(NODE_MODULES / "@copilotkit/aimock/dist/cli.js"),
        "-p",
        "0",
        "-f",
        str(tmp_path / "fixtures.json"),
        "--strict",
        "-l",
        "20",  # milliseconds between pieces: text before the cut must have arrived
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    address = ""
    while not address:
        line = process.stdout.readline()
        assert line, "it ended without a word"
        address = next((word for word in line.split() if word.startswith("http://")), "")
    yield address
    process.kill()
    process.wait()
    process.stdout.close()


def read_journal(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{address}/__aimock/journal") as response:
        entries: list[dict[str, Any]] = json.load(response)
    return entries


@APIS
def test_a_published_fake_accepts_the_requests(published_fake: str, tmp_path: Path, api: Sequence[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        f'[model]\nname = "gpt-5.5"\nbase_url = "{published_fake}/v1"\n[model.responses]\nname = "gpt-5.5"\napi = "responses"\n'
    )
    code, out, err = ask(config, *api, "6*7")
    assert (code, out) == (0, "It is 42.\n"), err
    assert err.count("ok: calculator.calculate") == 2
    code, out, err = ask(config, *api, "slow down")
    assert (code, out) == (0, "Better.\n"), err
    assert "too fast; trying again in 1 s" in err
    code, out, err = ask(config, *api, "cut")
    assert (code, out.startswith("a long answer")) == (8, True)
    assert "the answer ends early: connection lost" in err
    entries = read_journal(published_fake)
    assert len(entries) == 5
    for entry in entries:
        if not api:  # for the other API the journal has a translation
            openai_rules.check_request(entry["path"], entry["body"])
