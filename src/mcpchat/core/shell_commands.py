"""The commands that a shell could run within a text, and what each of them runs in turn."""

import posixpath
import re
from collections.abc import Iterator
from typing import Literal

from mcpchat.core.text_forms import nonempty

_JOINED_OUTPUT = re.compile(r"(?<=\s)[12]?>&[12](?=\s|$)")  # 2>&1 writes to no file
_NUMBER = r"\s*=?\s*\d[\d.,]*%?(?:[\s)\]]|$)"  # a comparison: > 5
_SIGNS = r"[;|&\r\n\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029`]"
_REDIRECTION = rf"\d?(?<!<)>>?(?=\s*\S)(?!{_NUMBER})"
_SEPARATORS = re.compile(rf"{_SIGNS}|{_REDIRECTION}|(?<=[$<>=])\(")
# Also at each group: fish runs what is in it, zsh the qualifiers of a glob.
_GROUP_SEPARATORS = re.compile(rf"{_SIGNS}|{_REDIRECTION}|(?:^|(?<=[\s$<>=*?\]@!+'\"]))\(")
_LINE_SEPARATORS = re.compile(r"[\r\n\0]")
_RUNS_MORE = re.compile(r"`|\$[({'\"]|[<>]\(")
_QUOTES = re.compile(r"[\"'\\]")
_NOTHING = re.compile(r"\\\n|\$[@*]|\$\{[@*]\}")  # what a shell takes away within a word
_BLANKS = re.compile(r"\$\{?IFS\}?(?:\$\d)?")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")  # {rm,x} is: rm x
_ASSIGNMENT = re.compile(r"\w+\+?=\S*")
# Programs and keywords that run what follows them, some after options of their own.
_WRAPPER_NAMES = """
    ! ash bash builtin busybox bwrap caffeinate case chroot chrt chpst command csh dash do doas docker elif else
    env eval exec firejail fish flock for if ionice ksh ltrace mksh nice nocorrect noglob nohup nsenter
    numactl parallel pkexec podman proot rlwrap runuser script setarch setpriv setsid sh ssh stdbuf strace su
    sudo systemd-run taskset tcsh then time timeout tini toybox trap unbuffer unshare until watch while xargs
    yash zsh
"""
_FINDERS = frozenset(("find", "fd", "fdfind"))  # they do so after an option
WRAPPERS = frozenset(_WRAPPER_NAMES.split()) | _FINDERS
_EXECUTES = re.compile(r"(?:^|(?<= ))(?:-(?:exec|ok)(?:dir)?|-[xX]|--exec(?:-batch)?) ")
_MAX_WORDS = 40  # of a wrapper and its options


def command_pieces(text: str, *, kind: Literal["command", "text", "url"] = "command") -> list[str]:
    """Return the pieces that a shell would run or write to: between semicolons, pipes, new lines, & and so on.

    In a ``text`` that need not be a command, parentheses separate nothing. In a ``url`` only new lines separate.
    """
    separators = {"command": _GROUP_SEPARATORS, "text": _SEPARATORS, "url": _LINE_SEPARATORS}[kind]
    return nonempty(separators.split(_JOINED_OUTPUT.sub("", text)))


def runs_more(text: str) -> bool:
    """Whether a shell would run or expand something within the text, such as ``$(reboot)``."""
    return _RUNS_MORE.search(text) is not None


def command_forms(text: str) -> Iterator[str]:
    """Yield each command that a shell could run within the text, without quotes, and each that a command runs."""
    joined = _BLANKS.sub(" ", _NOTHING.sub("", text))
    for form in dict.fromkeys((text, joined, _BRACES.sub(lambda match: match[1].replace(",", " "), joined))):
        for piece in command_pieces(form):
            yield from _read_command(" ".join(piece.strip("(){} ").split()))


def _read_command(command: str) -> Iterator[str]:
    """Yield the command, without quotes, and what it runs: the rest after ``sudo``, ``x=1`` and the like."""
    for text in dict.fromkeys((command, _QUOTES.sub("", command))):
        is_wrapped = False
        for _ in range(_MAX_WORDS):
            word, _, rest = text.partition(" ")
            program = posixpath.basename(word)
            yield text
            yield f"{program} {rest}".strip()
            if program in _FINDERS:
                _, *executed = _EXECUTES.split(rest, maxsplit=1)
                rest = "".join(executed)
            is_wrapped = is_wrapped or program in WRAPPERS
            if not rest or not (is_wrapped or _ASSIGNMENT.fullmatch(word)):
                break
            text = rest
