"""Long results are cut out of their middle, and say so."""

from mcpchat.core.messages import Image, Link, Text, ToolResult
from mcpchat.engine.tool_results import READ_RESULT, TruncatingToolbox, truncate_result
from tests.fakes import FakeToolbox, MemoryResults, make_tool


def texts(result: ToolResult) -> list[str]:
    return [part.text for part in result.parts if isinstance(part, Text)]


def test_a_result_that_fits_is_left_alone() -> None:
    result = ToolResult(call_id="c", parts=(Text(text="x" * 10),), structured={"a": 1})
    assert truncate_result(result, 10) is result


def test_a_long_text_keeps_its_head_and_tail() -> None:
    result = ToolResult(call_id="c", parts=(Text(text="h" * 700 + "m" * 5000 + "t" * 300),), structured={"a": 1})
    cut = truncate_result(result, 1000)
    note = "[… 5,000 of 6,000 characters left out here: ask for less at a time …]"
    assert texts(cut) == ["h" * 700 + f"\n{note}\n" + "t" * 300]
    assert cut.structured is None


def test_the_limit_is_for_all_texts_together_and_images_stay() -> None:
    image = Image(media_type="image/png", data=b"x" * 5000)
    cut = truncate_result(ToolResult(call_id="c", parts=(Text(text="a" * 900), image, Text(text="b" * 900))), 1000)
    assert image in cut.parts
    first, second = texts(cut)
    assert first == "a" * 900
    assert second.count("b") == 100


def test_thousands_of_parts_and_endless_links_are_bounded() -> None:
    many = truncate_result(ToolResult(call_id="c", parts=tuple(Text(text="yy") for _ in range(5000))), 1000)
    assert len(many.parts) == 501
    assert texts(many)[-1] == "[… 4,500 more parts left out here: ask for less at a time …]"
    link = truncate_result(ToolResult(call_id="c", parts=(Link(uri="x" * 200_000), Text(text="y" * 10))), 1000)
    assert texts(link) == ["[… 2 more parts left out here: ask for less at a time …]"]


def test_a_result_with_structure_alone_is_bounded_too() -> None:
    cut = truncate_result(ToolResult(call_id="c", structured={"a": "x" * 100_000}), 1000)
    assert texts(cut)[0].count("x") < 1000
    assert cut.structured is None


async def test_a_wrapped_toolbox_is_the_same_toolbox() -> None:
    inner = FakeToolbox({"echo": lambda a: "y" * 5000})
    box = TruncatingToolbox(inner, limit=1000, store=MemoryResults())
    assert await box.list_tools() == (*await inner.list_tools(), READ_RESULT)
    box.prestart(make_tool())
    assert inner.prestarted == ["echo"]
    assert texts(await box.call(make_tool(), "c", {}, print))[0].count("y") == 1000


# --- reading on -------------------------------------------------------------------------------------------------

LONG = "".join(f"line {n} {'needle' if n % 100 == 7 else 'hay'}\n" for n in range(2000))


async def kept(room: int = 9) -> tuple[TruncatingToolbox, str]:
    box = TruncatingToolbox(FakeToolbox({"echo": lambda a: LONG}), limit=1000, store=MemoryResults(room))
    shown = texts(await box.call(make_tool(), "c", {}, print))[0]
    return box, shown


async def test_a_cut_result_says_how_to_read_on_and_can_be_paged_through_whole() -> None:
    box, shown = await kept()
    assert 'left out here: mcpchat__read_result(id="r0", offset=..., grep=...) reads the rest' in shown
    read, offset = "", 0
    while True:
        page = texts(await box.call(READ_RESULT, "c", {"id": "r0", "offset": offset, "limit": 700}, print))[0]
        piece, _, note = page.rpartition("\n[characters ")
        read += piece
        if "the end" in note:
            break
        offset = int(note.rpartition("offset=")[2].rstrip("]"))
    assert read == LONG


async def test_a_page_without_a_limit_is_whole_and_letters_of_any_case_are_found() -> None:
    store = MemoryResults()
    store.save("İ\n" + LONG + "ERROR here\n")
    box = TruncatingToolbox(FakeToolbox(), limit=1000, store=store)
    page = texts(await box.call(READ_RESULT, "c", {"id": "r0"}, print))[0]
    assert "left out" not in page
    assert page.startswith("İ\nline 0 hay\n")
    assert "2002: ERROR here" in texts(await box.call(READ_RESULT, "c", {"id": "r0", "grep": "error"}, print))[0]


async def test_grep_finds_lines_with_their_numbers_in_either_case() -> None:
    box, _ = await kept()
    page = texts(await box.call(READ_RESULT, "c", {"id": "r0", "grep": "NEEDLE", "limit": 2, "offset": 1}, print))[0]
    assert page == "108: line 107 needle\n208: line 207 needle\n[20 lines match; go on at offset=3]"


async def test_of_an_endless_line_grep_shows_the_place() -> None:
    store = MemoryResults()
    store.save("x" * 50_000 + "needle" + "y" * 50_000)
    box = TruncatingToolbox(FakeToolbox(), limit=1000, store=store)
    page = texts(await box.call(READ_RESULT, "c", {"id": "r0", "grep": "needle"}, print))[0]
    assert page.startswith("1: " + "x" * 200 + "needle" + "y" * 200 + "  (offset 50000)")


async def test_what_is_not_kept_is_said() -> None:
    box, shown = await kept(room=0)
    assert "ask for less at a time" in shown
    missing = await box.call(READ_RESULT, "c", {"id": "r7"}, print)
    assert (missing.is_error, texts(missing)) == (True, ["no result is kept under 'r7'"])


async def test_a_toolbox_without_tools_offers_nothing_and_the_offer_is_one_object() -> None:
    empty = FakeToolbox()
    empty._specs = ()
    assert await TruncatingToolbox(empty, limit=1000, store=MemoryResults()).list_tools() == ()
    box, _ = await kept()
    assert await box.list_tools() is await box.list_tools()
