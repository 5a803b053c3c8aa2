"""Extracts the text of office documents as a person sees it. It runs in the document worker only.

What is hidden (text, slides, sheets) and what tracked changes deleted is left out; a last line counts it.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_COLUMNS = 200  # of a sheet
_MIN_VISIBLE_SIZE = 5  # half points; smaller text cannot be read
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_WHITE = {"FFFFFF", "FEFEFE", "FDFDFD"}

Write = Callable[[str], bool]  # returns False once the limit of the text is reached


class Hidden:
    """Counts what is left out."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, what: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1

    def __str__(self) -> str:
        parts = [f"{count} hidden {what}{'' if count == 1 else 's'}" for what, count in self._counts.items()]
        return f"\n[{' and '.join(parts)} left out]\n" if parts else ""


def extract_docx(data: bytes, write: Write) -> None:
    """Write the paragraphs and tables of a Word document, headings as in Markdown."""
    from docx import Document

    document = Document(io.BytesIO(data))
    styles = {style.style_id: style for style in document.styles}
    hidden_styles = {style_id for style_id, style in styles.items() if _is_hidden_style(style)}
    hidden = Hidden()
    headings = {
        style_id: int(style.name[-1])
        for style_id, style in styles.items()
        if style.name and style.name.startswith("Heading ") and style.name[-1].isdecimal()
    }
    for line in _word_blocks(document.element.body, hidden_styles, headings, hidden):
        if not write(f"{line}\n"):
            return
    write(str(hidden))


def _is_hidden_style(style: Any) -> bool:
    """Whether text of this style of Word, or of one that it is based on, is hidden."""
    for _ in range(20):
        font = getattr(style, "font", None)
        if font is not None and font.hidden is not None:
            return bool(font.hidden)
        style = getattr(style, "base_style", None)
        if style is None:
            return False
    return False


def _word_blocks(parent: Any, styles: set[str], headings: Mapping[str, int], hidden: Hidden) -> Iterator[str]:
    """Yield the lines of the blocks in an element of Word: paragraphs, tables, and what groups them."""
    for child in parent.iterchildren():
        if child.tag == f"{_WORD}p":
            style = _word_value(child, "pPr", "pStyle")
            text = _word_text(child, styles, hidden)
            level = headings.get(style, 0) if text else 0
            yield f"{'#' * min(level, 6)} {text}\n" if level else text
        elif child.tag == f"{_WORD}tbl":
            for row in child.iterchildren(f"{_WORD}tr"):
                cells = [
                    " ".join(filter(None, _word_blocks(cell, styles, {}, hidden)))
                    for cell in row.iterchildren(f"{_WORD}tc")
                ]
                yield "| " + " | ".join(cells) + " |"
            yield ""
        elif child.tag not in (f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}sectPr"):
            yield from _word_blocks(child, styles, headings, hidden)


def _word_value(element: Any, *names: str) -> str:
    """Return the value of a setting of Word below an element; empty if it is missing."""
    for name in names:
        element = element.find(f"{_WORD}{name}")
        if element is None:
            return ""
    return str(element.get(f"{_WORD}val") or "")


def _word_text(paragraph: Any, styles: set[str], hidden: Hidden) -> str:
    parts: list[str] = []
    for run in paragraph.iter(f"{_WORD}r"):
        if any(parent.tag in (f"{_WORD}del", f"{_WORD}moveFrom") for parent in run.iterancestors()):
            continue
        texts = [_RUN_TEXTS[item.tag](item) for item in run.iterchildren() if item.tag in _RUN_TEXTS]
        if not "".join(texts).strip():
            parts += texts
        elif _is_hidden_run(run, paragraph, styles):
            hidden.add("passage")
        else:
            parts += texts
    return "".join(parts).strip()


_RUN_TEXTS: Mapping[str, Callable[[Any], str]] = {
    f"{_WORD}t": lambda item: item.text or "",
    f"{_WORD}tab": lambda item: "\t",
    f"{_WORD}br": lambda item: "\n",
    f"{_WORD}cr": lambda item: "\n",
    f"{_WORD}noBreakHyphen": lambda item: "-",
}


def _is_hidden_run(run: Any, paragraph: Any, styles: set[str]) -> bool:
    settings = run.find(f"{_WORD}rPr")
    if settings is None:
        return _word_value(paragraph, "pPr", "pStyle") in styles
    vanish = settings.find(f"{_WORD}vanish")
    if vanish is not None:
        return vanish.get(f"{_WORD}val") not in {"0", "false", "off"}
    size, color = _word_value(settings, "sz"), _word_value(settings, "color").upper()
    is_shaded = settings.find(f"{_WORD}shd") is not None or settings.find(f"{_WORD}highlight") is not None
    is_small = size.isdecimal() and int(size) < _MIN_VISIBLE_SIZE
    is_hidden_style = {_word_value(settings, "rStyle"), _word_value(paragraph, "pPr", "pStyle")} & styles
    return bool(is_hidden_style) or is_small or (color in _WHITE and not is_shaded)


