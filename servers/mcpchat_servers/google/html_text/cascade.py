"""The CSS cascade: which declarations apply to an element. Parsing is done by tinycss2, selectors by cssselect2."""

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import cssselect2
import tinycss2

from mcpchat_servers.google.html_text.css_values import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    Tokens,
    TooComplexError,
    is_length,
    keyword,
    parse_length,
    strip_spaces,
)

_MAX_NESTING = 30  # of rules within rules
_SHORT_SELECTOR = 200  # characters
_MAX_SELECTOR = 20_000  # characters, with the selectors around a nested rule
_NOT_ON_DESKTOP = re.compile(
    r"-webkit-touch-callout|-ms-ime-align|-ms-high-contrast|-webkit-overflow-scrolling|url-prefix"
)
_NO_NAMESPACE = re.compile(r"(?<![\w*|-])\|(?=[\w*-])")  # selects no element of HTML
_XHTML = "http://www.w3.org/1999/xhtml"
_MAX_REGISTERED = 200  # variables that @property defines
_HEX_COLOR = re.compile(r"[0-9a-fA-F]{3}(?:[0-9a-fA-F]{3})?")
_GROUP_RULES = {"media", "supports", "layer", "container", "scope", "document", "-moz-document"}
# Selectors that cssselect2 does not know: some match every element here, the others are aliases of :is().
_ALWAYS_TRUE = re.compile(r":(?:dir\(ltr\)|-moz-locale-dir\([^()]*\))", re.IGNORECASE)
_IS_ALIASES = re.compile(r":(?:-webkit-any|-moz-any|matches)\(", re.IGNORECASE)
_ANY_PSEUDO_CLASS = re.compile(
    r"(?<!:):(?!hover|focus|active|visited|target)[a-z-]+(\((?:[^()]|\([^()]*\))*\))?", re.IGNORECASE
)
_UNKNOWN_PARTS = re.compile(
    r":not\([^()]*:[a-z-]+[^()]*\)|:defined|:read-only|:dir\([^()]*\)|::?-[a-z-]+(\([^()]*\))?|::(part|slotted|cue|highlight|backdrop|marker)(\([^()]*\))?"
    r"|:(required|optional|valid|invalid|user-valid|user-invalid|in-range|out-of-range|indeterminate|default|modal|popover-open|open"
    r"|placeholder-shown|autofill|read-write|any-link|fullscreen|picture-in-picture|paused|playing|muted|buffering)\b",
    re.IGNORECASE,
)
_FALSE_FEATURES = re.compile(  # of a window on a desktop computer, in the light colour scheme
    r"(prefers-color-scheme:dark|prefers-reduced-\w+:reduce|prefers-contrast:(more|less|custom)|forced-colors:active"
    r"|orientation:portrait|(any-)?hover:none|(any-)?pointer:(coarse|none)|scripting:enabled|monochrome|grid"
    r"|inverted-colors:inverted|update:(none|slow)|display-mode:(standalone|fullscreen))"
)
_QUERY = re.compile(r"((not|only) )?[\w-]+( and \(\))*|(not )?\(\)|\(\)( and \(\))+|\(\)( or \(\))+")
_SIZE_FEATURE = re.compile(r"(min-|max-)?(device-)?(width|height)")


class Declaration(NamedTuple):
    """A declaration with its precedence: of two for the same property, the greater one wins."""

    precedence: tuple[object, ...]
    name: str
    value: Tokens
    uncertain_rule: object = None  # its rule, if that may not apply: its condition or its layer's order is not known


class RegisteredVariable(NamedTuple):
    """A variable that ``@property`` defines."""

    initial: Tokens | None  # None: no value until it is declared
    is_inherited: bool
    syntax: str  # a value that does not have it is not valid, and becomes the initial value


class _Rule(NamedTuple):
    declarations: list[Any]  # of tinycss2
    is_layered: bool
    is_uncertain: bool


