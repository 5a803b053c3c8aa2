"""Tests of truncated tool results: the middle is left out, a note says so, and the rest can be read."""

from mcpchat.core.messages import Image, Link, Text, ToolResult
from mcpchat.engine.tool_results import READ_RESULT, TruncatingToolbox, truncate_result
from tests.support.fakes import FakeToolbox, MemoryResults, make_tool


def texts(result: ToolResult) -> list[str]:
    return [part.text for part in result.parts if isinstance(part, Text)]


def test_a_result_that_fits_is_unchanged() -> None:
    result = ToolResult(call_id="c", parts=(Text(text="x" * 10),), structured={"a": 1})
    assert truncate_result(result, 10) is result


def test_a_long_text_keeps_its_head_and_tail() -> None:
    result = ToolResult(call_id="c", parts=(Text(text="h" * 700 + "m" * 5000 + "t" * 300),), structured={"a": 1})
    truncated = truncate_result(result, 1000)
    note = "[… 5,000 of 6,000 characters left out here: ask for less at a time …]"
    assert texts(truncated) == ["h" * 700 + f"\n{note}\n" + "t" * 300]
    assert truncated.structured is None


def test_the_limit_is_for_all_texts_and_images_stay() -> None:
    image = Image(media_type="image/png", data=b"x" * 5000)
    truncated = truncate_result(
        ToolResult(call_id="c", parts=(Text(text="a" * 900), image, Text(text="b" * 900))), 1000
    )
    assert image in truncated.parts
    first, second = texts(truncated)
    assert first == "a" * 900
    assert second.count("b") == 100


def test_thousands_of_parts_and_endless_links_are_bounded() -> None:
    many = truncate_result(ToolResult(call_id="c", parts=tuple(Text(text="yy") for _ in range(5000))), 1000)
    assert len(many.parts) == 501
    assert texts(many)[-1] == "[… 4,500 more parts left out here: ask for less at a time …]"
    link = truncate_result(ToolResult(call_id="c", parts=(Link(uri="x" * 200_000), Text(text="y" * 10))), 1000)
    assert texts(link) == ["[… 2 more parts left out here: ask for less at a time …]"]


def test_a_structured_result_is_bounded() -> None:
    truncated = truncate_result(ToolResult(call_id="c", structured={"a": "x" * 100_000}), 1000)
    assert texts(truncated)[0].count("x") < 1000
    assert truncated.structured is None


async def test_a_wrapped_toolbox_forwards_calls() -> None:
    inner = FakeToolbox({"echo": lambda a: "y" * 5000})
    toolbox = TruncatingToolbox(inner, limit=1000, store=MemoryResults())
    assert await toolbox.list_tools() == (*await inner.list_tools(), READ_RESULT)
    toolbox.prestart(make_tool())
    assert inner.prestarted == ["echo"]
    assert texts(await toolbox.call(make_tool(), "c", {}, print))[0].count("y") == 1000


# --- reading the rest --------------------------------------------------------------------------------------------

LONG = "".join(f"line {n} {'needle' if n % 100 == 7 else 'hay'}\n" for n in range(2000))


async def truncated_toolbox(size: int = 9) -> tuple[TruncatingToolbox, str]:
    toolbox = TruncatingToolbox(FakeToolbox({"echo": lambda a: LONG}), limit=1000, store=MemoryResults(size))
    output = texts(await toolbox.call(make_tool(), "c", {}, print))[0]
    return toolbox, output


async def test_a_truncated_result_names_read_result_which_pages_through_all() -> None:
    toolbox, output = await truncated_toolbox()
    assert 'left out here: mcpchat__read_result(id="r0", offset=..., grep=...) reads the rest' in output
    content, offset = "", 0
    while True:
        page = texts(await toolbox.call(READ_RESULT, "c", {"id": "r0", "offset": offset, "limit": 700}, print))[0]
        piece, _, note = page.rpartition("\n[characters ")
        content += piece
        if "the end" in note:
            break
        offset = int(note.rpartition("offset=")[2].rstrip("]"))
    assert content == LONG


async def test_a_page_without_limit_is_complete_and_grep_ignores_case() -> None:
    store = MemoryResults()
    store.save("İ\n" + LONG + "ERROR here\n")
    toolbox = TruncatingToolbox(FakeToolbox(), limit=1000, store=store)
    page = texts(await toolbox.call(READ_RESULT, "c", {"id": "r0"}, print))[0]
    assert "left out" not in page
    assert page.startswith("İ\nline 0 hay\n")
    assert "2002: ERROR here" in texts(await toolbox.call(READ_RESULT, "c", {"id": "r0", "grep": "error"}, print))[0]


async def test_grep_finds_lines_with_numbers_and_ignores_case() -> None:
    toolbox, _ = await truncated_toolbox()
    page = texts(await toolbox.call(READ_RESULT, "c", {"id": "r0", "grep": "NEEDLE", "limit": 2, "offset": 1}, print))[
        0
    ]
    assert page == "108: line 107 needle\n208: line 207 needle\n[20 lines match; go on at offset=3]"


async def test_grep_shows_the_match_in_a_long_line() -> None:
    store = MemoryResults()
    store.save("x" * 50_000 + "needle" + "y" * 50_000)
    toolbox = TruncatingToolbox(FakeToolbox(), limit=1000, store=store)
    page = texts(await toolbox.call(READ_RESULT, "c", {"id": "r0", "grep": "needle"}, print))[0]
    assert page.startswith("1: " + "x" * 200 + "needle" + "y" * 200 + "  (offset 50000)")


async def test_an_unknown_id_is_error() -> None:
    toolbox, output = await truncated_toolbox(size=0)
    assert "ask for less at a time" in output
    missing = await toolbox.call(READ_RESULT, "c", {"id": "r7"}, print)
    assert (missing.is_error, texts(missing)) == (True, ["no result is stored under 'r7'"])


async def test_an_empty_toolbox_lists_nothing_and_the_list_is_cached() -> None:
    empty = FakeToolbox()
    empty._specs = ()
    assert await TruncatingToolbox(empty, limit=1000, store=MemoryResults()).list_tools() == ()
    toolbox, _ = await truncated_toolbox()
    assert await toolbox.list_tools() is await toolbox.list_tools()
