"""The built-in demo model, without key or network. Matches the words of a question to a tool and its arguments."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from mcpchat.core.events import Notice, TextDelta
from mcpchat.core.messages import Audio, File, Image, Message, Part, Text, ToolCall, ToolResult, Usage, result_text
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS, read_wrapped_call, wrap_arguments
from mcpchat.core.tools import OWN_SERVER, ToolSpec, required_names, schema_types
from mcpchat.models.context_sizes import ModelInfo
from mcpchat.models.endpoint import EndpointDefaults, ModelEndpoint
from mcpchat.util.sanitize import one_line

NOTICE = (
    "This is the built-in demo, not a language model: it matches words to tools and fills in their arguments. "
    "It cannot converse, reason or write."
)
MAX_REPORT_LENGTH = 4000  # characters of a tool result in the answer


class DemoProvider:
    """The Provider of the demo model, which has no endpoint."""

    defaults = EndpointDefaults(base_url="", base_url_variable="", api_key_variable="", model="demo")

    def is_own_service(self, base_url: str) -> bool:
        return True

    def build(self, endpoint: ModelEndpoint, *, api_key: str | None, headers: Mapping[str, str]) -> "DemoModel":
        return DemoModel()


class DemoModel:
    """A local, deterministic Model: one tool call per question, then a report of its result."""

    api_name = "demo"
    notice = NOTICE

    async def preload(self) -> None:
        """Does nothing: there is no SDK."""

    def max_tools(self, model: str) -> int | None:
        """None: it takes any number of tools."""
        return None

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """None: there are no tokens."""
        return None

    async def aclose(self) -> None:
        """Does nothing: there is no connection."""

    async def list_models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(name="demo")]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        last_message = request.messages[-1]
        if last_message.role == "user" and any(isinstance(part, Image | Audio | File) for part in last_message.parts):
            yield Notice(level="warning", text="the demo takes no images and files: only the text is used")
        answer = self._answer(request)
        for part in answer:
            match part:
                case Text(text=text):
                    for chunk in re.findall(r"\s*\S+|\s+$", text):
                        yield TextDelta(text=chunk)
                        await asyncio.sleep(0)
                case ToolCall(name=name):
                    yield ToolCallStarted(name=name)
        message = Message(role="assistant", parts=answer)
        sent = sum(_count_words(item) for item in request.messages)
        usage = Usage(input=sent, output=_count_words(message), estimated=True)  # words, and not of the tools
        yield ResponseDone(message=message, usage=usage, stop="end")

    def _answer(self, request: ModelRequest) -> tuple[Part, ...]:
        last = request.messages[-1]
        question = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        calls = {call.id: call for message in request.messages for call in message.calls}
        results = [(calls[result.call_id], result) for result in last.results]
        found = [tool for call, result in results for tool in _read_found_tools(call, result)]
        found_names = {id(tool): name for name, tool in found}
        if results and not found:
            reports = [format_report(read_wrapped_call(call), result, request.tools) for call, result in results]
            return (Text(text="\n\n".join(reports)),)
        may_call = request.tool_choice == "auto"
        for tool in rank_tools(question, [tool for _, tool in found] or request.tools):
            if may_call and (arguments := fill_arguments(question, tool)) is not None:
                text = json.dumps(arguments, ensure_ascii=False)
                if found:
                    return (_make_call(request, CALL_TOOL, wrap_arguments(found_names[id(tool)], arguments)),)
                return (_make_call(request, tool, text),)
        if may_call and not found and SEARCH_TOOLS in request.tools:
            return (_make_call(request, SEARCH_TOOLS, json.dumps({"query": question}, ensure_ascii=False)),)
        return (Text(text=_format_no_match([tool for _, tool in found] or request.tools)),)


def _make_call(request: ModelRequest, tool: ToolSpec, arguments: str) -> ToolCall:
    number = sum(len(message.calls) for message in request.messages) + 1
    return ToolCall(id=f"demo{number:05d}", name=tool.model_name, arguments=arguments)


def _read_found_tools(call: ToolCall, result: ToolResult) -> list[tuple[str, ToolSpec]]:
    """The tools in the answer of a search, with the names to call them by; none if the call was no search."""
    if call.name != SEARCH_TOOLS.model_name or result.is_error:
        return []
    found, _ = json.JSONDecoder().raw_decode(result_text(result))
    return [(tool["name"], _read_found_tool(tool)) for tool in found["tools"]]


def _read_found_tool(tool: Mapping[str, Any]) -> ToolSpec:
    server, _, name = tool["name"].partition("__")
    schema = tool["input_schema"] if isinstance(tool["input_schema"], dict) else {}
    return ToolSpec(server=server, name=name, description=tool["description"], schema=schema)


def _count_words(message: Message) -> int:
    """The size of the message, in words: the demo reports them as tokens."""
    texts = [message.text, *(result_text(result) for result in message.results)]
    return sum(len(text.split()) for text in texts) + len(message.calls)


def _format_no_match(tools: Sequence[ToolSpec]) -> str:
    tools = [tool for tool in tools if tool.server != OWN_SERVER]
    if not tools:
        return "There is no tool to call: add a server, then ask for something that it can do."
    labels = [one_line(tool.qualified_name) for tool in tools[:20]]
    more = f" and {len(tools) - 20} more" if len(tools) > 20 else ""
    has_calculator = any(tool.model_name.endswith("__calculate") for tool in tools)
    example = "What is 1234 * 5678?" if has_calculator else f'{labels[0]} "..."'
    return (
        f"No tool fits this question, or a required argument is missing from it. "
        f"Tools: {', '.join(labels)}{more}.\n\nTry a tool's name, with its arguments in quotes: {example}"
    )


def format_report(call: ToolCall, result: ToolResult, tools: Sequence[ToolSpec]) -> str:
    """The answer that reports a tool's result."""
    label = next(
        (tool.qualified_name for tool in tools if tool.model_name == call.name), call.name.replace("__", ".", 1)
    )
    text = result_text(result).strip() or "(nothing)"
    if len(text) > MAX_REPORT_LENGTH:
        text = f"{text[:MAX_REPORT_LENGTH]} … ({len(text)} characters in all)"
    if result.is_error:
        return f"{label} failed: {text}"
    answer = _find_single_value(result)
    if answer is not None:
        values = ", ".join(str(value) for value in json.loads(call.arguments).values())
        return f"{label}({values}) = {answer}"
    if "\n" in text:
        return f"{label} answered:\n\n{_format_code_block(text)}"
    return f"{label} answered: {text}"


