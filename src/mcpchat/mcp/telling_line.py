"""Finds the line of a failed program's output that says why it failed."""

import re
from collections.abc import Sequence

# What programs write for a cause, the most telling first: a missing package, an error with its kind, a system error.
_CAUSES = (
    re.compile(r"is not in this registry|\b404 Not Found\b|No matching distribution|Could not find a version"),
    re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception)(?: \[\w+\])?: \S|^\w*Error$|^thread '.*' panicked|^panic: "),
    re.compile(
        r"\bE[A-Z]{4,}\b|Cannot find module|[Cc]ommand not found|No such file|[Pp]ermission denied|[Aa]ddress already"
    ),
    re.compile(r"^(?:[\w.-]+: )?(?:fatal|error|FATAL|ERROR|Error)\b"),
)
_NOISE = re.compile(r"^\s+at |^Node\.js v|complete log of this run|^\s*\^+\s*$|npm warn|^\s*~+\^*")


def find_telling_line(lines: Sequence[str]) -> str:
    """The line that names the cause. Without one, the last line with words, or an empty string."""
    candidates = [line.strip() for line in lines if line.strip() and not _NOISE.search(line)]
    for cause in _CAUSES:
        matching = [line for line in candidates if cause.search(line)]
        if matching:
            return matching[-1]
    return candidates[-1] if candidates else ""
