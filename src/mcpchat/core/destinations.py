"""Paths, URLs and addresses within a text: what a call could reach, in every spelling of it."""

import posixpath
import re
from collections.abc import Iterator

from mcpchat.core.text_forms import nonempty
from mcpchat.util.urls import plain_host

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEMES = re.compile(r"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]+:)+/*")  # such as jar:file:/
_PROCESS_ROOT = re.compile(r"/proc/[^/]{1,20}/(?:task/[^/]{1,20}/)?root(?=/)")  # another name of the root folder
_OPEN_FOLDER = re.compile(r"^.*/(?:proc/[^/]{1,20}/(?:task/[^/]{1,20}/)?(?:cwd|fd/\d+))(?=/)", re.DOTALL)
_PARENT_FOLDER = re.compile(r"(?<![\w.^~})\]])\.\.(?![\w.-])")
# What a shell could make ".." of: a variable before it, $'\x2e.', and patterns that begin with a dot.
_HIDDEN_PARENT = re.compile(r"\$[\w{(*@#?!-][^/$]*\.\.|\$'|[/\\]\.[*?\[]")
_SHELL_MARKS = re.compile(r"[\"'\\{},]")
_EXPANSION = re.compile(r"\$(?:[A-Za-z_{(*@#?!'-]|$)|^\.{1,2}(?![\w.])|\*|\?(?!$)")
_UNSET_VARIABLE = re.compile(r"\$(?!\{?(?:HOME|PWD|OLDPWD|TMPDIR|USER)\b)\{?\w+[^/]*?(/.*)", re.DOTALL)
_GLUED = re.compile(r"(?:^-{1,2}[A-Za-z]+|[^\w/.~\]-])(/.*)", re.DOTALL)  # -f/etc/x, @/etc/x
_WORDS = re.compile(r"[\s<>(){}\"']+|(?<![\w/-])\[|\](?![\w/-])")  # "/app/[id]/page" is one word
_URL_INSIDE = re.compile(
    r"(?P<scheme>[Hh][Tt]{2}[Pp][Ss]?(?=:)|[A-Za-z][A-Za-z0-9+.-]{0,20}(?=:[/\\])):[/\\]*(?P<rest>[^\s\"'<>/\\][^\s\"'<>]*)"
)
_HOST_END = re.compile(r"(?=[/?#])|$")
_URL_BREAKS = re.compile(r"[\t\r\n]")  # a browser leaves them out
_PORT = re.compile(r"(?<!:):(\d*)$|(?<=\]):(\d*)$")
_MAX_PORT = 5  # digits
_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}
_SECOND_TARGET = re.compile(r"://|@|^[/~\\]")
_SECOND_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]|[/\\]{2}")


def leaves_folder(text: str) -> bool:
    """Whether a part of the text is "..", or could become it: a path leads elsewhere than its beginning says."""
    plain = _SHELL_MARKS.sub("", text)
    return any(_PARENT_FOLDER.search(form) for form in {text, plain}) or _HIDDEN_PARENT.search(text) is not None


def list_pieces(text: str) -> list[str]:
    """Return the items of a list that is written as one text, between commas.

    A comma within one URL separates nothing but further addresses, paths and URLs.
    """
    pieces = nonempty(text.split(","))
    return [piece for piece in pieces if is_destination(piece)] if _URL.match(text.strip()) else pieces


def url_pieces(text: str) -> list[str]:
    """Return what follows ``;``, ``|`` or ``&`` within one URL and could be read as a URL, a path or an address.

    What follows ``&`` is a parameter, unless it is a URL.
    """
    if not _URL.match(text.strip()):
        return []
    pieces = [piece for piece in nonempty(re.split(r"[;|]", text))[1:] if _SECOND_TARGET.search(piece)]
    return [*pieces, *(piece for piece in nonempty(text.split("&"))[1:] if _SECOND_URL.match(piece))]


