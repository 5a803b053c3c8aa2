"""TeX formulas as a line of Unicode text, where that is exact."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from pylatexenc.latex2text import fmt_math_text_style, get_default_latex_context_db
from pylatexenc.latexwalker import LatexCharsNode, LatexGroupNode, LatexMacroNode, LatexWalker, LatexWalkerParseError


def _small_letters(kind: str) -> dict[str, str]:
    """The characters that Unicode has as ``<super>`` or ``<sub>``, by what they stand for."""
    chars = map(chr, (0xB2, 0xB3, 0xB9, *range(0x2B0, 0x2B9), *range(0x1D2C, 0x1D6B), *range(0x2070, 0x20A0), 0x2C7C))
    pairs = {unicodedata.decomposition(char): char for char in chars}
    return {chr(int(code.split()[1], 16)): char for code, char in pairs.items() if code.startswith(kind)}


_RAISED = _small_letters("<super>") | {"′": "′", "∘": "°"}
_LOWERED = _small_letters("<sub>")
_FRACTIONS = frozenset({"frac", "tfrac", "dfrac"})
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}
_TEXTS = frozenset({"text", "textrm", "textnormal", "mathrm", "mathit", "operatorname", "mbox"})
_ALPHABETS = {
    "mathbb": "doublestruck", "mathcal": "script", "mathscr": "script", "mathfrak": "fraktur", "mathbf": "bold",
}  # fmt: skip
_INVISIBLE = frozenset({"left", "right", "bigl", "bigr", "big", "Big", "displaystyle", "limits", "!"})
# What the library's table lacks.
_SYMBOLS = {
    "ne": "≠", "iff": "⟺", "implies": "⟹", "impliedby": "⟸", "gets": "←", "degree": "°", "triangle": "△", "land": "∧",
    "lor": "∨", "neg": "¬", "lnot": "¬", "Re": "ℜ", "Im": "ℑ", "|": "‖", "colon": ":", "lt": "<", "gt": ">",
    "varnothing": "∅", "%": "%", "therefore": "∴", "because": "∵",
}  # fmt: skip
_CHARACTERS = {"-": "−", "'": "′", "~": " "}
_ATOM = re.compile(r"[\w.,]+|\S|\([^()]*\)|[√∛∜]\w+")  # what stands beside an operator without brackets
_TABLE = get_default_latex_context_db()


class _InexactError(Exception):
    """The formula has something that has no exact form in a line of text."""


def format_tex(formula: str) -> str | None:
    """The formula as Unicode text, such as ``E = mc²``. None if TeX says more than a line of text can."""
    try:
        text = _format_nodes(LatexWalker(formula, tolerant_parsing=False).get_latex_nodes()[0])
    except (_InexactError, LatexWalkerParseError, RecursionError):
        return None
    return " ".join(text.split()) or None


def _format_nodes(nodes: Sequence[Any]) -> str:
    text, marker, last_marker = "", "", ""
    for atom in _split_atoms(nodes):
        if atom in {"^", "_"} and not marker:
            if atom == last_marker:  # x_i_j
                raise _InexactError
            marker = atom
        elif not marker:
            text, last_marker = text + atom, ""
        elif not atom.isspace():
            text, marker, last_marker = text + _format_index(marker, atom), "", marker
    if marker:
        raise _InexactError
    return text


def _split_atoms(nodes: Sequence[Any]) -> Iterator[str]:
    """The characters, symbols and formatted groups in order; ``^`` and ``_`` make the next one an index."""
    for node in nodes:
        if isinstance(node, LatexCharsNode):
            if "&" in node.chars:
                raise _InexactError
            yield from (_CHARACTERS.get(char, char) for char in node.chars)
        elif isinstance(node, LatexGroupNode):
            yield _format_nodes(node.nodelist)
        elif isinstance(node, LatexMacroNode):
            yield _format_macro(node.macroname, node.nodeargd.argnlist if node.nodeargd else ())
            if node.macroname not in _INVISIBLE:
                yield node.macro_post_space
        elif node is not None:  # an environment, a comment, mathematics within
            raise _InexactError


def _format_index(marker: str, content: str) -> str:
    small = _RAISED if marker == "^" else _LOWERED
    chars = content.replace(" ", "")
    if chars and all(char in small for char in chars):
        return "".join(small[char] for char in chars)
    return marker + _enclose(content)


def _format_macro(name: str, arguments: Sequence[Any]) -> str:
    values = [_format_nodes([argument]) for argument in arguments]
    if name in _FRACTIONS and len(values) == 2:
        return "/".join(map(_enclose, values))
    if name == "sqrt" and len(values) == 2 and values[0].strip() in _ROOTS:
        return _ROOTS[values[0].strip()] + _enclose(values[1])
    if name in _TEXTS and len(values) == 1:
        return values[0]
    if name in _ALPHABETS and len(values) == 1 and values[0].isalnum():
        return str(fmt_math_text_style(values[0], _ALPHABETS[name]))
    if name in _INVISIBLE:
        return ""
    spec = _TABLE.get_macro_spec(name)
    symbol = _SYMBOLS.get(name) or (spec.simplify_repl if spec is not None else None)
    if values or not isinstance(symbol, str) or not symbol:
        raise _InexactError
    return symbol


def _enclose(text: str) -> str:
    """The text, in brackets if an operator beside it could take only a part of it."""
    text = text.strip()
    return text if _ATOM.fullmatch(text) else f"({text})"
