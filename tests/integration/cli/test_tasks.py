"""mcpchat tasks and call --detach: calls that servers run as tasks, from one command to the next."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.paths import MCPCHAT, SERVERS
from tests.support.processes import start_process
from tests.support.scripted_http import ScriptedHttpServer
from tests.support.task_logic import TaskLogic
from tests.support.waiting import wait_until

APPROVALS = '[approvals]\ndefault = "allow"\n'


@pytest.fixture(params=["modern", "legacy"])
def logic(request: pytest.FixtureRequest) -> TaskLogic:
    return TaskLogic(request.param, ttl=3_600_000)


@pytest.fixture
def run(logic: TaskLogic, fake_openai: FakeOpenAI, tmp_path: Path) -> Iterator[CommandLine]:
    with ScriptedHttpServer(logic.respond) as server:
        config = f'[servers.box]\nurl = "{server.url}"\nallow_http = true\n{APPROVALS}'
        yield CommandLine(tmp_path, fake_openai, base_config=config)


def detach(run: CommandLine, *args: str) -> str:
    code, out, err = unpack(run("call", "--detach", "box.count", *args))
    assert (code, err) == (0, "")
    return out.strip()


def listed(run: CommandLine) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = json.loads(unpack(run("tasks", "-o", "json"))[1])
    return tasks


def test_a_detached_call_is_found_again(run: CommandLine, logic: TaskLogic) -> None:
    name = detach(run, "to=6")
    code, out, _ = unpack(run("tasks"))
    assert code == 0
    assert name in out
    assert "box.count" in out
    assert logic.record.count("tasks/get") == 0  # a list asks no server
    code, out, _ = unpack(run("tasks", name[:3], "-o", "json"))
    task = json.loads(out)
    assert (code, task["v"], task["id"], task["status"], task["message"]) == (0, 1, name, "working", "1 of 6")
    assert unpack(run("tasks", name, "--wait"))[:2] == (0, "counted to 6\n")
    assert unpack(run("tasks", name))[:2] == (0, "counted to 6\n")
    assert [(task["id"], task["status"]) for task in listed(run)] == [(name, "completed")]
    result = json.loads(unpack(run("tasks", name, "--wait", "-o", "json"))[1])
    assert result["parts"][0]["text"] == "counted to 6"


def test_a_failed_task_is_an_error_of_the_tool(run: CommandLine) -> None:
    name = detach(run, "fail=true")
    code, out, err = unpack(run("tasks", name, "--wait"))
    assert (code, out) == (5, "")
    assert "no more numbers" in err
    code, out, _ = unpack(run("tasks", name, "-o", "json"))
    assert (code, json.loads(out)["error"]["code"]) == (5, 5)


def test_a_task_is_cancelled(run: CommandLine, logic: TaskLogic) -> None:
    name = detach(run, "to=1000")
    assert unpack(run("tasks", name, "--cancel"))[::2] == (0, f"cancelled {name}\n")
    assert logic.tasks["task-1"]["status"] == listed(run)[0]["status"] == "cancelled"
    code, _, err = unpack(run("tasks", name))
    assert (code, "the task was cancelled by its server" in err) == (5, True)
    code, _, err = unpack(run("tasks", name, "--cancel"))
    assert (code, "the task is cancelled" in err) == (4, True)


def test_waiting_that_ends_early_ends_no_task(run: CommandLine, logic: TaskLogic) -> None:
    name = detach(run, "to=100000")
    assert unpack(run("tasks", name, "--wait", "--timeout", "0.5"))[0] == 7
    assert (logic.tasks["task-1"]["status"], listed(run)[0]["status"]) == ("working", "working")


def test_a_task_that_its_server_has_forgotten(run: CommandLine, logic: TaskLogic) -> None:
    name = detach(run)
    logic.tasks.clear()
    code, _, err = unpack(run("tasks", name))
    assert (code, err) == (4, f"error: task {name} of box.count: its server no longer knows it: Task not found\n")
    assert listed(run)[0]["status"] == "failed"


def test_mistakes_are_explained(run: CommandLine) -> None:
    assert unpack(run("tasks")) == (0, "", "no tasks\n")
    for args, message in (
        (("x",), "there is no task 'x'"),
        (("x", "--wait", "--cancel"), "--wait and --cancel exclude each other"),
        (("--wait",), "need the ID of a task"),
        (("-f", "x.txt"), "need the ID of a task"),
    ):
        code, _, err = unpack(run("tasks", *args))
        assert (code, message in err) == (2, True), err
    code, out, err = unpack(run("call", "--detach", "box.plain"))
    assert (code, out, err) == (0, "at once\n", "box.plain answered at once, not with a task\n")
    name = detach(run)
    code, _, err = unpack(
        run(
            "tasks",
            name,
            config="[servers.other]\nurl = 'https://other.example'\n[servers.box]\nenabled = false\ncommand = 'x'\n",
        )
    )
    assert code == 2, err


def test_a_task_of_a_server_that_ends_cannot_be_detached(run: CommandLine, logic: TaskLogic) -> None:
    server = f'[servers.local]\ncommand = "{sys.executable}"\nargs = ["{SERVERS / "tasks.py"}", "modern"]\n'
    code, _, err = unpack(run("call", "--detach", "local.count", config=server))
    assert (code, "local ends with this command" in err, "--keep 10m" in err) == (2, True, True)
    code, _, err = unpack(run("call", "--detach", "box.count", config="[threads]\nsave = false\n"))
    assert (code, "tasks are remembered with the threads" in err) == (2, True)
    assert logic.tasks == {}


def test_without_saving_tasks_are_not_remembered(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call("box__count", '{"to": 2}'), text("Done.")]
    assert unpack(run("ask", "x", "--no-save"))[0] == 0
    assert unpack(run("call", "box.count", config="[threads]\nsave = false\n"))[:2] == (0, "counted to 3\n")
    assert listed(run) == []


def test_ask_waits_and_tells(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call("box__count", '{"to": 4}'), text("Done.")] * 2
    code, out, err = unpack(run("ask", "x"))
    assert (code, out) == (0, "Done.\n")
    (task,) = listed(run)
    assert err.startswith(f"task {task['id']} of box.count: working: 0 of 4\n"), err
    assert f"task {task['id']} of box.count: completed: 4 of 4\n" in err
    assert fake_openai.requests[1]["messages"][-1]["content"] == "counted to 4"
    _, out, _ = unpack(run("ask", "x", "-o", "jsonl"))
    events = [json.loads(line) for line in out.splitlines()]
    tasks = [event for event in events if event["type"] == "tool.task"]
    assert [event["status"] for event in tasks] == ["working", "completed"]
    (call_id,) = {event["call"]["id"] for event in events if event["type"] == "tool.started"}
    assert {event["call_id"] for event in tasks} == {call_id}
    schema = json.loads(unpack(run("schema", "events"))[1])
    for event in tasks:
        jsonschema.validate(event, schema)


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_kept_server_goes_on_with_its_task_and_its_question(
    tmp_path: Path, kept_folder: Path, era: str, fake_openai: FakeOpenAI
) -> None:
    server = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{SERVERS / "tasks.py"}", "{era}"]\n'
    run = CommandLine(tmp_path, fake_openai, base_config=server + APPROVALS)
    code, out, err = unpack(run("call", "--detach", "--keep", "1m", "box.count", "ask=true"))
    assert code == 0, err
    name = out.strip()
    assert unpack(run("tasks", name))[0] == 0  # without --keep: the server is kept, so that is where its tasks are
    code, out, err = unpack(run("tasks", name, "--wait", "--answer", "name=Ann"))
    assert (code, out) == (0, "counted to 3 for Ann\n"), err
    name = unpack(run("call", "--detach", "--keep", "1m", "box.count", "ask=true"))[1].strip()
    code, out, err = unpack(run("tasks", name, "--wait"))
    assert (code, out) == (0, "counted to 3 for decline\n"), err  # nobody can answer


def test_ctrl_c_while_waiting_leaves_the_task_alone(run: CommandLine, logic: TaskLogic, tmp_path: Path) -> None:
    name = detach(run, "to=100000")
    command = [MCPCHAT, "tasks", name, "--wait"]
    process = start_process(command, env={**os.environ, **run.environ}, cwd=tmp_path)
    wait_until(lambda: logic.record.count("tasks/get") >= 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert logic.tasks["task-1"]["status"] == "working"
