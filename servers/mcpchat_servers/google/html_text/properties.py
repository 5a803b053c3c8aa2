"""The properties of an element: shorthands, aliases, and which values a browser accepts."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import tinycss2

from mcpchat_servers.google.html_text.css_values import (
    BLACK,
    Tokens,
    is_substituted,
    keyword,
    needs_layout,
    parse_color,
    parse_length,
    replace_variables,
    scale_rem,
    split_commas,
    strip_spaces,
)

MIN_FONT_SIZE = 4.0  # pixels
_FAR = 200.0  # pixels; text that is moved by so much to the left or upwards is off the page
_VERY_FAR = 1500.0  # pixels to the right or downwards
_GLOBAL_KEYWORDS = {"inherit", "initial", "unset", "revert", "revert-layer"}
_SIZE_KEYWORDS = {"auto", "none", "min-content", "max-content", "fit-content", "stretch", "-webkit-fill-available"}
FONT_SIZES = {"xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0,
               "xx-large": 32.0, "xxx-large": 48.0}  # fmt: skip
_FONT_WORDS = {
    "normal", "italic", "oblique", "small-caps", "bold", "bolder", "lighter", "condensed", "semi-condensed",
    "extra-condensed", "ultra-condensed", "expanded", "semi-expanded", "extra-expanded", "ultra-expanded",
}  # fmt: skip
_MAX_SIDES = 4
_SIDES = ("top", "right", "bottom", "left")
_ALIASES = {
    "-webkit-transform": "transform", "-moz-transform": "transform",
    "-webkit-transform-origin": "transform-origin", "-moz-transform-origin": "transform-origin",
    "-webkit-backface-visibility": "backface-visibility", "-webkit-clip-path": "clip-path", "-webkit-filter": "filter",
    "-webkit-opacity": "opacity",
    "block-size": "height", "max-block-size": "max-height", "inline-size": "width", "max-inline-size": "max-width",
    "-webkit-animation": "animation", "-webkit-animation-name": "animation-name", "-webkit-mask": "mask",
    "-webkit-mask-image": "mask-image", "overflow-block": "overflow-y", "overflow-inline": "overflow-x",
    "inset-inline-start": "left", "inset-block-start": "top", "inset-inline-end": "right", "inset-block-end": "bottom",
    "margin-inline-start": "margin-left", "margin-block-start": "margin-top",
    "padding-inline-start": "padding-left", "padding-block-start": "padding-top", "-moz-opacity": "opacity",
    "-webkit-margin-start": "margin-left", "-webkit-margin-before": "margin-top",
    "-webkit-padding-start": "padding-left",
}  # fmt: skip
_LOGICAL_SHORTHANDS = {
    "margin-inline": ("margin-left", "margin-right"), "margin-block": ("margin-top", "margin-bottom"),
    "padding-inline": ("padding-left", "padding-right"), "padding-block": ("padding-top", "padding-bottom"),
    "inset-inline": ("left", "right"), "inset-block": ("top", "bottom"),
}  # fmt: skip
_DISPLAYS = re.compile(
    r"(inline|block|none|contents|flow-root|list-item|(inline-)?(flex|grid|table|block)|-webkit-(inline-)?(flex|box)"
    r"|ruby(-(base|text)(-container)?)?|table-(row|cell|column|caption|row-group|header-group|footer-group|column-group)|math)"
    r"|(inline|block) (flow|flow-root|flex|grid|table|ruby|math)"
)
_KEYWORDS: Mapping[str, set[str]] = {
    "visibility": {"visible", "hidden", "collapse"},
    "content-visibility": {"visible", "auto", "hidden"},
    "overflow-x": {"visible", "hidden", "clip", "scroll", "auto", "overlay"},
    "overflow-y": {"visible", "hidden", "clip", "scroll", "auto", "overlay"},
    "position": {"static", "relative", "absolute", "fixed", "sticky", "-webkit-sticky"},
    "white-space": {"normal", "nowrap", "pre", "pre-wrap", "pre-line", "break-spaces"},
    "unicode-bidi": {"normal", "embed", "isolate", "bidi-override", "isolate-override", "plaintext"},
}
_SIZES = {"height", "max-height", "width", "max-width", "min-height", "min-width"}
_OFFSETS = {"top", "right", "bottom", "left", "margin-top", "margin-left", "padding-top", "padding-left", "text-indent"}
_LONGHANDS = {
    "font": ("font-size", "line-height"), "background": ("background-color", "background-image", "background-size"),
    "overflow": ("overflow-x", "overflow-y"), "animation": ("animation-name",),
}  # fmt: skip
_NUMBERS = {"opacity", "zoom", "z-index", "-webkit-line-clamp", "line-clamp", "line-height"}
_LENGTHS = {*_SIZES, *_OFFSETS, *_NUMBERS, "letter-spacing", "font-size"}
_LENGTH_KEYWORDS: Mapping[str, set[str]] = {
    "font-size": {*FONT_SIZES, "smaller", "larger"}, "letter-spacing": {"normal"}, "line-height": {"normal"},
    "text-indent": set(), "padding-top": set(), "padding-left": set(), "zoom": {"normal"}, "opacity": set(),
    "z-index": {"auto"}, "max-height": _SIZE_KEYWORDS - {"auto"}, "max-width": _SIZE_KEYWORDS - {"auto"},
    "height": _SIZE_KEYWORDS - {"none"}, "width": _SIZE_KEYWORDS - {"none"},
    "line-clamp": {"none"}, "-webkit-line-clamp": {"none"}, "margin-top": {"auto"}, "margin-left": {"auto"},
    "top": {"auto"}, "right": {"auto"}, "bottom": {"auto"}, "left": {"auto"},
}  # fmt: skip
_NOT_NEGATIVE = {*_SIZES, "padding-top", "padding-left", "font-size", "line-height"}
_BACKGROUND_KEYWORDS = {
    "none", "repeat", "repeat-x", "repeat-y", "no-repeat", "space", "round", "scroll", "fixed", "local", "left",
    "right", "top", "bottom", "center", "cover", "contain", "auto", "border-box", "padding-box", "content-box", "text",
    *_GLOBAL_KEYWORDS,
}  # fmt: skip
_COLORS = {"color", "-webkit-text-fill-color", "background-color"}
_FUNCTION_LISTS = {"transform", "filter", "clip", "clip-path"}
_JUDGED = {
    "display", *_KEYWORDS, *_LENGTHS, *_COLORS, *_FUNCTION_LISTS, *_LONGHANDS, *_LOGICAL_SHORTHANDS, "margin",
    "padding", "inset", "contain", "translate", "scale", "rotate", "transform-origin", "background-image",
    "animation-name", "all",
}  # fmt: skip


class PropertyValues:
    """The values of an element's properties: of several the last valid one, as in a browser."""

    def __init__(self, variables: Mapping[str, Tokens], rem: float = 1.0, *, is_hidden: bool = False) -> None:
        self._variables, self._rem = variables, rem
        self._defaults = {"display": tinycss2.parse_component_value_list("none")} if is_hidden else {}
        self._values: dict[str, list[Any]] = dict(self._defaults)

    def add(self, name: str, tokens: Tokens) -> None:
        """Add a declaration. It changes nothing if a browser would not accept its value."""
        name = _ALIASES.get(name, name)
        value = replace_variables(tokens, self._variables)
        if value is None:  # the property is unset then
            for longhand in _LONGHANDS.get(name, (name,)):
                self._values.pop(longhand, None)
            return
        if self._rem != 1:
            value = scale_rem(value, self._rem)
        if name == "all" and keyword(value) in _GLOBAL_KEYWORDS:
            self._values = dict(self._defaults) if keyword(value) in {"revert", "revert-layer"} else {}
        if not value:
            return
        if name in _JUDGED and is_substituted(value):
            self._values[name] = value
            return
        for longhand, part in _expand(name, value):
            if keyword(part) != "revert-layer" and _is_valid(longhand, part):
                self._values[longhand] = self._defaults.get(longhand, part) if keyword(part) == "revert" else part

    def tokens(self, name: str, unset: str = "") -> list[Any]:
        """Return the value of a property; empty if it is not set. ``unset`` is the keyword for a value of "unset"."""
        value = self._values.get(name, [])
        if unset and keyword(value) == "unset":
            return list(tinycss2.parse_component_value_list(unset))
        return [] if keyword(value) in {"unset", "revert", "revert-layer"} else value

    def keyword(self, name: str) -> str:
        return keyword(self.tokens(name))

    @property
    def are_unknown(self) -> bool:
        """Whether a value comes from a function that is not evaluated here, such as ``if()``."""
        return any(name in _JUDGED and is_substituted(value) for name, value in self._values.items())

    def idents(self, name: str) -> set[str]:
        return {token.value for token in self.tokens(name) if token.type in {"ident", "string"}}

    def number(self, name: str, font_size: float, base: float | None = None) -> float | None:
        """Return a length in pixels, or a number. None: not set, a keyword, or a percentage without ``base``.

        For a function that is not known, it returns the value that hides text.
        """
        tokens = self.tokens(name)
        if len(tokens) != 1:
            return None
        value = parse_length(tokens[0], font_size, base)
        is_unknown = value is None and tokens[0].type == "function"
        if is_unknown and (base is not None or not needs_layout(tokens[0])):
            return -math.inf if name in _OFFSETS or name in {"letter-spacing", "z-index"} else 0.0
        return value


