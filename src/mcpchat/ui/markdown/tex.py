"""TeX formulas as a line of Unicode text, where that is exact."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from pylatexenc.latex2text import fmt_math_text_style, get_default_latex_context_db
from pylatexenc.latexwalker import LatexCharsNode, LatexGroupNode, LatexMacroNode, LatexWalker


def _small_letters(kind: str) -> dict[str, str]:
    """The characters that Unicode has as ``<super>`` or ``<sub>``, by what they stand for."""
    chars = map(chr, (0xB2, 0xB3, 0xB9, *range(0x2B0, 0x2B9), *range(0x1D2C, 0x1D6B), *range(0x2070, 0x20A0), 0x2C7C))
    pairs = {unicodedata.decomposition(char): char for char in chars}
    return {chr(int(code.split()[1], 16)): char for code, char in pairs.items() if code.startswith(kind)}


_RAISED = _small_letters("<super>") | {"′": "′", "∘": "°"}
_LOWERED = _small_letters("<sub>")
_SMALL = frozenset({*_RAISED.values(), *_LOWERED.values()})
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}
_TEXTS = frozenset({"text", "textrm", "textnormal", "mathrm", "mathit", "operatorname", "mbox"})
_ALPHABETS = {
    "mathbb": "doublestruck", "mathcal": "script", "mathscr": "script", "mathfrak": "fraktur", "mathbf": "bold",
}  # fmt: skip
_DELIMITERS = frozenset({"left", "right"})
_INVISIBLE = _DELIMITERS | {"bigl", "bigr", "big", "Big", "displaystyle", "limits", "!"}
_ESCAPED = frozenset("_%&#${} ")
# What the library's table lacks.
_SYMBOLS = {
    "ne": "≠", "iff": "⟺", "implies": "⟹", "impliedby": "⟸", "gets": "←", "degree": "°", "triangle": "△", "land": "∧",
    "lor": "∨", "neg": "¬", "lnot": "¬", "Re": "ℜ", "Im": "ℑ", "|": "‖", "colon": ":", "lt": "<", "gt": ">",
    "varnothing": "∅", "therefore": "∴", "because": "∵",
}  # fmt: skip
_CHARACTERS = {"-": "−", "'": "′", "~": " "}
_NUMERATOR, _SINGLE = re.compile(r"[\w.]+|\S"), re.compile(r"\d+|\S")  # what needs no brackets
_BEFORE, _AFTER = ")]}/!√∛∜′°", "([{/!√∛∜′°"  # beside these signs, as beside a letter or digit, a part needs brackets
_TABLE = get_default_latex_context_db()


class _InexactError(Exception):
    """The formula has something that has no exact form in a line of text."""


class _Part(NamedTuple):
    """A part of the line. What stands beside it decides about brackets around a ``whole`` part or its ``index``, and
    about blanks around a ``word``. A ``marker`` makes the next part an index.
    """

    text: str
    kind: Literal["", "whole", "index", "word", "marker"] = ""


def format_tex(formula: str) -> str | None:
    """The formula as Unicode text, such as ``E = mc²``. None if TeX says more than a line of text can."""
    try:
        source = _FRACTION.sub(r"\\frac", formula)
        text = _format_nodes(LatexWalker(source, tolerant_parsing=False).get_latex_nodes()[0])
    except Exception:  # noqa: BLE001 - the parser raises more than its own errors for what it cannot read
        return None
    return " ".join(text.split()) or None


def _format_nodes(nodes: Sequence[Any]) -> str:
    parts: list[_Part] = []
    marker, last_marker = "", ""
    for part in _split_parts(nodes):
        if part.kind == "marker" and not marker:
            if part.text == last_marker:  # x_i_j
                raise _InexactError
            marker = part.text
        elif part.kind == "marker":
            raise _InexactError
        elif not marker:
            parts.append(part)
            last_marker = ""
        elif not part.text.isspace():
            parts.append(_format_index(marker, part.text))
            marker, last_marker = "", marker
    if marker:
        raise _InexactError
    return _join([part for part in parts if part.text])


def _join(parts: Sequence[_Part]) -> str:
    text = ""
    for number, part in enumerate(parts):
        following = parts[number + 1].text[0] if number + 1 < len(parts) else ""
        touches_before = text[-1:].isalnum() or text[-1:] in tuple(_BEFORE)
        touches_after = following.isalnum() or following in tuple(_AFTER)
        match part.kind:
            case "whole" if touches_before or touches_after:
                text += f"({part.text})"
            case "index" if touches_after:
                text += f"{part.text[0]}({part.text[1:]})"
            case "word":
                text += " " * touches_before + part.text + " " * (touches_after and following not in _SMALL)
            case _:
                text += part.text
    return text


def _split_parts(nodes: Sequence[Any]) -> Iterator[_Part]:
    """The characters, symbols and formatted groups in order."""
    after_delimiter = False
    for node in nodes:
        if isinstance(node, LatexCharsNode):
            chars = node.chars
            if "&" in chars:
                raise _InexactError
            if after_delimiter and chars.lstrip().startswith("."):  # \left. is no sign
                chars = chars.lstrip()[1:]
            yield from (_Part(_CHARACTERS.get(char, char), "marker" if char in "^_" else "") for char in chars)
        elif isinstance(node, LatexGroupNode):
            yield _Part(_format_nodes(node.nodelist))
        elif isinstance(node, LatexMacroNode):
            yield _format_macro(node.macroname, node.nodeargd.argnlist if node.nodeargd else ())
            if node.macroname not in _INVISIBLE:
                yield _Part(node.macro_post_space)
        elif node is not None:  # an environment, a comment, mathematics within
            raise _InexactError
        after_delimiter = isinstance(node, LatexMacroNode) and node.macroname in _DELIMITERS


def _format_index(marker: str, content: str) -> _Part:
    small = _RAISED if marker == "^" else _LOWERED
    chars = content.replace(" ", "")
    if not chars:
        raise _InexactError
    if all(char in small for char in chars):
        return _Part("".join(small[char] for char in chars))
    bracketed = _enclose(content, _SINGLE)
    return _Part(marker + bracketed, "index" if bracketed[0] != "(" else "")


def _format_macro(name: str, arguments: Sequence[Any]) -> _Part:
    if name in _TEXTS and len(arguments) == 1:
        return _Part(_read_text([arguments[0]]))
    values = [_format_nodes([argument]) for argument in arguments]
    if name == "frac" and len(values) == 2:
        return _Part(f"{_enclose(values[0], _NUMERATOR)}/{_enclose(values[1], _SINGLE)}", "whole")
    if name == "sqrt" and len(values) == 2 and values[0].strip() in _ROOTS:
        return _Part(_ROOTS[values[0].strip()] + _enclose(values[1], _SINGLE), "whole")
    if name in _ALPHABETS and len(values) == 1 and values[0].isalnum():
        return _Part(str(fmt_math_text_style(values[0], _ALPHABETS[name])))
    if name in _INVISIBLE:
        return _Part("")
    if name in _ESCAPED:
        return _Part(name)
    spec = _TABLE.get_macro_spec(name)
    symbol = _SYMBOLS.get(name) or (spec.simplify_repl if spec is not None else None)
    if values or not isinstance(symbol, str) or not symbol or (len(symbol) > 1 and symbol.strip() not in {"", name}):
        raise _InexactError
    return _Part(symbol, "word" if symbol == name and len(name) > 1 else "")


def _read_text(nodes: Sequence[Any]) -> str:
    """The words within ``\\text``, as they stand."""
    text = ""
    for node in nodes:
        if isinstance(node, LatexCharsNode):
            text += node.chars
        elif isinstance(node, LatexGroupNode):
            text += _read_text(node.nodelist)
        elif isinstance(node, LatexMacroNode) and node.macroname in _ESCAPED:
            text += node.macroname + node.macro_post_space
        else:
            raise _InexactError
    return text


def _enclose(text: str, bare: re.Pattern[str]) -> str:
    """The text, in brackets if an operator beside it could take only a part of it."""
    text = text.strip()
    if not text:
        raise _InexactError
    return text if bare.fullmatch(text) else f"({text})"
