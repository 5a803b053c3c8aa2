"""Models through the installed command: both APIs, limits, schemas, attachments, statistics, prompt prefixes."""

import json
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import openai_rules
from tests.support.command_line import CommandLine, schema_validator, unpack
from tests.support.fake_openai import (
    CannedResponse,
    FakeOpenAI,
    call_item,
    chunk,
    error,
    message_item,
    reasoning_item,
    response,
    text,
    tool_call,
)

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

Run = Callable[..., subprocess.CompletedProcess[Any]]
CALCULATE = ("calculator__calculate", '{"expression": "6*7"}')
USAGE = {"prompt_tokens": 1204, "completion_tokens": 310, "prompt_tokens_details": {"cached_tokens": 980}}
FAR = '[model.far]\nbase_url = "https://models.example.com/v1"\n'
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture
def run(tmp_path: Path, fake_openai: FakeOpenAI) -> Run:
    """Run ``mcpchat`` with the fake API as its model; [model.two] uses the other API."""
    command_line = CommandLine(tmp_path, text=False)

    def run(*arguments: str, stdin: bytes = b"", extra: str = "", model: str = "") -> subprocess.CompletedProcess[Any]:
        config = (
            f'[model]\nname = "m"\nbase_url = "{fake_openai.base_url}"\n{model}\n'
            f'[model.two]\nname = "m2"\nbase_url = "{fake_openai.base_url}"\napi = "responses"\n'
            f'[servers.calculator]\nbuiltin = "calculator"\n{extra}\n'
        )
        return command_line(*arguments, stdin=stdin, config=config)

    return run


def check_requests(double: FakeOpenAI) -> None:
    for path, body in zip(double.paths, double.requests, strict=True):
        openai_rules.check_request(path, body)


def test_both_apis_call_a_tool_and_answer(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call(*CALCULATE), text("It is ", "42.")]
    assert unpack(run("ask", "6*7?"))[:2] == (0, "It is 42.\n")
    items = [reasoning_item(), call_item(*CALCULATE)]
    fake_openai.replies = [CannedResponse(response(*items)), CannedResponse(response(message_item("It is 42.")))]
    assert unpack(run("ask", "-m", "two", "6*7?"))[:2] == (0, "It is 42.\n")
    assert fake_openai.paths == ["/v1/chat/completions"] * 2 + ["/v1/responses"] * 2
    check_requests(fake_openai)
    assert fake_openai.requests[3]["input"][1:3] == items
    assert json.loads(fake_openai.requests[3]["input"][3]["output"])["result"] == 42


def test_a_retry_is_reported_once_on_stderr(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [error(429, "slow down", **{"Retry-After": "1"}), text("Hello.")]
    code, out, err = unpack(run("ask", "hi"))
    assert (code, out) == (0, "Hello.\n")
    assert err == "warning: the model's server answered 429: slow down; trying again in 1 s\n"


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (401, None, "check the key"),
        (429, "insufficient_quota", "billing"),
        (404, "model_not_found", "check the model's name"),
    ],
)
def test_permanent_errors_fail_at_once_with_a_hint(
    run: Run, fake_openai: FakeOpenAI, status: int, code: str | None, hint: str
) -> None:
    fake_openai.replies = [error(status, "no", code)]
    exit_code, out, err = unpack(run("ask", "hi"))
    assert (exit_code, out, len(fake_openai.requests)) == (8, "", 1)
    assert hint in err


