"""Answers that must fit a JSON Schema: what the model is told, and what it wrote, read and judged."""

import json
import re
from collections.abc import Callable
from typing import Any

from mcpchat.core.tools import reject_constant

SchemaValidator = Callable[[dict[str, Any], object], str]
_CODE_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", re.DOTALL)


class AnswerSchema:
    """A JSON Schema for the final answer. ``check`` says what is wrong with a value, in a line; nothing is empty."""

    def __init__(self, schema: dict[str, Any], check: SchemaValidator) -> None:
        self.schema = schema
        self._check = check

    @property
    def instructions(self) -> str:
        """What the model is told: always, since servers that take a schema may still ignore it."""
        schema_text = json.dumps(self.schema, ensure_ascii=False, separators=(",", ":"))
        return (
            "Your final answer, once you need no more tools, must be one JSON value that is valid by this JSON Schema, "
            f"and nothing else: no words around it, no code fence.\n{schema_text}"
        )

    def parse(self, answer: str) -> tuple[str, str]:
        """The JSON of an answer, and what is wrong with it; one of the two is empty."""
        text = answer.strip()
        candidates = [text, *(block.strip() for block in _CODE_FENCE.findall(text))]
        problem = "it is not JSON"
        for candidate in candidates:
            try:
                value = json.loads(candidate, parse_constant=reject_constant)
            except (ValueError, RecursionError) as error:
                if candidate is text:
                    problem = f"it is not JSON: {error}"
                continue
            problem = self._check(self.schema, value)
            if not problem:
                return candidate, ""
        return "", problem

    @staticmethod
    def retry_prompt(problem: str) -> str:
        """What the model is told of an answer that does not fit."""
        return f"Your answer does not fit the JSON Schema: {problem}. Answer again, with the JSON value alone."