class Cascade:
    """The style sheets of a document.

    Raises TooComplexError. Linked and imported sheets are not fetched: mail programs do not fetch them.
    """

    def __init__(self, root: Element, *, is_quirky: bool = False) -> None:
        self._is_quirky = is_quirky
        if is_quirky:
            for element in root.iter():
                for name in ("class", "id"):
                    if name in element.attrib:
                        element.set(name, element.attrib[name].lower())
        self._matcher = cssselect2.Matcher()
        self._inline: dict[str, list[Any]] = {}
        self.keyframes: dict[str, list[Any]] = {}  # declarations of all frames, by the animation's name
        self.last_keyframes: dict[str, list[Any]] = {}  # of the last frame alone
        self.registered: dict[str, RegisteredVariable] = {}
        self._namespaces: dict[str | None, str] = {}  # of the current style sheet, by prefix
        in_templates = {style for template in root.iter("template") for style in template.iter()}
        styles = [
            style for style in root.iter() if style.tag.rpartition("}")[2] == "style" and style not in in_templates
        ]
        title = next((style.get("title") for style in styles if style.get("title")), None)
        for style in styles:
            if style.get("title") not in {None, "", title}:
                continue  # an alternative style sheet
            kind = style.get("type", "text/css").lower()
            if kind in {"", "text/css"} and _media_matches(tinycss2.parse_component_value_list(style.get("media", ""))):
                sheet = tinycss2.parse_stylesheet(style.text or "", skip_comments=True, skip_whitespace=True)
                self._namespaces = _find_namespaces(sheet)
                self._add_rules(sheet, "", is_layered=False, is_uncertain=False, depth=0)

    def _add_rules(self, rules: list[Any], parent: str, *, is_layered: bool, is_uncertain: bool, depth: int) -> None:
        """Add the rules that apply to the screen. ``parent`` is the selector around nested rules."""
        if depth > _MAX_NESTING or len(parent) > _MAX_SELECTOR:
            raise TooComplexError
        own = [rule for rule in rules if rule.type == "declaration"]
        if own and parent:
            self._add_rule(parent, _Rule(own, is_layered, is_uncertain))
        for rule in rules:
            if rule.type == "qualified-rule":
                selector = _nest(tinycss2.serialize(rule.prelude), parent)
                content = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
                self._add_rules(content, selector, is_layered=is_layered, is_uncertain=is_uncertain, depth=depth + 1)
            elif rule.type == "at-rule" and rule.content is not None:
                name = rule.lower_at_keyword
                content = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
                if name == "property":
                    self._register_variable(rule.prelude, content)
                elif name.endswith("keyframes"):
                    self._add_keyframes(rule.prelude, content)
                elif name in _GROUP_RULES and (holds := _condition_holds(name, rule.prelude)) is not False:
                    self._add_rules(
                        content,
                        parent,
                        is_layered=is_layered or name == "layer",
                        is_uncertain=is_uncertain or holds is None,
                        depth=depth + 1,
                    )

    def _add_rule(self, selector: str, rule: _Rule) -> None:
        if self._is_quirky:
            selector = selector.lower()
        if _NO_NAMESPACE.search(selector):
            rule = rule._replace(is_uncertain=True)
        compiled = self._compile_selectors(selector) or self._compile_selectors(
            _IS_ALIASES.sub(":is(", _ALWAYS_TRUE.sub(":not(x-never)", selector))
        )
        for unknown in (_UNKNOWN_PARTS, _ANY_PSEUDO_CLASS):
            if not compiled and (simpler := unknown.sub("", selector)) != selector:
                # What these parts select is not known: the rule applies to all others, but must not show anything.
                rule = rule._replace(is_uncertain=True)
                compiled = self._compile_selectors(", ".join(part.strip() or "*" for part in simpler.split(",")))
        for entry in compiled:
            if entry.pseudo_element is None:
                self._matcher.add_selector(entry, rule)

    def _compile_selectors(self, selectors: str) -> list[Any]:
        """Compile a list of selectors; one that is not valid makes the list empty. Raises TooComplexError."""
        try:
            return list(cssselect2.compile_selector_list(selectors, self._namespaces))
        except (cssselect2.SelectorError, NotImplementedError):
            return []
        except (SyntaxError, RecursionError, MemoryError):  # it compiles selectors to Python code
            if len(selectors) < _SHORT_SELECTOR:
                return []  # a gap of the library, such as :has(:focus)
            raise TooComplexError from None

    def _add_keyframes(self, prelude: Tokens, frames: list[Any]) -> None:
        name = "".join(token.value for token in strip_spaces(prelude) if token.type in {"ident", "string"})
        for frame in frames:
            if frame.type != "qualified-rule":
                continue
            declarations = [*_parse_declarations(frame.content)]
            self.keyframes.setdefault(name, []).extend(declarations)
            if re.search(r"\b(to|100%)", tinycss2.serialize(frame.prelude).lower()):
                self.last_keyframes.setdefault(name, []).extend(declarations)

    def _register_variable(self, prelude: Tokens, descriptors: list[Any]) -> None:
        names = [token.value for token in prelude if token.type == "ident"]
        values = {item.lower_name: strip_spaces(item.value) for item in descriptors if item.type == "declaration"}
        syntax = [token.value for token in values.get("syntax", ()) if token.type == "string"]
        initial = values.get("initial-value")
        if len(names) != 1 or not syntax or "inherits" not in values or (initial is None and syntax != ["*"]):
            return
        if len(self.registered) >= _MAX_REGISTERED:
            raise TooComplexError
        is_inherited = keyword(values["inherits"]) != "false"
        self.registered[names[0]] = RegisteredVariable(initial, is_inherited, syntax[0].strip().lower())

    def find_declarations(self, element: cssselect2.ElementWrapper) -> list[Declaration]:
        """Return all declarations for an element, the strongest last."""
        found = [
            Declaration(
                (important, rule.is_layered == important, (0, *specificity), order, position),
                _property_name(item),
                item.value,
                id(rule) if rule.is_uncertain else None,
            )
            for specificity, order, _, rule in self._matcher.match(element)
            for position, item in enumerate(rule.declarations)
            for important in (bool(item.important),)
        ]
        style = element.etree_element.get("style")
        if style:
            if style not in self._inline:
                self._inline[style] = _parse_declarations(style)
            found += [
                Declaration((bool(item.important), True, (1, 0, 0, 0), 0, position), _property_name(item), item.value)
                for position, item in enumerate(self._inline[style])
            ]
        found.sort(key=attrgetter("precedence"))
        return _read_hashless_colors(found) if self._is_quirky else found


