"""Streamed Markdown leaves the same screen as Markdown that is rendered at once."""

import io
import random
import re
import time
from collections.abc import Sequence

import pyte
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from mcpchat.ui.markdown.highlight import Highlighter
from mcpchat.ui.markdown.render import THEME, Markdown, is_settled, parse_markdown
from mcpchat.ui.markdown.stream import MarkdownStream
from mcpchat.ui.terminal.screen import LiveScreen, render_ansi, render_lines
from mcpchat.util.sanitize import sanitize

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
    "formulas": "It is $E = mc^2$, \\(x_1\\) and \\[ \\frac{a}{b} \\] for $5 or $6.\n\n$$\nx^2 +\n\\alpha\n$$\n\n- $\\hat x$ $open\n",
    "deep list": "before\n\n" + "".join(f"{'  ' * n}- item{n}\n" for n in range(14)) + "\nafter\n",
    "deep markers": "before\n\n" + "- " * 30 + "x\n\nafter\n",
    "deep quotation": "before\n\n" + "> " * 26 + "quoted\n\nafter\n\n> " + ">- " * 12 + "x\n\nend",
    "table of many columns": "before\n\n"
    + "".join(
        "|".join(cells) + "\n"
        for cells in ([f"h{n}" for n in range(20)], ["-"] * 20, [f"cell{n}" for n in range(20)], ["a"])
    )
    + "\nafter",
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
    "tall formulas": "So \\(E = m v^2 / 2\\) holds for all, and $a < b$ costs $5 in words of usual length. " * 30,
    "tall prices": "Now $5, then $x^2$ or https://a.example/b_c; see [this](https://b.example). " * 40,
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


def render_whole(text: str, columns: int, lines: int) -> str:
    target = console(columns, lines)
    message = Markdown(parse_markdown(sanitize(text)))
    return "".join(f"{line}\n" for line in render_ansi(target, render_lines(target, message)))


def stream_pieces(text: str, columns: int, lines: int, pieces: Sequence[str]) -> str:
    """Feed the pieces, draw after each, and return the complete output."""
    target = console(columns, lines)
    region = LiveScreen(target)
    now = 0
    stream = MarkdownStream(region, lambda: region.show(stream.rows), clock=lambda: now)
    for now, piece in enumerate(pieces):  # noqa: B007 - the clock reads it
        stream.feed(piece)
    stream.finish()
    output = target.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def read_screen(output: str, columns: int, lines: int) -> list[list[tuple[str, ...]]]:
    """Return the terminal's rows for the output, scrollback included: each character with its style."""
    emulator = pyte.HistoryScreen(columns, lines, history=100_000, ratio=0.5)
    stream = pyte.Stream(emulator)
    stream.feed(output.replace("\n", "\r\n"))
    rows = [*emulator.history.top, *(emulator.buffer[y] for y in range(lines))]
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


def split_text(text: str, rng: random.Random) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        end = start + rng.choice((1, 2, 5, 20, 80))
        pieces.append(text[start:end])
        start = end
    return pieces


@pytest.mark.parametrize("name", [*DOCUMENTS, *TALL])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10)])
@pytest.mark.no_cover
def test_a_stream_leaves_the_same_screen(name: str, columns: int, lines: int) -> None:
    text = {**DOCUMENTS, **TALL}[name]
    expected = read_screen(render_whole(text, columns, lines), columns, lines)
    for seed in range(2):
        pieces = split_text(text, random.Random(seed))
        actual = read_screen(stream_pieces(text, columns, lines, pieces), columns, lines)
        assert plain_rows(actual) == plain_rows(expected), (name, seed)
        assert actual == expected, (name, seed)


@pytest.mark.parametrize("columns", [12, 40, 80])
def test_deep_and_wide_text_is_shown(columns: int) -> None:
    names = ("deep list", "deep markers", "deep quotation", "table of many columns")
    text = "\n\n".join(DOCUMENTS[name] for name in names)
    shown = re.sub(r"[^a-z0-9]", "", "".join(plain_rows(read_screen(render_whole(text, columns, 200), columns, 200))))
    for word in (
        "before",
        *(f"item{n}" for n in range(14)),
        *(f"cell{n}" for n in range(20)),
        "quoted",
        "after",
        "end",
    ):
        assert word in shown


