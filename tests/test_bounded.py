"""Long results are cut out of their middle, and say so."""

from mcpchat.core.bounded import READ_RESULT, BoundedToolbox, bounded
from mcpchat.core.messages import Image, Link, Text, ToolResult
from tests.fakes import FakeToolbox, MemoryResults, tool


def texts(result: ToolResult) -> list[str]:
    return [part.text for part in result.parts if isinstance(part, Text)]


def test_a_result_that_fits_is_left_alone() -> None:
    result = ToolResult(call_id="c", parts=(Text(text="x" * 10),), structured={"a": 1})
    assert bounded(result, 10) is result


def test_a_long_text_keeps_its_head_and_tail() -> None:
    result = ToolResult(call_id="c", parts=(Text(text="h" * 700 + "m" * 5000 + "t" * 300),), structured={"a": 1})
    cut = bounded(result, 1000)
    note = "[… 5,000 of 6,000 characters left out here: ask for less at a time …]"
    assert texts(cut) == ["h" * 700 + f"\n{note}\n" + "t" * 300]
    assert cut.structured is None


def test_the_limit_is_for_all_texts_together_and_images_stay() -> None:
    image = Image(media_type="image/png", data=b"x" * 5000)
    cut = bounded(ToolResult(call_id="c", parts=(Text(text="a" * 900), image, Text(text="b" * 900))), 1000)
    assert image in cut.parts
    first, second = texts(cut)
    assert first == "a" * 900
    assert second.count("b") == 100


def test_thousands_of_parts_and_endless_links_are_bounded() -> None:
    many = bounded(ToolResult(call_id="c", parts=tuple(Text(text="yy") for _ in range(5000))), 1000)
    assert len(many.parts) == 501
    assert texts(many)[-1] == "[… 4,500 more parts left out here: ask for less at a time …]"
    link = bounded(ToolResult(call_id="c", parts=(Link(uri="x" * 200_000), Text(text="y" * 10))), 1000)
    assert texts(link) == ["[… 2 more parts left out here: ask for less at a time …]"]


def test_a_result_with_structure_alone_is_bounded_too() -> None:
    cut = bounded(ToolResult(call_id="c", structured={"a": "x" * 100_000}), 1000)
    assert texts(cut)[0].count("x") < 1000
    assert cut.structured is None


async def test_a_wrapped_toolbox_is_the_same_toolbox() -> None:
    inner = FakeToolbox({"echo": lambda a: "y" * 5000})
    box = BoundedToolbox(inner, limit=1000, store=MemoryResults())
    assert await box.tools() == (*await inner.tools(), READ_RESULT)
    box.expect(tool())
    assert inner.expected == ["echo"]
    assert texts(await box.call(tool(), "c", {}, print))[0].count("y") == 1000
