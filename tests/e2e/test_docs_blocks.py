"""The code blocks of the documentation run unchanged."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import DOCS
from tests.support.processes import run_process


@pytest.mark.timeout(440)
def test_the_blocks_of_the_scripting_page_run_unchanged(tmp_path: Path) -> None:
    page = (DOCS / "scripting.md").read_text()
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 10
    scripts = [f"python3 - <<'ENDOFBLOCK'\n{body}ENDOFBLOCK\n" if kind == "python" else body for kind, body in blocks]
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    completed = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(scripts)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=400,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "calculator.calculate(6 * 7) = 42" in completed.stdout
    assert "exit code 2" in completed.stdout
    assert (tmp_path / "results.jsonl").read_text().count("\n") == 3
    python = next(body for kind, body in blocks if kind == "python" and "subprocess" in body)
    assert len([line for line in python.splitlines() if line.strip()]) <= 40


# --- docs/library.md: each block in its own process and folder -------------------------------------------------------

PAGE = (DOCS / "library.md").read_text()
BLOCKS = re.findall(r"^## ([^\n]+)\n|^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
OUTPUT = {
    "Ask": "calculator.calculate {'expression': '6 * 7'} {'expression': '6 * 7', 'result': 42}",
    "Events": "[calculator.calculate]\ncalculator.calculate(2 ** 10) = 1024 (end)\n['user', 'assistant', 'tool', 'assistant']",
    "Cancel": "cancelled\ncalculator.calculate(1 + 1) = 2",
    "Time limit": "limit stopped after 0.001 s\nstopped after 1e-05 s",
    "Structured output": "3",
    "Call a tool": "{'expression': '2 ** 10', 'result': 1024}",
    "Call a tool (2)": "42\ncalculator.calculate was not run: ",
    "Many requests": "a calculator.calculate(6 * 7) = 42",
    "Config and mentions": "Buy milk.",
    "Switch the model or the agent": "demo accountant\ncalculator.calculate(6 * 7) = 42",
    "Approvals": "calculator.calculate {'expression': '6 * 7'}\ncalculator.calculate(6 * 7) = 42",
    "Events outside of turns": "calculator: starting\ncalculator: ready",
    "Threads": "What is 6 * 7?",
}


def blocks_by_section() -> dict[str, str]:
    """Return the blocks by the heading above them; the second block of a section gets "(2)"."""
    blocks: dict[str, str] = {}
    section = ""
    for heading, block in BLOCKS:
        section = heading or section
        if block:
            blocks[f"{section} (2)" if section in blocks else section] = block
    return blocks


def test_each_block_has_an_expected_output() -> None:
    assert blocks_by_section().keys() == OUTPUT.keys()


@pytest.mark.parametrize("section", OUTPUT)
def test_a_block_runs_and_prints_its_expected_output(section: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(blocks_by_section()[section])
    completed = run_process([sys.executable, str(script)], cwd=tmp_path)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert OUTPUT[section] in completed.stdout
