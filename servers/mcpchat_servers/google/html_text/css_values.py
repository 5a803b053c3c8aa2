"""CSS values as numbers: lengths in pixels, colours, ``calc()``, ``var()``. Parsing is done by tinycss2."""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tinycss2
from tinycss2 import color5

Tokens = Sequence[Any]  # component values of tinycss2
PAGE_WIDTH, PAGE_HEIGHT = 1024.0, 768.0  # pixels; the window that relative lengths and media queries refer to
_PIXELS = {
    "px": 1.0, "pt": 96 / 72, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "q": 96 / 101.6, "rem": 16.0,
    "cqw": PAGE_WIDTH / 100, "cqi": PAGE_WIDTH / 100, "cqh": PAGE_HEIGHT / 100, "cqb": PAGE_HEIGHT / 100,
    "cqmin": PAGE_HEIGHT / 100, "cqmax": PAGE_WIDTH / 100,
    "vw": PAGE_WIDTH / 100, "vi": PAGE_WIDTH / 100, "vmax": PAGE_WIDTH / 100,
    "vh": PAGE_HEIGHT / 100, "vb": PAGE_HEIGHT / 100, "vmin": PAGE_HEIGHT / 100,
    "deg": 1.0, "grad": 0.9, "rad": 57.29578, "turn": 360.0, "s": 1.0, "ms": 0.001,
}  # fmt: skip
_OTHER_UNITS = {"deg", "grad", "rad", "turn", "s", "ms", "dpi", "dpcm", "dppx", "x", "hz", "khz", "fr"}
_FONT_RELATIVE = {
    "em": 1.0, "ex": 0.5, "ch": 0.5, "cap": 0.7, "ic": 1.0, "lh": 1.2,
    "rlh": 1.2, "rex": 0.5, "rch": 0.5, "ric": 1.0, "rcap": 0.7,
}  # fmt: skip
_CALC_NAMES = {"calc", "-webkit-calc", "-moz-calc", "min", "max", "clamp"}
_CALC_CONSTANTS = {"infinity": math.inf, "-infinity": -math.inf, "nan": math.nan, "pi": math.pi, "e": math.e}
_MAX_NUMBER = 1e7  # browsers limit lengths too
_NUMERIC_SYNTAXES = {"<length>", "<percentage>", "<length-percentage>", "<number>", "<integer>", "<angle>"}
_SUBSTITUTIONS = {"if", "attr", "inherit", "random", "random-item", "toggle", "first-valid", "sibling-index", "ident"}
_MAX_TOKENS = 2000  # of a value, after its variables are replaced
_MAX_DEPTH = 30  # of variables within variables, and of calc() within calc()
_ENVIRONMENT = re.compile(r"safe-area-inset-\w+|keyboard-inset-\w+")  # 0 px on a desktop computer


class TooComplexError(Exception):
    """The HTML or its style is too complex to judge, such as nested too deeply."""