def _format_code_block(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _find_single_value(result: ToolResult) -> object:
    """The number in a structured result, with its unit if it has one; None if there is no single value."""
    structured = result.structured
    if not isinstance(structured, dict) or isinstance(structured.get("result"), (dict, list, str, bool, type(None))):
        return None
    unit = structured.get("unit")
    return f"{structured['result']} {unit}" if isinstance(unit, str) and unit else structured["result"]


# --- Choosing the tool ------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+")
_STOP_WORD_TEXT = """
a an and are as at be by can could do does for from give how i in into is it me my of on or please show tell than
that the then there this to use using want was what whats which will with would you
"""
_STOP_WORDS = frozenset(_STOP_WORD_TEXT.split())
# A tool that is named so changes something. It fits only a question that has the word, or one that means the same.
_CHANGING_VERBS: Mapping[str, str] = {
    "create": "create make new add", "write": "write save put store", "delete": "delete remove", "send": "send mail",
    "remove": "remove delete", "move": "move rename", "edit": "edit change replace", "update": "update change set",
    "add": "add create new", "set": "set change",
}  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _stem_words(text: str) -> frozenset[str]:
    """The stems of the text's words without stop words, so that "converting" matches "convert"."""
    words = _WORD.findall(_CAMEL.sub(" ", text).replace("_", " ").lower())
    return frozenset(re.sub(r"(?<=\w{3})(ing|ed|es|s|e)$", "", word) for word in words if word not in _STOP_WORDS)


def rank_tools(question: str, tools: Sequence[ToolSpec]) -> list[ToolSpec]:
    """The tools that may fit the question, the best first."""
    scored = [(score(question, tool), tool) for tool in tools]
    return [tool for points, tool in sorted(scored, key=lambda pair: -pair[0]) if points >= 3]


def score(question: str, tool: ToolSpec) -> float:
    """How well the tool fits the question. Its name counts most, then its parameters, then its description."""
    if tool.qualified_name in question or tool.model_name in question:
        return 100
    words = _stem_words(question)
    verb = re.split(r"[_\W]", _CAMEL.sub("_", tool.name).lower())[0]
    if verb in _CHANGING_VERBS and not words & _stem_words(_CHANGING_VERBS[verb]):
        return 0
    properties = _properties(tool)
    choices = " ".join(str(c) for schema in properties.values() for c in _enum_values(schema))
    points: float = 4 * len(words & _stem_words(tool.name)) + 3 * len(words & _stem_words(choices))
    points += 2 * len(words & _stem_words(tool.title)) + 2 * len(words & _stem_words(" ".join(properties)))
    points += min(4, len(words & _stem_words(tool.description)))
    points += 1 if words & _stem_words(tool.server) else 0
    if find_expression(question) and any(_is_formula(name) for name in properties):
        points += 6
    if len(_NUMBER.findall(question)) > 1 and any(_is_number_list(schema) for schema in properties.values()):
        points += 2
    if _match_conversion(question) and {"from_unit", "to_unit"} <= properties.keys():
        points += 10
    return points


def _properties(tool: ToolSpec) -> dict[str, Any]:
    properties = tool.schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _is_number_list(schema: object) -> bool:
    items = schema.get("items") if isinstance(schema, dict) and "array" in schema_types(schema) else None
    return bool(schema_types(items) & {"integer", "number"})


def _enum_values(schema: object) -> list[Any]:
    if not isinstance(schema, dict):
        return []
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    return list(values) if isinstance(values, list) else []


# --- Filling its arguments --------------------------------------------------------------------------------------

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w)")
_QUOTED = re.compile(r"\"([^\"]*)\"|“([^”]*)”|(?<!\w)'([^']*)'(?!\w)|`([^`]*)`")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+")
_PATH = re.compile(r"(?<![\w/])(?:~|\.{1,2})?/[^\s\"'?]*|\b[\w-]+\.(?:txt|md|py|json|toml|csv|log|yaml|yml)\b")
_CONVERT = re.compile(r"(-?\d+(?:\.\d+)?)\s*(°?[a-z][\w/°^]*)\s+(?:in|to|into|as)\s+(°?[a-z][\w/°^]*)", re.IGNORECASE)
_PROPER_NOUN = re.compile(r"(?<!^)(?<![.?!]\s)\b[A-Z][\w-]*(?:[/ ][A-Z][\w-]*)*")

