"""Benchmark of rendering a streamed response: CPU time per kilobyte, in a pseudo-terminal.

    python benchmarks/markdown.py [ROUNDS [KILOBYTES ...]]

Each program reads the document in chunks of 80 characters and draws after each one (a fast model's response is drawn
twelve times a second); its terminal output is discarded. The time is the process's user and system time, minus that
for an empty document.
"""

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

OURS = """
import sys
from rich.console import Console
from mcpchat.ui.terminal.screen import LiveScreen
from mcpchat.ui.markdown.render import THEME
from mcpchat.ui.markdown.stream import MarkdownStream
screen = LiveScreen(Console(theme=THEME, width=80, height=24))
now = 0
stream = MarkdownStream(screen, lambda: screen.show(stream.rows), clock=lambda: now)
with open(sys.argv[1], encoding="utf-8") as file:
    while piece := file.read(80):
        now += 1
        stream.feed(piece)
stream.finish()
"""
LIVE = """
import sys
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
screen = Console(width=80, height=24)
with open(sys.argv[1], encoding="utf-8") as file, Live(console=screen, auto_refresh=False) as live:
    text = ""
    while piece := file.read(80):
        text += piece
        live.update(Markdown(text), refresh=True)
"""
CONTESTANTS = {
    "cat": ["cat"],
    "mcpchat": [sys.executable, "-c", OURS],
    "rich.live": [sys.executable, "-c", LIVE],
}
MAX_LIVE_SIZE = 30  # kilobytes; rich.live takes minutes for larger documents
SECTION = """## Section {n}

Some **bold** words, `code` and a [link](https://example.com/{n}) in a paragraph that is as long as paragraphs of
answers usually are, and then a little longer.

1. a step, with *stress*
2. another
   - and what it takes

```python
def step_{n}(x: int) -> str:
    return f"the result is {{x * {n}}}"  # as promised
```

| name | value |
|---|---|
| n | {n} |

"""


def documents(kilobytes: int) -> dict[str, str]:
    """Return a document of many sections, and three documents that consist of a single block."""
    size = kilobytes * 1000
    return {
        "sections": "".join(SECTION.format(n=n) for n in range(size // 300 + 1))[:size],
        "one fence": ("```python\n" + "".join(f"value_{n} = [{n}, 'text', None]  # note\n" for n in range(size // 20)))[
            :size
        ],
        "one list": "".join(f"{n}. item with **some** `words` in it\n" for n in range(1, size // 20))[:size],
        "one paragraph": ("Words *and* more words, `code` and on it goes without an end. " * (size // 40))[:size],
    }


def measure_cpu(command: list[str], document: Path) -> float:
    """Run the command in a pseudo-terminal; returns its CPU time in seconds."""
    leader, terminal = pty.openpty()

    def drain() -> None:
        try:
            while os.read(leader, 65536):
                pass
        except OSError:
            pass

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    process = subprocess.Popen(
        [*command, str(document)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(terminal)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command[:2]
    reader.join(5)
    os.close(leader)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sizes = [int(size) for size in sys.argv[2:]] or [1, 10, 100, 1000]
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty")
        empty.write_text("")
        base = {
            name: statistics.median(measure_cpu(command, empty) for _ in range(rounds))
            for name, command in CONTESTANTS.items()
        }
        print("CPU, milliseconds per kilobyte" + " " * 10 + "".join(f"{name:>12}" for name in CONTESTANTS))
        for size in sizes:
            for kind, text in documents(size).items():
                document = Path(folder, "document")
                document.write_text(text)
                row = f"{size:>6} kB  {kind:28}"
                for name, command in CONTESTANTS.items():
                    if name == "rich.live" and size > MAX_LIVE_SIZE:
                        row += f"{'-':>12}"
                        continue
                    seconds = (
                        statistics.median(measure_cpu(command, document) for _ in range(rounds if size < 1000 else 1))
                        - base[name]
                    )
                    row += f"{max(0.0, seconds) * 1000 / size:>12.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
