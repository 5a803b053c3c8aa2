"""Batches in tests: a fake API with its environment, requests and results."""

import json
from pathlib import Path
from typing import Any

import jsonschema

from mcpchat.batch import types

RESULT_VALIDATOR = jsonschema.Draft202012Validator(types.result_schema())


def write_requests(folder: Path, count: int) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{n}", "prompt": f"say {n}"}) + "\n" for n in range(1, count + 1)))
    return path


def parse_rows(text: str) -> list[dict[str, Any]]:
    """Return the results of a batch; each must match the published schema."""
    results = [json.loads(line) for line in text.splitlines()]
    for row in results:
        RESULT_VALIDATOR.validate(row)
    return results
