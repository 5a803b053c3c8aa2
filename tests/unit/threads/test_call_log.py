"""The log of calls: several writers, a limited size, damaged lines, and who follows it."""

from pathlib import Path

import msgspec

from mcpchat.core.call_record import CallRecord
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


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    log, other = CallLog(tmp_path, max_bytes=10_000), CallLog(tmp_path, max_bytes=10_000)
    for number in range(100):
        (log if number % 2 else other).add(record(number, 500))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 21_000
    kept = [found.at for found in log.read()]
    assert kept == [float(number) for number in range(100 - len(kept), 100)]
    assert len(kept) > 15


def test_who_follows_gets_each_call_once(tmp_path: Path) -> None:
    """Also calls that are added before the first is waited for, after half a line, and in a file that was replaced."""
    log = CallLog(tmp_path, max_bytes=3_000)
    records, added = log.read_and_follow()
    assert records == []
    log.add(record(0))
    assert next(added).at == 0.0
    with log.path.open("ab") as file:
        data = msgspec.json.encode(record(1))
        file.write(data[:20])
        file.flush()
        records, added_later = log.read_and_follow()
        file.write(data[20:] + b"\n")
    assert [found.at for found in records] == [0.0]
    assert next(added).at == next(added_later).at == 1.0
    for number in range(2, 14):  # the file is replaced once
        log.add(record(number, 100))
    assert [next(added).at for _ in range(12)] == [float(number) for number in range(2, 14)]
