"""The command line called inside another process: several runs, with no state left between them."""

import json
import logging
import signal

import pytest

from mcpchat.cli.main import run
from mcpchat.cli.runtime import current_run

pytestmark = pytest.mark.no_cover  # in this process; forks are measured


def process_state() -> tuple[object, ...]:
    """Return the process state that a run could change."""
    root = logging.getLogger()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return root.level, list(root.handlers), handlers, logging.getLogger("oauthlib").level, current_run().secrets.forms


def test_several_runs_work_in_one_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    initial_state = process_state()
    monkeypatch.setenv("A_TOKEN", "a-secret-of-the-first-run")
    call = ["call", "calculator.calculate", "expression=2 ** 10", "-o", "json"]
    assert run(call) == 0
    assert json.loads(capsys.readouterr().out)["structured"] == {"expression": "2 ** 10", "result": 1024}
    assert run(["--debug", "call", "calculator.nothing", "-o", "json"]) == 2
    out, err = capsys.readouterr()
    assert (json.loads(out)["class"], "Traceback" in err) == ("usage", True)
    assert run(["call", "calculator.nothing"]) == 2
    assert "Traceback" not in capsys.readouterr().err  # --debug belonged to the previous run
    assert run(["threads", "-o", "json", "list"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert run(call) == 0
    assert process_state() == initial_state


def test_an_error_is_written_as_json_once_in_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["call", "calculator.calculate", "expression=1/0", "-o", "json"]) == 5
        assert json.loads(capsys.readouterr().out)["error"]["class"] == "tool"
        assert run(["call", "nowhere.tool", "-o", "json"]) == 2
        assert json.loads(capsys.readouterr().out)["class"] == "usage"