class Rgba(NamedTuple):
    """A colour: red, green, blue and alpha from 0 to 1."""

    red: float
    green: float
    blue: float
    alpha: float

    def over(self, background: "Rgba") -> "Rgba":
        """Return this colour painted over an opaque background."""
        red, green, blue = (
            top * self.alpha + below * (1 - self.alpha) for top, below in zip(self[:3], background[:3], strict=True)
        )
        return Rgba(red, green, blue, 1)

    @property
    def luminance(self) -> float:
        """The relative luminance from 0 (black) to 1 (white), as WCAG 2 defines it."""
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in self[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


BLACK, WHITE, LINK_BLUE = Rgba(0, 0, 0, 1), Rgba(1, 1, 1, 1), Rgba(0, 0, 0.93, 1)
_SYSTEM_COLORS = {
    **dict.fromkeys(
        ("canvastext", "windowtext", "fieldtext", "buttontext", "infotext", "menutext", "captiontext"), BLACK
    ),
    **dict.fromkeys(("canvas", "window", "field", "background", "infobackground", "menu", "appworkspace"), WHITE),
    **dict.fromkeys(
        ("highlighttext", "selecteditemtext", "accentcolortext", "buttonhighlight", "threedhighlight"), WHITE
    ),
    **dict.fromkeys(("buttonface", "threedface", "threedlightshadow"), Rgba(0.94, 0.94, 0.94, 1)),
    **dict.fromkeys(("linktext", "visitedtext", "activetext", "-webkit-link"), LINK_BLUE),
}


_MIXED_COLORS = 2
_XYZ_TO_RGB = {  # linear sRGB; of CSS Color 4
    "d65": (
        (3.2409699, -1.5373832, -0.4986108),
        (-0.9692436, 1.8759675, 0.0415551),
        (0.0556301, -0.2039770, 1.0569715),
    ),
    "d50": (
        (3.1341359, -1.6173864, -0.4906619),
        (-0.9787955, 1.9162543, 0.0334427),
        (0.0719554, -0.2289768, 1.4053861),
    ),
}


def contrast(first: Rgba, second: Rgba) -> float:
    """Return the contrast ratio of two opaque colours, from 1 (the same) to 21 (black and white)."""
    darker, lighter = sorted((first.luminance, second.luminance))
    return (lighter + 0.05) / (darker + 0.05)


def strip_spaces(tokens: Tokens) -> list[Any]:
    return [token for token in tokens if token.type not in {"whitespace", "comment"}]


def split_commas(tokens: Tokens) -> list[list[Any]]:
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def keyword(tokens: Tokens) -> str:
    """Return a value that is one identifier in lower case, or ""."""
    return tokens[0].lower_value if len(tokens) == 1 and tokens[0].type == "ident" else ""


def resolve_variables(declared: Mapping[str, Tokens], inherited: Mapping[str, Tokens]) -> dict[str, Tokens]:
    """Return the variables of an element. One without a valid value is not set; ``inherit`` keeps the inherited one.

    Raises TooComplexError.
    """
    result = dict(inherited)
    scope = {**inherited, **{name: value for name, value in declared.items() if keyword(value) not in _UNSETTING}}
    for name, value in declared.items():
        word = keyword(value)
        if word in _UNSETTING:
            if word == "initial":
                result.pop(name, None)
            continue
        resolved = replace_variables(value, {key: tokens for key, tokens in scope.items() if key != name})
        if resolved is None:
            result.pop(name, None)
        else:
            result[name] = resolved
    return result


_UNSETTING = {"initial", "inherit", "unset", "revert", "revert-layer"}


def replace_variables(tokens: Tokens, variables: Mapping[str, Tokens], depth: int = 0) -> list[Any] | None:
    """Replace ``var()`` and ``env()``, also within functions. Returns None if one has no value.

    Raises TooComplexError.
    """
    budget = [_MAX_TOKENS]
    return _replace(strip_spaces(tokens), variables, budget, depth)


def _replace(tokens: Tokens, variables: Mapping[str, Tokens], budget: list[int], depth: int) -> list[Any] | None:
    if depth > _MAX_DEPTH:
        raise TooComplexError
    result: list[Any] = []
    for token in tokens:
        budget[0] -= 1
        if budget[0] < 0:
            raise TooComplexError
        replacement: list[Any] | None = [token]
        if token.type == "function" and token.lower_name in {"var", "env"}:
            name, *fallback = split_commas(token.arguments)
            names = strip_spaces(name)
            own_name = names[0].value if names and names[0].type == "ident" else ""
            value: Tokens | None = variables.get(own_name)
            if token.lower_name == "env" and _ENVIRONMENT.fullmatch(own_name):
                value = tinycss2.parse_component_value_list("0px")
            if value is None and fallback:
                value = [item for part in fallback for item in (*part, tinycss2.ast.LiteralToken(0, 0, ","))][:-1]
            inner = {key: item for key, item in variables.items() if key != own_name}  # ends cycles
            replacement = _replace(strip_spaces(value), inner, budget, depth + 1) if value is not None else None
        elif token.type == "function":
            arguments = _replace(token.arguments, variables, budget, depth + 1)
            replacement = [copy.copy(token)] if arguments is not None else None
            if replacement:
                replacement[0].arguments = arguments
        elif token.type == "() block":
            content = _replace(token.content, variables, budget, depth + 1)
            replacement = [copy.copy(token)] if content is not None else None
            if replacement:
                replacement[0].content = content
        if replacement is None:
            return None
        result += replacement
    return strip_spaces(result)


def scale_rem(tokens: Tokens, factor: float) -> list[Any]:
    """Return a value with its lengths in ``rem`` changed by a factor, also within functions."""
    result = []
    for token in tokens:
        if token.type == "dimension" and token.lower_unit == "rem":
            token = copy.copy(token)
            token.value *= factor
        elif token.type == "function":
            token = copy.copy(token)
            token.arguments = scale_rem(token.arguments, factor)
        elif token.type == "() block":
            token = copy.copy(token)
            token.content = scale_rem(token.content, factor)
        result.append(token)
    return result


def is_substituted(tokens: Tokens, depth: int = 0) -> bool:
    """Whether a part of a value is put in by a function that is not evaluated here, such as ``if()`` or ``attr()``.

    Raises TooComplexError.
    """
    if depth > _MAX_DEPTH:
        raise TooComplexError
    return any(
        (token.type == "function" and (token.lower_name in _SUBSTITUTIONS or token.name.startswith("--")))
        or is_substituted(_content(token), depth + 1)
        for token in tokens
    )


def needs_layout(token: Any, depth: int = 0) -> bool:
    """Whether the value of a calculation depends on a size that layout decides: on a percentage.

    Raises TooComplexError.
    """
    if depth > _MAX_DEPTH:
        raise TooComplexError
    if token.type == "function" and token.lower_name not in _CALC_NAMES:
        return False
    return token.type == "percentage" or any(needs_layout(part, depth + 1) for part in _content(token))


def _content(token: Any) -> Tokens:
    """The values within a function or parentheses."""
    return token.arguments if token.type == "function" else token.content if token.type == "() block" else ()


def parse_length(token: Any, font_size: float, base: float | None = None) -> float | None:
    """Return a number, length, angle or percentage as a number: lengths in pixels, percentages of ``base``.

    Returns None for all other values, and for a percentage without ``base``.
    """
    value = _calculate_value(token, font_size, base)
    if value is None or math.isnan(value):
        return None if value is None else 0.0
    return min(max(value, -_MAX_NUMBER), _MAX_NUMBER)


def is_length(token: Any) -> bool:
    """Whether a number with its unit is a length; without a unit only 0 is one."""
    unit = getattr(token, "lower_unit", "")
    return unit not in _OTHER_UNITS if unit else not token.value


def _calculate_value(token: Any, font_size: float, base: float | None) -> float | None:
    if token.type == "number":
        return float(token.value)
    if token.type == "percentage":
        return None if base is None else token.value / 100 * base
    if token.type == "dimension":
        unit = token.lower_unit[1:] if token.lower_unit[:2] in {"sv", "lv", "dv"} else token.lower_unit
        factor = _PIXELS.get(unit)
        if factor is None and token.lower_unit in _FONT_RELATIVE:
            factor = _FONT_RELATIVE[token.lower_unit] * font_size
        return None if factor is None else float(token.value) * factor
    if token.type == "function" and token.lower_name in _CALC_NAMES:
        return _calculate(token, font_size, base, 0)
    return None


def _calculate(function: Any, font_size: float, base: float | None, depth: int) -> float | None:
    if depth > _MAX_DEPTH:
        return None
    values = []
    for part in split_commas(function.arguments):
        value = _calculate_sum(strip_spaces(part), font_size, base, depth)
        if value is None:
            return None
        values.append(value)
    if any(map(math.isnan, values)):
        return math.nan
    match function.lower_name, values:
        case "min", [_, *_]:
            return min(values)
        case "max", [_, *_]:
            return max(values)
        case "clamp", [lower, value, upper]:
            return max(lower, min(value, upper))
        case _, [value]:
            return value
    return None


def _calculate_sum(tokens: Tokens, font_size: float, base: float | None, depth: int) -> float | None:
    """Calculate a sum of products. Returns None if it is invalid."""
    total, product, sign, operator = 0.0, None, 1.0, ""
    for token in tokens:
        symbol = token.value if token.type == "literal" else ""
        if symbol in {"+", "-"} and product is not None:
            total, product, sign = total + sign * product, None, 1.0 if symbol == "+" else -1.0
        elif symbol in {"*", "/"} and product is not None:
            operator = symbol
        else:
            if token.type == "() block":
                value = (
                    _calculate_sum(strip_spaces(token.content), font_size, base, depth + 1)
                    if depth < _MAX_DEPTH
                    else None
                )
            elif token.type == "function" and token.lower_name in _CALC_NAMES:
                value = _calculate(token, font_size, base, depth + 1)
            elif token.type == "ident":
                value = _CALC_CONSTANTS.get(token.lower_value)
            else:
                value = _calculate_value(token, font_size, base)
            if value is None or (product is not None and not operator):
                return None
            product = value if product is None else product * value if operator == "*" else _divide(product, value)
            operator = ""
    return None if product is None or operator else total + sign * product


def _divide(dividend: float, divisor: float) -> float:
    """Divide as CSS does: by zero, the result is infinite."""
    return dividend / divisor if divisor else dividend * math.copysign(math.inf, divisor)


def has_syntax(value: Tokens, syntax: str) -> bool:
    """Whether a value has the syntax that ``@property`` asks for; False for syntaxes that are not known."""
    if syntax == "*":
        return True
    if len(value) != 1:
        return False
    if syntax == "<color>":
        return parse_color(value[0], BLACK) is not None
    return syntax in _NUMERIC_SYNTAXES and parse_length(value[0], 16.0, 100.0) is not None


def parse_color(token: Any, current: Rgba) -> Rgba | None:
    """Return a colour, or None if the value is not a known colour. ``current`` is the value of ``currentcolor``."""
    name = token.lower_value if token.type == "ident" else ""
    if name in _SYSTEM_COLORS:
        return _SYSTEM_COLORS[name]
    if token.type == "function" and token.lower_name == "color-mix":
        return _mix_colors(token, current)
    try:
        color = color5.parse_color(token)
        if color == "currentcolor":
            return current
        return None if color is None else _to_rgba(color)
    except (
        ValueError,
        TypeError,
        NotImplementedError,
        ZeroDivisionError,
        OverflowError,
        AttributeError,
        AssertionError,
    ):
        return None


def _to_rgba(color: Any) -> Rgba:
    """Convert a colour. Raises NotImplementedError for some colour spaces."""
    white = {"oklab": "d65", "oklch": "d65", "lab": "d50", "lch": "d50"}.get(color.space)
    if white is None:
        parts = color.to("srgb").coordinates
    else:
        xyz = color.to(f"xyz-{white}").coordinates
        linear = [sum(factor * part for factor, part in zip(row, xyz, strict=True)) for row in _XYZ_TO_RGB[white]]
        parts = [12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055 for part in linear]
    red, green, blue = (min(max(part or 0.0, 0.0), 1.0) for part in parts)
    return Rgba(red, green, blue, color.alpha)


def _mix_colors(function: Any, current: Rgba) -> Rgba | None:
    """Mix the two colours of ``color-mix()``; in sRGB, whatever the space is."""
    mixed = []
    for part in split_commas(function.arguments)[1:]:
        tokens = strip_spaces(part)
        shares = [token.value / 100 for token in tokens if token.type == "percentage"]
        colors = [color for token in tokens if token.type != "percentage" and (color := parse_color(token, current))]
        if len(colors) != 1 or len(shares) > 1 or len(tokens) != len(colors) + len(shares):
            return None
        mixed.append((colors[0], shares[0] if shares else None))
    if len(mixed) != _MIXED_COLORS:
        return None
    (first, share), (second, other) = mixed
    share = share if share is not None else 0.5 if other is None else 1 - other
    other = other if other is not None else 1 - share
    total = share + other
    if not total > 0 or min(share, other) < 0:
        return None
    alpha = (first.alpha * share + second.alpha * other) / total
    red, green, blue = (
        (top * first.alpha * share + below * second.alpha * other) / (total * alpha) if alpha else 0.0
        for top, below in zip(first[:3], second[:3], strict=True)
    )
    return Rgba(red, green, blue, alpha * min(total, 1))
