"""Bytes as text that a model can read: characters decoded, HTML and PDF turned into text, long texts in pages."""

import asyncio
import codecs
import os
import re
import sys
from html import unescape
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.google.document_worker import ENCRYPTED, TIME_LIMIT

PAGE_LENGTH = 20_000  # characters that one call gives, unless it asks for fewer
MAX_PAGE_LENGTH = 100_000
MAX_HTML_LENGTH = 500_000  # characters; what follows is left out
MAX_PDF_BYTES = 50 * 2**20  # bytes
_TEXT_TYPES = re.compile(
    r"text/|application/(json|xml|javascript|x-yaml|yaml|toml|sql|x-sh|csv|rtf|x-ndjson)|[^;]*\+(json|xml)"
)
_ALLOWED_CODECS = re.compile(
    r"utf-(8|16|32)(-[bl]e)?(-sig)?|ascii|latin-?\d+|iso8859-\d+|cp\d{3,4}|koi8-[rtu]|mac-\w+|gb\w+|big5\w*|shift_jis\w*"
    r"|euc_\w+|iso2022_\w+|hz|tis-620|johab|ptcp154|kz1048|utf-7"
)
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Excerpt(BaseModel):
    """A piece of a text. ``next_offset`` is where to go on; it is missing at the end."""

    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None

    @property
    def footer(self) -> str:
        """What to say below the text: where it goes on."""
        if self.next_offset is None and self.offset == 0:
            return ""
        end = self.offset + len(self.text)
        continuation = (
            f"; go on with offset={self.next_offset}" if self.next_offset is not None else "; this is the end"
        )
        return f"\n\n[characters {self.offset}-{end} of {self.total}{continuation}]"


def take_excerpt(text: str, offset: int, limit: int) -> Excerpt:
    """The piece that begins at an offset, ended at a line's end where one is near. Raises ToolError beyond the end."""
    if offset > len(text) or (offset and offset == len(text)):
        raise ToolError(f"the text has {len(text)} characters: offset {offset} is beyond its end")
    end = min(offset + limit, len(text))
    if end < len(text):
        newline = text.rfind("\n", offset + limit * 3 // 4, end)
        end = newline + 1 if newline > 0 else end
    return Excerpt(text=text[offset:end], offset=offset, total=len(text), next_offset=end if end < len(text) else None)


class TextCache:
    """The last texts that were read, so that their next pieces need not be fetched and turned into text again."""

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


IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})  # what models can look at
_BINARY_TYPES = re.compile(
    r"(video|audio|font|image(?!/svg))/"
    r"|application/(zip|gzip|x-(tar|7z|rar|bzip|xz)|java-archive|msword|vnd\.(ms-|openxml|oasis))"
)


def is_binary(media_type: str) -> bool:
    """Whether a kind of file is never text, so that it need not be looked at."""
    return bool(_BINARY_TYPES.match(media_type.lower()))


def is_text(media_type: str) -> bool:
    return bool(_TEXT_TYPES.match(media_type.lower()))


def decode_text(data: bytes, charset: str = "") -> str | None:
    """The text of bytes, or None where they are none. What cannot be decoded is marked.

    ``charset`` is what the sender says, which is believed only where it is the name of one and the bytes are not UTF-8.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _normalize_newlines(data.decode(name, errors="replace"))
    declared = _find_codec(charset)
    is_wide, is_seven_bit = declared.startswith(("utf-16", "utf-32")), declared.startswith(("iso2022_", "hz", "utf-7"))
    if (is_wide and b"\0" in data) or (is_seven_bit and data.isascii()):  # their bytes pass for UTF-8, or hold NULs
        return _normalize_newlines(data.decode(declared, errors="replace"))
    if b"\0" in data:
        return None
    try:
        return _normalize_newlines(data.decode())
    except UnicodeDecodeError:
        return _normalize_newlines(data.decode(declared or "cp1252", errors="replace"))


def _find_codec(name: str) -> str:
    """Python's name for a charset; empty for what is none: some of Python's codecs are slow, or evaluate escapes."""
    try:
        codec = codecs.lookup(name[:40]).name
    except (LookupError, ValueError):
        return ""
    return codec if _ALLOWED_CODECS.fullmatch(codec) else ""


def _normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


async def html_to_text(html: str) -> str:
    """What a person would see of it, links with their addresses; nothing that is hidden from people."""
    code, visible = await _run_document_worker("html", html[:MAX_HTML_LENGTH].encode(errors="replace"))
    if code:
        text = strip_tags(html[:MAX_HTML_LENGTH])
        visible = f"[This HTML is too involved to tell what people see of it. All of its text:]\n{text}"
    omitted = (
        f"\n\n[{len(html) - MAX_HTML_LENGTH:,} more characters of HTML left out]" if len(html) > MAX_HTML_LENGTH else ""
    )
    return visible + omitted


def strip_tags(html: str) -> str:
    """All text between tags, what is hidden included."""
    first, *rest = html.split("<")
    parts = [first, *(part.partition(">")[2] for part in rest)]
    return "\n".join(line for line in map(str.strip, unescape(" ".join(parts)).splitlines()) if line)


async def pdf_to_text(data: bytes, what: str) -> str:
    """The text of a PDF. Raises ToolError where it has none that can be read."""
    if len(data) > MAX_PDF_BYTES:
        raise ToolError(f"{what}: a PDF of {len(data):,} bytes is too large to read here: download it")
    code, text = await _run_document_worker("pdf", data)
    if code == ENCRYPTED:
        raise ToolError(f"{what}: it wants a password: download it")
    if code:
        raise ToolError(f"{what}: its text cannot be read, the PDF is damaged or too large: download it")
    if not text.strip():
        raise ToolError(f"{what}: it holds no text, only pictures (a scan?): download it")
    return text


async def _run_document_worker(kind: str, data: bytes) -> tuple[int, str]:
    """The text of a document, read by a process of its own that has no token and is ended in time; with its exit code,
    zero where all went well."""
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
