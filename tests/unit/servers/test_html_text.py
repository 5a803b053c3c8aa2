"""The visible text of HTML: whatever hides a text, however it is written, the text does not pass; the rest does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat_servers.google.html_text.css_values import TooComplexError
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


@pytest.mark.parametrize(
    "html",
    [
        '<div style="color:white"><p color=black>HIDDEN',
        "<div bgcolor=black><font color=white>HIDDEN",
        '<p style="--X:none;display:var(--X)">HIDDEN',
        '<p style="color:white;background:black nonsense">HIDDEN',
        '<p style="color:white;background:#000 #000">HIDDEN',
        '<p style="font-size:0;font:16px">HIDDEN',
        '<p style="font-size:0;font:bold 16px">HIDDEN',
        '<p style="margin:-9999px;margin:0 0 foo 0">HIDDEN',
        '<p style="margin:-9999px;margin:0 0 0 0 0">HIDDEN',
        '<p style="font:oblique 14deg 0px serif">HIDDEN',
        '<p style="display:none;display:-ms-flexbox">HIDDEN',
        '<p style="display:none;display:run-in">HIDDEN',
        '<p style="font-size:0;font-size:auto">HIDDEN',
        '<p style="font-size:0;font-size:16deg">HIDDEN',
        '<p style="font-size:0;font-size:4.0">HIDDEN',
        '<p style="opacity:0;opacity:auto">HIDDEN',
        '<p style="opacity:0;opacity:1px">HIDDEN',
        '<p style="max-height:0;overflow:hidden;max-height:auto">HIDDEN',
        '<p style="text-indent:-9999px;text-indent:auto">HIDDEN',
        '<p style="text-indent:-9999px;text-indent:3">HIDDEN',
        '<p style="text-indent:-9999px hanging">HIDDEN',
        '<div style="color:white"><p style="color:black;all:inherit">HIDDEN',
        '<div style="color:white"><p style="color:black;all:unset">HIDDEN',
        '<div style="color:white"><a href=x style="color:unset">HIDDEN</a></div>',
        '<div style="font-size:0"><p style="font-size:16px;font:var(--none)">HIDDEN',
        '<p style="color:white;background:#000;background:var(--none)">HIDDEN',
        '<div style="--c:white;--a:var(--c)"><p style="--c:black;color:var(--a)">HIDDEN',
        '<p style="--a:var(--none);color:var(--a,white)">HIDDEN',
        '<p style="--a:initial;color:var(--a,white)">HIDDEN',
        '<p style="font-size:env(safe-area-inset-top)">HIDDEN',
        "<style>img[alt]+p{display:none}</style><img alt=x><p>HIDDEN",
        "<style>.h{display:none} @supports (foo:bar){.h{display:block}}</style><p class=h>HIDDEN",
        "<style>.h{display:none} @container (min-width:1px){.h{display:block}}</style><p class=h>HIDDEN",
        "<style>.h{display:none} @media (foo:bar){.h{display:block}}</style><p class=h>HIDDEN",
        "<style>@supports not (foo:bar){.h{display:none}}</style><p class=h>HIDDEN",
        "<style>@media screen and not (max-width:600px){.h{display:none}}</style><p class=h>HIDDEN",
        "<style>p:not(:required){display:none}</style><p>HIDDEN",
        "<style>p:not(:modal){display:none}</style><p>HIDDEN",
        "<style>.h,::part(x){display:none}</style><p class=h>HIDDEN",
        "<style>.h,::-webkit-scrollbar{display:none}</style><p class=h>HIDDEN",
        "<style>.h,::backdrop{display:none}</style><p class=h>HIDDEN",
        "<style>.H{display:none}</style><p class=h>HIDDEN",
        '<p style="width:4px;height:4px;overflow:hidden">HIDDEN',
        '<p style="height:4px;overflow:hidden">HIDDEN',
        '<p style="position:absolute;left:-9999px;right:-9999px">HIDDEN',
        '<p style="position:absolute;inset:-9999px">HIDDEN',
        '<p style="margin-inline:-9999px 0">HIDDEN',
        '<p style="margin-block:-9999px">HIDDEN',
        '<p style="position:absolute;inset-inline:-9999px auto">HIDDEN',
        '<p style="-webkit-margin-start:-9999px">HIDDEN',
        '<p style="font-size:0cqw">HIDDEN',
        '<p style="left:-999cqw;position:absolute">HIDDEN',
        '<p style="position:absolute;left:-300px">HIDDEN',
        '<p style="margin-top:-300px">HIDDEN',
        '<p style="position:fixed;top:20000px">HIDDEN',
        '<div style="visibility:hidden;background:#000"><p style="visibility:visible;color:white">HIDDEN',
        '<p style="color:white;background:linear-gradient(white 99%,black 99%)">HIDDEN',
        '<p style="color:white;background:linear-gradient(#fff,#fff),linear-gradient(#000,#000)">HIDDEN',
        "<style>@layer b,a;@layer a{.h{display:none}}@layer b{.h{display:block}}</style><p class=h>HIDDEN",
        "<style>@layer a{p.h{display:block}}@layer b{.h{display:none}}</style><p class=h>HIDDEN",
        '<a href="http://HIDDEN/" style="display:none">x</a>',
        '<a href="http://HIDDEN/"></a>',
        "<svg><style>.h{display:none}</style></svg><p class=h>HIDDEN",
        "<style>.h{display:none}</style><template><style>.h{display:block!important}</style></template><p class=h>HIDDEN",
        '<style>.h{display:none}</style><style type=" text/css">.h{display:block!important}</style><p class=h>HIDDEN',
        "<div popover>HIDDEN",
        "<p hidden>a<!--c-->HIDDENIDDEN",
        '<p style="width:0;overflow:hidden">HIDDEN',
        '<p style="-webkit-text-stroke:9px #fff">HIDDEN',
        '<p style="letter-spacing:9999px">HIDDEN',
        '<p style="filter:opacity(.3) opacity(.3) opacity(.3)">HIDDEN',
        '<p style="clip:rect(auto,auto,0,auto);position:absolute">HIDDEN',
        '<p style="color:white;background:#000;background-clip:text">HIDDEN',
        "<style>@property --c{syntax:'<color>';inherits:false;initial-value:white} p{color:var(--c,black)}</style><p>HIDDEN",
        "<style>@property --c{syntax:'*';inherits:false;initial-value:white}"
        "div{--c:black}p{color:var(--c)}</style><div><p>HIDDEN",
        "<style>@property --c{syntax:'*';inherits:true;initial-value:none}</style><p style='--c:initial;display:var(--c)'>HIDDEN",
        "<style>@namespace h url(http://www.w3.org/1999/xhtml);h|p{display:none}</style><p>HIDDEN",
        "<style>@namespace h url(http://www.w3.org/1999/xhtml);div>h|*:not(h|b){display:none}</style><div><p>HIDDEN",
        "<style>p{color:ffffff}</style><p>HIDDEN",
        "<style>p{color:white} p{color:000000}</style><p>HIDDEN",
        "<p style='color:fff'>HIDDEN",
        "<font color='#fffff'>HIDDEN</font>",
        "<font color=' WHITE '>HIDDEN</font>",
        "<font color='ffffffxffffff'>HIDDEN</font>",
        "<body bgcolor=zero><font color=zero>HIDDEN",
        # A rule that no browser applies shows nothing.
        "<style>p{color:white} x|p{color:black}</style><p>HIDDEN",
        "<style>p{color:white} x|p, b{color:black}</style><p>HIDDEN",
        "<style>@namespace s url(http://www.w3.org/2000/svg);p{color:white} s|p{color:black}</style><p>HIDDEN",
        "<style>p{color:white} |p{color:black}</style><p>HIDDEN",
        "<style>p{color:white}</style><style>@namespace url(http://www.w3.org/2000/svg);p{color:black}</style><p>HIDDEN",
        "<style>p{color:white} p:dir(rtl){color:black}</style><p>HIDDEN",
        "<style>@property --c{inherits:false;initial-value:black} p{color:var(--c,white)}</style><p>HIDDEN",
        "<style>@property --c{syntax:'<length>';inherits:false;initial-value:black} p{color:var(--c,white)}</style><p>HIDDEN",
        "<style>@supports(display:no){@property --c{syntax:'*';inherits:false;initial-value:black}} p{color:var(--c,white)}</style><p>HIDDEN",
        "<style>@property --c{syntax:'*';inherits:false} div{--c:black} p{color:var(--c,white)}</style><div><p>HIDDEN",
        "<style>@property --c{syntax:'<color>';inherits:true;initial-value:white}</style><p style='--c:foo;color:var(--c)'>HIDDEN",
        "<p style='text-indent:-9999px;transform:rotate(90deg)'>HIDDEN",
        "<div style='transform:scale(.012)'><p style='font-size:400px;position:relative;z-index:-1'>HIDDEN",
        "<div style='transform:scale(.012)'><p style='font-size:400px;margin-left:round(-9px,-9px)'>HIDDEN",
        "<div style='color:white'><p style='--color:000;color:var(--color)'>HIDDEN",
        "<div style='transform:scale(2)'>" * 3 + "HIDDEN",
        "<div style='transform:scale(2)'>" * 520 + "HIDDEN",
        "<div style='zoom:1e7'>" * 22 + "HIDDEN",
        "<p style='-webkit-transform-origin:-3000px 0;transform:rotate(180deg)'>HIDDEN",
        "<p style='transform-origin:-500% 0;transform:rotate(180deg)'>HIDDEN",
        "<p style='transform:scaleZ(0)'>HIDDEN",
        "<p style='transform:scale3d(1,1,0)'>HIDDEN",
        "<p style='scale:1 1 0'>HIDDEN",
        "<p style='transform:perspective(100px) translateZ(200px)'>HIDDEN",
        "<p style='transform:rotateY(180deg);backface-visibility:hidden'>HIDDEN",
        "<p style='-moz-transform:scale(0)'>HIDDEN",
        "<div style='font-size:2px'><span style='transform:scale(2)'>HIDDEN",
        "<p style='font-size:calc(1% * sin(0))'>HIDDEN",
        "<p style='opacity:calc(100% * sin(0))'>HIDDEN",
        "<p style='margin-left:calc(-100% * sqrt(100))'>HIDDEN",
        "<p style='--z:0;font-size:calc((var(--z)) * 1%)'>HIDDEN",
        "<p style='font-size:calc((attr(data-x type(<number>), 0)) * 1%)'>HIDDEN",
        "<p style='background-color:1;color:black'>HIDDEN",
        "<p style='background-color:1f;color:black'>HIDDEN",
        "<p style='background-color:#000999;color:999'>HIDDEN",
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.0 Transitional//EN"><p style="color:ffffff">HIDDEN',
        "<!-- --><!doctype html><style>.A{color:white}.a{color:black}</style><p class=A>HIDDEN",
        "<body link=white><a href=x>HIDDEN</a>",
        "<p style='color:oklch(1 0 0)'>HIDDEN",
        "<p style='color:lch(100% 0 0)'>HIDDEN",
        "<p style='color:color-mix(in srgb,#fff 100%,#000)'>HIDDEN",
        "<p style='color:color-mix(in srgb,#222 3%,transparent)'>HIDDEN",
        "<p style='color:HighlightText'>HIDDEN",
        "<p style='color:ButtonFace;background:ButtonFace'>HIDDEN",
        "<style>html{font-size:1px}</style><p style='font-size:1rem'>HIDDEN",
        "<style>html{font-size:1px;--s:1rem}</style><p style='font-size:var(--s)'>HIDDEN",
        "<html style='font-size:5%'><p style='font-size:calc((1rem))'>HIDDEN",
        "<p style='transform:translateY(-500%)'>HIDDEN",
        "<style>@supports (color:red){.h{max-height:0;overflow:hidden}} @supports (a:b){.h{overflow:visible}}</style><p class=h>HIDDEN",
        "<style>@supports (color:red){.h{" + "color:#111;" * 25 + "display:none}}"
        "@supports (a:b){.h{display:block}}</style><p class=h>HIDDEN",
        "<style>.h{display:none}</style><p class=h style='display:revert-layer'>HIDDEN",
        "<style title=a>.h{display:none}</style><style title=b>.h{display:block!important}</style><p class=h>HIDDEN",
        "<style>x-y{display:none} x-y:defined{display:block!important}</style><x-y>HIDDEN</x-y>",
        "<style>.h:not(:dir(rtl)){display:none}</style><p class=h>HIDDEN",
        "<style>p:not(:state(x)){display:none}</style><p>HIDDEN",
        "<style>:heading{display:none}</style><h1>HIDDEN</h1>",
        "<style>@supports not (-webkit-touch-callout:none){p{display:none}}</style><p>HIDDEN",
        "<style>.h{display:none} @media screen or (min-width:1px){.h{display:block!important}}</style><p class=h>HIDDEN",
        "<style>.h{display:none} @media (min-width:1){.h{display:block!important}}</style><p class=h>HIDDEN",
        "<style>.h{display:none} @media screen all{.h{display:block!important}}</style><p class=h>HIDDEN",
        "<style>@media (min-width:1200px){p{display:none}}</style><p>HIDDEN",
        "<p style='clip-path:circle(50% at -900px 0)'>HIDDEN",
        "<p style='clip-path:polygon(-900px -900px,-800px -900px,-800px -800px)'>HIDDEN",
        "<p style='position:absolute;clip:rect(60px,1000px,160px,0)'>HIDDEN",
        "<p style='text-indent:100%;white-space:nowrap;overflow:hidden'>HIDDEN",
        "<p style='word-spacing:9999px'>HIDDEN",
        "<div style='contain:strict'>HIDDEN</div>",
        "<p style='display:none;display:ruby-foo'>HIDDEN",
        "<p style='font-size:max(16px,NaN * 1px)'>HIDDEN",
        "<p style='font-size-adjust:0'>HIDDEN",
        "<math><mphantom><mtext>HIDDEN</mtext></mphantom></math>",
        "<a href='http://HIDDEN'>&#10240;&#12644;</a>",
        "<div style='transform:rotate(180deg)'><p style='margin-left:300px'>HIDDEN",
        "<div style='zoom:.5'><p style='transform:scale(.4)'>HIDDEN",
        "<div style='transform:scale(1e9)'><div style='transform:scale(1e-9)'>HIDDEN",
        "<noscript><style>.h{display:none}</style></noscript><p class=h>HIDDEN",
        "<head><noscript><style>.h{display:none}</style></noscript></head><body><p class=h>HIDDEN",
        "<div hidden style='all:revert'>HIDDEN</div>",
        "<p style='display:none;all:none'>HIDDEN",
        "<div hidden style='display:revert'>HIDDEN</div>",
        "<p style='font-size:0;font:16px a,'>HIDDEN",
        "<p style='font-size:0;font:16px a b 3'>HIDDEN",
        "<p style='font-size:0;font:underline 16px a'>HIDDEN",
        "<p style='color:#fff;background:linear-gradient(#000,#000) no-repeat 0 0/0 0'>HIDDEN",
        "<p style='color:#fff;background-image:linear-gradient(#000,#000);background-size:1px 1px'>HIDDEN",
        "<p style='color:#fff;background:linear-gradient(#100,#200,#300,#400,#500,#600,#700,#800,#900,#fff)'>HIDDEN",
        "<math><mtext mathcolor=white>HIDDEN</mtext></math>",
        "<math><mtext mathsize=0>HIDDEN</mtext></math>",
        "<style>@keyframes g{from{opacity:0}}.h{animation:g 9s paused}</style><p class=h>HIDDEN",
        "<style>@keyframes g{from{opacity:0}}.h{animation:g;animation-duration:99999s}</style><p class=h>HIDDEN",
        "<div style='height:20px;line-height:200px;overflow:hidden'>HIDDEN</div>",
        "<div style='box-sizing:border-box;height:50px;padding-top:60px;overflow:hidden'>HIDDEN</div>",
    ],
)
def test_what_an_attack_found_stays_hidden(html: str) -> None:
    assert "HIDDEN" not in extract_visible_text(html)[0]


@pytest.mark.parametrize(
    "html",
    [
        "<p>Hello <!-- n -->SEEN</p>",
        "<td><!--[if mso]>x<![endif]-->SEEN</td>",
        "<p><!--[if !mso]><!-->SEEN<!--<![endif]--></p>",
        "<!--a-->SEEN<!--b-->",
        "<div><p>a</p><!--x-->SEEN<p>b</p></div>",
        "<style>[*|href]{color:red}</style>SEEN",
        "<style>:has(:focus){color:red}</style>SEEN",
        '<p style="width:calc(100% - 40px);overflow:hidden">SEEN',
        '<p style="max-width:calc(100% - 20px);overflow:auto">SEEN',
        '<p style="height:0;min-height:100px;overflow:hidden">SEEN',
        '<p style="width:1px;min-width:100%;overflow:hidden">SEEN',
        '<table><td style="height:1px;overflow:hidden">SEEN',
        '<table style="width:0;overflow:hidden"><td>SEEN',
        '<span style="overflow:hidden;width:0;height:0">SEEN</span>',
        "<style>@keyframes f{from{opacity:0}to{opacity:1}}.d{animation:f 1s}</style><p class=d>SEEN",
        "<style>@supports (-webkit-touch-callout:none){p{display:none}}</style><p>SEEN",
        "<style>@media all and (-ms-high-contrast:none){p{display:none}}</style><p>SEEN",
        "<style>@-moz-document url-prefix(){p{display:none}}</style><p>SEEN",
        '<table><tr><td bgcolor="0055AA"><font color="#fff">SEEN</font></table>',
        "<bdo dir=ltr>SEEN</bdo>",
        "<select size=3><option>a<option>SEEN</select>",
        '<p style="all:unset">SEEN',
        '<p style="font:16px/1.5 Arial">SEEN',
        '<p style="margin:0 auto">SEEN',
        '<p style="background:#fff url(x) no-repeat center/cover">SEEN',
        '<p style="position:relative;left:-20px;top:-10px">SEEN',
        '<div style="font-size:0"><span style="font-size:14px">SEEN</span></div>',
        '<p style="color:var(--x,#333)">SEEN',
        '<a href="https://x.example">SEEN</a>',
        '<p style="line-height:1.4;overflow:hidden">SEEN',
        '<p style="color:light-dark(#222,#eee)">SEEN',
        "<div style='transform:rotate(180deg)'><p style='transform:rotate(180deg) translate(100px)'>SEEN",
        "<p style='transform:scale(1.5);transform-origin:0 0'>SEEN",
        "<p style='width:calc(100% * 2 / 3);overflow:hidden'>SEEN",
        "<p style='color:#222;color:ffeedd1'>SEEN",
        "<font color=chucknorris>SEEN</font>",
        "<style>@property --c{syntax:'<color>';inherits:true;initial-value:white}</style><p style='--c:black;color:var(--c)'>SEEN",
        "<style>@namespace s url(http://www.w3.org/2000/svg);s|*{display:none}</style><p>SEEN",
        "<style>@namespace h url(http://www.w3.org/1999/xhtml);h|p{color:red}</style><p>SEEN",
        "<style>.clearfix{overflow:hidden;height:1%}</style><div class=clearfix>SEEN",
        "<ul style='overflow:hidden;width:100%;height:1%'>SEEN",
        "<p style='--u:8px;padding-left:calc((var(--u) + 4px) * 2)'>SEEN",
        "<p style='--u:8px;margin:calc((var(--u) + 4px) * 2)'>SEEN",
        "<p style='--z:16;font-size:calc((var(--z)) * 1px)'>SEEN",
        "<div style='--label:attr(data-l);counter-reset:attr(data-l);quotes:attr(x);mso-x:if(a)'>SEEN",
        "<p style='-webkit-text-fill-color:fff'>SEEN",
        "<!doctype html><p style='color:ffffff'>SEEN",
        "<p style='transform:translateZ(0) translate3d(0,0,0)'>SEEN",
        "<body link=navy><a href=x>SEEN</a>",
        "<p style='color:oklch(45% .1 150)'>SEEN",
        "<p style='color:lab(40% 20 -30)'>SEEN",
        "<p style='color:color-mix(in srgb,#222 60%,transparent)'>SEEN",
        "<p style='color:color-mix(in oklab,white,black 80%)'>SEEN",
        "<p style='-webkit-text-stroke:0;mask:none;mix-blend-mode:normal'>SEEN",
        "<p style='transform:translateY(-50%)'>SEEN",
        "<p style='position:absolute;top:50%;left:50%;transform:translate(-50%,-50%)'>SEEN",
        "<style>html{font-size:62.5%}p{font-size:1.6rem}</style><p>SEEN",
        "<body style='word-spacing:normal'><div style='font-size:0;word-spacing:0'><p style='font-size:13px'>SEEN",
        "<style>@media only screen and (min-width:480px){p{width:50%}} @media print and (color){p{display:none}}</style><p>SEEN",
        "<style>@media (min-width:768px) and (max-width:1280px){p{color:#222}} p:focus-within{display:none}</style><p>SEEN",
        "<p style='max-width:100%;overflow:hidden;height:auto'>SEEN",
        "<p style='font-size:0;font:italic small-caps bold 13px/1.5 \"Segoe UI\",Helvetica Neue,-apple-system,sans-serif'>SEEN",
        "<p style='font-size:0;font:700 condensed calc(10px + 4px) Arial'>SEEN",
        "<p style='font-size:0;font:oblique 10deg 16px/normal a'>SEEN",
        "<p style='color:#fff;background:linear-gradient(90deg,#111,#333 50%) no-repeat center/cover'>SEEN",
        "<div hidden style='display:block'>SEEN",
        "<dialog open>SEEN</dialog>",
        "<math><mtext mathcolor=navy mathsize=big>SEEN</mtext></math>",
        "<style>@keyframes g{from{opacity:0}to{opacity:1}}.h{animation:g 2s}</style><p class=h>SEEN",
        "<div style='height:40px;line-height:40px;overflow:hidden'>SEEN</div>",
        "<div style='box-sizing:border-box;height:60px;padding:10px;overflow:hidden'>SEEN</div>",
    ],
)
def test_what_mails_show_stays(html: str) -> None:
    assert "SEEN" in extract_visible_text(html)[0]


def test_hidden_passages_and_image_descriptions_are_counted() -> None:
    html = "<p hidden>a<b>b</b></p><p hidden>c</p>d<p hidden>\u200c \u00a0</p>e<i hidden>f</i><img alt='g'><img alt=''>"
    assert extract_visible_text(html)[1] == Hidden(passages=2, descriptions=1)


@pytest.mark.parametrize(
    "html",
    [
        "<style>p{--a:var(--b);--b:var(--a);color:var(--a)}</style><p>x",
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
    "html",
    [
        "<div>" * 3500 + "x",
        "<style>" + "p{" * 2000,
        "<style>" + "@media all{" * 40 + "p{color:red}",
        "<p style='color:" + "(" * 3000 + "'>x",
        "<p style='margin-left:calc(" + "(" * 400 + "1px" + ")" * 400 + ")'>x",
        "<style>" + "".join(f"@property --p{n}{{syntax:'*';inherits:true;initial-value:0}}" for n in range(300)),
        "<style>" + ":not(" * 300 + "a" + ")" * 300 + "{color:red}</style>x",
    ],
)
def test_nesting_has_a_limit(html: str) -> None:
    with pytest.raises(TooComplexError):
        extract_visible_text(html)
