"""Images on terminals that can show them, and a line of text on others."""

import base64
import struct
from collections.abc import Mapping
from typing import Literal

from mcpchat.core.messages import Image

ImageProtocol = Literal["kitty", "iterm", ""]
_CELL_PIXELS = (8, 16)  # approximate width and height of a cell
_MAX_IMAGE_BYTES = 8_000_000  # larger images are only described
_MAX_HEADER_BYTES = 1_000_000  # part of a JPEG that is searched for its size
_CHUNK_LENGTH = 4096  # characters in one escape sequence
_ITERM_PROGRAMS = frozenset({"iTerm.app", "WezTerm", "mintty", "vscode"})


def detect_protocol(environ: Mapping[str, str]) -> ImageProtocol:
    """The image protocol of this terminal; empty if it is unknown or runs in a multiplexer."""
    if environ.get("TMUX") or environ.get("STY") or environ.get("TERM", "").startswith(("screen", "tmux")):
        return ""
    if environ.get("KITTY_WINDOW_ID") or "kitty" in environ.get("TERM", "") or environ.get("TERM_PROGRAM") == "ghostty":
        return "kitty"
    return "iterm" if environ.get("TERM_PROGRAM") in _ITERM_PROGRAMS else ""


def describe_image(image: Image) -> str:
    """The image's type and size: "image/png, 640 x 480, 12 kB"."""
    size = read_dimensions(image.data)
    pixels = f", {size[0]} x {size[1]}" if size else ""
    return f"{image.media_type}{pixels}, {max(1, len(image.data) // 1000):,} kB"


def render_image(image: Image, protocol: ImageProtocol, *, columns: int, rows: int) -> str:
    """The escape sequences that draw the image on at most ``columns`` by ``rows`` cells, and a newline.

    Empty if the image cannot be drawn.
    """
    size = read_dimensions(image.data)
    if not protocol or not size or len(image.data) > _MAX_IMAGE_BYTES:
        return ""
    if protocol == "kitty" and not image.data.startswith(b"\x89PNG"):
        return ""  # the only image format that kitty decodes itself
    width, height = (-(-pixels // cell) for pixels, cell in zip(size, _CELL_PIXELS, strict=True))
    scale = min(1.0, columns / width, rows / height)
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    data = base64.b64encode(image.data).decode()
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;width={width};height={height};preserveAspectRatio=1:{data}\x07\n"
    chunks = [data[offset : offset + _CHUNK_LENGTH] for offset in range(0, len(data), _CHUNK_LENGTH)]
    header = f"a=T,f=100,q=2,c={width},r={height},"
    return (
        "".join(
            f"\x1b_G{header if number == 0 else ''}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
            for number, chunk in enumerate(chunks)
        )
        + "\n"
    )


def read_dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF or JPEG; None if they are unknown."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _check_size(struct.unpack(">II", data[16:24]))
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _check_size(struct.unpack("<HH", data[6:10]))
        if data.startswith(b"\xff\xd8"):
            return _read_jpeg_size(data)
    except (struct.error, IndexError):
        pass
    return None


def _check_size(size: tuple[int, int]) -> tuple[int, int] | None:
    return size if all(0 < pixels < 100_000 for pixels in size) else None


def _read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while offset < min(len(data), _MAX_HEADER_BYTES):
        if data[offset] != 0xFF:
            return None
        marker, length = data[offset + 1], struct.unpack(">H", data[offset + 2 : offset + 4])[0]
        if marker in {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", data[offset + 5 : offset + 9])
            return _check_size((width, height))
        offset += 2 + max(2, length)
    return None