def extract_xlsx(data: bytes, write: Write) -> None:
    """Write the visible sheets of an Excel workbook as CSV, with the values that were stored last."""
    from openpyxl import load_workbook

    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    hidden = Hidden()
    for sheet in workbook.worksheets:
        if sheet.sheet_state != "visible":
            hidden.add("sheet")
            continue
        if not write(f"## {sheet.title}\n\n"):
            return
        empty_rows = 0
        for row in sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS):
            cells = ["" if cell is None else str(cell) for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if not cells:
                empty_rows += 1
                continue
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(cells)
            if not write("\n" * min(empty_rows, 1) + line.getvalue()):
                return
            empty_rows = 0
        write("\n")
    write(str(hidden))


def extract_pptx(data: bytes, write: Write) -> None:
    """Write the text of the visible slides of a PowerPoint presentation, with their notes."""
    from pptx import Presentation

    hidden = Hidden()
    for number, slide in enumerate(Presentation(io.BytesIO(data)).slides, 1):
        if slide.element.get("show") == "0":
            hidden.add("slide")
            continue
        lines = [f"[slide {number}]", *_shape_lines(slide.shapes)]
        notes = slide.notes_slide.notes_text_frame.text.strip() if slide.has_notes_slide else ""
        lines += [f"[notes] {notes}"] if notes else []
        if not write("\n".join(lines) + "\n\n"):
            return
    write(str(hidden))


def _shape_lines(shapes: Any) -> Iterator[str]:
    for shape in shapes:
        if shape.element.xpath(".//p:cNvPr[@hidden='1' or @hidden='true']"):
            continue
        if hasattr(shape, "shapes"):
            yield from _shape_lines(shape.shapes)
        elif getattr(shape, "has_table", False) and shape.has_table:
            for row in shape.table.rows:
                yield "| " + " | ".join(cell.text.replace("\n", " ") for cell in row.cells) + " |"
        elif shape.has_text_frame and shape.text_frame.text.strip():
            yield shape.text_frame.text.strip()


def extract_odt(data: bytes, write: Write) -> None:
    """Write the paragraphs, headings, lists and tables of an OpenDocument text."""
    from odfdo import Document

    document = Document(io.BytesIO(data))
    hidden = Hidden()
    hidden_styles = {
        str(style.get_attribute("style:name"))
        for style in document.get_styles()
        for properties in style.children
        if properties.tag == "style:text-properties" and properties.get_attribute("text:display") == "none"
    }
    for line in _odf_blocks(document.body, hidden_styles, hidden):
        if not write(f"{line}\n"):
            return
    write(str(hidden))


def _odf_blocks(parent: Any, styles: set[str], hidden: Hidden) -> Iterator[str]:
    """Yield the lines of the blocks in an element of OpenDocument. Tracked changes hold what was deleted."""
    for child in parent.children:
        match child.tag:
            case "text:tracked-changes":
                continue
            case "text:h":
                level = child.get_attribute_integer("text:outline-level") or 1
                yield f"{'#' * min(level, 6)} {_odf_text(child, styles, hidden).strip()}\n"
            case "text:p":
                yield _odf_text(child, styles, hidden).strip()
            case "table:table-row":
                cells = [cell for cell in child.children if cell.tag == "table:table-cell"]
                yield (
                    "| "
                    + " | ".join(" ".join(filter(None, _odf_blocks(cell, styles, hidden))) for cell in cells)
                    + " |"
                )
            case _:
                yield from _odf_blocks(child, styles, hidden)


def _odf_text(element: Any, styles: set[str], hidden: Hidden) -> str:
    """Return the text within an element of OpenDocument."""
    match element.tag:
        case "text:s":
            return " " * min(element.get_attribute_integer("text:c") or 1, 1000)
        case "text:tab":
            return "\t"
        case "text:line-break":
            return "\n"
        case "office:annotation":
            return ""
    inner = (element.text or "") + "".join(
        _odf_text(child, styles, hidden) + (child.tail or "") for child in element.children
    )
    is_hidden = element.tag in {"text:hidden-text", "text:hidden-paragraph"}
    if (is_hidden or element.get_attribute("text:style-name") in styles) and inner.strip():
        hidden.add("passage")
        return ""
    return inner


EXTRACTORS: Mapping[str, Callable[[bytes, Write], None]] = {
    "docx": extract_docx,
    "xlsx": extract_xlsx,
    "pptx": extract_pptx,
    "odt": extract_odt,
}
