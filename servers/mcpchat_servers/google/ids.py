"""File ids: bare, or in a link."""

import re
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_LINK = re.compile(r"https://(?:drive|docs)\.google\.com/\S*?(?:/d/|/folders/|[?&]id=)([A-Za-z0-9_-]{5,200})")
FileId = Annotated[
    str,
    Field(
        description="The file's id or link.",
        min_length=1,
        max_length=2000,
    ),
]


def parse_file_id(text: str) -> str:
    """Return the id in an id, a link or a gdrive URI. Raises ToolError if there is none."""
    value = text.strip().removeprefix("gdrive:///")
    if match := _LINK.match(value):
        return match[1]
    if not _ID.fullmatch(value):
        raise ToolError(f"{value[:80]!r} is not a file id: search for the file, or give its link")
    return value
