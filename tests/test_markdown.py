"""Markdown that streams leaves what Markdown drawn at once leaves."""

import io
import random
import re
from collections.abc import Sequence

import pyte
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from mcpchat.ui.markdown.highlight import Highlighter
from mcpchat.ui.markdown.render import THEME, is_settled, parse_markdown, render_markdown
from mcpchat.ui.markdown.stream import MarkdownStream
from mcpchat.ui.terminal.screen import LiveScreen, render_ansi, render_lines

PROSE = "Some **bold**, *slanted*, ~~gone~~ and `code` [words](https://example.com/a_b) in a sentence of usual length. "
DOCUMENTS = {
    "headings": "# One\ntext\n## Two\n\nSetext\n===\nOther\n---\n###### Six\n####### seven",
    "paragraphs": f"{PROSE}\n\n{PROSE * 3}\nsoft break  \nhard break\\\nanother\n\n{PROSE}",
    "lists": "- a\n- b\n  - c\n    1. d\n    2. e\n- f\n\n  second paragraph\n\n  ```py\n  x = 1\n  ```\n- g\n\n* other\n* list",
    "numbers": "\n".join(f"{n}. item {n}" for n in range(7, 13)) + "\n\nbetween\n\n1. one\n1. two\n1. three\n",
    "loose": "1. a\n\n2. b\n\n   - c\n\n   - d\n\n3. e\nlazy\n\nend",
    "fences": "```python\ndef f():\n    '''doc\n    string'''\n    return 1 # x\n```\ntext\n~~~~\n```\nnot the end\n~~~\n~~~~\n",
    "indented fence": "  ```sh\n  ls -l\n    more\n ls\n  ```\nafter\n\n    indented code\n\n    more\n\nend",
    "open fence": 'text\n\n```rust\nfn main() {\n    println!("hi");\n\n',
    "tables": "| a | b |\n|---|--:|\n| 1 | two words |\n| `x` | **y** |\n\ntext\n\na | b\n--|--\n1|2\nend of it",
    "quotes": "> quoted **words**\n> - list\n>\n> ```\n> code\n> ```\n\nend\n> lazy\ncontinued",
    "rules": "a\n\n---\n\nb\n***\nc\n\n- x\n\n---\n- y\n",
    "flips": "para\n#hashtag\npara\n***bold***\n-5 degrees\n1.5 times\n```inline`\n`code\nspan` end\n>no",
    "entities": "&lt;b&gt; &amp; &#8203;x <b>html</b> <https://example.com> \\*escaped\\*\n\n<div>\nblock\n</div>\n",
    "references": "See [one] and [two][one].\n\n[one]: https://example.com/one\n\nand [one] again ![image](https://x.example/y.png)",
    "wide": "日本語のテキストは幅が二つです。" * 6
    + "\n\n- 表 — 👩‍👩‍👧 family, é (e + ´), नमस्ते, مرحبا بالعالم, שלום\n\n| 列 | 值 |\n|---|---|\n| 一 | 👍🏽 |\n",
    "long words": "x" * 200 + " " + "https://example.com/" + "path/" * 60 + " end\n\n" + "日本" * 90,
    "code wider than the screen": "```\n" + "0123456789" * 25 + "\n\tt\ta\tb\n日本" + "語" * 90 + "\n```\n",
    "nothing": "",
    "blank": "\n \n\n",
    "odd": "-\n-\n\n- \n  foo\n\n#\n\n>\n\n1)\n2) x\n\n``\n\n|\n|-|\n",
}
TALL = {
    "tall paragraph": PROSE * 40,
    "tall broken paragraph": "\n".join(f"line {n} of *this* snake_case [1] text" for n in range(80)),
    "tall hard breaks": "\n".join(f"verse {n} goes on\\" for n in range(60)) + "\nend",
    "tall unpaired": f"an *open marker {'and words ' * 200} **that never closes",
    "tall without blanks": "日本語のテキストは、空白なしで書かれます。" * 60,
    "tall code": "before\n\n```python\n"
    + "\n".join(f"x{n} = 'a' * {n}  # {'c' * (n % 90)}" for n in range(90))
    + "\n```\nafter",
    "tall comment": "```c\n" + "int x;\n" * 30 + "/*" + "\n comment" * 60 + "*/\nint y;\n```\n",
    "tall list": "\n".join(f"{n}. item {n}\n   - with **more** of it" for n in range(1, 60)),
    "tall table": "| n | square |\n|---|---|\n" + "\n".join(f"| {n} | {n * n} |" for n in range(60)),
    "tall quote": "\n".join(f"> line {n}\n>" for n in range(50)),
    "tall item": "- first\n" + "\n".join(f"  para {n}\n" for n in range(50)) + "- last",
}