def _expand(name: str, value: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the longhand properties of a shorthand, as far as they matter here."""
    if keyword(value) in _GLOBAL_KEYWORDS and name in {"font", "background", "overflow", "margin", "padding", "inset"}:
        value = [value[0]]
    if name == "font":
        yield from _expand_font(value)
    elif name == "background":
        yield from _expand_background(value)
    elif name == "text-indent":
        yield name, value[:1]  # "hanging" and "each-line" may follow
    elif name == "overflow":
        yield "overflow-x", value[:1]
        yield "overflow-y", value[1:] or value[:1]
    elif name in {"margin", "padding", "inset"}:
        if len(value) > _MAX_SIDES or not all(_is_valid("margin-left", [token]) for token in value):
            return
        sides = [
            value[0],
            value[1 % len(value)],
            value[2] if len(value) > 2 else value[0],
            value[-1 if len(value) > 3 else 1 % len(value)],
        ]
        prefix = "" if name == "inset" else f"{name}-"
        yield from ((f"{prefix}{side}", [token]) for side, token in zip(_SIDES, sides, strict=True))
    elif name in _LOGICAL_SHORTHANDS:
        first, second = _LOGICAL_SHORTHANDS[name]
        yield first, value[:1]
        yield second, value[-1:]
    elif name == "animation":
        yield "animation-name", value
    else:
        yield name, value


def _expand_font(value: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    for position, token in enumerate(value):
        is_size = token.type in {"dimension", "percentage", "function"} or (token.type == "number" and not token.value)
        is_size = is_size and getattr(token, "lower_unit", "") not in {"deg", "grad", "rad", "turn"}
        if keyword([token]) in _GLOBAL_KEYWORDS:
            yield "font-size", [token]
            return
        if is_size or keyword([token]) in {*FONT_SIZES, "smaller", "larger"}:
            has_line_height = len(value) > position + 2 and value[position + 1] == "/"
            if not _is_font_style(value[:position]) or not _are_families(
                value[position + (3 if has_line_height else 1) :]
            ):
                return
            yield "font-size", [token]
            if len(value) > position + 2 and value[position + 1] == "/":
                yield "line-height", [value[position + 2]]
            return


def _is_font_style(tokens: Tokens) -> bool:
    """Whether tokens can stand before the size of a font."""
    return len(tokens) <= 5 and all(
        keyword([token]) in _FONT_WORDS
        or token.type in {"number", "function"}
        or getattr(token, "lower_unit", "") in {"deg", "grad", "rad", "turn"}
        for token in tokens
    )


def _are_families(tokens: Tokens) -> bool:
    """Whether tokens are the names of fonts: each a string, or words."""
    return all(
        group and (len(group) == 1 or all(token.type == "ident" for token in group))
        for group in map(strip_spaces, split_commas(tokens))
    )


def _expand_background(value: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    colors = [token for token in value if parse_color(token, BLACK)]
    words = {token.lower_value for token in value if token.type == "ident" and token not in colors}
    if len(colors) > 1 or not words <= _BACKGROUND_KEYWORDS:
        return
    yield "background-image", value
    slash = next((number for number, item in enumerate(value) if item == "/"), len(value))
    yield "background-size", value[slash + 1 : slash + 3]
    yield "background-color", colors[-1:] or tinycss2.parse_component_value_list("transparent")


def _is_valid(name: str, value: list[Any]) -> bool:
    """Whether a browser would accept a value. If it would not, an earlier declaration counts."""
    word = keyword(value)
    if word in _GLOBAL_KEYWORDS:
        return True
    if name == "display":
        return bool(_DISPLAYS.fullmatch(" ".join(keyword([token]) for token in value)))
    if name in _KEYWORDS:
        return word in _KEYWORDS[name]
    if name in _COLORS:
        return len(value) == 1 and (value[0].type == "function" or parse_color(value[0], BLACK) is not None)
    if name in _FUNCTION_LISTS:
        return word in {"none", "auto"} or all(token.type in {"function", "url"} for token in value)
    if name not in _LENGTHS:
        return True
    if len(value) != 1:
        return False
    return word in _LENGTH_KEYWORDS.get(name, _SIZE_KEYWORDS) if word else _is_valid_length(name, value[0])


def _is_valid_length(name: str, token: Any) -> bool:
    number = parse_length(token, 16.0, 100.0)
    if number is None:
        return bool(token.type == "function")
    unit = getattr(token, "lower_unit", "")
    if name in _NUMBERS - {"line-height"}:
        return not unit
    if unit in {"deg", "grad", "rad", "turn", "s", "ms"}:
        return False
    if token.type == "number" and number and name != "line-height":
        # A length without unit is valid in old documents only: it counts if it hides.
        return bool(number < MIN_FONT_SIZE if name in _NOT_NEGATIVE else is_far(number))
    return bool(number >= 0 or name not in _NOT_NEGATIVE)


def is_far(distance: float, *, downwards: bool = False) -> bool:
    """Whether so many pixels to the right, or ``downwards``, move text off the page; negative: the other way."""
    return distance <= -_FAR or (distance >= _VERY_FAR and not downwards) or distance >= 4 * _VERY_FAR