_SPOKEN_OPERATORS = (
    (r"\bto the power of\b|\braised to\b", "**"),
    (r"\bsquare root of\s+(\d[\d.]*)", r"sqrt(\1)"),
    (r"\bfactorial of\s+(\d+)", r"factorial(\1)"),
    (r"(\d[\d.]*)\s*%\s*of\s*(\d[\d.]*)", r"\1/100*\2"),
    (r"(\d[\d.]*)\s*percent of\s*(\d[\d.]*)", r"\1/100*\2"),
    (r"\bdivided by\b", "/"),
    (r"\bmultiplied by\b|\btimes\b", "*"),
    (r"\bplus\b", "+"),
    (r"\bminus\b", "-"),
    (r"\bmodulo\b|\bmod\b", "%"),
    (r"\bsquared\b", "**2"),
    (r"\bcubed\b", "**3"),
    (r"×", "*"),
    (r"÷", "/"),
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:,\d{3})*(?![\d,]))")  # the commas of 1,234,567
_FUNCTIONS = r"(?:sqrt|sin|cos|tan|log|log10|log2|ln|exp|abs|factorial|floor|ceil|round|min|max|gcd|lcm)"
_MATH = re.compile(rf"(?:{_FUNCTIONS}\s*(?=\()|\b(?:pi|tau)\b|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[-+*/^%(),.\s])+")


def find_expression(question: str) -> str:
    """The longest arithmetic expression in the question; empty if there is none."""
    text = question if "(" in question else _THOUSANDS.sub("", question)
    for pattern, symbol in _SPOKEN_OPERATORS:
        text = re.sub(pattern, symbol, text, flags=re.IGNORECASE)
    candidates = [_trim(match[0]) for match in _MATH.finditer(text)]
    expressions = [
        candidate
        for candidate in candidates
        if re.search(r"\d|pi|tau", candidate) and re.search(r"[-+*/^%(]", candidate.strip("-+"))
    ]
    return max(expressions, key=len, default="")


def _trim(text: str) -> str:
    """The expression without the punctuation of the sentence around it."""
    text = text.strip().rstrip(".,*/^%+- ").lstrip(".,*/^% ")
    while text.count("(") < text.count(")") and text.endswith(")"):
        text = text[:-1].rstrip()
    return text


def _is_formula(name: str) -> bool:
    return name.lower() in {"expression", "formula", "equation", "calculation", "expr"}


def _match_conversion(question: str) -> re.Match[str] | None:
    return _CONVERT.search(question)


def fill_arguments(question: str, tool: ToolSpec) -> dict[str, Any] | None:
    """The tool's arguments from the question, or None if a required one is missing."""
    properties = _properties(tool)
    required = required_names(tool.schema)
    filler = ArgumentFiller(question, tool)
    arguments: dict[str, Any] = {}
    # Required parameters first: each value of the question is used only once.
    for name in sorted(properties, key=lambda name: name not in required):
        value = filler.find_value(name, properties[name], required=name in required)
        if value is not None:
            arguments[name] = value
    return arguments if all(name in arguments for name in required) else None


