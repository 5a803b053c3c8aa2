"""Bytes as text that a model can read: characters decoded, HTML and PDF turned into text, long texts in pages."""

import asyncio
import codecs
import os
import re
import sys
from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.google.pdf import ENCRYPTED, PDF_SECONDS

PAGE = 20_000  # characters that one call gives, unless it asks for fewer
LONGEST_PAGE = 100_000
MOST_HTML = 500_000  # characters; what follows is left out
MOST_PDF = 50 * 2**20  # bytes
_TEXTUAL = re.compile(
    r"text/|application/(json|xml|javascript|x-yaml|yaml|toml|sql|x-sh|csv|rtf|x-ndjson)|[^;]*\+(json|xml)"
)
_UNSEEN = re.compile(
    r"(?i)display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(\.0+)?(px|pt|em|rem|%)?\s*(;|!|$)"
)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Excerpt(BaseModel):
    """A piece of a text. ``next_offset`` is where to go on; it is missing at the end."""

    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None

    @property
    def ending(self) -> str:
        """What to say below the text: where it goes on."""
        if self.next_offset is None and self.offset == 0:
            return ""
        last = self.offset + len(self.text)
        more = f"; go on with offset={self.next_offset}" if self.next_offset is not None else "; this is the end"
        return f"\n\n[characters {self.offset}-{last} of {self.total}{more}]"


def excerpt(text: str, offset: int, limit: int) -> Excerpt:
    """The piece that begins at an offset, ended at a line's end where one is near. Raises ToolError beyond the end."""
    if offset > len(text) or (offset and offset == len(text)):
        raise ToolError(f"the text has {len(text)} characters: offset {offset} is beyond its end")
    end = min(offset + limit, len(text))
    if end < len(text):
        line = text.rfind("\n", offset + limit * 3 // 4, end)
        end = line + 1 if line > 0 else end
    return Excerpt(text=text[offset:end], offset=offset, total=len(text), next_offset=end if end < len(text) else None)


class KeptTexts:
    """The last texts that were read, so that their next pieces need not be fetched and turned into text again."""

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._texts: dict[tuple[str, ...], str] = {}

    def get(self, *key: str) -> str | None:
        return self._texts.get(key)

    def keep(self, text: str, *key: str) -> str:
        self._texts[key] = text
        while len(self._texts) > self._most:
            del self._texts[next(iter(self._texts))]
        return text


def is_textual(media_type: str) -> bool:
    return bool(_TEXTUAL.match(media_type.lower()))


def decoded(data: bytes, charset: str | None = None) -> str | None:
    """The text of bytes, or None where they are none. What cannot be decoded is marked."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _plain(data.decode(name, errors="replace"))
    if charset:
        try:
            return _plain(data.decode(charset, errors="replace"))
        except (LookupError, ValueError):
            pass
    if b"\0" in data:
        return None
    try:
        return _plain(data.decode())
    except UnicodeDecodeError:
        return _plain(data.decode("cp1252", errors="replace"))


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


async def html_text(html: str) -> str:
    """What a person would see of it, links with their addresses; nothing that is hidden from people."""
    shown = await asyncio.to_thread(_html_text, html[:MOST_HTML])
    left = f"\n\n[{len(html) - MOST_HTML:,} more characters of HTML left out]" if len(html) > MOST_HTML else ""
    return shown + left


def _html_text(html: str) -> str:
    from inscriptis.html_engine import Inscriptis  # only where there is HTML
    from inscriptis.model.config import ParserConfig
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring

    html = re.sub(r"^\s*<\?xml[^>]*\?>", "", html).replace("\0", "")
    if not html.strip():
        return ""
    try:
        tree: Any = document_fromstring(html, parser=HTMLParser(remove_comments=True, remove_pis=True))
    except (ParserError, ValueError):
        return re.sub(r"<[^>]*>", " ", html).strip()
    for element in list(tree.iter("script", "style", "noscript", "template")):
        element.drop_tree()
    for element in list(tree.iter()):
        hidden = "hidden" in element.attrib or _UNSEEN.search(element.attrib.get("style", ""))
        if hidden and element.getparent() is not None:
            element.drop_tree()
    try:
        text = str(Inscriptis(tree, ParserConfig(display_links=True, display_images=True)).get_text())
    except RecursionError:
        text = str(tree.text_content())
    lines = [line.rstrip().replace("\xa0", " ") for line in text.splitlines()]
    shown = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    if not shown and re.sub(r"<[^>]*>", "", html).strip():
        return "[HTML that shows no text to people, or is nested too deeply to be read]"
    return shown


async def pdf_text(data: bytes, what: str) -> str:
    """The text of a PDF, read by a process of its own that has no token and is ended in time. Raises ToolError."""
    if len(data) > MOST_PDF:
        raise ToolError(f"{what}: a PDF of {len(data):,} bytes is too large to read here: download it")
    kept = ("PATH", "SYSTEMROOT", "PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "mcpchat_servers.google.pdf",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in kept if name in os.environ},
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(data), PDF_SECONDS)
    except TimeoutError:
        raise ToolError(f"{what}: its text cannot be read in {PDF_SECONDS:.0f} s: download it") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == ENCRYPTED:
        raise ToolError(f"{what}: it wants a password: download it")
    if process.returncode:
        raise ToolError(f"{what}: its text cannot be read, the PDF is damaged or too large: download it")
    text = out.decode(errors="replace")
    if not text.strip():
        raise ToolError(f"{what}: it holds no text, only pictures (a scan?): download it")
    return text
