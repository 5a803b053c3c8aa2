"""Extracts the text of office documents as a person sees it. It runs in the document worker only.

What is hidden (text, slides, sheets, rows) and what tracked changes deleted is left out; a last line counts it.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcpchat_servers.google.hidden_parts import HiddenParts, is_near_white

MAX_COLUMNS = 200  # of a sheet
MAX_SHEETS_SIZE = 20 * 2**20  # bytes of XML; of larger workbooks, hidden rows cannot be told

Write = Callable[[str], bool]  # returns False once the limit of the text is reached


def extract_docx(data: bytes, write: Write) -> None:
    """Write the paragraphs and tables of a Word document, headings and lists as in Markdown."""
    from docx import Document

    from mcpchat_servers.google.word_text import WordText

    hidden = HiddenParts()
    for line in WordText(Document(io.BytesIO(data)), hidden).lines():
        if not write(f"{line}\n"):
            return
    write(str(hidden))


def extract_xlsx(data: bytes, write: Write) -> None:
    """Write the visible sheets of an Excel workbook as CSV, with the values that were stored last."""
    from openpyxl import load_workbook

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        is_large = sum(item.file_size for item in archive.infolist()) > MAX_SHEETS_SIZE
    workbook = load_workbook(io.BytesIO(data), read_only=is_large, data_only=True, keep_links=False)
    hidden = HiddenParts()
    for sheet in workbook.worksheets:
        if sheet.sheet_state != "visible":
            hidden.add("sheet")
            continue
        if not write(f"## {sheet.title}\n\n"):
            return
        empty_rows = 0
        for cells in _large_rows(sheet) if is_large else _visible_rows(sheet, hidden):
            if not any(cells):
                empty_rows += 1
                continue
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(cells)
            if not write("\n" * min(empty_rows, 1) + line.getvalue()):
                return
            empty_rows = 0
        write("\n")
    note = "\n[the workbook is too large to tell whether rows, columns or cells are hidden]\n" if is_large else ""
    write(str(hidden) + note)


def _large_rows(sheet: Any) -> Iterator[list[str]]:
    sheet.reset_dimensions()  # a file may state wrong ones
    for row in sheet.iter_rows(values_only=True):
        yield _trim([*map(_cell_text, row[:MAX_COLUMNS]), *_more_columns(len(row))])


def _visible_rows(sheet: Any, hidden: HiddenParts) -> Iterator[list[str]]:
    """Yield the cells of the rows that are shown, in the columns that are shown."""
    from openpyxl.utils import get_column_letter

    columns = [
        column
        for column in range(1, min(sheet.max_column, MAX_COLUMNS) + 1)
        if not _is_hidden_column(sheet, get_column_letter(column))
    ]
    hidden.add("column", min(sheet.max_column, MAX_COLUMNS) - len(columns))
    for row in sheet.iter_rows():
        if sheet.row_dimensions[row[0].row].hidden:
            hidden.add("row")
            continue
        cells = []
        for column in columns:
            cell = row[column - 1]
            is_seen = cell.value is None or not _is_hidden_cell(cell)
            hidden.add("cell", not is_seen)
            cells.append(_cell_text(cell.value) if is_seen else "")
        yield _trim([*cells, *_more_columns(sheet.max_column)])


def _is_hidden_column(sheet: Any, letters: str) -> bool:
    return letters in sheet.column_dimensions and bool(sheet.column_dimensions[letters].hidden)


def _is_hidden_cell(cell: Any) -> bool:
    """Whether a cell's format hides its value, or its colour is that of the paper."""
    if str(cell.number_format).replace(" ", "") == ";;;":
        return True
    color = cell.font.color.rgb if cell.font is not None and cell.font.color is not None else None
    fill = cell.fill.fgColor.rgb if cell.fill is not None and cell.fill.fill_type == "solid" else "FFFFFF"
    return isinstance(color, str) and is_near_white(color) and (not isinstance(fill, str) or is_near_white(fill))


def _cell_text(value: Any) -> str:
    return "" if value is None else str(value)


def _more_columns(count: int) -> list[str]:
    return [f"[{count - MAX_COLUMNS:,} more columns]"] if count > MAX_COLUMNS else []