def plain_rows(cells: list[list[tuple[str, ...]]]) -> list[str]:
    return ["".join(char[0] for char in row).rstrip() for row in cells]


LINES = (
    "plain words here", "*open", "closed* and **bold** text", "`code", "span`", "# Head", "#tag", "---", "===", "***", "- item", "  - nested",
    "    deep", "- [x] done", "- [ ] open", "* star", "+ plus", "1. one", "2. two", "10) ten", "   continued", "> quote", ">", "> - in quote", "```", "```python", "~~~",
    "    x = 1", "def f(): return '''a", "| a | b |", "|---|---|", "| 1 | 2 |", "a | b", "[ref]: http://x.example", "see [ref] [x](y)", "![i](j)",
    "$x^2$ for $5", "a $b", "c_1$ d", "\\(y^2\\)", "$$", "https://a.example/b_c.", "<https://a.example>", "<div>", "&lt;i&gt;", "\\*", "trailing  ", "back\\", "", "", "日本語 text", "👩‍👩‍👧 é", "x" * 50, "-", "1.", "\ttab", "- \tx", "- ```", "  ```", "-\t",
)  # fmt: skip
SIMPLE_LINES = tuple(line for line in LINES if line not in {"---", "===", "-", "-\t", "def f(): return '''a"})
documents = st.lists(st.sampled_from(LINES), max_size=14).map("\n".join)
long_documents = st.lists(st.sampled_from(SIMPLE_LINES), min_size=10, max_size=60).map("\n".join)


@settings(derandomize=True)
@given(text=documents, seed=st.integers(0, 1000), columns=st.sampled_from([30, 60, 100]))
def test_any_streamed_document_matches_the_whole(text: str, seed: int, columns: int) -> None:
    # Headings of several lines are excluded: the underline would change lines that may already be printed.
    headings = (token for token in parse_markdown(text) if token.type == "heading_open" and token.markup in {"-", "="})
    assume(not any(token.map and token.map[1] - token.map[0] > 2 for token in headings))
    expected = read_screen(render_whole(text, columns, 60), columns, 60)
    assert read_screen(stream_pieces(text, columns, 60, split_text(text, random.Random(seed))), columns, 60) == expected


@settings(derandomize=True)
@given(text=long_documents, seed=st.integers(0, 1000), lines=st.sampled_from([5, 8, 14]))
@pytest.mark.no_cover
def test_any_document_streams_on_a_small_screen(text: str, seed: int, lines: int) -> None:
    expected = read_screen(render_whole(text, 40, lines), 40, lines)
    assert read_screen(stream_pieces(text, 40, lines, split_text(text, random.Random(seed))), 40, lines) == expected


@pytest.mark.parametrize(
    ("piece", "max_live_rows"),
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
@pytest.mark.no_cover
def test_few_rows_of_a_long_answer_are_live(piece: str, max_live_rows: int) -> None:
    """Live rows are redrawn again and again, and a narrower window pushes them out of reach."""
    target = console(40, 24)
    region = LiveScreen(target)
    now = 0
    stream = MarkdownStream(region, lambda: region.show(stream.rows), clock=lambda: now)
    text = piece * ((4_000 if piece == "[[[[" else 10_000) // len(piece))
    for now in range(0, len(text), 120):
        stream.feed(text[now : now + 120])
        assert len(stream.rows) <= max_live_rows
    stream.finish()
    assert stream.rows == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words, 2 * 3, snake_case and [1]", True),
        ("**bold** and `code` and [a](b)", True),
        ("an *open one", False),
        ("an `open one", False),
        ("a [label](", False),
        ("a [label", False),
        ("~~gone", False),
        ("5~6", True),
        ("for $5, $1,000.50 and $x", False),
        ("for $5, $1,000.50 and more", True),
        ("for $x^2$ or \\(a^2\\)", True),
        ("\\(a^2", False),
        ("a \\(word plain ", False),
        ("a \\(word\\) plain ", True),
        ("for $x " + "and more " * 30, True),
    ],
)
def test_a_paragraph_with_an_open_marker_is_not_settled(text: str, expected: bool) -> None:
    assert is_settled(text) is expected


