"""batch: many requests against a model server over real HTTP, through crashes, signals and failures."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcpchat.batch import types
from mcpchat.errors import UsageError
from tests.command_line import run_mcpchat
from tests.fake_batch_api import FakeBatchApi

ODD = str(Path(__file__).with_name("servers") / "quirky.py")
VALID = jsonschema.Draft202012Validator(types.result_schema())
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fake_batch_api() -> Iterator[FakeBatchApi]:
    with FakeBatchApi() as fake_batch_api:
        yield fake_batch_api


@pytest.fixture
def environ(fake_batch_api: FakeBatchApi, tmp_path: Path) -> dict[str, str]:
    """Without a server, so that a process takes no longer than it must."""
    (tmp_path / "c.toml").write_text("[servers.calculator]\nbuiltin = 'calculator'\nenabled = false\n")
    named = {
        "OPENAI_BASE_URL": fake_batch_api.base_url,
        "MCPCHAT_MODEL": "m",
        "MCPCHAT_CONFIG": str(tmp_path / "c.toml"),
    }
    return {**os.environ, **named}


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Run:
    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = run_mcpchat("batch", *words, stdin=stdin, env=environ, cwd=tmp_path, text=True)
        assert "Traceback" not in done.stderr
        return done

    return run


def requests(folder: Path, count: int) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{n}", "prompt": f"say {n}"}) + "\n" for n in range(1, count + 1)))
    return path


def rows(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for row in found:
        VALID.validate(row)
    return found


def test_each_request_has_one_result_and_failures_stop_nothing(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    fake_batch_api.failing = {"say 3"}
    fake_batch_api.status = 400
    lines = requests(tmp_path, 4).read_text() + 'nope\n\n"a string"\n{"id":"r1","prompt":"again"}\n{"prompt":""}\n'
    done = run("-", stdin=lines)
    found = {row["id"]: row for row in rows(done.stdout)}
    assert done.returncode == 1
    assert {name for name, row in found.items() if "error" not in row} == {"r1", "r2", "r4", "7"}
    assert found["7"]["answer"] == "You said: a string"
    assert found["r1"] | {"answer": "You said: say 1", "line": 1, "stop": "end", "steps": 1} == found["r1"]
    assert found["r1"]["usage"]["input"] == 10
    assert {name: found[name]["error"]["class"] for name in ("r3", "5", "8", "9")} == {
        "r3": "bad_request", "5": "usage", "8": "usage", "9": "usage"
    }  # fmt: skip
    assert "4 done, 4 failed (usage 3, bad_request 1)" in done.stderr


def test_messages_schema_agent_and_model_are_the_requests_own(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(
        "[servers.calculator]\nbuiltin = 'calculator'\nenabled = false\n[agents.brief]\ninstructions = 'Be brief.'\n"
    )
    (tmp_path / "note.txt").write_text("a note")
    heard: list[dict[str, Any]] = []
    fake_batch_api.answer_text = lambda body: heard.append(body) or '{"n": 1}'  # type: ignore[method-assign,func-returns-value]
    said = [{"role": "system", "content": "S"}, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    lines = [
        {"messages": [*said, {"role": "user", "content": [{"type": "text", "text": "3"}]}], "agent": "brief", "id": 7},
        {"prompt": "p", "model": "other", "schema": schema, "attach": ["note.txt"]},
        {"prompt": "p", "schema": {**schema, "required": ["m"]}},
        {"prompt": "p", "agent": "nobody"},
        {"messages": said},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x.test/a"}}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,é"}}]}
            ]
        },
        {"messages": [{"role": "user", "content": []}]},
        {"prompt": " ", "messages": [{"role": "user", "content": "m"}]},
    ]
    done = run("-", "--ordered", stdin="".join(json.dumps(line) + "\n" for line in lines))
    first, second, third, *rest = rows(done.stdout)
    assert (first["id"], second["value"], second["model"]) == ("7", {"n": 1}, "other")
    assert (third["error"]["class"], third["steps"]) == ("schema", 2)
    assert [row["error"]["class"] for row in rest if "error" in row] == ["usage"] * 5
    assert [row["line"] for row in rows(done.stdout)] == list(range(1, 10))
    assert any(body["messages"][-1]["content"] == "m" for body in heard)
    sent = next(body["messages"] for body in heard if len(body["messages"]) == 4)
    assert [(one["role"], one["content"]) for one in sent] == [
        ("system", "Be brief.\n\nS"), ("user", "1"), ("assistant", "2"), ("user", "3")
    ]  # fmt: skip
    assert any("a note" in str(body["messages"]) and body["model"] == "other" for body in heard)


def test_so_many_at_a_time_and_no_more(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.pause = 0.02
    done = run(str(requests(tmp_path, 60)), "-j", "5")
    assert (done.returncode, len(rows(done.stdout))) == (0, 60)
    assert 1 < fake_batch_api.max_active <= 5


def test_what_fails_in_passing_is_tried_again(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.fail_first = 2
    done = run(str(requests(tmp_path, 3)), "--ordered")
    assert [row["answer"] for row in rows(done.stdout)] == [f"You said: say {n}" for n in (1, 2, 3)]
    assert set(fake_batch_api.request_counts.values()) == {3}


def test_what_would_fail_for_all_stops_it(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.failing = {f"say {n}" for n in range(100)}
    fake_batch_api.status = 401
    done = run(str(requests(tmp_path, 50)), "-f", "out.jsonl")
    assert done.returncode == 8
    assert (tmp_path / "out.jsonl").read_text() == ""
    assert sum(fake_batch_api.request_counts.values()) <= 10
    assert "--resume goes on" in done.stderr
    fake_batch_api.failing = set()
    assert run(str(requests(tmp_path, 50)), "-f", "out.jsonl", "--resume").returncode == 0
    assert len(rows((tmp_path / "out.jsonl").read_text())) == 50


def test_a_budget_is_the_whole_runs_and_another_goes_on(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = str(requests(tmp_path, 20))
    done = run(source, "-f", "out.jsonl", "-j", "1", "--max-tokens", "60")
    assert done.returncode == 7
    first = rows((tmp_path / "out.jsonl").read_text())
    assert len(first) == 5  # of 12 tokens each
    assert "error" not in str(first)
    assert run(source, "-f", "out.jsonl", "--resume").returncode == 0
    assert len(rows((tmp_path / "out.jsonl").read_text())) == 20
    assert set(fake_batch_api.answer_counts.values()) == {1}


def test_failures_run_again_when_that_is_asked_for(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = str(requests(tmp_path, 6))
    fake_batch_api.failing, fake_batch_api.status = {"say 2", "say 5"}, 400
    assert run(source, "-f", "out.jsonl").returncode == 1
    fake_batch_api.failing = set()
    assert run(source, "-f", "out.jsonl").returncode == 2  # it is there already
    assert run(source, "-f", "out.jsonl", "--resume").returncode == 0
    assert sum("error" in row for row in rows((tmp_path / "out.jsonl").read_text())) == 2
    assert run(source, "-f", "out.jsonl", "--resume", "--retry-failed", "--ordered").returncode == 0
    assert [row["line"] for row in rows((tmp_path / "out.jsonl").read_text())] == [1, 2, 3, 4, 5, 6]
    found = rows((tmp_path / "out.jsonl").read_text())
    assert sorted(row["id"] for row in found) == [f"r{n}" for n in range(1, 7)]
    assert not any("error" in row for row in found)
    assert set(fake_batch_api.answer_counts.values()) == {1}
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600


def test_shards_are_disjoint_and_together_all(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = str(requests(tmp_path, 10))
    parts = [{row["id"] for row in rows(run(source, "--shard", f"{k}/3").stdout)} for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert len(set.union(*parts)) == 10
    assert run(source, "--shard", "4/3").returncode == 2


@pytest.mark.parametrize("ordered", [False, True])
def test_after_kill_9_nothing_that_has_a_result_runs_again(
    mcpchat_command: str, environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path, ordered: bool
) -> None:
    source, out = requests(tmp_path, 150), tmp_path / "out.jsonl"
    words = [mcpchat_command, "batch", str(source), "-f", str(out), "--resume", "-j", "6", *["--ordered"] * ordered]
    known: dict[str, int] = {}
    chance = random.Random(1)
    for _ in range(3):
        process = subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL)
        before = sum(fake_batch_api.answer_counts.values())
        while process.poll() is None and sum(fake_batch_api.answer_counts.values()) < before + 15 + chance.randrange(
            15
        ):
            time.sleep(0.01)
        process.kill()
        process.wait()
        time.sleep(0.2)  # for what the server was still answering
        told = dict(fake_batch_api.answer_counts)
        written = [file.read_bytes() for file in (out, Path(f"{out}.part")) if file.exists()]
        whole = [line for data in written for line in data.split(b"\n")[:-1]]
        for name, count in known.items():
            assert told[name] == count, name  # it had a result: it was not asked again
        known = {name: told[name] for name in (f"say {json.loads(line)['id'][1:]}" for line in whole)}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    found = rows(out.read_text())
    assert sorted(row["id"] for row in found) == sorted(f"r{n}" for n in range(1, 151))
    assert not ordered or [row["line"] for row in found] == list(range(1, 151))
    assert {name: fake_batch_api.answer_counts[name] for name in known} == known
    assert sum(fake_batch_api.answer_counts.values()) <= 150 + 3 * 6  # what ran when it was killed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "in.jsonl", "out.jsonl"]


def test_a_line_that_a_crash_cut_is_cut_off_and_a_file_of_something_else_left_alone(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    source, out = str(requests(tmp_path, 3)), tmp_path / "out.jsonl"
    assert run(source, "-f", "out.jsonl").returncode == 0
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert run(source, "-f", "out.jsonl", "--resume").returncode == 0
    assert sorted(row["id"] for row in rows(out.read_text())) == ["r1", "r2", "r3"]
    out.write_text("precious\nthings\n")
    assert run(source, "-f", "out.jsonl", "--resume").returncode == 2
    assert out.read_text() == "precious\nthings\n"
    assert run(source, "-f", "in.jsonl", "--resume").returncode == 2


def test_a_line_of_something_else_is_no_line_cut_short(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source, notes = str(requests(tmp_path, 2)), tmp_path / "notes.json"
    for text in ('{"precious": 1}\n', '{"precious": 1}'):
        notes.write_text(text)
        assert run(source, "-f", "notes.json", "--resume").returncode == 2
        assert run(source, "-f", "notes.json", "--no-tools", "--provider-batch", "run").returncode == 2
        assert notes.read_text() == text


def test_one_lines_own_model_is_that_lines_own_trouble(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    other = '[model.other]\nname = "x"\nbase_url = "http://127.0.0.1:9/v1"\n[model.far]\napi_key = "env:NOT_THERE"\n'
    (tmp_path / "c.toml").write_text((tmp_path / "c.toml").read_text() + other)
    lines = [{"prompt": "1", "model": "far"}, {"prompt": "2", "model": "other"}, {"prompt": "3", "model": "plain"}]
    lines += [{"prompt": "4"}, {"prompt": "5", "attach": ["-"]}]
    done = run("-", "--ordered", "-j", "1", "--retries", "0", stdin="".join(json.dumps(line) + "\n" for line in lines))
    classes = [row["error"]["class"] if "error" in row else "" for row in rows(done.stdout)]
    assert classes == ["config", "network", "", "", "usage"]  # "plain" went where the run's own model is


def test_ids_and_line_numbers_are_told_apart(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        '\ufeff{"id":"3","prompt":"a"}\nnonsense\n{"prompt":"b"}\n{"id":"named","prompt":1}\n{"id":4,"prompt":"c"}\n'
    )
    for _ in range(2):
        run(str(source), "-f", "out.jsonl", "--resume")
        found = sorted(
            (row["line"], row["id"], row.get("error", {}).get("class"))
            for row in rows((tmp_path / "out.jsonl").read_text())
        )
        assert found == [(1, "3", None), (2, "2", "usage"), (3, "3", None), (4, "named", "usage"), (5, "4", None)]
    assert set(fake_batch_api.answer_counts.values()) == {1}


def test_results_go_to_a_pipe_of_ones_own(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path, mcpchat_command: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    assert run(str(requests(tmp_path, 3)), "-f", "pipe").returncode == 0
    assert len(rows(reader.communicate(timeout=20)[0])) == 3
    assert run(str(requests(tmp_path, 3)), "-f", "pipe", "--resume").returncode == 2
    assert len(rows(run(str(requests(tmp_path, 3)), "-f", "-").stdout)) == 3


def test_a_budget_that_is_met_after_a_call_leaves_a_result(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("[servers.calculator]\nbuiltin = 'calculator'\n")
    fake_batch_api.calls = {"say 1": ("calculator__calculate", '{"expression": "1+1"}')}
    done = run(str(requests(tmp_path, 3)), "-f", "out.jsonl", "-j", "1", "--max-tokens", "5")
    (row,) = rows((tmp_path / "out.jsonl").read_text())
    assert (done.returncode, row["error"]["class"], len(row["tools"])) == (7, "limit", 1)
    fake_batch_api.calls = {}
    assert run(str(requests(tmp_path, 3)), "-f", "out.jsonl", "--resume").returncode == 0
    assert fake_batch_api.answer_counts["say 1"] == 1  # it is not called again


def test_ctrl_c_lets_what_runs_come_to_its_end(
    mcpchat_command: str, environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    fake_batch_api.may_answer.clear()
    words = [mcpchat_command, "batch", str(requests(tmp_path, 50)), "-f", str(tmp_path / "out.jsonl"), "-j", "4"]
    process = subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True)
    while sum(fake_batch_api.request_counts.values()) < 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "4 are finishing" in process.stderr.readline()
    fake_batch_api.may_answer.set()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(rows((tmp_path / "out.jsonl").read_text())) == sum(fake_batch_api.answer_counts.values()) == 4


def test_one_file_has_one_writer(
    mcpchat_command: str, environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    fake_batch_api.may_answer.clear()
    words = [mcpchat_command, "batch", str(requests(tmp_path, 3)), "-f", str(tmp_path / "out.jsonl"), "--resume"]
    first = subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL)
    while not fake_batch_api.request_counts:
        time.sleep(0.01)
    second = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=30)
    assert (second.returncode, "another batch" in second.stderr) == (2, True)
    fake_batch_api.may_answer.set()
    assert first.wait(30) == 0


def test_all_requests_share_one_start_of_a_server(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    shell = f"echo x >> {starts}; exec {sys.executable} {ODD}"
    (tmp_path / "c.toml").write_text(
        f'[servers.box]\ncommand = "sh"\nargs = ["-c", "{shell}"]\n[agents.a]\n[agents.b]\nservers = ["box"]\n'
    )
    heard: list[list[str]] = []
    fake_batch_api.answer_text = lambda body: (
        heard.append([t["function"]["name"] for t in body.get("tools", [])]) or "x"
    )  # type: ignore[method-assign,func-returns-value]
    lines = [json.dumps({"prompt": f"p{n}", "agent": "ab"[n % 2]}) for n in range(12)]
    assert run("-", stdin="\n".join(lines)).returncode == 0
    assert starts.read_text() == "x\n"
    assert len(heard) == 12
    assert all("box__echo" in names for names in heard)
    heard.clear()
    assert run("-", "--no-tools", stdin="\n".join(lines)).returncode == 0
    assert heard == [[]] * 12


def test_a_reader_that_leaves_ends_it_quietly(mcpchat_command: str, environ: dict[str, str], tmp_path: Path) -> None:
    line = f"{mcpchat_command} batch {requests(tmp_path, 200)} | head -2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env=environ, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, len(done.stdout.splitlines()), "error" in done.stderr) == (0, 2, False), done.stderr


@pytest.mark.timeout(240)
def test_ten_thousand_lines_in_flat_memory(
    mcpchat_command: str, environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    fake_batch_api.fail_first = 0
    fake_batch_api.failing = {f"say {n}" for n in range(250, 10_000, 250)}
    fake_batch_api.status = 400
    peak = {}
    for count in (500, 10_000):
        out = tmp_path / f"{count}.jsonl"
        program = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:]);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        words = [
            mcpchat_command,
            "batch",
            str(requests(tmp_path, count)),
            "-f",
            str(out),
            "-j",
            "16",
            "--ordered",
            "-q",
        ]
        done = subprocess.run([sys.executable, "-c", program, *words], env=environ, capture_output=True, text=True)
        peak[count] = int(done.stdout)
        found = rows(out.read_text())
        assert [row["line"] for row in found] == list(range(1, count + 1))
        assert sum("error" in row for row in found) == len(
            [n for n in range(1, count + 1) if f"say {n}" in fake_batch_api.failing]
        )
    assert peak[10_000] < peak[500] + 25_000, peak  # kB


# --- the provider's own batches ---------------------------------------------------------------------------------


def test_the_provider_runs_it(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    source = requests(tmp_path, 5)
    source.write_text(source.read_text() + "nope\n" + '{"prompt":"last","model":"other"}\n')
    fake_batch_api.failing = {"say 2"}
    words = [str(source), "-f", "out.jsonl", "--no-tools", "--poll", "0.05"]
    done = run(*words, "--provider-batch", "run")
    found = {row["id"]: row for row in rows((tmp_path / "out.jsonl").read_text())}
    assert done.returncode == 1
    assert found["r1"]["answer"] == "You said: say 1"
    assert {name for name, row in found.items() if "error" in row} == {"r2", "6"}
    assert "too late" in found["r2"]["error"]["message"]
    assert (found["7"]["model"], found["7"]["usage"]["output"]) == ("other", 2)
    assert len(fake_batch_api.batches) == 2  # one for each model
    assert not (tmp_path / "out.jsonl.batch").exists()


def test_its_steps_can_be_processes_of_their_own_and_nothing_is_sent_twice(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    words = [str(requests(tmp_path, 3)), "-f", "out.jsonl", "--no-tools", "--poll", "0.05", "--provider-batch"]
    fake_batch_api.polls_needed = 3
    assert run(*words, "wait").returncode == 2
    assert run(*words, "submit").returncode == 0
    assert run(*words, "submit").returncode == 2
    assert run(*words, "fetch").returncode == 7
    state = json.loads((tmp_path / "out.jsonl.batch").read_text())
    state["sent"][0]["batch"] = ""  # as if it had died before it was told
    (tmp_path / "out.jsonl.batch").write_text(json.dumps(state))
    assert run(*words, "wait").returncode == 0
    assert run(*words, "fetch").returncode == 0
    assert len(fake_batch_api.batches) == 1
    assert [row["id"] for row in rows((tmp_path / "out.jsonl").read_text())] == ["r1", "r2", "r3"]


def test_answers_find_their_requests_or_nothing_is_forgotten(
    run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    source = requests(tmp_path, 4)
    words = [str(source), "-f", "out.jsonl", "--no-tools", "--poll", "0.05", "--provider-batch"]
    assert run(*words, "submit", "--shard", "1/2").returncode == 0
    text = source.read_text()
    for wrong, shard in ((text, "2/2"), ('{"id":"new","prompt":"p"}\n' + text, "1/2")):
        source.write_text(wrong)
        fake_batch_api.polls = 9
        done = run(*words, "fetch", "--shard", shard)
        assert (done.returncode, "belong to no request" in done.stderr) == (2, True)
        assert (tmp_path / "out.jsonl").read_text() == ""
    source.write_text(text)
    assert run(*words, "fetch", "--shard", "1/2").returncode == 0
    found = [(row["id"], row["answer"]) for row in rows((tmp_path / "out.jsonl").read_text())]
    assert found == [("r1", "You said: say 1"), ("r3", "You said: say 3")]


def test_waiting_outlasts_a_server_that_stumbles(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.failing_polls = 2
    done = run(str(requests(tmp_path, 1)), "-f", "out.jsonl", "--no-tools", "--poll", "0.05", "--provider-batch", "run")
    assert (done.returncode, done.stderr.count("trying again")) == (0, 2)


def test_a_provider_is_given_nothing_that_wants_tools(run: Run, fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    done = run(str(requests(tmp_path, 2)), "-f", "out.jsonl", "--provider-batch", "submit")
    assert done.returncode == 2
    assert "--no-tools" in done.stderr
    assert not fake_batch_api.files
    assert (tmp_path / "out.jsonl").read_text() == ""  # so that the corrected command finds nothing done
    done = run(
        str(requests(tmp_path, 2)), "-f", "out.jsonl", "--no-tools", "--provider-batch", "run", "--max-cost", "1"
    )
    assert (done.returncode, "--max-cost does not go" in done.stderr) == (2, True)
    assert run("-", "-f", "x.jsonl", "--provider-batch", "run").returncode == 2


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0/2", "3/2", "x", "1", "1/0", "-1/2", "١/2"])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        types.parse_shard(text)
