"""Removes from an HTML document what a person would not see: text that style hides, or that no program displays.

It knows the style of each element, but has no layout. If it cannot tell, it takes text for hidden: text that hides must
not pass, and what is left out is counted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree.ElementTree import Element

import cssselect2
import tinycss2
from webcolors import html5_parse_legacy_color

from mcpchat_servers.google.html_text.cascade import Cascade, RegisteredVariable
from mcpchat_servers.google.html_text.css_values import (
    BLACK,
    LINK_BLUE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    WHITE,
    Rgba,
    Tokens,
    TooComplexError,
    contrast,
    has_syntax,
    keyword,
    parse_color,
    parse_length,
    resolve_variables,
    split_commas,
    strip_spaces,
)
from mcpchat_servers.google.html_text.properties import FONT_SIZES, MIN_FONT_SIZE, PropertyValues, is_far
from mcpchat_servers.google.html_text.transforms import IDENTITY, Matrix, find_offset, find_transform, is_behind_page

MAX_DEPTH = 3000  # of nested elements
_MIN_CONTRAST = 1.2  # pale grey on white, #e8e8e8, has this
_MAX_FONT_SIZE = 2 * PAGE_HEIGHT  # pixels
_MAX_MAGNIFICATION = 2.0  # a larger one around the middle of a box moves the beginning of a line off the page
_MIN_BOX = 8.0  # pixels; a smaller box shows none of its text if it clips it
_MIN_OPACITY = 0.2
_MIN_SPACING, _MAX_SPACING = -0.4, 10.0  # between letters, in font sizes
_ANY_TEXT = re.compile(
    r"(?![\u115f\u1160\u2800\u3164\uffa0])[^\W_]|[^\s\w\u2800\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_NEVER_SHOWN = frozenset(
    {
        "head", "title", "script", "style", "noscript", "template", "datalist", "object", "iframe", "video", "audio",
        "canvas", "noframes", "noembed", "frameset", "progress", "meter", "svg", "annotation", "annotation-xml", "rp",
        "area", "param", "source", "track", "map", "mphantom",
    }
)  # fmt: skip
_NOT_TEXT = frozenset({"script", "style", "title"})  # their content is not counted as hidden text
_HTML_FONT_SIZES = (10.0, 13.0, 16.0, 18.0, 24.0, 32.0, 48.0)  # <font size="1"> to "7"
_MATHML_ATTRIBUTES = {"color": "mathcolor", "background-color": "mathbackground", "font-size": "mathsize"}
_TAGS_WITH_BACKGROUND = {"body", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "marquee"}
_SMALLER_TAGS = {"small", "sub", "sup"}
_CELLS = {"td", "th", "tr", "table", "tbody", "thead", "tfoot"}
_INLINE_TAGS = {
    "span",
    "a",
    "b",
    "i",
    "u",
    "s",
    "em",
    "strong",
    "font",
    "small",
    "big",
    "sub",
    "sup",
    "code",
    "label",
    "mark",
}
_STYLED_TAGS = {*_SMALLER_TAGS, "a", "bdo", "details"}  # they look different without any declaration
_SLOW = 20.0  # seconds of an animation
_MAX_STOPS = 100  # colours of gradients behind a text
_MAX_UNCERTAIN = 20  # rules that are tried one by one
_NOT_DISPLAYED = {"none", "table-column", "table-column-group"}
_HIDING_IF_SET = {  # properties whose effect on text is not judged: any value but these is taken to hide it
    "mask": {"none"}, "mask-image": {"none"}, "mix-blend-mode": {"normal"}, "content": {"normal", "none"},
    "-webkit-text-security": {"none"}, "offset-path": {"none"}, "mask-border": {"none"},
    "-webkit-text-stroke": {"none", "0", "0px"}, "background-clip": {"border-box", "padding-box", "content-box"},
    "-webkit-background-clip": {"border-box", "padding-box", "content-box"},
    "-webkit-mask-box-image": {"none"}, "-webkit-mask-box-image-source": {"none"}, "mask-border-source": {"none"},
    "-webkit-text-stroke-width": {"0", "0px"}, "offset": {"none"}, "font-size-adjust": {"none", "from-font"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Style:
    """What decides whether the text of an element can be seen. ``is_hidden`` holds for all descendants too."""

    is_hidden: bool = False
    is_closed: bool = False  # a details element: only its summary is shown
    visibility: str = "visible"
    font_size: float = 16.0
    matrix: Matrix = IDENTITY  # where the box goes
    magnification: float = 1.0  # by all transforms
    color: Rgba | None = BLACK  # None: a colour that cannot be calculated
    fill: Rgba | None = None  # -webkit-text-fill-color
    opacity: float = 1.0
    backgrounds: tuple[Rgba, ...] = (WHITE,)  # the colours that may be behind the text
    indent: float = 0.0
    letter_spacing: float = 0.0
    wraps: bool = True
    variables: tuple[Mapping[str, Tokens], ...] = ({},)  # in each way in which programs may read them

    @property
    def shows_text(self) -> bool:
        least, most = self.matrix.scales
        if (
            self.is_hidden
            or self.is_closed
            or self.visibility != "visible"
            or self.font_size * least < MIN_FONT_SIZE
            or self.font_size * most > _MAX_FONT_SIZE
            or self.magnification > _MAX_MAGNIFICATION
            or self.color is None
        ):
            return False
        if (
            is_far(self.matrix.e + self.indent * self.matrix.a)
            or is_far(self.matrix.f + self.indent * self.matrix.b, downwards=True)
            or not -0.4 * self.font_size < self.letter_spacing < 10 * self.font_size
        ):
            return False
        color = self.fill or self.color
        painted = color._replace(alpha=color.alpha * self.opacity)
        return all(contrast(painted.over(background), background) >= _MIN_CONTRAST for background in self.backgrounds)


@dataclass(slots=True)
class Hidden:
    """How much was removed."""

    passages: int = 0  # of consecutive text
    descriptions: int = 0  # alternative texts of images


def remove_hidden_text(root: Element, *, is_quirky: bool = False) -> Hidden:
    """Remove the text that a person would not see. Returns how much that was.

    ``is_quirky``: as old documents, the case of class names and ids makes no difference, and colours need no hash.

    Raises TooComplexError if elements or styles are nested too deeply.
    """
    return _Remover(root, is_quirky=is_quirky).run()


class _Remover:
    def __init__(self, root: Element, *, is_quirky: bool) -> None:
        self._root = root
        self._cascade = Cascade(root, is_quirky=is_quirky)
        self._lengths = _count_characters(root)
        self._shown = _find_shown_parts(root)
        self._link_color = next((body.get("link", "") for body in root.iter("body")), "")
        self._hidden = Hidden()
        self._is_in_passage = False
        self._rem = 1.0  # font size of the root, relative to the usual one

    def run(self) -> Hidden:
        """Walk through the tree in the order of the text. It is not recursive: the author chooses the depth."""
        pending = [(cssselect2.ElementWrapper.from_html_root(self._root), _Style(), False, 0)]
        while pending:
            wrapper, parent, is_end, depth = pending.pop()
            element = wrapper.etree_element
            if is_end:
                element.tail = self._filter(element.tail, parent)
                continue
            if depth > MAX_DEPTH:
                raise TooComplexError
            style = self._compute(wrapper, parent)
            if element is self._root:
                self._rem = style.font_size / FONT_SIZES["medium"]
            element.text = self._filter(element.text, style)
            if element.tag == "img" and has_text(element.get("alt")):
                self._hidden.descriptions += 1
            pending.append((wrapper, parent, True, depth))
            pending += [(child, style, False, depth + 1) for child in reversed([*wrapper.iter_children()])]
        return self._hidden

    def _filter(self, text: str | None, style: _Style) -> str | None:
        """Return the text if it can be seen, otherwise a space. Count each run of hidden text once."""
        if not has_text(text):
            return text
        if style.shows_text:
            self._is_in_passage = False
            return text
        self._hidden.passages += not self._is_in_passage
        self._is_in_passage = True
        return " "

    def _compute(self, wrapper: cssselect2.ElementWrapper, parent: _Style) -> _Style:
        element = wrapper.etree_element
        tag = element.tag.rpartition("}")[2]  # without the namespace of SVG and MathML
        if tag in _NOT_TEXT:
            element.text = None
        if parent.is_closed:
            parent = replace(parent, is_closed=False, is_hidden=element not in self._shown)
        if parent.is_hidden:
            return parent
        if tag in _NEVER_SHOWN or (tag == "option" and element not in self._shown):
            return replace(parent, is_hidden=True)
        found = self._cascade.find_declarations(wrapper)
        variables = {item.name: strip_spaces(item.value) for item in found if item.name.startswith("--")}
        if variables or self._cascade.registered:
            parent = replace(parent, variables=self._resolve_variables(variables, parent.variables))
        hints = [*_presentational_hints(element, self._link_color)]
        if not (hints or found or tag in _STYLED_TAGS or _is_hidden_by_default(element)):
            return parent
        style, values = self._judge(element, parent, [*hints, *((item.name, item.value) for item in found)])
        uncertain = (
            dict.fromkeys(item.uncertain_rule for item in found if item.uncertain_rule) if style.shows_text else {}
        )
        for only in [None, *uncertain][: len(uncertain) and _MAX_UNCERTAIN]:
            # Rules that may not apply, or not in this order, must not show what others hide.
            some = [(item.name, item.value) for item in found if item.uncertain_rule in {None, only}]
            other_style, other_values = self._judge(element, parent, [*hints, *some])
            if not other_style.shows_text:
                style, values = other_style, other_values
                break
        keyframes = self._cascade.keyframes if _is_slow(values) else self._cascade.last_keyframes
        for name in values.idents("animation-name") & keyframes.keys():
            for item in keyframes[name]:
                values.add(item.lower_name, item.value)
                if not _apply(element, parent, values, self._lengths[element]).shows_text:
                    return replace(style, is_hidden=True)
        return replace(style, is_closed=True) if element.tag == "details" and "open" not in element.attrib else style

    def _resolve_variables(
        self, declared: Mapping[str, Tokens], inherited: Sequence[Mapping[str, Tokens]]
    ) -> tuple[Mapping[str, Tokens], ...]:
        """Return the variables of an element as programs may read them that know ``@property``, and that do not."""
        registered = self._cascade.registered
        plain = resolve_variables(declared, inherited[0])
        if not registered:
            return (plain,)
        initial = {name: item.initial for name, item in registered.items() if item.initial is not None}
        parent = {name: value for name, value in inherited[-1].items() if _is_inherited(registered.get(name))}
        known = {**initial, **resolve_variables(declared, {**initial, **parent})}
        invalid = {name for name in initial if not has_syntax(known[name], registered[name].syntax)}
        return plain, {**known, **{name: initial[name] for name in invalid}}

    def _judge(
        self, element: Element, parent: _Style, declarations: list[tuple[str, Tokens]]
    ) -> tuple[_Style, PropertyValues]:
        for variables in parent.variables:
            values = PropertyValues(variables, self._rem, is_hidden=_is_hidden_by_default(element))
            for name, tokens in declarations:
                values.add(name, tokens)
            style = _apply(element, parent, values, self._lengths[element])
            if not style.shows_text:
                break
        return style, values


def _is_slow(values: PropertyValues) -> bool:
    """Whether a reader may see another frame of an animation than its last one."""
    tokens = [
        token for name in ("name", "duration", "delay", "play-state") for token in values.tokens(f"animation-{name}")
    ]
    times = [
        abs(token.value) * (0.001 if token.lower_unit == "ms" else 1) for token in tokens if token.type == "dimension"
    ]
    return any(keyword([token]) == "paused" for token in tokens) or max(times, default=0) >= _SLOW


def _is_inherited(registered: RegisteredVariable | None) -> bool:
    return registered is None or registered.is_inherited


def _apply(element: Element, parent: _Style, values: PropertyValues, text_length: int) -> _Style:
    """Return the style of an element: what it inherits and what its values change."""
    style = replace(
        parent,
        visibility=parent.visibility
        if values.keyword("visibility") in {"", "inherit"}
        else values.keyword("visibility"),
        font_size=_font_size(element, parent.font_size, values),
        **_colors(element, parent, values),
    )
    if style.visibility == "initial":
        style = replace(style, visibility="visible")
    size = style.font_size
    opacity = values.number("opacity", size, 1.0)
    indent, spacing = values.number("text-indent", size, PAGE_WIDTH), values.number("letter-spacing", size, size)
    wraps = values.keyword("white-space")
    box, transform = style.matrix.then(find_offset(values, size)), find_transform(values, size)
    style = replace(
        style,
        opacity=style.opacity * (1.0 if opacity is None else min(max(opacity, 0.0), 1.0)),
        indent=style.indent if indent is None else indent,
        letter_spacing=style.letter_spacing if spacing is None else spacing,
        wraps=style.wraps if not wraps or wraps == "inherit" else wraps not in {"nowrap", "pre"},
        matrix=box.then(transform),
        magnification=style.magnification * transform.scales[1],
    )
    is_hidden = (
        values.keyword("display") in _NOT_DISPLAYED
        or values.keyword("content-visibility") == "hidden"
        or values.keyword("unicode-bidi") in {"bidi-override", "isolate-override"}
        or (element.get("dir", "").lower() == "rtl" and element.tag == "bdo" and not values.keyword("unicode-bidi"))
        or any(
            (tokens := values.tokens(name)) and tinycss2.serialize(tokens).lower() not in {*harmless, "initial"}
            for name, harmless in _HIDING_IF_SET.items()
        )
        or not style.matrix.is_finite
        or is_far(style.matrix.e)
        or is_far(style.matrix.f, downwards=True)
        or is_behind_page(values, size)
        or _is_filtered_away(values.tokens("filter"), size)
        or _is_clipped_away(values.tokens("clip"), size)
        or _is_clipped_away(values.tokens("clip-path"), size)
        or _overflows(element, style, values, text_length)
        or not -0.5 * size <= (values.number("word-spacing", size, size) or 0) <= 20 * size
        or values.are_unknown
    )
    style = replace(style, is_hidden=is_hidden)
    if transform != IDENTITY and _is_inline(element, values):  # a browser does not transform it
        plain = replace(style, matrix=box, magnification=parent.magnification)
        return style if plain.shows_text else plain
    return style


def _is_inline(element: Element, values: PropertyValues) -> bool:
    return element.tag in _INLINE_TAGS and not values.keyword("display") and not values.keyword("position")


def _font_size(element: Element, inherited: float, values: PropertyValues) -> float:
    word = values.keyword("font-size")
    if word in FONT_SIZES or word == "initial":
        return FONT_SIZES.get(word, 16.0)
    declared = values.number("font-size", inherited, inherited)
    if word == "smaller" or (declared is None and not word and element.tag in _SMALLER_TAGS):
        return inherited * 0.83
    return inherited * 1.2 if word == "larger" else inherited if declared is None else declared


def _colors(element: Element, parent: _Style, values: PropertyValues) -> dict[str, Any]:
    """Return the colours of an element's text and of what is behind it."""
    color, fill, backgrounds = parent.color, parent.fill, parent.backgrounds
    if tokens := values.tokens("color", unset="inherit"):
        if keyword(tokens) != "inherit":
            color = BLACK if keyword(tokens) == "initial" else parse_color(tokens[0], parent.color or BLACK)
    elif element.tag == "a" and "href" in element.attrib:
        color = LINK_BLUE
    if (tokens := values.tokens("-webkit-text-fill-color")) and keyword(tokens) != "inherit":
        fill = None if keyword(tokens) in {"initial", "currentcolor"} else parse_color(tokens[0], color or BLACK)
        color = None if fill is None and keyword(tokens) == "" else color
    if values.keyword("visibility") in {"hidden", "collapse"} or values.keyword("display") == "contents":
        return {"color": color, "fill": fill}  # its background is not painted
    if tokens := values.tokens("background-color"):
        background = parent.backgrounds[0] if keyword(tokens) == "inherit" else parse_color(tokens[0], color or BLACK)
        if background is not None and keyword(tokens) != "initial":
            backgrounds = tuple(dict.fromkeys(background.over(below) for below in backgrounds))
    stops = [
        stop
        for function in values.tokens("background-image")
        if function.type == "function" and function.lower_name.endswith("gradient")
        for token in function.arguments[:200]
        if (stop := parse_color(token, color or BLACK))
    ]
    sizes = [parse_length(token, parent.font_size, 100.0) for token in values.tokens("background-size")]
    if stops and not any(size is not None and size < _MIN_BOX for size in sizes):
        stops = [*dict.fromkeys(stops)][:_MAX_STOPS]
        backgrounds = tuple(dict.fromkeys(stop.over(below) for stop in stops for below in backgrounds[:8]))[:_MAX_STOPS]
    return {"color": color, "fill": fill, "backgrounds": backgrounds}