def console(columns: int, lines: int, **options: object) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=columns,
        height=lines,
        theme=THEME,
        color_system="256",
        **options,  # type: ignore[arg-type]
    )


def at_once(text: str, columns: int, lines: int) -> str:
    target = console(columns, lines)
    return "".join(f"{line}\n" for line in render_ansi(target, render_lines(target, render_markdown(text))))


def streamed(text: str, columns: int, lines: int, pieces: Sequence[str]) -> str:
    """Everything that is written, each piece drawn."""
    target = console(columns, lines)
    region = LiveScreen(target)
    now = 0
    stream = MarkdownStream(region, lambda: region.show(stream.rows), clock=lambda: now)
    for now, piece in enumerate(pieces):  # noqa: B007 - the clock reads it
        stream.feed(piece)
    stream.finish()
    written = target.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def screen(written: str, columns: int, lines: int) -> list[list[tuple[str, ...]]]:
    """What a terminal shows of it, with what has scrolled off: each character with its style."""
    shown = pyte.HistoryScreen(columns, lines, history=100_000, ratio=0.5)
    stream = pyte.Stream(shown)
    stream.feed(written.replace("\n", "\r\n"))
    rows = [*shown.history.top, *(shown.buffer[y] for y in range(lines))]
    cells = [
        [
            (char.data, char.fg, str((char.bold, char.italics, char.underscore, char.strikethrough)))
            for char in map(row.__getitem__, range(columns))
        ]
        for row in rows
    ]
    while cells and not any(char[0].strip() for char in cells[-1]):
        cells.pop()
    return cells


def cut(text: str, at: random.Random) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        end = start + at.choice((1, 2, 5, 20, 80))
        pieces.append(text[start:end])
        start = end
    return pieces


@pytest.mark.parametrize("name", [*DOCUMENTS, *TALL])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10)])
def test_a_stream_leaves_what_drawing_at_once_leaves(name: str, columns: int, lines: int) -> None:
    text = {**DOCUMENTS, **TALL}[name]
    expected = screen(at_once(text, columns, lines), columns, lines)
    for seed in range(4):
        pieces = cut(text, random.Random(seed))
        shown = screen(streamed(text, columns, lines, pieces), columns, lines)
        assert words_of(shown) == words_of(expected), (name, seed)
        assert shown == expected, (name, seed)


def words_of(cells: list[list[tuple[str, ...]]]) -> list[str]:
    return ["".join(char[0] for char in row).rstrip() for row in cells]


LINES = (
    "plain words here", "*open", "closed* and **bold** text", "`code", "span`", "# Head", "#tag", "---", "===", "***", "- item", "  - nested",
    "    deep", "* star", "+ plus", "1. one", "2. two", "10) ten", "   continued", "> quote", ">", "> - in quote", "```", "```python", "~~~",
    "    x = 1", "def f(): return '''a", "| a | b |", "|---|---|", "| 1 | 2 |", "a | b", "[ref]: http://x.example", "see [ref] [x](y)", "![i](j)",
    "<div>", "&lt;i&gt;", "\\*", "trailing  ", "back\\", "", "", "日本語 text", "👩‍👩‍👧 é", "x" * 50, "-", "1.", "\ttab", "- \tx", "- ```", "  ```", "-\t",
)  # fmt: skip
TAME = tuple(line for line in LINES if line not in {"---", "===", "-", "-\t", "def f(): return '''a"})
documents = st.lists(st.sampled_from(LINES), max_size=14).map("\n".join)
long_documents = st.lists(st.sampled_from(TAME), min_size=10, max_size=60).map("\n".join)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=documents, seed=st.integers(0, 1000), columns=st.sampled_from([30, 60, 100]))
def test_any_document_streams_to_what_it_is_at_once(text: str, seed: int, columns: int) -> None:
    # An underline that makes a heading of many lines is left out: what it would change may have been printed.
    headings = (token for token in parse_markdown(text) if token.type == "heading_open" and token.markup in {"-", "="})
    assume(not any(token.map and token.map[1] - token.map[0] > 2 for token in headings))
    expected = screen(at_once(text, columns, 60), columns, 60)
    assert screen(streamed(text, columns, 60, cut(text, random.Random(seed))), columns, 60) == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=long_documents, seed=st.integers(0, 1000), lines=st.sampled_from([5, 8, 14]))