def _trim(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells.pop()
    return cells


def extract_pptx(data: bytes, write: Write) -> None:
    """Write the text of the visible slides of a PowerPoint presentation, with their notes."""
    from pptx import Presentation

    presentation = Presentation(io.BytesIO(data))
    size = (presentation.slide_width or 0, presentation.slide_height or 0)
    hidden = HiddenParts()
    for number, slide in enumerate(presentation.slides, 1):
        if slide.element.get("show") in {"0", "false"}:
            hidden.add("slide")
            continue
        lines = [f"[slide {number}]", *_shape_lines(slide.shapes, size, hidden)]
        frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        notes = frame.text.strip() if frame is not None else ""
        lines += [f"[notes] {notes}"] if notes else []
        if not write("\n".join(lines) + "\n\n"):
            return
    write(str(hidden))


def _shape_lines(shapes: Any, size: tuple[int, int], hidden: HiddenParts, *, is_group: bool = False) -> Iterator[str]:
    """Yield the texts of shapes. Those within a group have the group's own measures."""
    for shape in shapes:
        names = shape.element.xpath("./*/p:cNvPr")
        is_hidden = any(name.get("hidden") in {"1", "true"} for name in names)
        if is_hidden or (not is_group and _is_off_slide(shape, size)):
            hidden.add("shape")
        elif hasattr(shape, "shapes"):
            yield from _shape_lines(shape.shapes, size, hidden, is_group=True)
        elif getattr(shape, "has_table", False) and shape.has_table:
            for row in shape.table.rows:
                yield "| " + " | ".join(cell.text.replace("\n", " ") for cell in row.cells) + " |"
        elif shape.has_text_frame and shape.text_frame.text.strip():
            yield shape.text_frame.text.strip()


def _is_off_slide(shape: Any, size: tuple[int, int]) -> bool:
    left, top, width, height = shape.left, shape.top, shape.width, shape.height
    if None in (left, top, width, height):
        return False  # its layout decides
    is_beyond = (size[0] > 0 and left >= size[0]) or (size[1] > 0 and top >= size[1])
    return bool(left + width <= 0 or top + height <= 0 or is_beyond)


def extract_odt(data: bytes, write: Write) -> None:
    """Write the paragraphs, headings, lists and tables of an OpenDocument text."""
    from odfdo import Document

    document = Document(io.BytesIO(data))
    hidden = HiddenParts()
    text = _OdfText(document.get_styles(), hidden)
    for line in text.blocks(document.body):
        if not write(f"{line}\n"):
            return
    write(str(hidden))


class _OdfText:
    """The text of an OpenDocument, line by line."""

    def __init__(self, styles: Any, hidden: HiddenParts) -> None:
        self._hidden = hidden
        self._parents: dict[str, str] = {}
        self._own: dict[str, bool] = {}  # whether a style itself says that text is seen
        for style in styles:
            name = str(style.get_attribute("style:name"))
            self._parents[name] = str(style.get_attribute("style:parent-style-name") or "")
            for properties in style.children:
                if properties.tag != "style:text-properties":
                    continue
                display, color = properties.get_attribute("text:display"), properties.get_attribute("fo:color")
                background = str(properties.get_attribute("fo:background-color") or "#ffffff")
                is_white = is_near_white(str(color or "")) and is_near_white(
                    background.replace("transparent", "#ffffff")
                )
                if display is not None or color is not None:
                    self._own[name] = display == "none" or is_white

    def blocks(self, parent: Any) -> Iterator[str]:
        """Yield the lines of the blocks in an element. Tracked changes hold what was deleted."""
        for child in parent.children:
            match child.tag:
                case "text:tracked-changes" | "office:forms":
                    continue
                case "text:section" if child.get_attribute("text:display") in {"none", "condition"}:
                    self._hidden.add("section")
                case "text:h":
                    level = child.get_attribute_integer("text:outline-level") or 1
                    yield f"{'#' * min(level, 6)} {self._paragraph(child)}\n"
                case "text:p":
                    yield self._paragraph(child)
                case "table:table-row":
                    cells = [cell for cell in child.children if cell.tag == "table:table-cell"]
                    yield "| " + " | ".join(" ".join(filter(None, self.blocks(cell))) for cell in cells) + " |"
                case _:
                    yield from self.blocks(child)

    def _paragraph(self, element: Any) -> str:
        if element.get_elements("descendant::text:hidden-paragraph"):
            self._hidden.add("passage")
            return ""
        return self._text(element).strip()

    def _text(self, element: Any) -> str:
        """Return the text within an element."""
        match element.tag:
            case "text:s":
                return " " * min(element.get_attribute_integer("text:c") or 1, 1000)
            case "text:tab":
                return "\t"
            case "text:line-break":
                return "\n"
            case "office:annotation" | "svg:title" | "svg:desc" | "text:script":
                return ""
        inner = (element.text or "") + "".join(self._text(child) + (child.tail or "") for child in element.children)
        is_hidden = element.tag == "text:hidden-text" or self._is_hidden_style(element.get_attribute("text:style-name"))
        if is_hidden and inner.strip():
            self._hidden.add("passage")
            return ""
        return inner

    def _is_hidden_style(self, name: object) -> bool:
        """Whether a style, or the one that it takes this from, hides text."""
        for _ in range(20):
            if not isinstance(name, str) or not name:
                return False
            if name in self._own:
                return self._own[name]
            name = self._parents.get(name)
        return False


EXTRACTORS: Mapping[str, Callable[[bytes, Write], None]] = {
    "docx": extract_docx,
    "xlsx": extract_xlsx,
    "pptx": extract_pptx,
    "odt": extract_odt,
}