def test_a_lost_connection_keeps_the_partial_text(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Half of it"})])]
    code, out, err = unpack(run("ask", "hi"))
    assert (code, out) == (8, "Half of it\n")
    assert "the answer ends early: connection lost" in err
    assert len(fake_openai.requests) == 1


def test_each_limit_is_named_and_has_its_exit_code(run: Run, fake_openai: FakeOpenAI) -> None:
    calls = [CannedResponse([*tool_call("calculator__calculate", json.dumps({"expression": f"{n}*7"})).chunks[:-1],
                    chunk({}, "tool_calls", usage=USAGE)]) for n in range(9)]  # fmt: skip
    fake_openai.replies = [*calls[:2], text("so far")]
    code, out, err = unpack(run("ask", "--max-steps", "2", "x"))
    assert (code, out) == (7, "so far\n")
    assert "the limit of tool rounds is reached" in err
    assert fake_openai.requests[-1]["tool_choice"] == "none"
    fake_openai.replies = list(calls)
    code, out, err = unpack(run("ask", "--max-tokens", "2000", "x"))
    assert (code, out) == (7, "")
    assert "3,028 tokens were used" in err
    fake_openai.replies = list(calls)
    code, _, err = unpack(run("ask", "--max-cost", "0.01", "x", model="price = { input = 5, output = 10 }"))
    assert code == 7
    assert "$0.0182 was spent" in err
    fake_openai.replies = [text("free")]
    assert unpack(run("ask", "--max-cost", "0.01", "x"))[:2] == (0, "free\n")  # on this machine: no price is needed
    code, _, err = unpack(run("ask", "--max-cost", "0.01", "-m", "far", "x", extra=FAR))
    assert code == 2
    assert "the price of far is not known" in err
    fake_openai.replies = [calls[0]]
    code, _, err = unpack(run("ask", "x"))
    assert code == 7
    assert "repeated the same call" in err


def test_statistics_go_to_stderr_and_into_the_json(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Hi."}, "stop", usage=USAGE)])]
    price = "price = { input = 1, cached = 0.1, output = 10 }"
    code, out, err = unpack(run("ask", "--stats", "hi", model=price))
    assert (code, out) == (0, "Hi.\n")
    assert err.startswith("  1,204 in (980 cached) · 310 out · $0.0034 · ")
    document = json.loads(unpack(run("ask", "-o", "json", "hi", model=price))[1])
    assert document["cost"] == pytest.approx(0.003422)
    assert document["usage"]["cached"] == 980
    assert json.loads(unpack(run("ask", "-o", "json", "hi"))[1])["cost"] == 0


def test_with_a_schema_stdout_is_only_the_json(run: Run, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "number.json").write_text(json.dumps(NUMBER))
    fake_openai.replies = [tool_call(*CALCULATE), text("It is 42."), text('```json\n{"n": 42}\n```')]
    code, out, err = unpack(run("ask", "--schema", str(tmp_path / "number.json"), "6*7?"))
    assert (code, out) == (0, '{"n": 42}\n')
    assert "asking once more" in err
    first_request, *_, last_request = fake_openai.requests
    assert first_request["response_format"]["json_schema"]["schema"] == NUMBER
    assert "valid by this JSON Schema" in first_request["messages"][0]["content"]
    assert last_request["messages"][-1]["content"].startswith("Your answer does not fit")
    fake_openai.replies = [text('{"n": 42}')]
    document = json.loads(unpack(run("ask", "-o", "json", "--schema", json.dumps(NUMBER), "x"))[1])
    assert (document["answer"], document["value"]) == ('{"n": 42}', {"n": 42})
    fake_openai.replies = [text("never")]
    code, out, err = unpack(run("ask", "--schema", json.dumps(NUMBER), "x"))
    assert (code, out) == (8, "")
    assert "does not fit the schema" in err


@pytest.mark.parametrize(
    ("schema", "expected_text"),
    [
        ("{oops", "not JSON"),
        ('{"type": "nonsense"}', "not a valid JSON Schema"),
        ("/no/such.json", "cannot read"),
        ("{} ", ""),
    ],
)
def test_an_invalid_schema_is_reported_before_any_request(
    run: Run, fake_openai: FakeOpenAI, schema: str, expected_text: str
) -> None:
    fake_openai.replies = [text("1")]
    code, _, err = unpack(run("ask", "--schema", schema, "x"))
    assert (code, bool(fake_openai.requests)) == ((2, False) if expected_text else (0, True))
    assert expected_text in err


def test_attachments_are_sent_in_the_apis_format(run: Run, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7")
    files = ("--attach", str(tmp_path / "a.png"), "--attach", str(tmp_path / "b.pdf"), "--attach", "-")
    assert unpack(run("ask", *files, "what is it?", stdin=b"piped text"))[0] == 0
    part_types = [part["type"] for part in fake_openai.requests[0]["messages"][-1]["content"]]
    assert part_types == ["text", "text", "image_url", "text", "file", "text"]
    assert fake_openai.requests[0]["messages"][-1]["content"][-1]["text"] == "\n\n[standard input]\npiped text"
    fake_openai.replies = [CannedResponse(response(message_item("ok")))]
    assert unpack(run("ask", "-m", "two", *files, "what is it?", stdin=b"\x89PNG\r\n\x1a\n"))[0] == 0
    part_types = [part["type"] for part in fake_openai.requests[1]["input"][-1]["content"]]
    assert part_types == [
        "input_text",
        "input_text",
        "input_image",
        "input_text",
        "input_file",
        "input_text",
        "input_image",
    ]
    code, _, err = unpack(run("ask", "--attach", str(tmp_path / "none"), "x"))
    assert (code, "none: No such file" in err) == (2, True)


def test_images_are_dropped_with_a_notice_if_unsupported(run: Run, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    fake_openai.replies = [error(500, "image input is not supported"), text("ok")]
    code, out, err = unpack(run("ask", "--attach", str(tmp_path / "a.png"), "x"))
    assert (code, out) == (0, "ok\n")
    assert err.startswith("warning: m takes no images: sent without")


def test_models_are_listed(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.models = [{"id": "small", "context_length": 8192}]
    code, out, _ = unpack(run("models"))
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["m", "-"],
        ["two", "-"],
        ["small", "8,192"],
        ["demo", "-"],
    ]
    rows = json.loads(unpack(run("models", "two", "-o", "json"))[1])
    assert rows == [{"model": "small@two", "at": fake_openai.base_url, "window": 8192, "note": ""}]


def test_a_context_overflow_is_compacted_and_retried(run: Run, fake_openai: FakeOpenAI) -> None:
    context_error = error(400, "This model's maximum context length is 2000 tokens.", "context_length_exceeded")
    second_call = tool_call("calculator__calculate", '{"expression": "42+0"}', "c2")
    fake_openai.replies = [tool_call(*CALCULATE), second_call, context_error, text("6*7 is 42"), text("It is 42.")]
    code, out, err = unpack(run("ask", "6*7?"))
    assert (code, out) == (0, "It is 42.\n"), err
    assert "the conversation was summarized" in err
    check_requests(fake_openai)


def prefix_share(earlier: bytes, later: bytes) -> float:
    """Return the share of the earlier request, without closing brackets, that the later one begins with."""
    compared = earlier.rstrip(b"]}")
    same = next(
        (index for index, pair in enumerate(zip(compared, later, strict=False)) if pair[0] != pair[1]), len(compared)
    )
    return same / len(compared)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_each_request_of_a_turn_begins_with_the_previous(run: Run, fake_openai: FakeOpenAI, api: str) -> None:
    calls = [("calculator__calculate", json.dumps({"expression": f"{n}*7"}), f"c{n}") for n in range(9)]
    if api == "chat":
        fake_openai.replies = [*(tool_call(*call) for call in calls), text("done")]
    else:
        steps = (response(reasoning_item(f"rs_{n}"), call_item(*call)) for n, call in enumerate(calls))
        fake_openai.replies = [
            *(CannedResponse(step) for step in steps),
            CannedResponse(response(message_item("done"))),
        ]
    assert unpack(run("ask", *(("-m", "two") if api == "responses" else ()), "go"))[0] == 0
    assert len(fake_openai.bodies) == 10
    check_requests(fake_openai)
    bodies = fake_openai.bodies
    assert [prefix_share(earlier, later) for earlier, later in pairwise(bodies)] == [1.0] * 9


def test_warnings_go_to_stderr_in_every_output_format(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [error(429, "slow down", **{"Retry-After": "1"}), text("Hello.")]
    code, out, err = unpack(run("ask", "-o", "json", "hi"))
    assert (code, json.loads(out)["answer"]) == (0, "Hello.")
    assert "slow down; trying again in 1 s" in err


def test_a_cost_limit_of_zero_allows_no_request(run: Run, fake_openai: FakeOpenAI) -> None:
    code, _, err = unpack(run("ask", "--max-cost", "0", "x", model="price = { input = 1, output = 1 }"))
    assert (code, len(fake_openai.requests)) == (7, 0)
    assert "$0.0000 was spent" in err


def test_a_redirect_to_another_server_is_not_followed(run: Run, fake_openai: FakeOpenAI) -> None:
    with FakeOpenAI() as other_server:
        fake_openai.replies = [CannedResponse([b""], 307, {"Location": f"{other_server.base_url}/chat/completions"})]
        code, _, err = unpack(run("ask", "hi"))
        assert (code, other_server.requests) == (8, [])
    assert "redirects to" in err


def test_a_partial_answer_is_in_the_json(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Half of it"})])]
    code, out, _ = unpack(run("ask", "-o", "json", "hi"))
    document = json.loads(out)
    assert (code, document["answer"], document["error"]["class"]) == (8, "Half of it", "broken_stream")


def test_models_json_is_one_document_if_the_server_is_down(run: Run, fake_openai: FakeOpenAI) -> None:
    completed = run("models", "-o", "json", "--config", "/dev/null")
    assert [row["model"] for row in json.loads(completed.stdout)] == ["demo"]
    assert completed.returncode == 2


def test_the_demo_reports_unsupported_images(run: Run, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, out, err = unpack(run("ask", "-m", "demo", "--attach", str(tmp_path / "a.png"), "2+2"))
    assert (code, out) == (0, "calculator.calculate(2+2) = 4\n")
    assert "the demo takes no images and files" in err


SMALL = {"id": "m", "meta": {"n_ctx": 2048}}


def test_an_answer_that_fills_the_window_says_so(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.models = [SMALL]
    usage = {"prompt_tokens": 1000, "completion_tokens": 1048}
    for finish in ("length", "stop"):
        fake_openai.replies = [CannedResponse([chunk({"content": "3.14"}), chunk({}, finish, usage=usage)])]
        code, out, err = unpack(run("ask", "Pi?"))
        assert (code, out) == (7, "3.14\n")
        assert "the answer was cut where the model's context window was full" in err
        assert "max_output_tokens" not in err
    item = message_item("3.14")
    reply = response(item, usage={"input_tokens": 1000, "output_tokens": 1048})
    fake_openai.replies = [CannedResponse(reply)]  # as complete, as llama.cpp reports it
    code, out, err = unpack(run("ask", "Pi?", model='api = "responses"'))
    assert (code, out) == (7, "3.14\n")


def test_an_answer_without_text_is_a_warning(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("\n")]
    code, out, err = unpack(run("ask", "hi"))
    assert (code, out.strip()) == (0, "")
    assert err == "warning: the model answered with nothing\n"


def test_the_only_model_of_a_server_needs_no_name(tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    command_line = CommandLine(tmp_path, text=False)
    config = f'[model]\nbase_url = "{fake_openai.base_url}"\n'
    fake_openai.models = ["tiny"]
    assert unpack(command_line("ask", "hi", config=config))[:2] == (0, "Hello.\n")
    assert fake_openai.requests[0]["model"] == "tiny"
    fake_openai.models = ["tiny", "huge"]
    code, _, err = unpack(command_line("ask", "hi", config=config))
    assert code == 2
    assert "huge, tiny" in err


OPTIONAL = {"type": "object", "properties": {"n": {"type": "integer"}, "note": {"type": "string"}}, "required": ["n"]}


@pytest.mark.parametrize("model", ["m", "two"])
def test_a_schema_that_cannot_be_strict_is_sent_nevertheless(run: Run, fake_openai: FakeOpenAI, model: str) -> None:
    answer = CannedResponse(response(message_item('{"n": 1}'))) if model == "two" else text('{"n": 1}')
    fake_openai.replies = [answer]
    assert unpack(run("ask", "-m", model, "--schema", json.dumps(OPTIONAL), "x"))[:2] == (0, '{"n": 1}\n')
    request = fake_openai.requests[0]
    sent = request["text"]["format"] if model == "two" else request["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]) == (False, OPTIONAL)


def test_what_nothing_keeps_has_no_thread_id(run: Run, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("Hi.")]
    kept, unkept = (json.loads(unpack(run("ask", "-o", "json", *more, "hi"))[1]) for more in ((), ("--no-save",)))
    assert (bool(kept["thread_id"]), unkept["thread_id"]) == (True, "")
    (line,) = unpack(run("batch", "-", stdin=b'"hi"\n'))[1].splitlines()
    assert json.loads(line)["thread_id"] == ""


def test_published_schemas_accept_what_is_read_and_written(run: Run) -> None:
    batch = schema_validator("batch")
    for line in ("What is 1 + 1?", {"prompt": "hi"}, {"messages": [{"role": "user", "content": "hi"}], "id": 3}):
        batch.validate(line)
    assert [batch.is_valid(line) for line in ("", 3, {"promt": "hi"}, ["hi"])] == [False] * 4
    code, out, _ = unpack(run("ask", "--model", "demo", "--deny", "calculator.*", "-o", "json", "What is 2+2?"))
    assert (code, json.loads(out)["error"]["class"]) == (6, "denied")
    schema_validator("answer").validate(json.loads(out))
    assert not schema_validator("answer").is_valid(json.loads(out)["error"])  # an error alone has a version