class ArgumentFiller:
    """Finds values for parameters in a question; uses each value once."""

    def __init__(self, question: str, tool: ToolSpec) -> None:
        self._question = question
        self._tool = tool
        self._quoted = [next(filter(None, match.groups()), "") for match in _QUOTED.finditer(question)]
        unquoted = _QUOTED.sub(" ", question)
        self._urls = _URL.findall(unquoted)
        self._paths = _PATH.findall(_URL.sub(" ", unquoted))
        self._numbers: list[int | float] = [_parse_number(digits) for digits in _NUMBER.findall(unquoted)]
        self._proper_nouns = _PROPER_NOUN.findall(unquoted)

    def find_value(self, name: str, schema: object, *, required: bool) -> Any:
        """A value for the parameter, or None. An optional one is filled only if the question names it or its value."""
        if choices := _enum_values(schema):
            return self._find_choice(choices)
        if (stated := self._find_stated(name)) is not None:
            return _convert_type(stated, schema_types(schema))
        if conversion := self._find_conversion(name):
            return _convert_type(conversion, schema_types(schema))
        if not required:
            return None
        types = schema_types(schema) or {"string"}
        if "array" in types:
            return self._take_list(schema)
        if types & {"integer", "number"}:
            return self._take_number(integer_only="number" not in types)
        if "boolean" in types:
            return not re.search(r"\b(no|not|without|false|off)\b", self._question, re.IGNORECASE)
        if "string" in types:
            return self._take_string(name, schema)
        return {} if "object" in types else None

    def _find_choice(self, choices: list[Any]) -> Any:
        words = _stem_words(self._question)
        lowered = self._question.lower()
        for choice in choices:
            if str(choice).lower() in lowered or (_stem_words(str(choice)) and _stem_words(str(choice)) <= words):
                return choice
        return None

    def _find_stated(self, name: str) -> str | None:
        """The value in ``name=value``, ``name: value`` or ``name "value"`` in the question."""
        name_pattern = re.escape(name).replace("_", "[_ ]")
        match = re.search(
            rf"\b{name_pattern}\s*(?:[=:]\s*|\s+(?=[\"“`]))(\"[^\"]*\"|“[^”]*”|`[^`]*`|[^\s,;]+)",
            self._question,
            re.IGNORECASE,
        )
        return match[1].strip('"“”`').rstrip("?!") if match else None

    def _find_conversion(self, name: str) -> str:
        match = _match_conversion(self._question)
        group = {"value": 1, "amount": 1, "from_unit": 2, "to_unit": 3}.get(name)
        return match[group] if match and group and "to_unit" in _properties(self._tool) else ""

    def _take_number(self, *, integer_only: bool) -> int | float | None:
        for number in self._numbers:
            if not integer_only or isinstance(number, int):
                self._numbers.remove(number)
                return number
        return None

    def _take_list(self, schema: object) -> list[Any] | None:
        if _is_number_list(schema):
            numbers, self._numbers = self._numbers, []
            return numbers or None
        texts, self._quoted = self._quoted or self._proper_nouns or self._paths, []
        return texts or None

    def _take_string(self, name: str, schema: object) -> str | None:
        if _is_formula(name):
            return find_expression(self._question) or (self._quoted.pop(0) if self._quoted else None)
        string_format = schema.get("format", "") if isinstance(schema, Mapping) else ""
        lowered = name.lower()
        pools: list[list[str]] = []
        if string_format in {"uri", "url"} or "url" in lowered or "uri" in lowered:
            pools = [self._urls]
        elif any(word in lowered for word in ("path", "file", "dir", "folder")):
            pools = [self._quoted, self._paths]
        else:
            pools = [self._quoted, self._proper_nouns, self._urls, self._paths]
        for pool in pools:
            if pool:
                return pool.pop(0)
        return (
            self._remaining_text()
            if lowered in {"query", "q", "text", "message", "question", "input", "prompt"}
            else None
        )

    def _remaining_text(self) -> str | None:
        """The question without the words that match the tool, or None if nothing is left."""
        tool_words = _stem_words(f"{self._tool.name} {self._tool.server} {self._tool.title}")
        words = [word for word in self._question.split() if not _stem_words(word) <= tool_words]
        while words and words[0].lower().strip(",.?!") in _STOP_WORDS:
            words.pop(0)
        return " ".join(words).strip(" .?!:") or None


def _parse_number(digits: str) -> int | float:
    return int(digits) if digits.lstrip("-").isdigit() else float(digits)


def _convert_type(text: str, types: frozenset[str]) -> Any:
    if "string" in types or not types:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return [text] if "array" in types else None
