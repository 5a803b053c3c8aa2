"""A limit for lists and quotations within each other that loses no text."""

from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, blockquote, list_block

_LEVELS = 2  # that a list takes; a quotation takes one

_Rule = Callable[[StateBlock, int, int, bool], bool]


def keep_deep_text(parser: MarkdownIt) -> None:
    """Make the parser read a list or a quotation that is nested too deeply as text.

    Otherwise it leaves out all text from there to the end.
    """
    parser.block.ruler.at("list", _limit(list_block), {"alt": ["paragraph", "reference", "blockquote"]})
    parser.block.ruler.at("blockquote", _limit(blockquote), {"alt": ["paragraph", "reference", "blockquote", "list"]})


def _limit(rule: _Rule) -> _Rule:
    def apply(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
        is_too_deep = state.level + _LEVELS >= state.md.options.maxNesting
        return not is_too_deep and rule(state, start_line, end_line, silent)

    return apply