def _is_filtered_away(tokens: Tokens, font_size: float) -> bool:
    opacity = 1.0
    for function in tokens:
        if function.type == "url":
            return True
        if function.type != "function" or function.lower_name in {
            "grayscale",
            "sepia",
            "saturate",
            "hue-rotate",
            "drop-shadow",
        }:
            continue
        amount = parse_length((strip_spaces(function.arguments) or [function])[0], font_size, 1.0)
        limits = {
            "opacity": (0.2, 1e9),
            "contrast": (0.3, 1e9),
            "brightness": (0.2, 2.0),
            "blur": (-1.0, 3.0),
            "invert": (-1.0, 0.3),
        }
        opacity *= amount if function.lower_name == "opacity" and amount is not None else 1.0
        low, high = limits.get(function.lower_name, (0.0, 0.0))
        if amount is None or not low <= amount <= high:
            return True
    return opacity < _MIN_OPACITY


def _is_clipped_away(tokens: Tokens, font_size: float) -> bool:
    """Whether ``clip`` or ``clip-path`` shows nothing: the shape is empty or not known."""
    for token in tokens:
        if token.type == "url":
            return True
        if token.type != "function":
            continue
        name, groups = token.lower_name, split_commas(token.arguments)
        parts = [
            [number for item in strip_spaces(group) if (number := parse_length(item, font_size, 100.0)) is not None]
            for group in groups
        ]
        numbers = [number for part in parts for number in part]
        if name == "rect":
            edges = [item for group in groups for item in strip_spaces(group)]
            defaults = (0.0, 1e6, 1e6, 0.0)  # of "auto": top, right, bottom, left
            numbers = [
                default if keyword([item]) == "auto" else parse_length(item, font_size, 100.0) or 0.0
                for item, default in zip(edges, defaults, strict=False)
            ]
            if len(numbers) < len(defaults):
                return True
            top, right, bottom, left = numbers
            is_outside = min(bottom, right) < _MIN_BOX or top > 2 * font_size
            return is_outside or bottom - top < _MIN_BOX or right - left < _MIN_BOX
        if any(keyword([item]) == "at" for item in token.arguments):
            return True  # the place of the shape depends on layout
        if name == "inset" and numbers:
            top, right, bottom, left = (numbers * 4)[:4] if len(numbers) in {1, 2} else (*numbers, numbers[1])[:4]
            return top + bottom >= 95 or left + right >= 95
        if name == "circle" and numbers:
            return numbers[0] < _MIN_BOX
        if name == "ellipse" and numbers:
            return min(numbers[:2]) < _MIN_BOX
        if name == "polygon":
            points = [part for part in parts if len(part) == 2]
            return not points or any(
                max(axis) < _MIN_BOX or max(axis) - min(axis) < _MIN_BOX for axis in zip(*points, strict=True)
            )
        return True
    return False


