"""Tests of batch: many requests to a model server over real HTTP, with crashes, signals and failures."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcpchat.batch import types
from mcpchat.errors import UsageError
from tests.support.batches import parse_rows, write_requests
from tests.support.command_line import run_mcpchat
from tests.support.fake_batch_api import FakeBatchApi
from tests.support.paths import QUIRKY

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_batch(batch_environ: dict[str, str], tmp_path: Path) -> Run:
    def run_batch(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        result = run_mcpchat("batch", *args, stdin=stdin, env=batch_environ, cwd=tmp_path, text=True)
        assert "Traceback" not in result.stderr
        return result

    return run_batch


def test_each_request_has_one_result_despite_failures(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    fake_batch_api.failing = {"say 3"}
    fake_batch_api.status = 400
    lines = (
        write_requests(tmp_path, 4).read_text() + 'nope\n\n"a string"\n{"id":"r1","prompt":"again"}\n{"prompt":""}\n'
    )
    result = run_batch("-", stdin=lines)
    results = {row["id"]: row for row in parse_rows(result.stdout)}
    assert result.returncode == 1
    assert {name for name, row in results.items() if "error" not in row} == {"r1", "r2", "r4", "7"}
    assert results["7"]["answer"] == "You said: a string"
    assert results["r1"] | {"answer": "You said: say 1", "line": 1, "stop": "end", "steps": 1} == results["r1"]
    assert results["r1"]["usage"]["input"] == 10
    assert {name: results[name]["error"]["class"] for name in ("r3", "5", "8", "9")} == {
        "r3": "bad_request", "5": "usage", "8": "usage", "9": "usage"
    }  # fmt: skip
    assert "4 done, 4 failed (usage 3, bad_request 1)" in result.stderr


def test_a_request_has_its_messages_schema_agent_and_model(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(
        "[servers.calculator]\nbuiltin = 'calculator'\nenabled = false\n[agents.brief]\ninstructions = 'Be brief.'\n"
    )
    (tmp_path / "note.txt").write_text("a note")
    bodies: list[dict[str, Any]] = []
    fake_batch_api.answer_text = lambda body: bodies.append(body) or '{"n": 1}'  # type: ignore[method-assign,func-returns-value]
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
    ]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    lines = [
        {
            "messages": [*messages, {"role": "user", "content": [{"type": "text", "text": "3"}]}],
            "agent": "brief",
            "id": 7,
        },
        {"prompt": "p", "model": "other", "schema": schema, "attach": ["note.txt"]},
        {"prompt": "p", "schema": {**schema, "required": ["m"]}},
        {"prompt": "p", "agent": "nobody"},
        {"messages": messages},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x.test/a"}}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,é"}}]}
            ]
        },
        {"messages": [{"role": "user", "content": []}]},
        {"prompt": " ", "messages": [{"role": "user", "content": "m"}]},
    ]
    result = run_batch("-", "--ordered", stdin="".join(json.dumps(line) + "\n" for line in lines))
    first, second, third, *rest = parse_rows(result.stdout)
    assert (first["id"], second["value"], second["model"]) == ("7", {"n": 1}, "other")
    assert (third["error"]["class"], third["steps"]) == ("schema", 2)
    assert [row["error"]["class"] for row in rest if "error" in row] == ["usage"] * 5
    assert [row["line"] for row in parse_rows(result.stdout)] == list(range(1, 10))
    assert any(body["messages"][-1]["content"] == "m" for body in bodies)
    conversations = [body["messages"] for body in bodies if len(body["messages"]) > 1]  # they come in any order
    sent = next(messages for messages in conversations if messages[1]["content"] == "1")
    assert [(message["role"], message["content"]) for message in sent] == [
        ("system", "Be brief.\n\nS"), ("user", "1"), ("assistant", "2"), ("user", "3")
    ]  # fmt: skip
    assert any("a note" in str(body["messages"]) and body["model"] == "other" for body in bodies)


def test_concurrency_is_limited(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.pause = 0.02
    result = run_batch(str(write_requests(tmp_path, 60)), "-j", "5")
    assert (result.returncode, len(parse_rows(result.stdout))) == (0, 60)
    assert 1 < fake_batch_api.max_active <= 5


def test_transient_failures_are_retried(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.fail_first = 2
    result = run_batch(str(write_requests(tmp_path, 3)), "--ordered")
    assert [row["answer"] for row in parse_rows(result.stdout)] == [f"You said: say {n}" for n in (1, 2, 3)]
    assert set(fake_batch_api.request_counts.values()) == {3}


def test_a_permanent_error_stops_it(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.failing = {f"say {n}" for n in range(100)}
    fake_batch_api.status = 401
    result = run_batch(str(write_requests(tmp_path, 50)), "-f", "out.jsonl")
    assert result.returncode == 8
    assert (tmp_path / "out.jsonl").read_text() == ""
    assert sum(fake_batch_api.request_counts.values()) <= 10
    assert "--resume goes on" in result.stderr
    fake_batch_api.failing = set()
    assert run_batch(str(write_requests(tmp_path, 50)), "-f", "out.jsonl", "--resume").returncode == 0
    assert len(parse_rows((tmp_path / "out.jsonl").read_text())) == 50


def test_a_budget_is_per_run_and_resume_continues(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = str(write_requests(tmp_path, 20))
    result = run_batch(source, "-f", "out.jsonl", "-j", "1", "--max-tokens", "60")
    assert result.returncode == 7
    first = parse_rows((tmp_path / "out.jsonl").read_text())
    assert len(first) == 5  # 12 tokens each
    assert "error" not in str(first)
    assert run_batch(source, "-f", "out.jsonl", "--resume").returncode == 0
    assert len(parse_rows((tmp_path / "out.jsonl").read_text())) == 20
    assert set(fake_batch_api.answer_counts.values()) == {1}


def test_failed_requests_run_again_on_demand(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = str(write_requests(tmp_path, 6))
    fake_batch_api.failing, fake_batch_api.status = {"say 2", "say 5"}, 400
    assert run_batch(source, "-f", "out.jsonl").returncode == 1
    fake_batch_api.failing = set()
    assert run_batch(source, "-f", "out.jsonl").returncode == 2  # the file exists already
    assert run_batch(source, "-f", "out.jsonl", "--resume").returncode == 0
    assert sum("error" in row for row in parse_rows((tmp_path / "out.jsonl").read_text())) == 2
    assert run_batch(source, "-f", "out.jsonl", "--resume", "--retry-failed", "--ordered").returncode == 0
    assert [row["line"] for row in parse_rows((tmp_path / "out.jsonl").read_text())] == [1, 2, 3, 4, 5, 6]
    results = parse_rows((tmp_path / "out.jsonl").read_text())
    assert sorted(row["id"] for row in results) == [f"r{n}" for n in range(1, 7)]
    assert not any("error" in row for row in results)
    assert set(fake_batch_api.answer_counts.values()) == {1}
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600


def test_shards_are_disjoint_and_complete(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = str(write_requests(tmp_path, 10))
    parts = [{row["id"] for row in parse_rows(run_batch(source, "--shard", f"{k}/3").stdout)} for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert len(set.union(*parts)) == 10
    assert run_batch(source, "--shard", "4/3").returncode == 2


def test_a_truncated_line_is_removed_and_other_files_are_left_unchanged(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    source, out = str(write_requests(tmp_path, 3)), tmp_path / "out.jsonl"
    assert run_batch(source, "-f", "out.jsonl").returncode == 0
    content = out.read_bytes()
    out.write_bytes(content[:-20])
    assert run_batch(source, "-f", "out.jsonl", "--resume").returncode == 0
    assert sorted(row["id"] for row in parse_rows(out.read_text())) == ["r1", "r2", "r3"]
    out.write_text("precious\nthings\n")
    assert run_batch(source, "-f", "out.jsonl", "--resume").returncode == 2
    assert out.read_text() == "precious\nthings\n"
    assert run_batch(source, "-f", "in.jsonl", "--resume").returncode == 2


def test_another_line_is_not_a_truncated_line(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source, notes = str(write_requests(tmp_path, 2)), tmp_path / "notes.json"
    for text in ('{"precious": 1}\n', '{"precious": 1}'):
        notes.write_text(text)
        assert run_batch(source, "-f", "notes.json", "--resume").returncode == 2
        assert run_batch(source, "-f", "notes.json", "--no-tools", "--provider-batch", "run").returncode == 2
        assert notes.read_text() == text


def test_an_error_of_one_lines_model_fails_that_line(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    models = '[model.other]\nname = "x"\nbase_url = "http://127.0.0.1:9/v1"\n[model.far]\napi_key = "env:NOT_THERE"\n'
    (tmp_path / "c.toml").write_text((tmp_path / "c.toml").read_text() + models)
    lines = [{"prompt": "1", "model": "far"}, {"prompt": "2", "model": "other"}, {"prompt": "3", "model": "plain"}]
    lines += [{"prompt": "4"}, {"prompt": "5", "attach": ["-"]}]
    result = run_batch(
        "-", "--ordered", "-j", "1", "--retries", "0", stdin="".join(json.dumps(line) + "\n" for line in lines)
    )
    classes = [row["error"]["class"] if "error" in row else "" for row in parse_rows(result.stdout)]
    assert classes == ["config", "network", "", "", "usage"]  # "plain" goes to the run's endpoint


def test_ids_and_line_numbers_are_distinct(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        '\ufeff{"id":"3","prompt":"a"}\nnonsense\n{"prompt":"b"}\n{"id":"named","prompt":1}\n{"id":4,"prompt":"c"}\n'
    )
    for _ in range(2):
        run_batch(str(source), "-f", "out.jsonl", "--resume")
        results = sorted(
            (row["line"], row["id"], row.get("error", {}).get("class"))
            for row in parse_rows((tmp_path / "out.jsonl").read_text())
        )
        assert results == [(1, "3", None), (2, "2", "usage"), (3, "3", None), (4, "named", "usage"), (5, "4", None)]
    assert set(fake_batch_api.answer_counts.values()) == {1}


def test_results_can_go_to_a_named_pipe(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    assert run_batch(str(write_requests(tmp_path, 3)), "-f", "pipe").returncode == 0
    assert len(parse_rows(reader.communicate(timeout=20)[0])) == 3
    assert run_batch(str(write_requests(tmp_path, 3)), "-f", "pipe", "--resume").returncode == 2
    assert len(parse_rows(run_batch(str(write_requests(tmp_path, 3)), "-f", "-").stdout)) == 3


def test_a_budget_reached_after_a_call_leaves_a_result(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("[servers.calculator]\nbuiltin = 'calculator'\n")
    fake_batch_api.calls = {"say 1": ("calculator__calculate", '{"expression": "1+1"}')}
    result = run_batch(str(write_requests(tmp_path, 3)), "-f", "out.jsonl", "-j", "1", "--max-tokens", "5")
    (row,) = parse_rows((tmp_path / "out.jsonl").read_text())
    assert (result.returncode, row["error"]["class"], len(row["tools"])) == (7, "limit", 1)
    fake_batch_api.calls = {}
    assert run_batch(str(write_requests(tmp_path, 3)), "-f", "out.jsonl", "--resume").returncode == 0
    assert fake_batch_api.answer_counts["say 1"] == 1  # it is not requested again


def test_all_requests_share_one_server_process(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    script = f"echo x >> {starts}; exec {sys.executable} {QUIRKY}"
    (tmp_path / "c.toml").write_text(
        f'[servers.box]\ncommand = "sh"\nargs = ["-c", "{script}"]\n[agents.a]\n[agents.b]\nservers = ["box"]\n'
    )
    tool_names: list[list[str]] = []
    fake_batch_api.answer_text = lambda body: (
        tool_names.append([tool["function"]["name"] for tool in body.get("tools", [])]) or "x"
    )  # type: ignore[method-assign,func-returns-value]
    lines = [json.dumps({"prompt": f"p{n}", "agent": "ab"[n % 2]}) for n in range(12)]
    assert run_batch("-", stdin="\n".join(lines)).returncode == 0
    assert starts.read_text() == "x\n"
    assert len(tool_names) == 12
    assert all("box__echo" in names for names in tool_names)
    tool_names.clear()
    assert run_batch("-", "--no-tools", stdin="\n".join(lines)).returncode == 0
    assert tool_names == [[]] * 12


# --- provider batches -------------------------------------------------------------------------------------------


def test_provider_batch_runs(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = write_requests(tmp_path, 5)
    source.write_text(source.read_text() + "nope\n" + '{"prompt":"last","model":"other"}\n')
    fake_batch_api.failing = {"say 2"}
    args = [str(source), "-f", "out.jsonl", "--no-tools", "--poll", "0.05"]
    result = run_batch(*args, "--provider-batch", "run")
    results = {row["id"]: row for row in parse_rows((tmp_path / "out.jsonl").read_text())}
    assert result.returncode == 1
    assert results["r1"]["answer"] == "You said: say 1"
    assert {name for name, row in results.items() if "error" in row} == {"r2", "6"}
    assert "too late" in results["r2"]["error"]["message"]
    assert (results["7"]["model"], results["7"]["usage"]["output"]) == ("other", 2)
    assert len(fake_batch_api.batches) == 2  # one per model
    assert not (tmp_path / "out.jsonl.batch").exists()


def test_steps_can_be_separate_processes_and_nothing_is_sent_twice(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    args = [str(write_requests(tmp_path, 3)), "-f", "out.jsonl", "--no-tools", "--poll", "0.05", "--provider-batch"]
    fake_batch_api.polls_needed = 3
    assert run_batch(*args, "wait").returncode == 2
    assert run_batch(*args, "submit").returncode == 0
    assert run_batch(*args, "submit").returncode == 2
    assert run_batch(*args, "fetch").returncode == 7
    state = json.loads((tmp_path / "out.jsonl.batch").read_text())
    state["sent"][0]["batch"] = ""  # as if the process had died before the answer
    (tmp_path / "out.jsonl.batch").write_text(json.dumps(state))
    assert run_batch(*args, "wait").returncode == 0
    assert run_batch(*args, "fetch").returncode == 0
    assert len(fake_batch_api.batches) == 1
    assert [row["id"] for row in parse_rows((tmp_path / "out.jsonl").read_text())] == ["r1", "r2", "r3"]


def test_answers_match_their_requests_or_the_state_stays(
    run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    source = write_requests(tmp_path, 4)
    args = [str(source), "-f", "out.jsonl", "--no-tools", "--poll", "0.05", "--provider-batch"]
    assert run_batch(*args, "submit", "--shard", "1/2").returncode == 0
    text = source.read_text()
    for wrong, shard in ((text, "2/2"), ('{"id":"new","prompt":"p"}\n' + text, "1/2")):
        source.write_text(wrong)
        fake_batch_api.polls = 9
        result = run_batch(*args, "fetch", "--shard", shard)
        assert (result.returncode, "belong to no request" in result.stderr) == (2, True)
        assert (tmp_path / "out.jsonl").read_text() == ""
    source.write_text(text)
    assert run_batch(*args, "fetch", "--shard", "1/2").returncode == 0
    answers = [(row["id"], row["answer"]) for row in parse_rows((tmp_path / "out.jsonl").read_text())]
    assert answers == [("r1", "You said: say 1"), ("r3", "You said: say 3")]


def test_waiting_survives_failing_polls(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.failing_polls = 2
    result = run_batch(
        str(write_requests(tmp_path, 1)), "-f", "out.jsonl", "--no-tools", "--poll", "0.05", "--provider-batch", "run"
    )
    assert (result.returncode, result.stderr.count("trying again")) == (0, 2)


def test_a_provider_batch_rejects_tools_and_stdin(run_batch: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    result = run_batch(str(write_requests(tmp_path, 2)), "-f", "out.jsonl", "--provider-batch", "submit")
    assert result.returncode == 2
    assert "--no-tools" in result.stderr
    assert not fake_batch_api.files
    assert (tmp_path / "out.jsonl").read_text() == ""  # so the corrected command starts from an empty file
    result = run_batch(
        str(write_requests(tmp_path, 2)), "-f", "out.jsonl", "--no-tools", "--provider-batch", "run", "--max-cost", "1"
    )
    assert (result.returncode, "--max-cost does not go" in result.stderr) == (2, True)
    assert run_batch("-", "-f", "x.jsonl", "--provider-batch", "run").returncode == 2


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0/2", "3/2", "x", "1", "1/0", "-1/2", "١/2"])
def test_invalid_shards_fail(text: str) -> None:
    with pytest.raises(UsageError):
        types.parse_shard(text)
