"""The process that reads documents: HTML as text, within limits."""

import subprocess
import sys

import pytest

from mcpchat_servers.google.text_extraction import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("plain & text", "plain & text"),
        ("<?xml version='1.0' encoding='utf-8'?><p>x", "x"),
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("<ul><li>one<li>two</ul>", "  * one\n  * two".strip()),
        ("<table><tr><td>Tea</td><td>3</td></tr></table>", "Tea  3"),
        ("<p style='FONT-SIZE:0px'>no</p>yes<p style='visibility: hidden'>no", "yes\n\n[2 hidden passages left out]"),
        (
            "yes<img alt='no' src='data:image/png;base64," + "A" * 600_000 + "'>",
            "yes\n\n[1 image description left out]",
        ),
        (
            "<div>" * 4000 + "x",
            "[This HTML is too complex to tell which of its text can be seen: all of it is left out]",
        ),
        ("<p>" + "x" * 499_997 + "hidden", "x" * 499_997 + "\n\n[6 more characters of HTML left out]"),
        ("<!-- nothing -->", ""),
        (
            "<!doctype html><p class=h>no</p>yes<!--" + "x" * 600_000 + "--><style>.h{display:none}</style>",
            "yes\n\n[1 hidden passage left out]\n\n[100,073 more characters of HTML left out]",
        ),
        (
            "<style>[id$=AAAB]{display:none}</style>yes<p id='data:image/png;base64," + "A" * 200 + "AAAB'>no</p>",
            "yes\n\n[1 hidden passage left out]",
        ),
    ],
    ids=range(13),
)
async def test_html_becomes_visible_text(html: str, text: str) -> None:
    assert (await html_to_text(html)).strip() == text


@pytest.mark.parametrize("limit", ["-v 900000", "-t 20"])
def test_the_worker_runs_within_existing_limits(limit: str) -> None:
    command = f"ulimit {limit}; exec {sys.executable} -m mcpchat_servers.google.document_worker html"
    result = subprocess.run(["sh", "-c", command], input=b"<p>Hello", capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (0, b"0 0\nHello")
