"""Turns bytes into text for a model: decodes characters, converts HTML and PDF, splits long texts into pages."""

import asyncio
import codecs
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.google.document_worker import ENCRYPTED, TIME_LIMIT
from mcpchat_servers.google.media_types import OFFICE_KINDS, guess_media_type

PAGE_LENGTH = 20_000  # characters that a call returns by default
MAX_PAGE_LENGTH = 100_000
_MAX_BEGINNING = 10_000  # characters
MAX_HTML_LENGTH = 500_000  # characters; the rest is left out
MAX_REPLY_LENGTH = 8000  # characters of a message in a summary: finding quotations takes quadratic time
MAX_OFFICE_BYTES = 25 * 2**20
_VAGUE_TYPES = {"application/octet-stream", "application/zip", "application/x-zip-compressed"}
_BLANK_LINES = r"\n{3,}"
MAX_PDF_BYTES = 50 * 2**20
_TEXT_TYPES = re.compile(
    r"text/|application/(json|xml|javascript|x-yaml|yaml|toml|sql|x-sh|csv|rtf|x-ndjson)|[^;]*\+(json|xml)"
)
TOO_COMPLEX = "[This HTML is too complex to tell which of its text can be seen: all of it is left out]"
_EMBEDDED_DATA = re.compile(  # images within HTML
    r"(?P<before>(?:\b(?:src|href|background|poster)\s*=|url\()\s*[\"']?)data:[\w.+-]{1,60}/[\w.+-]{1,60};base64,"
    r"[A-Za-z0-9+/=\s]{100,}",
    re.IGNORECASE,
)
_STYLE = re.compile(r"<style\b[^>]*>.*?</style\s*>", re.DOTALL | re.IGNORECASE)
_DOCTYPE = re.compile(r"\s*<!doctype[^>]*>", re.IGNORECASE)
_HTML_TYPES = frozenset(("text/html", "application/xhtml+xml", "text/x-html", "text/x-server-parsed-html"))
_VAGUE_HTML_TYPES = frozenset(("application/octet-stream", "application/xml", "text/xml", "binary/octet-stream"))
_HTML_START = re.compile(
    r"(?i)\s*(<!--.{0,1000}?-->\s*|<\?xml[^>]{0,200}>\s*)*<(!doctype html|html|head|body)\b", re.DOTALL
)
_ALLOWED_CODECS = re.compile(
    r"utf-(8|16|32)(-[bl]e)?(-sig)?|ascii|latin-?\d+|iso8859-\d+|cp\d{3,4}|koi8-[rtu]|mac-\w+|gb\w+|big5\w*|shift_jis\w*"
    r"|euc_\w+|iso2022_\w+|hz|tis-620|johab|ptcp154|kz1048|utf-7"
)
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Excerpt(BaseModel):
    """A piece of a text. ``offset``, ``total`` and ``next_offset`` count characters."""

    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None

    @property
    def footer(self) -> str:
        """The line below the text that says how to read the next piece; empty if this is the whole text."""
        if self.next_offset is None and self.offset == 0:
            return ""
        end = self.offset + len(self.text)
        continuation = (
            f"; continue with offset={self.next_offset}" if self.next_offset is not None else "; this is the end"
        )
        return f"\n\n[characters {self.offset}-{end} of {self.total}{continuation}]"


