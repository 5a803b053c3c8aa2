"""The command line inside another process: it runs more than once, and leaves nothing behind."""

import json
import logging
import signal

import pytest

from mcpchat.cli.main import run
from mcpchat.cli.runtime import current_run


def state() -> tuple[object, ...]:
    """What a run could leave behind in its process."""
    root = logging.getLogger()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return root.level, list(root.handlers), handlers, logging.getLogger("oauthlib").level, current_run().secrets.forms


def test_runs_follow_each_other_in_one_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state()
    monkeypatch.setenv("A_TOKEN", "a-secret-of-the-first-run")
    call = ["call", "calculator.calculate", "expression=2 ** 10", "-o", "json"]
    assert run(call) == 0
    assert json.loads(capsys.readouterr().out)["structured"] == {"expression": "2 ** 10", "result": 1024}
    assert run(["--debug", "call", "calculator.nothing", "-o", "json"]) == 2
    out, err = capsys.readouterr()
    assert (json.loads(out)["class"], "Traceback" in err) == ("usage", True)
    assert run(["call", "calculator.nothing"]) == 2
    assert "Traceback" not in capsys.readouterr().err  # --debug was the other run's
    assert run(["threads", "-o", "json", "list"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert run(call) == 0
    assert state() == before


def test_an_error_is_written_as_json_once_in_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["call", "calculator.calculate", "expression=1/0", "-o", "json"]) == 5
        assert json.loads(capsys.readouterr().out)["error"]["class"] == "tool"
        assert run(["call", "nowhere.tool", "-o", "json"]) == 2
        assert json.loads(capsys.readouterr().out)["class"] == "usage"
