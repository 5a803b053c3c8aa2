"""Pictures on terminals that show them, and a line about them on all others."""

import base64
import struct
from collections.abc import Mapping
from typing import Literal

from mcpchat.core.messages import Image

Protocol = Literal["kitty", "iterm", ""]
_CELL = (8, 16)  # pixels of a cell, about
_MOST = 8_000_000  # bytes of a picture that is shown
_HEAD = 1_000_000  # bytes in which a JPEG has to say how large it is
_CHUNK = 4096  # characters of one escape
_ITERM = frozenset({"iTerm.app", "WezTerm", "mintty", "vscode"})


def protocol(environ: Mapping[str, str]) -> Protocol:
    """How this terminal is given a picture; nothing where none of the usual signs says so, and within a multiplexer."""
    if environ.get("TMUX") or environ.get("STY") or environ.get("TERM", "").startswith(("screen", "tmux")):
        return ""
    if environ.get("KITTY_WINDOW_ID") or "kitty" in environ.get("TERM", "") or environ.get("TERM_PROGRAM") == "ghostty":
        return "kitty"
    return "iterm" if environ.get("TERM_PROGRAM") in _ITERM else ""


def described(image: Image) -> str:
    """What it is: "image/png, 640 x 480, 12 kB"."""
    size = dimensions(image.data)
    pixels = f", {size[0]} x {size[1]}" if size else ""
    return f"{image.media_type}{pixels}, {max(1, len(image.data) // 1000):,} kB"


def shown(image: Image, by: Protocol, *, columns: int, rows: int) -> str:
    """The escapes that draw it on at most so many cells, ending on the line below; empty where that cannot be."""
    size = dimensions(image.data)
    if not by or not size or len(image.data) > _MOST:
        return ""
    if by == "kitty" and not image.data.startswith(b"\x89PNG"):
        return ""  # the one format that it decodes itself
    wide, high = (-(-pixels // cell) for pixels, cell in zip(size, _CELL, strict=True))
    scale = min(1.0, columns / wide, rows / high)
    wide, high = max(1, int(wide * scale)), max(1, int(high * scale))
    data = base64.b64encode(image.data).decode()
    if by == "iterm":
        return f"\x1b]1337;File=inline=1;width={wide};height={high};preserveAspectRatio=1:{data}\x07\n"
    pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    first = f"a=T,f=100,q=2,c={wide},r={high},"
    return (
        "".join(
            f"\x1b_G{first if number == 0 else ''}m={int(number < len(pieces) - 1)};{piece}\x1b\\"
            for number, piece in enumerate(pieces)
        )
        + "\n"
    )


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF or JPEG; None where they cannot be told."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _sane(struct.unpack(">II", data[16:24]))
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _sane(struct.unpack("<HH", data[6:10]))
        if data.startswith(b"\xff\xd8"):
            return _of_jpeg(data)
    except (struct.error, IndexError):
        pass
    return None


def _sane(size: tuple[int, int]) -> tuple[int, int] | None:
    return size if all(0 < pixels < 100_000 for pixels in size) else None


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at < min(len(data), _HEAD):
        if data[at] != 0xFF:
            return None
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker in {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return _sane((width, height))
        at += 2 + max(2, length)
    return None