def take_excerpt(text: str, offset: int, limit: int) -> Excerpt:
    """Return up to ``limit`` characters of ``text`` from ``offset`` on. The piece ends at a line end if one is near.

    Raises ToolError if ``offset`` is beyond the end.
    """
    if offset > len(text) or (offset and offset == len(text)):
        raise ToolError(f"the text has {len(text)} characters: offset {offset} is beyond its end")
    end = min(offset + limit, len(text))
    if end < len(text):
        newline = text.rfind("\n", offset + limit * 3 // 4, end)
        end = newline + 1 if newline > 0 else end
    return Excerpt(text=text[offset:end], offset=offset, total=len(text), next_offset=end if end < len(text) else None)


class TextCache:
    """The texts read last, so that their next pieces are not fetched and converted again."""

    def __init__(self, max_entries: int = 4) -> None:
        self._max_entries = max_entries
        self._texts: dict[tuple[str, ...], str] = {}

    def get(self, *key: str) -> str | None:
        return self._texts.get(key)

    def put(self, text: str, *key: str) -> str:
        self._texts[key] = text
        while len(self._texts) > self._max_entries:
            del self._texts[next(iter(self._texts))]
        return text


IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})  # formats that models accept
_BINARY_TYPES = re.compile(
    r"(video|audio|font|image(?!/svg))/"
    r"|application/(zip|gzip|x-(tar|7z|rar|bzip|xz)|java-archive|msword|vnd\.(ms-|openxml|oasis))"
)


def is_binary(media_type: str) -> bool:
    """Whether files of this media type are never text, so that their content need not be checked."""
    return bool(_BINARY_TYPES.match(media_type.lower()))


def is_text(media_type: str) -> bool:
    return bool(_TEXT_TYPES.match(media_type.lower()))