def _find_namespaces(rules: list[Any]) -> dict[str | None, str]:
    """Return the namespaces that a style sheet declares, by prefix; that of HTML is empty, as in the tree."""
    namespaces: dict[str | None, str] = {}
    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword == "namespace":
            tokens = strip_spaces(rule.prelude)
            prefix = tokens[0].value if tokens and tokens[0].type == "ident" else None
            urls = [_read_url(token) for token in tokens[prefix is not None :]]
            if len(urls) == 1:
                namespaces[prefix] = "" if urls[0] == _XHTML else urls[0] or "unknown"
    return namespaces


def _read_url(token: Any) -> str:
    if token.type == "function":
        return next((part.value for part in token.arguments if part.type == "string"), "")
    return str(token.value) if token.type in {"url", "string"} else ""


def _read_hashless_colors(declarations: list[Declaration]) -> list[Declaration]:
    """Read colours as old documents may write them, such as ``color: ffffff``. Of each property, only the last counts.

    They are uncertain: other programs leave them out.
    """
    result, seen = [], set()
    for declaration in reversed(declarations):
        key = declaration.name, declaration.precedence[0]  # of important declarations, the last one too
        if declaration.name in {"color", "background-color"} and (color := _hashless_color(declaration.value)):
            if key in seen:
                continue
            seen.add(key)
            value = tinycss2.parse_component_value_list(color)
            declaration = declaration._replace(value=value, uncertain_rule=declaration.name)
        result.append(declaration)
    return result[::-1]


def _hashless_color(value: Tokens) -> str:
    """Return ``#ffffff`` for ``ffffff``, and "" for a value that is no colour. A short number gets zeros in front."""
    tokens = strip_spaces(value)
    if len(tokens) != 1:
        return ""
    token, text = tokens[0], ""
    if token.type == "ident":
        text = token.value
    elif token.type in {"number", "dimension"} and token.int_value is not None and token.int_value >= 0:
        text = f"{token.int_value}{getattr(token, 'unit', '')}".zfill(6)
    return f"#{text}" if _HEX_COLOR.fullmatch(text) else ""


def _property_name(declaration: Any) -> str:
    """The name of a property; that of a variable with its case."""
    return str(declaration.name if declaration.name.startswith("--") else declaration.lower_name)


def _parse_declarations(content: str | Tokens) -> list[Any]:
    items = tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True)
    return [item for item in items if item.type == "declaration"]


