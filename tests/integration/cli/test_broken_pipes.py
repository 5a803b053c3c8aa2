"""A pipe that is closed at its other end: quiet if it is stdout, else an error."""

import os
import sys

import pytest

from mcpchat.cli.main import _report_error
from mcpchat.cli.runtime import RunState
from mcpchat.util.pipe_reader import is_reader_gone


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_only_a_closed_stdout_ends_a_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert is_reader_gone(out) is False
        assert _report_error(BrokenPipeError(32, "Broken pipe"), RunState()) == 1
        assert "broken pipe" in capsys.readouterr().err
        os.close(reader)
        assert is_reader_gone(out) is True
        assert _report_error(BrokenPipeError(32, "Broken pipe"), RunState()) == 0
        monkeypatch.undo()
    assert capsys.readouterr().err == ""
