"""Code in colours that read on a dark background and on a light one: the terminal's own."""

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
    """Colours code piece by piece: what it knows of what came before is where it stands in the grammar.

    A piece is whole lines. ``marks`` are the lines of the latest piece after which a next piece may begin, those where
    no token crosses over: ``go_on`` goes on from such a line. The few grammars that cannot be left and entered again
    begin anew with each piece.
    """

    def __init__(self, language: str) -> None:
        self._lexer = _find_lexer(language)
        self._resumable = type(self._lexer).get_tokens_unprocessed in _RESUMABLE_TOKENIZERS if self._lexer else False
        self._stack: Sequence[str] = _INITIAL_STACK
        self._stacks: dict[int, Sequence[str]] = {}

    def highlight(self, code: str) -> list[Text]:
        """The lines of a piece of code, each without its newline."""
        if not code:
            return []
        code = code if code.endswith("\n") else code + "\n"
        try:
            return self._highlight(code)
        except TypeError:  # a grammar with functions that take no context
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
        text = text if text.plain == code else Text(code)  # of a grammar that drops or adds something, only the words
        return list(text.split("\n"))

    def resume_points(self) -> Sequence[int]:
        """The counts of lines of the latest piece after which a next one can begin, in order."""
        return tuple(self._stacks)

    def resume_at(self, line: int) -> None:
        """The next piece begins after this many lines of the latest, one of ``marks``."""
        self._stack = self._stacks[line]

    def _tokenize(self, code: str) -> Iterator[tuple[_TokenType, str, Sequence[str]]]:
        """The tokens, each with the grammar's state after it."""
        if self._lexer is None:
            for line in code.split("\n")[:-1]:
                yield Token.Text, f"{line}\n", _INITIAL_STACK
        elif not self._resumable:
            for kind, value in self._lexer.get_tokens(code):
                yield kind, value, _INITIAL_STACK
        else:
            context = LexerContext(code, 0, list(self._stack))
            # Any grammar of regular expressions can be run this way: its state is in the context, not in the loop.
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
