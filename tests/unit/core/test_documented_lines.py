"""The JSON lines that the documentation shows fit the schemas that ``mcpchat schema`` prints."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.command_line import schema_validator
from tests.support.paths import ROOT

_LINE = re.compile(r"""(?<=['`\s])\{"[^\n`']*\}(?=['`\s,;]|$)""", re.MULTILINE)
NAMES = ("events", "input", "answer", "batch", "result")


def find_samples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the page and the value of each line that is one of ours, and not part of a program or of a call."""
    for page in ("events.md", "scripting.md"):
        for text in _LINE.findall((ROOT / "docs" / page).read_text()):
            with contextlib.suppress(ValueError):
                value = json.loads(text)
                if value.keys() & {"type", "prompt", "messages"}:
                    yield page, value


SAMPLES = list(find_samples())


def test_the_documentation_has_samples() -> None:
    assert len(SAMPLES) > 5


@pytest.mark.parametrize(("page", "sample"), SAMPLES)
def test_a_documented_line_fits_a_schema(page: str, sample: dict[str, Any]) -> None:
    versioned = {"v": 1, **sample}
    assert any(schema_validator(name).is_valid(value) for name in NAMES for value in (sample, versioned))
