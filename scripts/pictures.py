"""Write the terminal pictures of the README and the docs: the real program, driven in a pseudo-terminal.

    python scripts/pictures.py

The model is scripted (tests.support.fake_openai); everything else is real. The pictures contain the times of the run,
so they differ on each run: run this only if the displayed output has changed.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pyte  # noqa: E402
from rich._export_format import CONSOLE_SVG_FORMAT  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI, TerminalTheme  # noqa: E402
from rich.text import Text  # noqa: E402
from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk  # noqa: E402
from tests.support.terminal import Terminal  # noqa: E402

pyte.graphics.FG_ANSI[2] = "brightblack"  # the emulator knows no dim text

PICTURES = ROOT / "docs" / "pictures"
COLUMNS = 92
# rich's format without its web fonts, which each reader would download.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
PART_NAMES = (
    "styles",
    "chrome",
    "backgrounds",
    "matrix",
    "width",
    "height",
    "terminal_x",
    "terminal_y",
    "char_height",
    "line_height",
)
PARTS = "\0".join(f"{{{name}}}" for name in PART_NAMES)
RECORDING = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.m {{ font-family: Fira Code, monospace; font-size: {char_height}px; line-height: {line_height}px }}
.f-title {{ font-size: 18px; font-weight: bold; font-family: arial }}
{styles}
</style>
<defs>
{rows}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{frames}
</g>
</svg>
"""
FRAME_SECONDS = 0.2
ENTER = "\r"
DARK, LIGHT = "0c0c/0c0c/0c0c", "ffff/ffff/ffff"
ANSWER = """\
The loan costs **2,837.11** in interest over five years:

| year | paid | of which interest |
|------|-----:|------------------:|
| 1    | 4,567.42 | 930.11 |
| 2    | 4,567.42 | 752.64 |
| 5    | 4,567.42 | 121.02 |

To see every month:

```python
for month in range(60):
    interest = rest * rate / 12   # what the month costs
    rest -= payment - interest
```
"""