def _overflows(element: Element, style: _Style, values: PropertyValues, text_length: int) -> bool:
    """Whether an element's box cuts its text off: it is tiny, or much too small for so much text."""
    size = style.font_size
    if element.tag in _CELLS or _is_inline(element, values):
        return False  # a cell grows with its text; inline elements have no box
    overflow = {values.keyword("overflow-x"), values.keyword("overflow-y")} - {"", "visible", "initial", "inherit"}
    contained = values.idents("contain") | values.idents("container-type")
    cuts = bool(overflow & {"hidden", "clip"}) or bool(contained & {"paint", "strict", "content"})
    if not (cuts or overflow):
        return False
    heights, widths = (
        [length for name in names if (length := values.number(name, size)) is not None]
        or ([0.0] if any(_is_tiny_part(values, name, size) for name in names) else [])
        for names in (("height", "max-height"), ("width", "max-width"))
    )
    if contained & {"strict", "size"} and not heights:
        heights = [0.0]  # the text does not make the box higher
    height, width = min(heights, default=None), min(widths, default=None)
    least_height, least_width = (
        values.number("min-height", size) or 0,
        values.number("min-width", size, PAGE_WIDTH) or 0,
    )
    height = max(height, least_height) if height is not None else None
    width = max(width, least_width) if width is not None else None
    line_height = values.number("line-height", size, size)
    if line_height is not None and values.tokens("line-height")[0].type == "number":
        line_height *= size
    if min(height if height is not None else 99, width if width is not None else 99) < _MIN_BOX or (
        height is None and line_height is not None and line_height < _MIN_BOX
    ):
        return True
    if cuts and height is not None and line_height is not None and line_height - size >= 2 * height:
        return True
    if cuts and height is not None and values.keyword("box-sizing") == "border-box":
        height -= values.number("padding-top", size) or 0
        if height < _MIN_BOX:
            return True
    if cuts and not style.wraps and style.indent >= (PAGE_WIDTH if width is None else width):
        return True
    clamp = values.number("-webkit-line-clamp", size) or values.number("line-clamp", size)
    lines = clamp or (height / size if height is not None else None if style.wraps else 1.0)
    if not cuts or lines is None:
        return False
    return text_length > 5 + 1.3 * lines * (PAGE_WIDTH if width is None else width) / (0.4 * size)


