"""Checks that need no server."""

from pathlib import Path

import pytest

from mcpchat.config.run import Paths, RunContext
from mcpchat.config.schema import Config
from mcpchat.doctor import machine
from mcpchat.doctor.check import Check, Subject, worst_exit_code
from mcpchat.errors import McpChatError, ServerError, SignInNeeded


@pytest.mark.parametrize(
    ("codes", "worst"), [((), 0), ((3,), 3), ((3, 4), 4), ((4, 8, 1), 8), ((8, 2), 2), ((1,), 1), ((1, 3), 3)]
)
def test_the_worst_decides_the_exit_code(codes: tuple[int, ...], worst: int) -> None:
    subject = Subject("x")
    found = [subject.wrong("a", "b", exit_code=code) for code in codes]
    assert worst_exit_code([*found, subject.warning("a", "b"), subject.ok("a")]) == worst


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (ServerError("down", hint="start it"), ("wrong", "down", "start it", 4)),
        (SignInNeeded("", hint="sign in"), ("wrong", "a sign-in is needed", "sign in", 3)),
    ],
)
def test_an_error_is_a_check_with_its_fix(error: McpChatError, check: tuple[str, str, str, int]) -> None:
    found = Subject("x").error("a", error)
    assert (found.status, found.detail, found.fix, found.exit_code) == check


@pytest.mark.parametrize(
    ("difference", "status", "words"),
    [
        (0.0, "ok", "right"),
        (59.0, "ok", "right"),
        (600.0, "warning", "10 minutes ahead"),
        (-7200, "warning", "120 minutes behind"),
    ],
)
def test_the_clock_is_compared(difference: float, status: str, words: str) -> None:
    (check,) = machine.check_clock(1_000_000.0, 1_000_000.0 + difference)
    assert (check.status, words in check.detail) == (status, True)
    assert list(machine.check_clock(None)) == []


def statuses(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


@pytest.mark.parametrize(("free", "status"), [(10**10, "ok"), (10**8, "warning"), (10**6, "wrong")])
def test_the_space_of_the_disk_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    paths = Paths(tmp_path / "a" / "c.toml", tmp_path / "cache", tmp_path / "b" / "state", tmp_path)
    found = statuses(list(machine.check_folders(RunContext(config=Config(), environ={}, paths=paths))))
    assert found == {"disk": status}
    assert list(tmp_path.iterdir()) == []  # nothing is created


def test_network_settings_of_the_environment_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.example:3128")
    (proxy, _) = machine.check_network({"HTTPS_PROXY": "http://user:secret@proxy.example:3128"})
    assert "https: http://…@proxy.example:3128" in proxy.detail
    assert "secret" not in proxy.detail
    (wrong,) = machine.check_network({"HTTPS_PROXY": "ftp://x"})
    assert (wrong.status, wrong.exit_code) == ("wrong", 2)


def test_without_a_terminal_that_is_said() -> None:
    (check,) = machine.check_terminal({})
    assert (check.status, check.detail[:4]) == ("ok", "none")
