"""Extracts the text of a Word document. It runs in the document worker only."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mcpchat_servers.google.hidden_parts import HiddenParts, is_near_white

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_LIGHT_THEME_COLORS = {"background1", "bg1", "light1", "lt1"}
_MIN_SIZE = 5  # half points; smaller text cannot be read
_MIN_SCALE = 10  # percent of a letter's width
_MAX_STYLE_DEPTH = 20


@dataclass(frozen=True)
class _Look:
    """How text looks, as far as it decides whether a person sees it."""

    is_hidden: bool = False
    is_white: bool = False
    is_shaded: bool = False
    is_tiny: bool = False

    @property
    def is_seen(self) -> bool:
        return not (self.is_hidden or self.is_tiny or (self.is_white and not self.is_shaded))


class WordText:
    """The text of a document's body, line by line."""

    def __init__(self, document: Any, hidden: HiddenParts) -> None:
        self._body = document.element.body
        self._hidden = hidden
        styles = {style.style_id: style for style in document.styles}
        self._looks = {style_id: self._style_look(styles, style_id) for style_id in styles}
        self._headings = {
            style_id: int(style.name[-1])
            for style_id, style in styles.items()
            if style.name and style.name.startswith("Heading ") and style.name[-1].isdecimal()
        }

    def lines(self) -> Iterator[str]:
        return self._blocks(self._body)

    def _style_look(self, styles: Mapping[str, Any], style_id: str) -> _Look:
        """Return the look of a style, with what it takes from those that it is based on."""
        chain: list[Any] = []
        style: Any = styles.get(style_id)
        while style is not None and len(chain) < _MAX_STYLE_DEPTH:
            chain.append(style.element)
            style = getattr(style, "base_style", None)
        look = _Look()
        for element in reversed(chain):
            look = _apply(look, element.find(f"{_WORD}rPr"), element.find(f"{_WORD}pPr"))
        return look

    def _blocks(self, parent: Any) -> Iterator[str]:
        """Yield the lines of the blocks in an element: paragraphs, tables, and what groups them."""
        for child in parent.iterchildren():
            if child.tag == f"{_WORD}p":
                yield from self._paragraph(child)
            elif child.tag == f"{_WORD}tbl":
                yield from self._table(child)
            elif child.tag not in (f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}sectPr", _FALLBACK):
                yield from self._blocks(child)

    def _table(self, table: Any) -> Iterator[str]:
        for row in _find_inner(table, f"{_WORD}tr"):
            cells = [" ".join(filter(None, self._blocks(cell))) for cell in _find_inner(row, f"{_WORD}tc")]
            if row.find(f"{_WORD}trPr/{_WORD}hidden") is not None:
                self._hidden.add("row")
            else:
                yield "| " + " | ".join(cells) + " |"
        yield ""

    def _paragraph(self, paragraph: Any) -> Iterator[str]:
        style = _value(paragraph, "pPr", "pStyle")
        look = _apply(self._looks.get(style, _Look()), None, paragraph.find(f"{_WORD}pPr"))
        parts: list[str] = []
        is_code = False  # of a field, such as a link's address
        for run in paragraph.iter(f"{_WORD}r"):
            if _is_left_out(run, paragraph):
                continue
            for mark in run.iterchildren(f"{_WORD}fldChar"):
                is_code = mark.get(f"{_WORD}fldCharType") == "begin"
            text = "".join(_RUN_TEXTS[item.tag](item) for item in run.iterchildren() if item.tag in _RUN_TEXTS)
            settings = run.find(f"{_WORD}rPr")
            run_style = self._looks.get(_value(settings, "rStyle") if settings is not None else "")
            own = _apply(_merge(look, run_style), settings, None)
            if text.strip() and (is_code or not own.is_seen):
                self._hidden.add("passage")
            else:
                parts.append(text)
        text = "".join(parts).strip()
        level = self._headings.get(style, 0) if text else 0
        if level:
            yield f"{'#' * min(level, 6)} {text}\n"
        else:
            is_item = text and paragraph.find(f"{_WORD}pPr/{_WORD}numPr") is not None
            yield f"- {text}" if is_item else text
        for box in paragraph.iter(f"{_WORD}txbxContent"):
            if not any(parent.tag == _FALLBACK for parent in box.iterancestors()):
                yield from self._blocks(box)


def _find_inner(parent: Any, tag: str) -> Iterator[Any]:
    """Yield the rows or cells of a table, also those within content controls."""
    for child in parent.iterchildren():
        if child.tag == tag:
            yield child
        elif child.tag in (f"{_WORD}sdt", f"{_WORD}sdtContent", f"{_WORD}customXml", f"{_WORD}ins"):
            yield from _find_inner(child, tag)


def _is_left_out(run: Any, paragraph: Any) -> bool:
    """Whether a run was deleted, is an older program's version of what follows, or is in a text box of its own."""
    for parent in run.iterancestors():
        if parent is paragraph:
            return False
        if parent.tag in (f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}txbxContent", _FALLBACK):
            return True
    return False


def _merge(look: _Look, style: _Look | None) -> _Look:
    if style is None:
        return look
    return _Look(
        look.is_hidden or style.is_hidden,
        look.is_white or style.is_white,
        look.is_shaded or style.is_shaded,
        look.is_tiny or style.is_tiny,
    )


def _apply(look: _Look, settings: Any, paragraph_settings: Any) -> _Look:
    """Return the look with the settings of a run or of a style (``w:rPr``), and of a paragraph (``w:pPr``)."""
    if paragraph_settings is not None and (shade := paragraph_settings.find(f"{_WORD}shd")) is not None:
        look = replace(look, is_shaded=_is_dark(shade.get(f"{_WORD}fill")))
    if settings is None:
        return look
    if (vanish := settings.find(f"{_WORD}vanish")) is not None:
        look = replace(look, is_hidden=vanish.get(f"{_WORD}val") not in {"0", "false", "off"})
    if (color := settings.find(f"{_WORD}color")) is not None:
        theme, value = color.get(f"{_WORD}themeColor"), str(color.get(f"{_WORD}val") or "")
        look = replace(look, is_white=theme in _LIGHT_THEME_COLORS if theme else is_near_white(value))
    if (shade := settings.find(f"{_WORD}shd")) is not None:
        look = replace(look, is_shaded=_is_dark(shade.get(f"{_WORD}fill")))
    if (highlight := settings.find(f"{_WORD}highlight")) is not None:
        look = replace(look, is_shaded=highlight.get(f"{_WORD}val") not in {"none", "white"})
    size, scale = _value(settings, "sz"), _value(settings, "w")
    if size.isdecimal():
        look = replace(look, is_tiny=int(size) < _MIN_SIZE)
    if scale.isdecimal() and int(scale) < _MIN_SCALE:
        look = replace(look, is_tiny=True)
    return look


def _is_dark(fill: str | None) -> bool:
    return bool(fill) and fill != "auto" and not is_near_white(fill or "")


def _value(element: Any, *names: str) -> str:
    """Return the value of a setting below an element; empty if it is missing."""
    for name in names:
        element = element.find(f"{_WORD}{name}")
        if element is None:
            return ""
    return str(element.get(f"{_WORD}val") or "")


_RUN_TEXTS: Mapping[str, Callable[[Any], str]] = {
    f"{_WORD}t": lambda item: item.text or "",
    f"{_WORD}tab": lambda item: "\t",
    f"{_WORD}br": lambda item: "\n",
    f"{_WORD}cr": lambda item: "\n",
    f"{_WORD}noBreakHyphen": lambda item: "-",
}