def decode_text(data: bytes, charset: str = "") -> str | None:
    """Decode bytes to text; returns None if they are not text. Undecodable bytes become U+FFFD.

    ``charset`` is the sender's declaration. It is used only if it names a known charset and the bytes are not UTF-8.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _normalize_newlines(data.decode(name, errors="replace"))
    declared = _find_codec(charset)
    is_wide, is_seven_bit = declared.startswith(("utf-16", "utf-32")), declared.startswith(("iso2022_", "hz", "utf-7"))
    if (is_wide and b"\0" in data) or (is_seven_bit and data.isascii()):  # such bytes look like UTF-8, or contain NULs
        return _normalize_newlines(data.decode(declared, errors="replace"))
    if b"\0" in data:
        return None
    try:
        return _normalize_newlines(data.decode())
    except UnicodeDecodeError:
        return _normalize_newlines(data.decode(declared or "cp1252", errors="replace"))


def _find_codec(name: str) -> str:
    """Return Python's codec name for a charset, or "" if it is not allowed.

    Not every codec is allowed: some of Python's codecs are slow, or evaluate escapes.
    """
    try:
        codec = codecs.lookup(name[:40]).name
    except (LookupError, ValueError):
        return ""
    return codec if _ALLOWED_CODECS.fullmatch(codec) else ""


def _normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class VisibleText(NamedTuple):
    """The text of HTML that a person would see, links with their URLs."""

    text: str
    hidden_passages: int
    image_descriptions: int  # alternative texts of images, which are not shown beside the image
    unread: int  # characters of HTML beyond MAX_HTML_LENGTH

    def __str__(self) -> str:
        counts = ((self.hidden_passages, "hidden passage"), (self.image_descriptions, "image description"))
        parts = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count]
        notes = [f"[{' and '.join(parts)} left out]"] if parts else []
        notes += [f"[{self.unread:,} more characters of HTML left out]"] if self.unread else []
        return "\n\n".join(filter(None, [self.text, *notes]))


async def find_visible_text(html: str) -> VisibleText | None:
    """Return the text of HTML that a person would see, or None if the HTML is too complex to tell."""
    html = _EMBEDDED_DATA.sub(r"\g<before>data:", html)
    read, rest = html[:MAX_HTML_LENGTH], html[MAX_HTML_LENGTH:]
    if styles := "".join(_STYLE.findall(rest)):  # they hold for what is before them too
        if len(styles) > MAX_HTML_LENGTH:
            return None
        doctype = match.end() if (match := _DOCTYPE.match(read)) else 0
        read = read[:doctype] + styles + read[doctype:]
    code, output = await _run_document_worker("html", read.encode(errors="replace"))
    if code:
        return None
    counts, _, text = output.partition("\n")
    passages, descriptions = map(int, counts.split())
    return VisibleText(text, passages, descriptions, len(rest))


async def html_to_text(html: str) -> str:
    """Return the text that a person would see, links with their URLs. A last line counts what is left out.

    If the HTML is too complex to tell, return a note that says so instead.
    """
    visible = await find_visible_text(html)
    return TOO_COMPLEX if visible is None else str(visible)


def is_html(media_type: str, text: str) -> bool:
    """Whether a text is HTML: by its media type or, if that says nothing, by its beginning."""
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type in _HTML_TYPES:
        return True
    return media_type in _VAGUE_HTML_TYPES and (
        _HTML_START.match(text) is not None or "http://www.w3.org/1999/xhtml" in text[:_MAX_BEGINNING]
    )


async def pdf_to_text(data: bytes, what: str) -> str:
    """Return the text of a PDF. Raises ToolError if it is too large, encrypted or damaged, or has no text."""
    if len(data) > MAX_PDF_BYTES:
        raise ToolError(f"{what}: a PDF of {len(data):,} bytes is too large to read here: download it")
    code, text = await _run_document_worker("pdf", data)
    if code == ENCRYPTED:
        raise ToolError(f"{what}: it needs a password: download it")
    if code:
        raise ToolError(f"{what}: its text cannot be read, the PDF is damaged or too large: download it")
    if not text.strip():
        raise ToolError(f"{what}: it has no text, only images (a scan?): download it")
    return text


def find_office_kind(media_type: str, name: str) -> str:
    """Return the kind of an office document of which the text can be read, such as "docx"; empty for all others.

    A media type that says nothing is guessed from the name.
    """
    kind = media_type if media_type not in _VAGUE_TYPES else guess_media_type(name)
    return OFFICE_KINDS.get(kind, "")


async def office_to_text(kind: str, data: bytes, what: str) -> str:
    """Return the text of an office document. Raises ToolError if it is encrypted or damaged, or has no text."""
    if len(data) > MAX_OFFICE_BYTES:
        raise ToolError(f"{what}: a document of {len(data):,} bytes is too large to read here: download it")
    code, text = await _run_document_worker(kind, data)
    if code == ENCRYPTED:
        raise ToolError(f"{what}: it needs a password: download it")
    if code:
        raise ToolError(f"{what}: its text cannot be read, the document is damaged or too large: download it")
    if not text.strip():
        raise ToolError(f"{what}: it has no text: download it")
    return f"{re.sub(_BLANK_LINES, chr(10) * 2, text).strip()}\n"


async def cut_quotations(texts: Sequence[str]) -> list[str]:
    """Return the texts of messages without what they quote of other messages.

    A long one is cut after MAX_REPLY_LENGTH characters. If quotations cannot be found, the texts are returned whole.
    """
    shortened = [
        text if len(text) <= MAX_REPLY_LENGTH else f"{text[:MAX_REPLY_LENGTH]}\n[the rest is left out]"
        for text in texts
    ]
    code, output = await _run_document_worker("replies", json.dumps(shortened).encode())
    try:
        replies = json.loads(output) if code == 0 else shortened
    except ValueError:  # longer than the worker may write
        replies = shortened
    return [str(reply).strip() or text for reply, text in zip(replies, shortened, strict=True)]


async def _run_document_worker(kind: str, data: bytes) -> tuple[int, str]:
    """Extract a document's text in a separate process that has no token. Returns its exit code and the text.

    The exit code is 0 on success. The process is killed after 1.5 times TIME_LIMIT; the exit code is then -1.
    """
    inherited = ("PATH", "SYSTEMROOT", "PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "mcpchat_servers.google.document_worker",
        kind,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in inherited if name in os.environ},
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(data), TIME_LIMIT * 1.5)
    except TimeoutError:
        return -1, ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace")
