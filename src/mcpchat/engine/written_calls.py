"""Reads tool calls that a model wrote into its answer's text: small models, and servers without a parser for them.

A call counts only where it is unmistakable: behind one of the markers that models are trained on, at the end of the
text; or if it is the whole text. A text that only mentions a call is not run.
"""

import ast
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcpchat.core.tools import InvalidArguments, parse_arguments

_MAX_LENGTH = 100_000  # characters of an answer that is looked through
# Where a call begins: Hermes and Qwen, Mistral, Llama, and models that name the function in the tag.
_MARKERS = re.compile(
    r"^[ \t]*(?:<tool_call>|<\|tool_call\|?>|\[TOOL_CALLS\]|<\|python_tag\|>|(?=<function=)|<function_call>)",
    re.MULTILINE | re.IGNORECASE,
)
_END_TAGS = re.compile(
    r"</tool_call>|<\|?/?tool_call\|?>|</function_call>|\[/TOOL_CALLS\]|<\|eo[mt]_id\|>|</s>|<\|im_end\|>",
    re.IGNORECASE,
)
_FUNCTION_TAG = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER_TAG = re.compile(r"<parameter=([\w.-]+)>")
_SEPARATORS = re.compile(r"[ \t\r\n;,]*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[nrtbf])")
_WORD_CHARS = re.compile(r"[\W_]+")
_CALL_WORDS = ("toolcall", "pythontag", "function", "arguments", "parameter")
_MIN_QUOTED = 3  # letters and digits of a value that can show a quotation
_FENCE = re.compile(r"```(?:json|python|tool_call|tool_code)?\s*\n(?P<content>.*?)\n?```", re.DOTALL)
_NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params", "kwargs")
_OTHER_KEYS = frozenset({"id", "type"})


@dataclass(frozen=True)
class WrittenCalls:
    """The text before the calls, and each call's name and arguments."""

    text: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]


def has_marker(text: str) -> bool:
    """Whether the text has a marker of a call, outside of code blocks. Long texts are not looked through."""
    return len(text) <= _MAX_LENGTH and _find_marker(text) is not None


def is_quoted(call: tuple[str, Mapping[str, Any]], written: str, texts: Iterable[str]) -> bool:
    """Whether a call may be a quotation of one of the texts.

    Such a text has it as it is ``written``, or has its name, all its values and a word of calls. Punctuation, escapes
    and line numbers make no difference.
    """
    name, arguments = call
    own_name = re.split(r"__|\.", name)[-1]
    values = [value for value in _iter_strings(arguments) if len(_WORD_CHARS.sub("", value)) >= _MIN_QUOTED]
    needles = [_normalize(own_name), *(_normalize(line) for value in values for line in value.split("\n"))]
    core = _normalize(_MARKERS.sub("", _END_TAGS.sub("", written)))
    for text in texts:
        normalized = _normalize(text)
        looks_like_a_call = any(word in normalized for word in _CALL_WORDS)
        if core in normalized or (looks_like_a_call and values and all(needle in normalized for needle in needles)):
            return True
    return False


def _normalize(text: str) -> str:
    """The letters and digits of a text, without the escapes of JSON and HTML."""
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else " ", text)
    return _WORD_CHARS.sub("", html.unescape(text)).lower()


def _iter_strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _iter_strings(inner)


def find_written_calls(text: str, *, only_marked: bool = False) -> WrittenCalls | None:
    """The calls at the end of an answer's text, or None if there are none or they cannot be read.

    With ``only_marked``, JSON without a marker is an answer.
    """
    if len(text) > _MAX_LENGTH:
        return None
    try:
        return _find_calls(text, only_marked=only_marked)
    except RecursionError:
        return None


def _find_calls(text: str, *, only_marked: bool) -> WrittenCalls | None:
    start = _find_marker(text)
    if start is not None:
        calls = list(_read_marked(text[start:]))
        return WrittenCalls(text[:start].rstrip(), tuple(calls)) if calls else None
    if only_marked:
        return None
    whole = text.strip()
    fence = _FENCE.fullmatch(whole)
    calls = list(_read_values(fence["content"] if fence else whole))
    return WrittenCalls("", tuple(calls)) if calls else None


def _find_marker(text: str) -> int | None:
    position, is_code = 0, False
    for piece in text.split("```"):
        # A marker is at the start of a line, of the text or of what follows a fence.
        match = None if is_code else _MARKERS.search(text, position, position + len(piece))
        if match:
            return match.start()
        position, is_code = position + len(piece) + 3, not is_code
    return None


def _read_marked(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The calls behind a marker. Nothing if there is anything else between or after them."""
    calls: list[tuple[str, Mapping[str, Any]]] = [
        (match[1], _read_tagged_arguments(match[2])) for match in _FUNCTION_TAG.finditer(text)
    ]
    remainder = _MARKERS.sub("</tool_call>", _FUNCTION_TAG.sub("", text))
    pieces = [piece.strip() for piece in _END_TAGS.split(remainder)]
    for piece in filter(None, pieces):
        found = list(_read_values(piece))
        if not found:
            return
        calls += found
    yield from calls


def _read_tagged_arguments(text: str) -> dict[str, Any]:
    if _PARAMETER_TAG.search(text):
        return _read_parameters(text)
    try:
        return parse_arguments(text)
    except InvalidArguments:
        return {"": text}  # no tool takes it


def _read_parameters(text: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    position = 0
    while match := _PARAMETER_TAG.search(text, position):
        end = text.find("</parameter>", match.end())
        if end < 0:
            return {"": text}
        parameters[match[1]] = text[match.end() : end].removeprefix("\n").removesuffix("\n")
        position = end
    return parameters


def _read_values(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The calls in JSON values that stand one after another, in a list, or in Python's notation; all or none."""
    calls: list[tuple[str, Mapping[str, Any]] | None] = []
    position, decoder = 0, json.JSONDecoder()
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            calls = _read_python(text) if position == 0 else []
            break
        calls += [_read_object(item) for item in (value if isinstance(value, list) else [value])]
        separators = _SEPARATORS.match(text, position)
        position = separators.end() if separators else position
    if all(call is not None for call in calls):
        yield from (call for call in calls if call is not None)


def _read_object(value: object) -> tuple[str, Mapping[str, Any]] | None:
    if not isinstance(value, dict):
        return None
    function = value.get("function")
    if isinstance(function, dict) and value.keys() <= {"function"} | _OTHER_KEYS:
        return _read_object(function)
    names = [key for key in _NAME_KEYS if isinstance(value.get(key), str)]
    arguments = [key for key in _ARGUMENT_KEYS if key in value]
    if len(names) != 1 or len(arguments) != 1 or value.keys() - {*names, *arguments} - _OTHER_KEYS:
        return None
    written = value[arguments[0]]
    try:
        parsed = parse_arguments(written if isinstance(written, str) else json.dumps(written))
    except InvalidArguments:
        return None
    return value[names[0]], parsed


def _read_python(text: str) -> list[tuple[str, Mapping[str, Any]] | None]:
    """Calls in Python's notation: ``[get_weather(city="Rome")]``, or objects as its dictionaries."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_read_python_call(node) for node in nodes]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return []


def _read_python_call(node: ast.expr) -> tuple[str, Mapping[str, Any]] | None:
    if isinstance(node, ast.Dict):
        return _read_object(ast.literal_eval(node))
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        return None
    arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    return ast.unparse(node.func), json.loads(json.dumps(arguments, allow_nan=False))
