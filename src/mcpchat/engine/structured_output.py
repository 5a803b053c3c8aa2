"""Answers that must fit a JSON Schema: the instructions for the model, and the validation of its answer."""

import json
import re
from collections.abc import Callable
from typing import Any

from mcpchat.core.tools import reject_constant
from mcpchat.util.json_problems import describe_json_error

SchemaValidator = Callable[[dict[str, Any], object], str]
_CODE_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", re.DOTALL)


class AnswerSchema:
    """A JSON Schema for the final answer. ``check`` returns the error of a value in one line, empty if it fits."""

    def __init__(self, schema: dict[str, Any], check: SchemaValidator) -> None:
        self.schema = schema
        self._check = check

    @property
    def instructions(self) -> str:
        """The instructions for the model; always sent, as servers that accept a schema may ignore it."""
        schema_text = json.dumps(self.schema, ensure_ascii=False, separators=(",", ":"))
        return (
            "Your final answer, once you need no more tools, must be one JSON value that is valid by this JSON Schema, "
            f"and nothing else: no words around it, no code fence.\n{schema_text}"
        )

    def parse(self, answer: str) -> tuple[str, str]:
        """The JSON of an answer, and its error; one of the two is empty."""
        text = answer.strip()
        candidates = [text, *(block.strip() for block in _CODE_FENCE.findall(text))]
        problem = "it is not JSON"
        for candidate in candidates:
            try:
                value = json.loads(candidate, parse_constant=reject_constant)
            except (ValueError, RecursionError) as error:
                if candidate is text:
                    problem = f"it is not JSON: {describe_json_error(error)}"
                continue
            problem = self._check(self.schema, value)
            if not problem:
                return candidate, ""
        return "", problem

    @staticmethod
    def retry_prompt(problem: str) -> str:
        """The message to the model about an answer that does not fit."""
        return f"Your answer does not fit the JSON Schema: {problem}. Answer again, with the JSON value alone."
