"""The log of calls: several writers, a limited size, damaged lines, and who follows it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpchat.core.call_record import CallRecord
from mcpchat.threads import call_log
from mcpchat.threads.call_log import CallLog


def record(number: int, size: int = 0) -> CallRecord:
    return CallRecord(at=float(number), origin="call", tool=f"box.t{number}", arguments="x" * size)


def test_records_are_read_in_their_order_and_damaged_lines_are_left_out(tmp_path: Path) -> None:
    log = CallLog(tmp_path)
    log.add(record(1))
    with log.path.open("ab") as file:
        file.write(b'{"at": 1\nnot json\n{"at": "x"}\n')
    log.add(record(2))
    assert [found.at for found in log.read()] == [1.0, 2.0]
    assert log.path.stat().st_mode & 0o777 == 0o600
    log.delete()
    assert list(log.read()) == []


def test_the_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_log, "MAX_BYTES", 10_000)
    log, other = CallLog(tmp_path), CallLog(tmp_path)
    for number in range(100):
        (log if number % 2 else other).add(record(number, 500))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 21_000
    kept = [found.at for found in log.read()]
    assert kept == [float(number) for number in range(100 - len(kept), 100)]
    assert len(kept) > 15


def test_who_follows_gets_each_call_once_also_when_the_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_log, "MAX_BYTES", 3_000)
    monkeypatch.setattr(call_log, "_POLL_INTERVAL", 0.01)
    log = CallLog(tmp_path)
    log.add(record(0))
    follower: Iterator[CallRecord] = log.follow()
    got: list[float] = []
    thread = threading.Thread(target=lambda: got.extend(next(follower).at for _ in range(30)), daemon=True)
    first = threading.Thread(target=lambda: got.append(next(follower).at), daemon=True)
    first.start()
    first.join(0.1)  # it waits at the end of the file
    for number in range(1, 32):
        log.add(record(number, 200))
        if number == 1:
            first.join(5)
            thread.start()
        elif number % 5 == 0:
            thread.join(0.05)
    thread.join(5)
    assert got == [float(number) for number in range(1, 32)]