def is_path(text: str) -> bool:
    """Whether the text begins as a path or a URL does."""
    return re.match(r"\s*(?:/|~|\.{1,2}/|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]*://)", text) is not None


def is_url(text: str) -> bool:
    """Whether the whole text is one URL."""
    return _URL.match(text.strip()) is not None and not re.search(r"\s", text.strip())


def destinations(text: str) -> list[str]:
    """Return the words of the text that are addresses, paths or URLs."""
    return [word for word in nonempty(_WORDS.split(text)) if is_destination(word)]


def words(text: str) -> list[str]:
    """Return all words of the text."""
    return nonempty(_WORDS.split(text))


def without_others(text: str, word: str) -> str:
    """Return the text without its destinations but for this one."""
    others = sorted({other for other in destinations(text) if other != word}, key=len, reverse=True)
    if not others:
        return text
    alternatives = "|".join(map(re.escape, others))
    return re.sub(rf"\s*(?<![^\s<>()\[\]{{}}\"'])(?:{alternatives})(?![^\s<>()\[\]{{}}\"'])", "", text)


def is_destination(text: str) -> bool:
    """Whether the text may be an address, a path or a URL, or a shell could make one of it."""
    return any(mark in text for mark in "@/\\") or text.startswith("~") or _EXPANSION.search(text) is not None


def path_forms(text: str) -> Iterator[str]:
    """Yield the spellings of a path: without what is before it, folded, and absolute if it climbs out of its folder.

    What follows ".." is also yielded as an absolute path: a link before it can lead anywhere.
    """
    if "/" not in text and "\\" not in text:
        return
    path = re.sub("//+", "/", text.replace("\\", "/")).replace("/dev/fd/", "/proc/self/fd/")
    if "/proc/" in path:
        yield _PROCESS_ROOT.sub("", posixpath.normpath(path))
    path = _PROCESS_ROOT.sub("", path)
    glued, unset = _GLUED.search(path), _UNSET_VARIABLE.search(path)
    without_host = re.sub(r"^[A-Za-z]+:/+[^/]*", "", path)
    spellings = [path, _SCHEMES.sub("/", path, count=1), without_host, _OPEN_FOLDER.sub("..", path)]
    spellings += [match[1] for match in (glued, unset) if match]
    for spelling in dict.fromkeys(spellings):
        folded = posixpath.normpath(spelling)
        yield re.sub("^/+", "/", folded)
        _, climbs, rest = spelling.rpartition("../")
        if climbs:
            yield posixpath.normpath(f"/{rest}")


def url_forms(text: str) -> Iterator[str]:
    """Yield the URLs in the text as a browser reads them: host, port and path in their plainest form."""
    for match in _URL_INSIDE.finditer(_URL_BREAKS.sub("", text)):
        scheme = match["scheme"].lower()
        authority, rest = _HOST_END.split(match["rest"].replace("\\", "/"), maxsplit=1)
        host = authority.rpartition("@")[2].lower()
        number = 0
        if port := _PORT.search(host):
            host, number = host[: port.start()], int((port[1] or port[2] or "0")[-_MAX_PORT:])
        host = host.rstrip(".")
        end = f":{number}" if number and number != _DEFAULT_PORTS.get(scheme) else ""
        path = rest.removeprefix("/")
        plain = plain_host(host.strip("[]"))
        for name in dict.fromkeys((host, f"[{plain}]" if ":" in plain else plain)):
            yield f"{scheme}://{name}{end}/{path}"
            yield f"{scheme}://{name}{end}{_fold_url_path(rest)}"


def _fold_url_path(rest: str) -> str:
    path, *parameters = re.split(r"(?=[?#])", rest, maxsplit=1)
    end = "/" if path.endswith(("/", "/.", "/..")) else ""
    folded = posixpath.normpath(re.sub("^/*", "/", path)).rstrip("/")
    return f"{folded}{end or ('' if folded else '/')}{''.join(parameters)}"
