"""The visible text of HTML: whatever hides a text, however it is written, the text does not pass; the rest does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat_servers.google.html_text.cascade import TooComplexError
from mcpchat_servers.google.html_text.extract import extract_visible_text
from mcpchat_servers.google.html_text.visibility import Hidden

HIDING = [
    "display: none", "visibility: hidden", "visibility: collapse", "opacity: 0", "opacity: 1%", "opacity: calc(1 - 1)",
    "color: white", "color: #fff", "color: rgb(255 255 255)", "color: hsl(0, 0%, 99%)", "color: transparent", "color: rgba(0,0,0,.03)",
    "color: canvas", "color: color(from red srgb 1 1 1)", "background: #000; color: #010101", "background-color: red; color: #f00",
    "-webkit-text-fill-color: transparent", "font-size: 0", "font-size: 1px", "font-size: .1em", "font-size: 3%", "font: 0/0 a",
    "font: italic bold 1px/2 serif", "font-size: min(2px, 1em)", "font-size: clamp(0px, 1px, 2px)", "font-size: round(1px, 1px)",
    "max-height: 0; overflow: hidden", "height: 1px; overflow: hidden", "height: 0%; overflow-y: clip", "width: 0; overflow: auto",
    "max-width: 1px; overflow-x: hidden", "max-block-size: 0; overflow: hidden", "height: 0; contain: paint",
    "line-height: 0; overflow: hidden", "position: absolute; left: -9999px", "position: fixed; top: -100vh",
    "position: relative; right: 9999px", "position: absolute; inset: -5000px auto auto -5000px", "margin-left: -9999px",
    "margin: -200vh 0 0 0", "padding-left: 9999px", "text-indent: -9999px", "text-indent: 300%", "letter-spacing: -1em",
    "position: absolute; clip: rect(0 0 0 0)", "clip: rect(1px, 1px, 1px, 1px)", "clip-path: inset(50%)", "clip-path: circle(0)",
    "clip-path: polygon(0 0, 0 0, 0 0)", "clip-path: url(#x)", "transform: scale(0)", "transform: scaleX(.01)",
    "transform: translateX(-9999px)", "transform: translate(-50vw) translate(-50vw)", "transform: rotateY(90deg)",
    "transform: matrix(0, 0, 0, 0, 0, 0)", "-webkit-transform: scale(0)", "scale: 0", "translate: -9999px", "zoom: 0.01",
    "filter: opacity(0)", "filter: blur(20px)", "filter: contrast(0)", "content-visibility: hidden", "mask: url(x)",
    "mix-blend-mode: screen", "z-index: -1; position: relative", "unicode-bidi: bidi-override", "content: url(x)",
    "-webkit-text-security: disc", "animation: gone 1s forwards", "--x: none; display: var(--x)", "display: var(--y, none)",
    "font-size: env(nothing, 0px)", "display: none; display: nonsense", "opacity: 0; opacity: 100foo", "font-size: 0; font-size: 20",
]  # fmt: skip
KEYFRAMES = "@keyframes gone { to { opacity: 0 } }"


def escape(declarations: str) -> str:
    """Write the first letter of each property as a CSS escape."""
    return re.sub(r"(^|; )([a-z])(?!-)", lambda match: f"{match[1]}\\{ord(match[2]):x} ", declarations)


SPELLINGS = {
    "as it is": lambda text: text,
    "upper case": lambda text: re.sub(
        r"(?:^|(?<=; ))[a-z-]+(?=:)",
        lambda match: match[0].upper() if not match[0].startswith("--") else match[0],
        text,
    ),
    "comments": lambda text: text.replace(": ", "/**/:/*x;y*/ ").replace("; ", ";/**/ "),
    "escapes": escape,
    "after many others": lambda text: "color-scheme: light;" * 1000 + text,
    "important": lambda text: re.sub(r"(;|$)", r" !important\1", text),
    "beside nonsense": lambda text: f"}}; nonsense; {text}; nonsense: (",
}
PLACES = {
    "style attribute": ('<p style="{}">HIDDEN</p>', False),
    "class": ("<style>.h {{ {} }}</style><p class='a h'>HIDDEN</p>", True),
    "id over class": ("<style>#h {{ {} }} .h {{ visibility: visible }}</style><p id=h class=h>HIDDEN</p>", True),
    "attribute": ("<style>[data-x='1'] {{ {} }}</style><p data-x=1>HIDDEN</p>", True),
    "sibling": ("<style>hr + p {{ {} }}</style><hr><p>HIDDEN</p>", True),
    "media": ("<style>@media only screen and (min-width: 300px) {{ p.h {{ {} }} }}</style><p class=h>HIDDEN</p>", True),
    "unknown feature": ("<style>@media (any-thing) {{ p.h {{ {} }} }}</style><p class=h>HIDDEN</p>", True),
    "not": ("<style>@media not print {{ p.h {{ {} }} }}</style><p class=h>HIDDEN</p>", True),
    "supports": ("<style>@supports (color: red) {{ p.h {{ {} }} }}</style><p class=h>HIDDEN</p>", True),
    "layer": ("<style>@layer x {{ p.h {{ {} }} }}</style><p class=h>HIDDEN</p>", True),
    "nested": ("<style>section {{ & .h {{ {} }} }}</style><section><p class=h>HIDDEN</p></section>", True),
    "alias": ("<style>p:-webkit-any(.h, .i):dir(ltr) {{ {} }}</style><p class=h>HIDDEN</p>", True),
    "in comment marks": ("<style><!-- .h {{ {} }} --></style><p class=h>HIDDEN</p>", True),
    "at the end": ("<p class=h>HIDDEN</p><style>.h {{ {} }}</style>", True),
}  # fmt: skip


@given(
    hiding=st.sampled_from(HIDING), spelling=st.sampled_from(sorted(SPELLINGS)), place=st.sampled_from(sorted(PLACES))
)
def test_what_hides_text_hides_it_in_every_spelling(hiding: str, spelling: str, place: str) -> None:
    template, is_sheet = PLACES[place]
    if spelling == "beside nonsense" and is_sheet:
        spelling = "as it is"  # a brace would end the rule
    declarations = SPELLINGS[spelling](hiding)
    html = f"<style>{KEYFRAMES}</style><div>SEEN</div>{template.format(declarations)}<div>SEEN TOO</div>"
    text, hidden = extract_visible_text(html)
    assert "HIDDEN" not in text
    assert "SEEN" in text
    assert "SEEN TOO" in text
    assert hidden == Hidden(passages=1)


@pytest.mark.parametrize("hiding", HIDING)
def test_each_way_to_hide_text_is_known(hiding: str) -> None:
    text, hidden = extract_visible_text(f'<style>{KEYFRAMES}</style>SEEN<p style="{hiding}">HIDDEN')
    assert (text, hidden.passages) == ("SEEN", 1)


@pytest.mark.parametrize(
    "html",
    [
        "<svg><text>HIDDEN</text></svg>", "<font color=white>HIDDEN</font>", "<font color=ffffff>HIDDEN</font>", "<i hidden>HIDDEN</i>",
        "<dialog>HIDDEN</dialog>", "<details><summary></summary>HIDDEN</details>", "<select><option><option>HIDDEN</select>",
        "<object>HIDDEN</object>", "<video>HIDDEN</video>", "<canvas>HIDDEN</canvas>", "<noscript>HIDDEN</noscript>", "<template>HIDDEN",
        "<bdo dir=rtl>HIDDEN</bdo>", "<datalist><option>HIDDEN</datalist>", "<iframe>HIDDEN</iframe>", "<math><annotation>HIDDEN",
        "<table bgcolor=black><tr><td><font color='#000'>HIDDEN</font></table>", "<body text=white>HIDDEN",
        "<span style='display:none'><p>HIDDEN</span>HIDDEN TOO</p></span>", "<small><small><small><small><small><small><small><small>HIDDEN",
        "<div style='position:relative;left:-300px'><div style='position:relative;left:-300px'>HIDDEN", "<title>HIDDEN</title>",
        "<div style='opacity:.4'><div style='opacity:.3'><div style='opacity:.3'>HIDDEN", "<!-- HIDDEN -->", "<img alt=HIDDEN>",
        "<div style='height:20px;overflow:hidden'>" + "x " * 700 + "HIDDEN", "<p style='white-space:nowrap;overflow:hidden;width:90px'>"
        + "x " * 200 + "HIDDEN", "<style>b { display: none } @layer { b { display: inline } }</style><b>HIDDEN</b>",
        "<style>b { display: none !important }</style><b style='display: inline'>HIDDEN</b>",
    ],
)  # fmt: skip
def test_what_no_program_shows_is_left_out(html: str) -> None:
    assert "HIDDEN" not in extract_visible_text(html)[0]


@pytest.mark.parametrize(
    "html",
    [
        "<p style='color:#ccc'>SEEN", "<p style='font-size:9px'>SEEN", "<div style='background:#000'><p style='color:#fff'>SEEN",
        "<table><td bgcolor='#336699'><font color=white>SEEN</font>", "<div style='color:white'><a href='https://x.example'>SEEN</a></div>",
        "<div style='visibility:hidden'><p style='visibility:visible'>SEEN", "<details open><p>SEEN</details>",
        "<details><summary>SEEN</summary></details>", "<select><option>​<option selected>SEEN</select>",
        "<div style='background:linear-gradient(#000, #222);color:white'>SEEN", "<p style='height:0'>SEEN", "<p style='left:-9999px'>SEEN",
        "<style>@media print { p { display: none } }</style><p>SEEN", "<style>@media (max-width:600px) { p { display: none } }</style><p>SEEN",
        "<style>@media (prefers-color-scheme: dark) { p { color: white } }</style><p>SEEN", "<style media=print>p { display: none }</style><p>SEEN",
        "<style>p:hover { display: none }</style><p>SEEN", "<style>p::before { display: none }</style><p>SEEN",
        "<style>@media (width < 600px) { p { display: none } }</style><p>SEEN", "<style type=text/x>p { display: none }</style><p>SEEN",
        "<style>@media (min-resolution: 2dppx) { p { display: none } }</style><p>SEEN", "<style>b { display: none } b[x] { display: inline }</style>"
        "<b x>SEEN</b>", "<p style='width:600px;overflow:hidden'>" + "SEEN " * 500, "<ol style='margin-left:-20px;text-indent:-30px'><li>SEEN",
        "<p style='color:windowtext'>SEEN", "<p style='transform:rotate(90deg) translate(10px, 20px) scale(1.2)'>SEEN",
        "<p style='overflow:auto;height:100px'>" + "SEEN " * 3000, "<p style='filter:drop-shadow(1px 1px 1px red)'>SEEN", "<mark>SEEN</mark>",
        "<p style='clip-path:inset(2px)'>SEEN", "<style>p { color: var(--none, red) }</style><p>SEEN", "<dialog open>SEEN</dialog>",
        "<body bgcolor=black text=white>SEEN", "<p style='display:block;all:unset'>SEEN", "<p style='background:url(x) #333;color:#fff'>SEEN",
    ],
)  # fmt: skip
def test_what_is_seen_stays(html: str) -> None:
    text, hidden = extract_visible_text(html)
    assert "SEEN" in text
    assert hidden == Hidden()


def test_hidden_passages_and_image_descriptions_are_counted() -> None:
    html = "<p hidden>a<b>b</b></p><p hidden>c</p>d<p hidden>\u200c \u00a0</p>e<i hidden>f</i><img alt='g'><img alt=''>"
    assert extract_visible_text(html)[1] == Hidden(passages=2, descriptions=1)


@pytest.mark.parametrize(
    "html",
    [
        "<p style='color:" + "(" * 2000, "<style>" + "p{" * 2000, "<style>p{--a:var(--b);--b:var(--a);color:var(--a)}</style><p>x",
        "<style>@media " + "(" * 500 + "</style><p>x", "<p style='font-size:calc(" * 2 + "(" * 500 + "'>x", "<p style='opacity:calc(1/0)'>x",
        "<style>" + ":not(" * 50 + "a" + ")" * 50 + "{color:red}</style><p>x", "<font size=99999999999>x", "<p style='left:1e999px'>x",
        "<p style='color:rgb(1e999 nan 0)'>x", "<p style='margin:;padding:1px 2px 3px 4px 5px;font:'>x", "<style>@keyframes</style><p>x",
    ],
)  # fmt: skip
def test_broken_css_is_no_error(html: str) -> None:
    extract_visible_text(html)


@given(st.text(alphabet="{}()[];:,#.@*!&'\"\\/<>-+ \nabdeilnopsvy019%", max_size=200))
def test_any_css_is_no_error(css: str) -> None:
    extract_visible_text(
        f'<style>p {{ {css} }}</style><style>{css}</style><p>x</p><p style="{css.replace(chr(34), "")}">y'
    )


@pytest.mark.parametrize(
    "html", ["<div>" * 3500 + "x", "<style>" + ":not(" * 300 + "a" + ")" * 300 + "{color:red}</style>x"]
)
def test_nesting_has_a_limit(html: str) -> None:
    with pytest.raises(TooComplexError):
        extract_visible_text(html)
