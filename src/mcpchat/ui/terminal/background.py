"""The terminal's background colour, and a tint of it that marks the user's lines."""

import re
from collections.abc import Mapping
from typing import Literal

from rich.color import Color
from rich.color_triplet import ColorTriplet

QUERY = "\x1b]11;?\x1b\\"  # OSC 11: the terminal answers with its background colour
_REPORT = re.compile(r"11;rgba?:([0-9a-f]{1,4})/([0-9a-f]{1,4})/([0-9a-f]{1,4})", re.IGNORECASE)
_KNOWN: dict[str, ColorTriplet] = {"dark": ColorTriplet(0, 0, 0), "light": ColorTriplet(255, 255, 255)}
_TINT_OF_DARK, _TINT_OF_LIGHT = 0.14, 0.07  # how much white or black is mixed in
_MIDDLE = 128  # the luminance that separates light from dark


def initial_background(setting: Literal["auto", "dark", "light"], environ: Mapping[str, str]) -> ColorTriplet | None:
    """The background by the config, or by COLORFGBG, which some terminals set; None if both are silent."""
    if setting != "auto":
        return _KNOWN[setting]
    index = environ.get("COLORFGBG", "").rpartition(";")[2]
    if not index.isdecimal():
        return None
    return _KNOWN["light" if index in {"7", "15"} else "dark"]


def parse_report(text: str) -> ColorTriplet | None:
    """The colour in a terminal's answer to ``QUERY``, without the escape sequence around it."""
    match = _REPORT.fullmatch(text)
    if match is None:
        return None
    red, green, blue = (int(part, 16) * 255 // (16 ** len(part) - 1) for part in match.groups())
    return ColorTriplet(red, green, blue)


def tint(background: ColorTriplet) -> Color:
    """A colour that differs a little from the background."""
    luminance = 0.299 * background.red + 0.587 * background.green + 0.114 * background.blue
    target, share = (255, _TINT_OF_DARK) if luminance < _MIDDLE else (0, _TINT_OF_LIGHT)
    red, green, blue = (round(part + (target - part) * share) for part in background)
    return Color.from_triplet(ColorTriplet(red, green, blue))