def test_no_blank_line_follows_a_message_that_ends_in_a_code_block() -> None:
    target = console(40, 10)
    region = LiveScreen(target)
    now = 0
    stream = MarkdownStream(region, lambda: region.show(stream.rows), clock=lambda: now)
    for now, piece in enumerate(["```\nx\n```\n", "next"]):  # noqa: B007 - the clock reads it
        stream.feed(piece)
        stream.finish()
    assert plain_rows(read_screen(target.file.getvalue(), 40, 10)) == ["x", "next"]  # type: ignore[attr-defined]


def test_resumed_code_keeps_its_highlighting() -> None:
    code = 'x = """one\ntwo\nthree"""\ny = 1\n'
    highlighted = Highlighter("python").highlight(code)
    resumed = Highlighter("python")
    assert resumed.highlight("".join(code.splitlines(keepends=True)[:2]))[:1] == highlighted[:1]
    resumed.resume_at(resumed.resume_points()[0])
    assert [line.spans for line in resumed.highlight('two\nthree"""\ny = 1\n')] == [
        line.spans for line in highlighted[1:]
    ]
    assert [line.plain for line in Highlighter("no such language").highlight("a\nb\n")] == ["a", "b"]
    for grammar in ("yaml", "markdown", "json", "html"):  # not all of these lexers can be resumed
        assert "\n".join(line.plain for line in Highlighter(grammar).highlight("a: [1]\n\n```py\nx\n```\n")) == (
            "a: [1]\n\n```py\nx\n```"
        )


def test_code_can_be_copied() -> None:
    target = console(20, 10)
    lines = render_ansi(
        target, render_lines(target, Markdown(parse_markdown("```make\nall:\n\t@echo a very long line\n```\n")))
    )
    plain_lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert plain_lines == ["make", "all:", "\t@echo a very long line"]


def test_control_and_invisible_characters_are_removed() -> None:
    for text in ("a\x1b[2Jb", "a&#27;[2Jb", "a\u202eb&#8238;c", "[x](http://a\x9bb)"):
        for pieces in ([text], list(text)):
            output = stream_pieces(text, 40, 10, pieces)
            assert "\x1b[2J" not in output.replace("\x1b[K\x1b[C\x1b[J\x1b[D", "")
            assert "\u202e" not in output
            assert "\x9b" not in output


def test_slow_drawing_is_throttled() -> None:
    now, draw_count = 0.0, 0

    def draw_slowly() -> None:
        nonlocal now, draw_count
        draw_count += 1
        now += 0.5  # a slow terminal

    stream = MarkdownStream(LiveScreen(console(40, 10)), draw_slowly, clock=lambda: now)
    for _ in range(600):
        stream.feed("word ")
        now += 0.05
    assert draw_count <= 8


def test_tasks_are_boxes_in_a_stream_too() -> None:
    text = "- [x] done\n- [ ] open\n  - [X] inner\n\n[x] is text, and so is `[ ] this`\n"
    shown = render_whole(text, 60, 20)
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines() == [
        " • \u2611 done", " • \u2610 open", "    • \u2611 inner", "", "[x] is text, and so is [ ] this",
    ]  # fmt: skip
    streamed = read_screen(stream_pieces(text, 60, 20, list(text)), 60, 20)
    assert streamed == read_screen(shown, 60, 20)


def test_many_addresses_are_found_in_linear_time() -> None:
    started = time.process_time()
    parse_markdown("https://a" * 3000 + "\u00e9")
    short = time.process_time() - started
    started = time.process_time()
    parse_markdown("https://a" * 30_000 + "\u00e9")
    assert time.process_time() - started < 40 * short + 0.05
