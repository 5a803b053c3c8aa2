"""Pictures of the terminal for the README and the docs: the real program, driven in a pseudo-terminal.

    python scripts/pictures.py

A scripted model answers (tests/fake_openai.py); all else is what a user gets. The times on the lines are those of
the run, so the pictures are made by hand, when what they show has changed.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich._export_format import CONSOLE_SVG_FORMAT  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.terminal_theme import MONOKAI  # noqa: E402
from tests.fake_openai import CannedResponse, FakeOpenAI, chunk  # noqa: E402
from tests.terminal import Terminal  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
COLUMNS = 92
# Without the fonts that rich would have each reader fetch.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
ENTER = "\r"
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


def calls(*found: tuple[str, str]) -> CannedResponse:
    made = [
        {"index": n, "id": f"c{n}", "function": {"name": name, "arguments": given}}
        for n, (name, given) in enumerate(found)
    ]
    return CannedResponse([chunk({"tool_calls": made}), chunk({}, "tool_calls")])


def words(text: str, *, pause: float = 0.0, hang: bool = False) -> CannedResponse:
    pieces = [chunk({"content": piece}) for piece in re.findall(r"\S*\s*", text) if piece]
    return CannedResponse([*pieces, *([] if hang else [chunk({}, "stop")])], pause=pause, hang=hang)


@contextmanager
def chat(double: FakeOpenAI, config: str, lines: int) -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory() as home:
        Path(home, "c.toml").write_text(config)
        environ = {
            "HOME": home,
            "MCPCHAT_CONFIG": f"{home}/c.toml",
            "OPENAI_BASE_URL": double.base_url,
            "OPENAI_API_KEY": "",
            "MCPCHAT_MODEL": "gpt-5.5",
            **{f"XDG_{kind}_HOME": f"{home}/{kind}" for kind in ("CONFIG", "CACHE", "STATE", "DATA")},
        }
        command = str(Path(sys.executable).with_name("mcpchat"))
        with Terminal([command], environ=environ, columns=COLUMNS, lines=lines) as terminal:
            terminal.wait_for("gpt-5.5 · 1 server")
            terminal.read(0.3)
            yield terminal


def an_answer() -> Terminal:
    with FakeOpenAI() as double:
        rates = ('{"expression": "15000 * 0.07 * 5"}', '{"values": [930.11, 752.64, 121.02]}')
        double.replies = [
            calls(("calculator__calculate", rates[0]), ("calculator__statistics", rates[1])),
            words(ANSWER + "\nShall I", pause=0.01, hang=True),
        ]
        with chat(double, '[servers.calculator]\nbuiltin = "calculator"\n', 27) as terminal:
            terminal.send("What does a loan of 15,000 at 7% cost me over five years?" + ENTER)
            terminal.wait_for("for month")
            terminal.send("And over three?" + ENTER + "with a ta")
            terminal.wait_for("Shall I")
            terminal.wait_for("> with a ta")
            return terminal


def a_question() -> Terminal:
    server = ROOT / "tests" / "servers" / "image_tool.py"
    with FakeOpenAI() as double:
        letter = '{"to": "ann@example.com", "subject": "Q3", "body": "Hello Ann,\\n\\nthe numbers are in."}'
        double.replies = [calls(("gmail__send_email", letter)), words("Sent.")]
        config = f'[servers.gmail]\ncommand = "{sys.executable}"\nargs = ["{server}"]\n'
        with chat(double, config, 14) as terminal:
            terminal.send("Tell Ann that the Q3 numbers are in" + ENTER)
            terminal.wait_for("no and [r]eason")
            return terminal


def picture(name: str, make: Callable[[], Terminal], title: str) -> None:
    terminal = make()
    console = Console(record=True, file=StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    for line in terminal.rows():
        console.print(line, no_wrap=True, crop=True, overflow="ignore")
    PICTURES.mkdir(exist_ok=True)
    svg = console.export_svg(title=title, theme=MONOKAI, code_format=FORMAT, unique_id=name)
    (PICTURES / f"{name}.svg").write_text(
        "\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8"
    )
    sys.stdout.write(f"wrote docs/pictures/{name}.svg\n")


def main() -> None:
    os.environ.pop("NO_COLOR", None)
    picture("answer", an_answer, "mcpchat")
    picture("question", a_question, "mcpchat")


if __name__ == "__main__":
    main()
