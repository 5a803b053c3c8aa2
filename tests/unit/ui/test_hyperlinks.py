"""Addresses are shown, and are links where the terminal has links."""

import io

import pytest
from rich.console import Console

from mcpchat.ui.markdown.render import THEME, Markdown, parse_markdown
from mcpchat.ui.terminal.hyperlinks import has_hyperlinks, remove_hyperlinks
from mcpchat.ui.terminal.screen import render_ansi, render_lines


def _render(text: str) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, theme=THEME, color_system="256")
    return "\n".join(render_ansi(console, render_lines(console, Markdown(parse_markdown(text)))))


def _link(address: str, style: str = "") -> str:
    return f"\x1b]8;;{address}\x1b\\\x1b[{f'2;{style}4' if style else '2;4'}m{address}\x1b[0m\x1b]8;;\x1b\\"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "see [this **page**](https://a.example/x_y)",
            f"see this \x1b[1mpage\x1b[0m ({_link('https://a.example/x_y')})",
        ),
        ("see <https://a.example>", f"see {_link('https://a.example')}"),
        ("see https://a.example/b_c, or", f"see {_link('https://a.example/b_c')}, or"),
        (
            "[see *x <https://b.example> y* z](https://c.example)",
            f"see \x1b[3mx \x1b[0m{_link('https://b.example', '3;')}\x1b[3m y\x1b[0m z ({_link('https://c.example')})",
        ),
        ("(https://a.example/)", f"({_link('https://a.example/')})"),
        ("[x](javascript:a) [y](file.txt)", "[x](javascript:a) y (\x1b[2;4mfile.txt\x1b[0m)"),
        ("`https://a.example`", "\x1b[36mhttps://a.example\x1b[0m"),
        ("https://a.example/日本", "https://a.example/日本"),
    ],
)
def test_only_an_address_is_a_link(monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    monkeypatch.setenv("FORCE_HYPERLINK", "1")
    assert _render(text) == shown
    assert _render(text) == _render(text)  # an unchanged line is not drawn again
    monkeypatch.setenv("FORCE_HYPERLINK", "0")
    assert _render(text) == remove_hyperlinks(shown)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, True),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "4999"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, True),
        (
            {"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "TERM_PROGRAM_VERSION": "3.3a", "VTE_VERSION": "7600"},
            False,
        ),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "TERM_PROGRAM_VERSION": "3.4"}, True),
        ({"TERM": "xterm-kitty", "FORCE_HYPERLINK": "0"}, False),
    ],
)
def test_terminals_with_hyperlinks_are_known(environ: dict[str, str], expected: bool) -> None:
    assert has_hyperlinks(environ) is expected
