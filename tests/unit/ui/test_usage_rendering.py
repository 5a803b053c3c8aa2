"""Usage and timelines as tables, bars and pages."""

import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from mcpchat.core.messages import Message, Text, Usage, user_message
from mcpchat.core.threads import CallMetadata, MessageMetadata, Thread, ThreadMessage
from mcpchat.core.usage_report import UsageReport, UsageRow
from mcpchat.ui.render import transcript_html, usage_html
from mcpchat.ui.render.timeline import build_timeline, format_timeline
from mcpchat.ui.render.usage_tables import usage_table

EVIL = "<script>alert('x')</script>\x1b[2J & \"co\""
NO_ROWS = {"day": [], "model": [], "agent": [], "thread": [], "server": []}


class Page(HTMLParser):
    """The elements of a page; fails for one that is not closed, and for one that loads or runs anything."""

    VOID = frozenset({"meta", "rect", "line", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []
        assert not {"script", "link", "iframe", "object"} & set(self.tags)
        assert "\x1b" not in text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert name not in {"src", "srcset"} or (value or "").startswith("data:")
            assert not name.startswith("on")
            assert name != "href" or (value or "").startswith("#")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def render(table: object, encoding: str = "utf-8") -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(("encoding", "cell"), [("utf-8", "█"), ("ascii", "#"), (None, "#")])
def test_bars_compare_the_rows(encoding: str | None, cell: str) -> None:
    rows = [
        UsageRow(key="a", requests=1, input=100, cost=2.0),
        UsageRow(key="b", requests=2, input=900, cached=450, cost=1.0),
        UsageRow(key="c", requests=1, cost=0.0),
    ]
    total = UsageRow(key="total", requests=4, input=1000, cost=3.0)
    heading, *lines, last = render(usage_table("model", rows, total, encoding))
    assert heading.split() == ["model", "requests", "in", "cached", "out", "cost", "cost"]
    assert [line.count(cell) for line in lines] == [20, 10, 0]
    assert "50%" in lines[1]
    assert last.split() == ["all", "4", "1,000", "0", "$3.00"]
    rows[0].unpriced = rows[0].requests
    rows[1].unpriced = 1
    lines = render(usage_table("model", rows, total, encoding))[1:-1]
    assert [line.count(cell) for line in lines] == [2, 20, 0]  # by tokens
    assert "cost unknown" in lines[0]
    assert "$1.00+" in lines[1]


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (80, ["thread", "requests", "in", "cached", "out", "cost", "cost"]),
        (60, ["thread", "requests", "in", "cached", "out", "cost"]),
        (46, ["thread", "requests", "out", "cost"]),
        (36, ["thread", "requests", "cost"]),
    ],
)
def test_a_narrow_terminal_gets_the_columns_that_fit(width: int, headings: list[str]) -> None:
    row = UsageRow(key="0" * 32, label="Summary", requests=3, input=123_456, cached=1000, output=7, cost=1.5)
    table = usage_table("thread", [row], row, "utf-8", width=width)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    heading, *lines = out.getvalue().splitlines()
    assert heading.split() == headings
    assert len(lines) == 2
    assert all("$1.50" in line and len(line) <= width for line in lines)


def test_the_page_has_charts_and_is_safe() -> None:
    days = [
        UsageRow(key="2026-11-01", requests=1, input=1500, cached=500, output=20, cost=0.02),
        UsageRow(key="2026-11-04", requests=1, input=10, cost=0.0001),
    ]
    rows = {
        **NO_ROWS,
        "day": days,
        "model": [UsageRow(key=EVIL, requests=2, input=10, unpriced=1)],
        "thread": [UsageRow(key=f"{n:032x}", label=EVIL, requests=1) for n in range(40)],
        "server": [UsageRow(key="mail", calls=3, input=7)],
    }
    text = usage_html.to_html(UsageReport(rows=rows, total=UsageRow(key="total", requests=2, cost=0.0201)), EVIL)
    page = Page(text)
    assert page.tags.count("svg") == 2
    assert text.count("<g>") == 2 * 4  # days without requests too
    assert "1,500 in (500 cached), 20 out" in text
    assert "and 25 more" in page.text
    assert EVIL not in text


def test_a_long_span_is_shown_by_month() -> None:
    days = [
        UsageRow(key=f"{year}-{month:02}-01", requests=1, input=5) for year in (2025, 2026) for month in range(1, 13)
    ]
    text = usage_html.to_html(UsageReport(rows={**NO_ROWS, "day": days}, total=UsageRow(key="total")), "x")
    assert "Tokens per month" in Page(text).text
    assert text.count("<g>") == 24
    assert "Cost per" not in text