def _is_tiny_part(values: PropertyValues, name: str, font_size: float) -> bool:
    """Whether a length is a percentage that is tiny even of the whole page."""
    tokens = values.tokens(name)
    if len(tokens) == 1 and tokens[0].type == "percentage":
        return bool(tokens[0].value < 1)
    length = values.number(name, font_size, PAGE_WIDTH if name.endswith("width") else PAGE_HEIGHT)
    return length is not None and length < _MIN_BOX


def _is_hidden_by_default(element: Element) -> bool:
    is_closed_dialog = element.tag == "dialog" and "open" not in element.attrib
    return "hidden" in element.attrib or "popover" in element.attrib or is_closed_dialog


def _presentational_hints(element: Element, link_color: str) -> Iterator[tuple[str, Tokens]]:
    """Yield the declarations that HTML attributes stand for."""
    tag = element.tag.rpartition("}")[2]
    for name, attribute in _MATHML_ATTRIBUTES.items() if tag.startswith("m") else ():
        yield name, tinycss2.parse_component_value_list(element.get(attribute, ""))
    color = element.get({"body": "text", "font": "color", "basefont": "color"}.get(element.tag, ""), "")
    if element.tag == "a" and "href" in element.attrib:
        color = link_color
    background = element.get("bgcolor", "") if element.tag in _TAGS_WITH_BACKGROUND else ""
    for name, value in (("color", color), ("background-color", background)):
        try:
            red, green, blue = html5_parse_legacy_color(value)
        except ValueError:
            continue  # empty, or "transparent"
        yield name, tinycss2.parse_component_value_list(f"rgb({red}, {green}, {blue})")
    if element.tag == "mark":
        yield "background-color", tinycss2.parse_component_value_list("yellow")
    if element.tag == "font" and (match := re.match(r"\s*([+-]?)(\d{1,2})", element.get("size", ""))):
        step = int(match[2]) * (-1 if match[1] == "-" else 1) + (3 if match[1] else 0)
        pixels = _HTML_FONT_SIZES[min(max(step, 1), 7) - 1]
        yield "font-size", tinycss2.parse_component_value_list(f"{pixels}px")


def _find_shown_parts(root: Element) -> set[Element]:
    """Return the first summary of each details element, and of each select element the option that it shows."""
    shown = set()
    for element in root.iter():
        if element.tag == "details":
            shown.update([child for child in element if child.tag == "summary"][:1])
        elif element.tag == "select":
            options = [*element.iter("option")]
            selected = [option for option in options if "selected" in option.attrib]
            is_list = "multiple" in element.attrib or element.get("size", "1").strip() not in {"", "0", "1"}
            shown.update(options if is_list else (selected[-1:] or options[:1]))
    return shown


def _count_characters(root: Element) -> dict[Element, int]:
    """Count the characters of text within each element."""
    counts: dict[Element, int] = {}
    for element in reversed([*root.iter()]):  # children before their parents
        counts[element] = len(" ".join((element.text or "").split())) + sum(
            counts[child] + len(" ".join((child.tail or "").split())) for child in element
        )
    return counts


def has_text(text: str | None) -> bool:
    """Whether a text has a character that can be seen."""
    return bool(text and _ANY_TEXT.search(text))
