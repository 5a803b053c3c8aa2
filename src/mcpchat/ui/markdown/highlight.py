"""Syntax highlighting in the terminal's own colours, readable on dark and light backgrounds."""

from collections.abc import Iterator, Sequence
from typing import Any

from pygments.lexer import ExtendedRegexLexer, Lexer, LexerContext, RegexLexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound
from rich.text import Text

_STYLES: dict[_TokenType, str] = {
    Token.Comment: "dim italic",
    Token.Keyword: "magenta",
    Token.Operator.Word: "magenta",
    Token.Literal.String: "green",
    Token.Literal.Number: "cyan",
    Token.Literal.Date: "cyan",
    Token.Keyword.Constant: "cyan",
    Token.Keyword.Type: "cyan",
    Token.Name.Builtin: "cyan",
    Token.Name.Function: "bold",
    Token.Name.Class: "bold",
    Token.Name.Tag: "magenta",
    Token.Name.Decorator: "cyan",
    Token.Generic.Deleted: "red",
    Token.Generic.Inserted: "green",
    Token.Generic.Heading: "bold",
    Token.Generic.Subheading: "bold",
    Token.Generic.Emph: "italic",
    Token.Generic.Strong: "bold",
    Token.Generic.Prompt: "dim",
}
_INITIAL_STACK = ("root",)
_tokenize_with_context: Any = ExtendedRegexLexer.get_tokens_unprocessed
_RESUMABLE_TOKENIZERS = (RegexLexer.get_tokens_unprocessed, ExtendedRegexLexer.get_tokens_unprocessed)


class Highlighter:
    """Highlights code in chunks. The only state kept between chunks is the lexer's stack.

    A chunk consists of whole lines. ``resume_points`` are the lines of the latest chunk after which the next chunk may
    begin, because no token spans them; ``resume_at`` continues after such a line. The few lexers that cannot be resumed
    start from their initial state with each chunk.
    """

    def __init__(self, language: str) -> None:
        self._lexer = _find_lexer(language)
        self._resumable = type(self._lexer).get_tokens_unprocessed in _RESUMABLE_TOKENIZERS if self._lexer else False
        self._stack: Sequence[str] = _INITIAL_STACK
        self._stacks: dict[int, Sequence[str]] = {}

    def highlight(self, code: str) -> list[Text]:
        """The highlighted lines of a chunk of code, each without its newline."""
        if not code:
            return []
        code = code if code.endswith("\n") else code + "\n"
        try:
            return self._highlight(code)
        except TypeError:  # a lexer with callbacks that take no context
            self._resumable = False
            return self._highlight(code)

    def _highlight(self, code: str) -> list[Text]:
        self._stacks = {}
        text, line = Text(), 0
        for kind, value, stack in self._tokenize(code):
            text.append(value, _token_style(kind))
            line += value.count("\n")
            if value.endswith("\n"):
                self._stacks[line] = stack
        text = text if text.plain == code else Text(code)  # plain if the lexer changes text
        return list(text.split("\n"))

    def resume_points(self) -> Sequence[int]:
        """The numbers of lines of the latest chunk after which the next chunk can begin, in order."""
        return tuple(self._stacks)

    def resume_at(self, line: int) -> None:
        """Let the next chunk begin after this many lines of the latest one, one of ``resume_points``."""
        self._stack = self._stacks[line]

    def _tokenize(self, code: str) -> Iterator[tuple[_TokenType, str, Sequence[str]]]:
        """The tokens, each with the lexer's stack after it."""
        if self._lexer is None:
            for line in code.split("\n")[:-1]:
                yield Token.Text, f"{line}\n", _INITIAL_STACK
        elif not self._resumable:
            for kind, value in self._lexer.get_tokens(code):
                yield kind, value, _INITIAL_STACK
        else:
            context = LexerContext(code, 0, list(self._stack))
            # Every RegexLexer can be run this way: its state is in the context, not in the loop.
            for _, kind, value in _tokenize_with_context(self._lexer, context=context):
                yield kind, value, tuple(context.stack)


def _find_lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        return None


def _token_style(kind: _TokenType) -> str:
    ancestor: _TokenType | None = kind
    while ancestor:
        if ancestor in _STYLES:
            return _STYLES[ancestor]
        ancestor = ancestor.parent
    return ""
