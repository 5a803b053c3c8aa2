"""Hyperlinks (OSC 8): which terminals have them, and how they stand in what is written."""

import re
from collections.abc import Mapping

_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "Tabby", "rio", "zed", "WarpTerminal"})
_TERMS = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour")
_VARIABLES = ("WT_SESSION", "KONSOLE_VERSION", "KITTY_WINDOW_ID", "DOMTERM")
_FIRST_VTE, _FIRST_TMUX = 5000, (3, 4)  # the versions that have them
_LINK = re.compile(r"\x1b]8;[^\x1b]*\x1b\\")
_LINK_ID = re.compile(r"\x1b]8;id=\d+;")


def has_hyperlinks(environ: Mapping[str, str]) -> bool:
    """Whether the terminal shows hyperlinks. ``FORCE_HYPERLINK`` decides if it is set; ``0`` means no."""
    if forced := environ.get("FORCE_HYPERLINK", ""):
        return forced != "0"
    program, vte = environ.get("TERM_PROGRAM", ""), environ.get("VTE_VERSION", "")
    if program == "tmux":  # passes them on to terminals that have them
        numbers = re.findall(r"\d+", environ.get("TERM_PROGRAM_VERSION", ""))
        return tuple(map(int, numbers[:2])) >= _FIRST_TMUX
    if environ.get("TERM", "").startswith(_TERMS) or program in _PROGRAMS:
        return True
    return any(environ.get(name) for name in _VARIABLES) or (vte.isdecimal() and int(vte) >= _FIRST_VTE)


def remove_hyperlinks(text: str) -> str:
    """The text with its escape sequences, but without those of hyperlinks."""
    return _LINK.sub("", text)


def remove_link_ids(text: str) -> str:
    """The text without the random numbers that rich gives to hyperlinks: an unchanged line stays equal to itself."""
    return _LINK_ID.sub("\x1b]8;;", text)
