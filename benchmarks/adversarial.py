"""Benchmark of redacting, sanitizing, judging, rendering and splitting texts that are made to be slow.

    python benchmarks/adversarial.py

Prints the time for each kilobyte of each text, at 20 kB and at 200 kB, relative to ordinary prose of the same length in
the same loop. Work is in proportion to the length if the two figures of a row are about equal.
"""

import io
import time
from collections.abc import Callable

from rich.console import Console

from mcpchat.core.patterns import parse_pattern
from mcpchat.models.openai.think_tags import ThinkTags, split_unopened
from mcpchat.ui.markdown.render import THEME, Markdown, parse_markdown
from mcpchat.util.lookalikes import find_lookalikes
from mcpchat.util.redaction import SecretRegistry, StreamRedactor
from mcpchat.util.sanitize import sanitize

PROSE = "The quick brown fox jumps over the lazy dog, and the dog sleeps. "
TEXTS = {
    "private key headers": "-----BEGIN ",
    "headers, cut": "-----BEGIN x",
    "private keys": "-----BEGIN RSA PRIVATE KEY----- a -----END RSA PRIVATE KEY----- ",
    "open private keys": "-----BEGIN RSA PRIVATE KEY-----",
    "dashes": "-----",
    "token prefixes": "sk-a.ghp_a/",
    "token prefixes, other letters": "sk-漢",
    "one long word": "a",
    "invisible characters": "s\u200bk\u200b-\u200b",
    "stacked marks": "a\u0301\u0301\u0301\u0301",
    "percent encoding": "%252525",
    "parent folders": "../",
    "addresses": "a@b,<",
    "spaces": "access_token  ",
    "blanks": " ",
    "blank lines": "\n",
    "digits of bytes": "5a 42 ",
    "arrays of bytes": "0x5a, ",
    "lines of base64": "aB3+aB3+\n",
    "escapes in escapes": "\\\\\\u005a%2525",
    "overstrikes": "a\b",
    "open links of a terminal": "\x1b]8;;",
    "variables and braces": "$a${IFS}{a,",
    "wrapped commands": "sudo env ",
    "URLs": "http://0x7f.1//a/../",
    "reasoning tags": "<think>a </thin",
    "open links": "[a](",
    "open images": "![",
    "emphasis": "**a *b ",
    "code spans": "`` a",
    "tables": "|a|b|\n|-|-|\n",
    "headings": "a\n=\n",
    "formulas": "$$a\n",
    "nested quotes": "> - ",
}
SIZES = (20_000, 200_000)  # characters


def stream(text: str, secrets: SecretRegistry | None = None) -> None:
    redactor = StreamRedactor(secrets or SecretRegistry())
    for start in range(0, len(text), 8):
        redactor.feed(text[start : start + 8])
    redactor.flush()


def known_secrets() -> SecretRegistry:
    secrets = SecretRegistry()
    secrets.add("the-first-secret-12", 'pa/ss+"w\u00f6rd"-1234', "https://me:zA5b-zA5b@db.example.com")
    return secrets


KNOWN = known_secrets()


def stream_known(text: str) -> None:
    stream(text, KNOWN)


def split_reasoning(text: str) -> None:
    for beginning in ("", "<think>"):
        tags = ThinkTags()
        for start in range(0, len(text), 8):
            list(tags.feed(beginning * (start == 0) + text[start : start + 8]))
        list(tags.flush())
    split_unopened(text)


def judge(text: str) -> None:
    value = {"a": f"{text[:99_000]}/"}
    for match_all in (True, False):
        for rule in ("m.t(a=*@example.com)", "m.t(a=/tmp/*)"):
            parse_pattern(rule).matches("m.t", value, match_all=match_all)


def render(text: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, theme=THEME)
    console.print(Markdown(parse_markdown(sanitize(text))))


TASKS: dict[str, Callable[[str], object]] = {
    "redact": SecretRegistry().redact_log, "stream": stream, "known": KNOWN.redact, "stream known": stream_known,
    "sanitize": sanitize, "judge": judge, "look-alikes": find_lookalikes, "render": render,
    "reasoning": split_reasoning,
}  # fmt: skip


def seconds(task: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    task(text)
    return time.process_time() - started


def main() -> None:
    print(f"{'':24}" + "".join(f"{name:>18}" for name in TASKS))
    for name, unit in TEXTS.items():
        cells = []
        for task in TASKS.values():
            ratios = []
            for size in SIZES:
                text, prose = ((piece * (size // len(piece) + 1))[:size] + "!" for piece in (unit, PROSE))
                ratios.append(seconds(task, text) / max(seconds(task, prose), 1e-5))
            cells.append("{:.1f} / {:.1f}".format(*ratios))
        print(f"{name:24}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
