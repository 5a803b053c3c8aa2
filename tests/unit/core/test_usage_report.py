"""The sums of what saved threads took."""

import time

import pytest

from mcpchat.core.messages import InputSplit, Usage
from mcpchat.core.threads import CallMetadata, MessageMetadata
from mcpchat.core.usage_report import UsageEntry, measure, summarize

NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


def entry(
    *, at: float = NOON, thread: str = "t1", model: str = "m", cost: float | None = 0.5, **usage: int
) -> UsageEntry:
    record = MessageMetadata(at=at, model=model, usage=Usage(**{"input": 100, "output": 10, **usage}), cost=cost)
    return UsageEntry(thread=thread, title=thread.upper(), record=record)


def test_requests_are_summed_up_by_everything() -> None:
    report = summarize(
        [
            entry(cached=40),
            entry(at=NOON + 86400, model="n", cost=2.0, reasoning=3),
            entry(at=NOON + 1, thread="t2", input=1000),
        ]
    )
    assert [(row.key, row.requests, row.input, row.cost) for row in report.rows["day"]] == [
        ("2026-11-24", 2, 1100, 1.0), ("2026-11-25", 1, 100, 2.0)
    ]  # fmt: skip
    assert [(row.key, row.requests, row.cached) for row in report.rows["model"]] == [("n", 1, 0), ("m", 2, 40)]
    assert [(row.key, row.label, row.tokens) for row in report.rows["thread"]] == [
        ("t1", "T1", 220), ("t2", "T2", 1010)
    ]  # fmt: skip
    assert [(row.key, row.requests) for row in report.rows["agent"]] == [("", 3)]
    total = report.total
    assert (total.requests, total.input, total.output, total.reasoning, total.cost) == (3, 1200, 30, 3, 3.0)
    assert total.cached_share == pytest.approx(40 / 1200)


def test_what_a_fork_took_over_counts_once() -> None:
    report = summarize([entry(), entry(thread="fork"), entry(thread="fork", at=NOON + 5)])
    assert (report.total.requests, [row.requests for row in report.rows["thread"]]) == (2, [1, 1])


def test_an_unknown_price_is_not_zero() -> None:
    report = summarize([entry(), entry(at=NOON + 1, model="free", cost=None, input=500)])
    assert (report.total.cost, report.total.unpriced) == (0.5, 1)
    assert [row.key for row in report.rows["model"]] == ["free", "m"]  # by tokens: the costs cannot be compared
    assert (measure(report.rows["model"]), measure(report.rows["model"][1:])) == ("tokens", "cost")


def test_results_are_counted_by_server() -> None:
    split = InputSplit(history=10, results={"mail": 50, "drive": 7})
    request = MessageMetadata(at=NOON, model="m", usage=Usage(input=67, input_split=split))
    results = MessageMetadata(
        at=NOON + 1,
        calls=(CallMetadata(call_id="a", tool="mail.send", seconds=1.5), CallMetadata(call_id="b", tool="mail.read")),
    )
    entries = [UsageEntry(thread="t", title="", record=record) for record in (request, results, MessageMetadata())]
    report = summarize(entries)
    assert [(row.key, row.input, row.calls, row.seconds) for row in report.rows["server"]] == [
        ("mail", 50, 2, 1.5), ("drive", 7, 0, 0.0)
    ]  # fmt: skip
    assert (report.total.requests, report.total.calls) == (1, 2)


def test_nothing_is_no_error() -> None:
    report = summarize([])
    assert (report.total.requests, report.total.cached_share, report.rows["day"]) == (0, 0.0, [])