def test_any_document_streams_on_a_small_screen(text: str, seed: int, lines: int) -> None:
    expected = screen(at_once(text, 40, lines), 40, lines)
    assert screen(streamed(text, 40, lines, cut(text, random.Random(seed))), 40, lines) == expected


@pytest.mark.parametrize(
    ("piece", "live"),
    [
        ("Words *and* more words. ", 3),
        ("日本語のテキスト。", 3),
        ("- an item\n", 2),
        ("    \n```python\n" + "x = [1, 2]  # and more\n" * 40 + "```\n", 12),
        ("> quoted\n", 12),
        ("| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 40 + "\n", 12),
        ("[[[[", 60),
    ],
)
def test_little_of_a_long_answer_stays_live(piece: str, live: int) -> None:
    """What is live is drawn again and again, and pushed out of reach by a window that becomes narrower."""
    target = console(40, 24)
    region = LiveScreen(target)
    now = 0
    stream = MarkdownStream(region, lambda: region.show(stream.rows), clock=lambda: now)
    text = piece * ((4_000 if piece == "[[[[" else 10_000) // len(piece))
    for now in range(0, len(text), 120):
        stream.feed(text[now : now + 120])
        assert len(stream.rows) <= live
    stream.finish()
    assert stream.rows == []


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("plain words, 2 * 3, snake_case and [1]", True),
        ("**bold** and `code` and [a](b)", True),
        ("an *open one", False),
        ("an `open one", False),
        ("a [label](", False),
        ("a [label", False),
        ("~~gone", False),
        ("5~6", True),
    ],
)
def test_a_paragraph_is_cut_only_where_no_marker_waits_for_its_pair(text: str, settled: bool) -> None:
    assert is_settled(text) is settled


def test_a_message_that_ended_in_a_closed_block_leaves_no_blank_line_to_the_next() -> None:
    target = console(40, 10)
    region = LiveScreen(target)
    now = 0
    stream = MarkdownStream(region, lambda: region.show(stream.rows), clock=lambda: now)
    for now, piece in enumerate(["```\nx\n```\n", "next"]):  # noqa: B007 - the clock reads it
        stream.feed(piece)
        stream.finish()
    assert words_of(screen(target.file.getvalue(), 40, 10)) == ["x", "next"]  # type: ignore[attr-defined]


def test_code_goes_on_in_the_colours_that_it_was_left_in() -> None:
    code = 'x = """one\ntwo\nthree"""\ny = 1\n'
    at_once = Highlighter("python").highlight(code)
    resumed = Highlighter("python")
    assert resumed.highlight("".join(code.splitlines(keepends=True)[:2]))[:1] == at_once[:1]
    resumed.resume_at(resumed.resume_points()[0])
    assert [line.spans for line in resumed.highlight('two\nthree"""\ny = 1\n')] == [line.spans for line in at_once[1:]]
    assert [line.plain for line in Highlighter("no such language").highlight("a\nb\n")] == ["a", "b"]
    for grammar in ("yaml", "markdown", "json", "html"):  # which cannot all be left and entered again
        assert "\n".join(line.plain for line in Highlighter(grammar).highlight("a: [1]\n\n```py\nx\n```\n")) == (
            "a: [1]\n\n```py\nx\n```"
        )


def test_code_is_written_as_it_can_be_copied() -> None:
    target = console(20, 10)
    lines = render_ansi(target, render_lines(target, render_markdown("```make\nall:\n\t@echo a very long line\n```\n")))
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert plain == ["all:", "\t@echo a very long line"]


def test_what_hides_or_acts_reaches_the_screen_in_no_piece() -> None:
    for text in ("a\x1b[2Jb", "a&#27;[2Jb", "a\u202eb&#8238;c", "[x](http://a\x9bb)"):
        for pieces in ([text], list(text)):
            written = streamed(text, 40, 10, pieces)
            assert "\x1b[2J" not in written.replace("\x1b[K\x1b[C\x1b[J\x1b[D", "")
            assert "\u202e" not in written
            assert "\x9b" not in written


def test_drawing_leaves_most_of_the_time_to_others() -> None:
    now, drawn = 0.0, 0

    def slow() -> None:
        nonlocal now, drawn
        drawn += 1
        now += 0.5  # a terminal that takes its time

    stream = MarkdownStream(LiveScreen(console(40, 10)), slow, clock=lambda: now)
    for _ in range(600):
        stream.feed("word ")
        now += 0.05
    assert drawn <= 8
