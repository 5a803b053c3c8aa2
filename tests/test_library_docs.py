"""Every Python block of docs/library.md runs unchanged, each in a separate process and folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "library.md").read_text()
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
    completed = subprocess.run(
        [sys.executable, "-c", blocks_by_section()[section]],
        cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=50,
    )  # fmt: skip
    assert (completed.returncode, completed.stderr) == (0, "")
    assert OUTPUT[section] in completed.stdout