def test_a_page_about_nothing() -> None:
    assert (
        Page(usage_html.to_html(UsageReport(rows=dict(NO_ROWS), total=UsageRow(key="total")), "x")).tags.count("svg")
        == 0
    )


def node(number: int, parent: int, role: str, text: str, **record: object) -> ThreadMessage:
    message = user_message(text) if role == "user" else Message(role=role, parts=(Text(text=text),))  # type: ignore[arg-type]
    return ThreadMessage(number=number, parent=parent, message=message, record=MessageMetadata(**record))  # type: ignore[arg-type]


CALLS = (
    CallMetadata(call_id="a", tool="mail.read", seconds=4.0),
    CallMetadata(call_id="b", tool="drive.read", seconds=1.0),
)
BRANCH = [
    node(1, 0, "user", "What " + EVIL, at=1000.0),
    node(2, 1, "assistant", "", at=1002.0, seconds=2.0, model="m", usage=Usage(input=10, output=5), cost=0.5),
    node(3, 2, "tool", "", at=1006.0, calls=CALLS),
    node(4, 3, "assistant", "So.", at=1010.0, seconds=3.0, model="m", usage=Usage(input=20), cost=None),
    node(5, 4, "user", "And?", at=1100.0),
    node(6, 5, "assistant", "Yes.", at=1100.0, seconds=0.0, model="m"),
]  # fmt: skip


def test_calls_of_a_step_begin_together() -> None:
    first, second = build_timeline(BRANCH)
    assert [(step.label, step.start, step.seconds) for step in first.steps] == [
        ("m", 0.0, 2.0), ("mail.read", 2.0, 4.0), ("drive.read", 2.0, 1.0), ("m", 7.0, 3.0)
    ]  # fmt: skip
    assert (first.seconds, first.usage.input, first.cost) == (10.0, 30, None)
    assert first.summary == "10.0 s · 30 in · 5 out · cost unknown"
    assert (second.number, second.seconds, second.summary) == (5, 0.0, "0.0 s")


def test_a_thread_without_times_has_no_timeline() -> None:
    """An imported one, for example."""
    assert build_timeline([node(1, 0, "user", "x"), node(2, 1, "assistant", "y")]) == []
    assert list(format_timeline([], "utf-8")) == []


@pytest.mark.parametrize(("encoding", "cell"), [("utf-8", "█"), ("latin-1", "#")])
def test_bars_lie_where_the_steps_ran(encoding: str, cell: str) -> None:
    lines = list(format_timeline(BRANCH, encoding, width=65))
    bars = [line for line in lines if cell in line]
    assert [line.count(cell) for line in bars] == [4, 8, 2, 6, 1]
    assert [line.index(cell) for line in bars[:4]] == [20, 24, 24, 34]
    assert all(len(line) <= 65 for line in lines)


def test_the_page_of_a_thread_has_its_timeline_and_its_branches() -> None:
    other = node(7, 4, "user", "Rather this", at=1200.0)
    thread = Thread(id="0" * 32, title="t", head=6)
    page = Page(text := transcript_html.to_html(thread, [*BRANCH, other, node(8, 7, "assistant", "Ok.", at=1201.0)]))
    assert "Timeline" in page.text
    assert text.count('class="tool"') == 2
    branches = text[text.index('class="branches"') : text.index('class="timeline"')]
    assert branches.count("<details") == 2  # the tree itself, and the question with two branches
    assert '<a href="#m5">And?</a>' in branches
    assert "<li>Rather this" in branches  # of another branch: not on this page
    assert 'class="branches"' not in transcript_html.to_html(thread, BRANCH)


@pytest.mark.parametrize("mark", ["- ", "> ", "1. "])
def test_the_page_of_a_thread_has_deeply_nested_text(mark: str) -> None:
    answer = f"before\n\n{mark * 40}deep\n\nafter"
    text = Page(transcript_html.to_html(Thread(id="0" * 32, head=1), [node(1, 0, "assistant", answer, at=1.0)])).text
    assert [word in text for word in ("before", "deep", "after")] == [True] * 3


def test_a_tree_of_many_branches_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript_html, "_MAX_TURNS", 50)
    nodes = []
    for number in range(1, 2001, 2):  # each question is edited once
        parent = max(0, number - 3 if number % 4 == 3 else number - 1)
        nodes += [
            node(number, parent, "user", f"q{number}", at=1.0),
            node(number + 1, number, "assistant", "a", at=2.0),
        ]
    page = Page(transcript_html.to_html(Thread(id="0" * 32, head=2000), nodes))
    assert "and more" in page.text