def _nest(selector: str, parent: str) -> str:
    """Return a nested rule's selector with its parent's in place of ``&``."""
    if not parent:
        return selector
    return selector.replace("&", f":is({parent})") if "&" in selector else f":is({parent}) {selector}"


def _condition_holds(name: str, prelude: Tokens) -> bool | None:
    """Whether the condition of a group of rules holds; None if that is not known."""
    text = tinycss2.serialize(prelude).lower()
    if _NOT_ON_DESKTOP.search(text):
        return None if re.search(r"\b(not|or)\b|,", text) else False
    if name == "media":
        return _evaluate_media(prelude)
    return None  # layers too: their order is not evaluated


def _media_matches(tokens: Tokens) -> bool:
    """Whether a list of media queries may match a screen."""
    return _evaluate_media(tokens) is not False


def _evaluate_media(tokens: Tokens) -> bool | None:
    """Whether a list of media queries matches a screen; None if that needs a feature that is not known."""
    queries: list[list[Any]] = [[]]
    for token in strip_spaces(tokens):
        if token.type == "literal" and token.value == ",":
            queries.append([])
        else:
            queries[-1].append(token)
    if queries == [[]]:
        return True
    results = [_evaluate_query(query) for query in queries if query]
    return True if True in results else None if None in results else False


def _evaluate_query(query: list[Any]) -> bool | None:
    """Evaluate a media query; None if that needs a feature that is not known."""
    words = [token.lower_value for token in query if token.type == "ident"]
    if not _QUERY.fullmatch(" ".join(getattr(token, "lower_value", "()") for token in query)):
        return None
    features = [_feature_holds(token) for token in query if token.type == "() block"]
    is_screen = all(word in {"not", "only", "and", "or", "all", "screen"} for word in words)
    decisive = "or" in words  # the value of one feature that decides about all
    result = decisive if decisive in features else None if None in features else not decisive
    if not features:
        result = True
    if not is_screen:
        result = False
    return result if words[:1] != ["not"] or result is None else not result


def _feature_holds(block: Any) -> bool | None:
    """Whether a media feature holds; None if it is not known."""
    inner = strip_spaces(block.content)
    if any(token.type == "() block" for token in inner):
        return _evaluate_query(inner)
    text = re.sub(r"\s+", "", tinycss2.serialize(block.content)).lower()
    if _FALSE_FEATURES.fullmatch(text):
        return False
    sizes = [token for token in inner if token.type == "ident" and _SIZE_FEATURE.fullmatch(token.lower_value)]
    lengths = [length for token in inner if (length := parse_length(token, 16.0)) is not None]
    if len(sizes) != 1 or not lengths:
        return _resolution_holds(inner)
    if any(not is_length(token) for token in inner if token.type in {"number", "dimension"}):
        return None
    name = sizes[0].lower_value
    actual = PAGE_HEIGHT if name.endswith("height") else PAGE_WIDTH
    if name.startswith("min-"):
        return True if actual >= lengths[0] else None  # many windows are larger
    if name.startswith("max-"):
        return actual <= lengths[0]
    return all(_range_holds(inner, actual))


def _range_holds(tokens: list[Any], actual: float) -> Iterator[bool]:
    """Check the notations ``width < 600px``, ``600px <= width`` and ``width: 600px``."""
    operators = {"<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b}
    values = [actual if token.type == "ident" else parse_length(token, 16.0) for token in tokens]
    symbol, left = "", None
    for token, value in zip(tokens, values, strict=True):
        if value is None:
            symbol += token.value if token.type == "literal" else ""
            continue
        if left is not None and symbol:
            yield operators.get(symbol, lambda a, b: a == b)(left, value)
        left, symbol = value, ""


def _resolution_holds(tokens: list[Any]) -> bool | None:
    """Whether a minimum resolution is that of an ordinary screen; None for other features."""
    name = tokens[0].lower_value if tokens and tokens[0].type == "ident" else ""
    if not re.fullmatch(r"(-webkit-|-o-)?min-(-moz-)?(device-pixel-ratio|resolution)", name):
        return None
    factors = {"dpi": 1 / 96, "dpcm": 2.54 / 96}
    for token in tokens[1:]:
        if token.type in {"number", "dimension"}:
            return bool(token.value * factors.get(getattr(token, "lower_unit", ""), 1.0) <= 1)
    return None
