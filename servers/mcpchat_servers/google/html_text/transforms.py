"""Where an element's box goes: its offsets, margins and transforms as one matrix."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, Protocol

from mcpchat_servers.google.html_text.css_values import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    Tokens,
    keyword,
    parse_length,
    strip_spaces,
)

_BOX_HEIGHT = 100.0  # pixels: a box is as high as its text, which is not known
_MAX_PART = 1e100  # of a matrix
_NO_TRANSFORM = {"none", "initial", "inherit"}
_TURNS = {"rotatex", "rotatey", "rotate3d", "rotate"}
_IN_FLOW = {"", "static", "initial", "inherit"}


class Matrix(NamedTuple):
    """An affine transform: x' = a x + c y + e, y' = b x + d y + f. Distances are in pixels."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    e: float = 0.0
    f: float = 0.0

    def then(self, inner: "Matrix") -> "Matrix":
        """Return the transform of a box that has ``inner`` and lies in a box that has this one."""
        a, b, c, d, e, f = self
        return Matrix(
            a * inner.a + c * inner.b,
            b * inner.a + d * inner.b,
            a * inner.c + c * inner.d,
            b * inner.c + d * inner.d,
            a * inner.e + c * inner.f + e,
            b * inner.e + d * inner.f + f,
        )

    @property
    def is_finite(self) -> bool:
        return all(map(math.isfinite, self))

    @property
    def scales(self) -> tuple[float, float]:
        """By how much lengths change at least and at most, whatever their direction."""
        if not all(abs(part) < _MAX_PART for part in self[:4]):
            return 0.0, math.inf
        squares = sum(part * part for part in self[:4])
        determinant = self.a * self.d - self.b * self.c
        root = math.sqrt(max(squares * squares - 4 * determinant * determinant, 0.0))
        largest = math.sqrt((squares + root) / 2)
        return (abs(determinant) / largest if largest else 0.0), largest


IDENTITY = Matrix()
_NOTHING = Matrix(0.0, 0.0, 0.0, 0.0)  # shows nothing


class Values(Protocol):
    """The values of an element's properties."""

    def tokens(self, name: str) -> Tokens: ...

    def keyword(self, name: str) -> str: ...

    def number(self, name: str, font_size: float, base: float | None = None) -> float | None: ...


def find_offset(values: Values, font_size: float) -> Matrix:
    """Return how far the box is moved by its position, margin and padding, and its zoom."""
    x = y = 0.0
    if values.keyword("position") not in _IN_FLOW:
        left, right = (values.number(side, font_size, PAGE_WIDTH) for side in ("left", "right"))
        top, bottom = (values.number(side, font_size, PAGE_HEIGHT) for side in ("top", "bottom"))
        x = left if left is not None else -(right or 0)
        y = top if top is not None else -(bottom or 0)
    for name in ("margin", "padding"):
        x += values.number(f"{name}-left", font_size, PAGE_WIDTH) or 0
        y += values.number(f"{name}-top", font_size, PAGE_WIDTH) or 0
    zoom = values.number("zoom", font_size, 1.0)
    scale = 1.0 if zoom is None else zoom
    return Matrix(scale, 0.0, 0.0, scale, x * scale, y * scale)


def is_behind_page(values: Values, font_size: float) -> bool:
    """Whether the box lies behind the background of the page."""
    return values.keyword("position") not in _IN_FLOW and (values.number("z-index", font_size) or 0) < 0


def find_transform(values: Values, font_size: float) -> Matrix:
    """Return the transform of a box. Keywords of ``transform-origin``, and percentages within the box, count as 0."""
    functions = [(name, values.tokens(name)) for name in ("translate", "rotate", "scale") if values.tokens(name)]
    functions += [
        (token.lower_name, token.arguments) for token in values.tokens("transform") if token.type == "function"
    ]
    if not functions:
        return IDENTITY
    if values.keyword("backface-visibility") == "hidden" and any(name in _TURNS for name, _ in functions):
        return _NOTHING
    x, y = _read_origin(values.tokens("transform-origin"), font_size)
    steps = (_read_function(name, arguments, font_size) for name, arguments in functions)
    return reduce(Matrix.then, steps, Matrix(e=x, f=y)).then(Matrix(e=-x, f=-y))


def _read_origin(tokens: Tokens, font_size: float) -> tuple[float, float]:
    outside = [
        None if token.type == "percentage" and 0 <= token.value <= 100 else parse_length(token, font_size, base)
        for token, base in zip(tokens, (PAGE_WIDTH, PAGE_HEIGHT), strict=False)
    ]
    x, y = (*outside, None, None)[:2]
    return x or 0.0, y or 0.0


def _read_function(name: str, arguments: Tokens, font_size: float) -> Matrix:
    """Return the matrix of a function. One that is not known shows nothing."""
    tokens = [token for token in strip_spaces(arguments) if token.type != "literal"]
    base, height = (1.0, 1.0) if name.startswith("scale") else (PAGE_WIDTH, _BOX_HEIGHT)
    numbers = [
        number
        for position, token in enumerate(tokens)
        if (number := parse_length(token, font_size, height if name == "translatey" or position else base)) is not None
    ]
    if len(numbers) < len(tokens) or not numbers:
        return IDENTITY if keyword(tokens) in _NO_TRANSFORM else _NOTHING
    if _changes_depth(name, numbers):
        return _NOTHING
    match name, numbers:
        case (("translate" | "translate3d"), [x, *rest]):
            return Matrix(e=x, f=rest[0] if rest else 0.0)
        case "translatex", [x]:
            return Matrix(e=x)
        case "translatey", [y]:
            return Matrix(f=y)
        case (("scale" | "scale3d"), [x, *rest]):
            return Matrix(a=x, d=rest[0] if rest else x)
        case "scalex", [x]:
            return Matrix(a=x)
        case "scaley", [y]:
            return Matrix(d=y)
        case "matrix", [a, b, c, d, e, f]:
            return Matrix(a, b, c, d, e, f)
        case (("perspective" | "translatez" | "scalez"), _):
            return IDENTITY
    return _read_turn(name, [math.radians(number) for number in numbers])


def _changes_depth(name: str, numbers: Sequence[float]) -> bool:
    """Whether a function makes the box flat, or moves it nearer or farther, which matters in a perspective."""
    if name.startswith("scale"):
        return 0 in (numbers if name == "scalez" else numbers[2:])
    return any(numbers if name == "translatez" else numbers[2:] if name in {"translate", "translate3d"} else ())


def _read_turn(name: str, angles: Sequence[float]) -> Matrix:
    """Return the matrix of a function that rotates or skews, by angles in radians. Another one shows nothing."""
    match name, angles:
        case (("rotate" | "rotatez"), [angle]):
            return Matrix(math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
        case "rotatex", [angle]:
            return Matrix(d=math.cos(angle))
        case "rotatey", [angle]:
            return Matrix(a=math.cos(angle))
        case (("skew" | "skewx"), [x, *rest]):
            return Matrix(c=math.tan(x), b=math.tan(rest[0]) if rest else 0.0)
        case "skewy", [y]:
            return Matrix(b=math.tan(y))
    return _NOTHING
