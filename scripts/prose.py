"""List phrases that make prose hard to read, with file and line: in the docs, and in docstrings and comments.

This is an aid, not a check: a hit can be correct, and the exit code is always 0.

    python scripts/prose.py [PATH...]    # default: the docs, src and servers
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ("README.md", "docs/*.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
CODE = ("src/**/*.py", "servers/**/*.py")
PHRASES = re.compile(
    r"""\b(?:
        anew | whoever | whosoever | nobody | somebody | whom | wherein | thereof | besides | beforehand
      | is\ none | are\ none | there\ is\ none | of\ (?:its|your|their|one's)\ own | a\ room\ of | in\ mid-\w+
      | (?:go|goes|going|gone|went)\ on\ with | stands?\ in\b | stands?\ for\ itself | held\ against
      | (?:what|all)\ (?:is|was|are|were|has|can|may|there|it|they|that)\b | all\ that | none\ of\ it
      | where\ (?:there|it|that|nobody|a|an|the|what|one|they)\b | be\ it | need\ not | need\ be | may\ be\ had
      | (?:is|are|was|be|being)\ (?:told|kept|given|asked|said|spoken|gone|meant|held|learnt|shut|begun)
      | found\ out | of\ them(?!\ is)\b | all\ the\ same | after\ all | by\ itself | as\ it\ stands | in\ vain
      | the\ more | at\ all | says?\ of\ (?:itself|its) | in\ its\ place | come\ by | likewise | else\ it | so\ many
      | who\ (?:restricts|can|asks) | has\ its | take[ns]?\ to\ be | to\ be\ had | yours?\ has | by\ hand
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)


def code_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each comment line and docstring line of Python source."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            lines = (ast.get_source_segment(text, value) or "").splitlines()
            yield from enumerate(lines, value.lineno)


def markdown_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each line outside code blocks; blocks of ```text are included."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence in {"", "```text"}:
            yield number, line


def prose(path: Path) -> list[tuple[int, str]]:
    """Return the prose lines of a file, sorted by line number; Python source that does not parse has none."""
    text = path.read_text()
    if path.suffix != ".py":
        return list(markdown_prose(text))
    try:
        return sorted(code_prose(text))
    except (SyntaxError, tokenize.TokenError):
        return []


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or [path for glob in (*DOCS, *CODE) for path in ROOT.glob(glob)]
    count = 0
    for path in sorted(paths):
        for number, line in prose(path):
            for match in PHRASES.finditer(line):
                count += 1
                print(f"{path.relative_to(ROOT) if path.is_absolute() else path}:{number}: {match[0]}: {line.strip()}")
    print(f"{count} phrases to look at")
    return 0


if __name__ == "__main__":
    sys.exit(main())