def calls(*named_arguments: tuple[str, str]) -> CannedResponse:
    tool_calls = [
        {"index": n, "id": f"c{n}", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(named_arguments)
    ]
    return CannedResponse([chunk({"tool_calls": tool_calls}), chunk({}, "tool_calls")])


def answer(text: str, *, pause: float = 0.0, hang: bool = False) -> CannedResponse:
    """Return a response that streams the text word by word, with ``pause`` seconds before each."""
    chunks = [chunk({"content": word}) for word in re.findall(r"\S*\s*", text) if word]
    return CannedResponse([*chunks, *([] if hang else [chunk({}, "stop")])], pause=pause, hang=hang)


@contextmanager
def chat(
    fake: FakeOpenAI, config: str, lines: int, *, columns: int = COLUMNS, background: str = DARK
) -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory() as home:
        Path(home, "c.toml").write_text(config)
        environ = {
            "HOME": home,
            "MCPCHAT_CONFIG": f"{home}/c.toml",
            "OPENAI_BASE_URL": fake.base_url,
            "OPENAI_API_KEY": "",
            "MCPCHAT_MODEL": "gpt-5.5",
            "COLORTERM": "truecolor",
            **{f"XDG_{kind}_HOME": f"{home}/{kind}" for kind in ("CONFIG", "CACHE", "STATE", "DATA")},
        }
        command = str(Path(sys.executable).with_name("mcpchat"))
        with Terminal([command], environ=environ, columns=columns, lines=lines) as terminal:
            terminal.wait_for("gpt-5.5 · 1 server")
            terminal.send(f"\x1b]11;rgb:{background}\x1b\\")  # what a terminal answers about its background
            terminal.read(0.3)
            yield terminal


def show_answer() -> Terminal:
    with FakeOpenAI() as fake:
        arguments = ('{"expression": "15000 * 0.07 * 5"}', '{"values": [930.11, 752.64, 121.02]}')
        fake.replies = [
            calls(("calculator__calculate", arguments[0]), ("calculator__statistics", arguments[1])),
            answer(ANSWER + "\nShall I", pause=0.01, hang=True),
        ]
        with chat(fake, '[servers.calculator]\nbuiltin = "calculator"\n', 27) as terminal:
            terminal.send("What does a loan of 15,000 at 7% cost me over five years?" + ENTER)
            terminal.wait_for("for month")
            terminal.send("And over three?" + ENTER + "with a ta")
            terminal.wait_for("Shall I")
            terminal.wait_for("> with a ta")
            return terminal


def show_approval() -> Terminal:
    server = ROOT / "tests" / "support" / "servers" / "image_tool.py"
    with FakeOpenAI() as fake:
        mail = '{"to": "ann@example.com", "subject": "Q3", "body": "Hello Ann,\\n\\nthe numbers are in."}'
        fake.replies = [calls(("gmail__send_email", mail)), answer("Sent.")]
        config = f'[servers.gmail]\ncommand = "{sys.executable}"\nargs = ["{server}"]\n'
        with chat(fake, config, 20) as terminal:
            terminal.send("Tell Ann that the Q3 numbers are in" + ENTER)
            terminal.wait_for("no and [r]eason")
            return terminal


def show_turns(columns: int, background: str) -> Terminal:
    """Three turns of a conversation: with tools, with a question, and a short one."""
    with FakeOpenAI() as fake:
        arguments = ('{"expression": "15000 * 0.07 * 5"}', '{"values": [930.11, 752.64, 121.02]}')
        fake.replies = [
            calls(("calculator__calculate", arguments[0]), ("calculator__statistics", arguments[1])),
            answer("It costs **2,837.11** in interest over five years, which is a fifth of what you borrow.\n"),
            calls(("calculator__calculate", '{"expression": "15000 * 0.07 * 3"}')),
            answer("Over three years it is **1,673.80**:\n\n- you pay 463.15 each month\n- and save 1,163.31\n"),
        ]
        rule = 'ask = ["calculator.calculate(expression=*3)"]'
        config = f'[servers.calculator]\nbuiltin = "calculator"\n[approvals]\n{rule}\n'
        with chat(fake, config, 26, columns=columns, background=background) as terminal:
            terminal.send("What does a loan of 15,000 at 7% cost me over five years?" + ENTER)
            terminal.wait_for("tokens\n>")
            terminal.send("And over three? The monthly rate may be higher, if it saves enough." + ENTER)
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("1,163.31")
            terminal.settle()
            return terminal


class Recorder:
    """Takes frames of a terminal while a program runs in it: its rows, and for how many seconds they were shown."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.frames: list[tuple[list[Text], float]] = []

    def record(self, seconds: float, until: str = "") -> None:
        """Record for this time, or until the text appears."""
        end = time.monotonic() + seconds
        while (started := time.monotonic()) < end and not (until and until in self._terminal.text):
            self._terminal.read(FRAME_SECONDS)
            rows, shown = self._terminal.rows(), time.monotonic() - started
            if self.frames and self.frames[-1][0] == rows:
                rows, before = self.frames.pop()
                shown += before
            self.frames.append((rows, shown))

    def type(self, line: str) -> None:
        """Type a line and send it."""
        for start in range(0, len(line), 6):
            self._terminal.send(line[start : start + 6])
            self.record(FRAME_SECONDS)
        self._terminal.send(ENTER)


def record_turns() -> list[tuple[list[Text], float]]:
    """Two turns, one with a question."""
    with FakeOpenAI() as fake:
        fake.replies = [
            calls(("calculator__calculate", '{"expression": "15000 * 0.07 * 5"}')),
            answer("It costs **2,837.11** in interest over five years, a fifth of what you borrow.\n", pause=0.08),
            calls(("calculator__calculate", '{"expression": "15000 * 0.07 * 3"}')),
            answer(
                "Over three years it is **1,673.80**:\n\n- you pay 463.15 each month\n- and save 1,163.31\n", pause=0.08
            ),
        ]
        config = (
            '[servers.calculator]\nbuiltin = "calculator"\n[approvals]\nask = ["calculator.calculate(expression=*3)"]\n'
        )
        with chat(fake, config, 22, columns=80) as terminal:
            recorder = Recorder(terminal)
            recorder.record(0.5)
            recorder.type("What does a loan of 15,000 at 7% cost me over five years?")
            recorder.record(20, until="tokens\n>")
            recorder.record(1)
            recorder.type("And over three?")
            recorder.record(20, until="[y]es")
            recorder.record(1.5)
            terminal.send("y")
            recorder.record(20, until="1,163.31")
            recorder.record(2.5)
            return recorder.frames


def write_recording(name: str, frames: Sequence[tuple[list[Text], float]], *, columns: int, lines: int) -> None:
    """Write an animated SVG: every frame is a group that is visible for its time. Equal rows are written once."""
    total, started = sum(seconds for _, seconds in frames), 0.0
    classes: dict[str, str] = {}  # by their rules
    rows_by_text: dict[str, str] = {}
    styles, groups, chrome = [], [], {}
    for number, (rows, seconds) in enumerate(frames):
        console = Console(record=True, file=StringIO(), width=columns, force_terminal=True, color_system="truecolor")
        for row in [*rows, *[Text()] * (lines - len(rows))]:
            console.print(row, no_wrap=True, crop=True, overflow="ignore")
        parts = console.export_svg(title="mcpchat", theme=MONOKAI, code_format=PARTS, unique_id="f").split("\0")
        frame = dict(zip(PART_NAMES, parts, strict=True))
        chrome = chrome or frame
        start, end = (100 * moment / total for moment in (started, started + seconds))
        started += seconds
        styles.append(
            f"@keyframes k{number} {{ 0% {{ visibility: {'visible' if not start else 'hidden'} }} "
            f"{start:.2f}% {{ visibility: visible }} {end:.2f}% {{ visibility: hidden }} }} "
            f".k{number} {{ animation: k{number} {total:.1f}s step-end infinite }}"
        )
        rules = dict(re.findall(r"\.f-(r\d+) \{ ([^}]*) \}", frame["styles"]))
        elements = re.sub(r' clip-path="[^"]*"', "", frame["backgrounds"] + frame["matrix"])
        for rule_name in sorted(rules, key=len, reverse=True):
            class_name = classes.setdefault(rules[rule_name], f"c{len(classes)}")
            elements = elements.replace(f'class="f-{rule_name}"', f'class="{class_name}"')
        uses = [rows_by_text.setdefault(line, f"r{len(rows_by_text)}") for line in split_rows(elements)]
        shown = "".join(f'<use href="#{name}"/>' for name in uses)
        groups.append(f'<g class="k{number}" visibility="hidden">{shown}</g>')
    styles += [f".{name} {{ {rule} }}" for rule, name in classes.items()]
    definitions = "\n".join(f'<g id="{name}" class="m">{text}</g>' for text, name in rows_by_text.items())
    parts = {"styles": "\n".join(styles), "frames": "\n".join(groups), "rows": definitions}
    svg = RECORDING.format(**{**chrome, **parts})
    (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    sys.stdout.write(f"wrote docs/pictures/{name}.svg, {len(frames)} frames\n")


def split_rows(elements: str) -> list[str]:
    """The SVG elements of each row, by their vertical position."""
    rows: dict[str, str] = {}
    for element in re.findall(r"<rect[^>]*/>|<text.*?</text>", elements, flags=re.DOTALL):
        y = re.search(r' y="([^"]*)"', element)
        key = f"{element[:5]} {y[1] if y else ''}"
        rows[key] = rows.get(key, "") + element
    return list(rows.values())


def write_picture(
    name: str, show: Callable[[], Terminal], title: str, *, columns: int = COLUMNS, theme: TerminalTheme = MONOKAI
) -> None:
    terminal = show()
    console = Console(record=True, file=StringIO(), width=columns, force_terminal=True, color_system="truecolor")
    for line in terminal.rows():
        console.print(line, no_wrap=True, crop=True, overflow="ignore")
    PICTURES.mkdir(exist_ok=True)
    svg = console.export_svg(title=title, theme=theme, code_format=FORMAT, unique_id=name)
    (PICTURES / f"{name}.svg").write_text(
        "\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8"
    )
    sys.stdout.write(f"wrote docs/pictures/{name}.svg\n")


def main() -> None:
    os.environ.pop("NO_COLOR", None)
    write_recording("recording", record_turns(), columns=80, lines=22)
    write_picture("answer", show_answer, "mcpchat")
    write_picture("question", show_approval, "mcpchat")
    for columns in (60, 80, 120):
        write_picture(f"turns-{columns}", lambda columns=columns: show_turns(columns, DARK), "mcpchat", columns=columns)
    write_picture("turns-light", lambda: show_turns(80, LIGHT), "mcpchat", columns=80, theme=DEFAULT_TERMINAL_THEME)


if __name__ == "__main__":
    main()
