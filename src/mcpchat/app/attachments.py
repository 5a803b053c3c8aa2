"""Reads attached files: detects their type, limits their size, and converts them to message parts."""

from collections.abc import Sequence
from pathlib import Path

from mcpchat.core.messages import File, Image, Part, Text
from mcpchat.errors import UsageError
from mcpchat.util import stdin
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import strip_invisible

MAX_TEXT_BYTES = 2_000_000  # of a text file
MAX_BINARY_BYTES = 20_000_000  # of an image or PDF
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)


def read_attachment(name: str) -> tuple[Part, ...]:
    """Read a file, or standard input for "-", as parts of a message.

    The type is detected from the first bytes, never from the name. Raises UsageError if the file cannot be read, is
    empty or too large, or is neither UTF-8 text nor an image or PDF.
    """
    label, data = ("standard input", _read_stdin()) if name == "-" else (Path(name).name, _read_file(name))
    media_type = detect_media_type(data)
    if media_type == "application/pdf":
        return Text(text=f"\n\n[{label}]\n"), File(media_type=media_type, data=data, name=label)
    if media_type:
        return Text(text=f"\n\n[{label}]\n"), Image(media_type=media_type, data=data)
    if len(data) > MAX_TEXT_BYTES:
        raise UsageError(
            f"cannot attach {name}: it is a text of more than {MAX_TEXT_BYTES:,} bytes",
            hint="attach only the relevant part",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(
            f"cannot attach {name}: it is neither text (UTF-8) nor an image or PDF",
            hint="supported: PNG, JPEG, GIF, WebP, PDF and text",
        )
    return (Text(text=f"\n\n[{label}]\n{strip_invisible(text)}"),)


def read_attachments(names: Sequence[str]) -> tuple[Part, ...]:
    """Read several files as parts of a message. Raises UsageError as ``read_attachment`` does."""
    return tuple(part for name in names for part in read_attachment(name))


def detect_media_type(data: bytes) -> str:
    """Return the media type of an image or PDF; empty for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if data.startswith(magic)), "")


def _read_file(name: str) -> bytes:
    if not name:
        raise UsageError("cannot attach a file without a name", hint="--attach FILE")
    try:
        path = expand_user(name)
        if path.is_file() and path.stat().st_size > MAX_BINARY_BYTES:
            raise _too_large(name)
        with path.open("rb") as file:
            data = file.read(MAX_BINARY_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot attach {name}: {reason}") from error
    return _check_size(name, data)


def _read_stdin() -> bytes:
    return _check_size("-", stdin.read_bytes("cannot attach -", MAX_BINARY_BYTES))


def _check_size(name: str, data: bytes) -> bytes:
    if len(data) > MAX_BINARY_BYTES:
        raise _too_large(name)
    if not data:
        raise UsageError(f"cannot attach {name}: it is empty")
    return data


def _too_large(name: str) -> UsageError:
    return UsageError(
        f"cannot attach {name}: it has more than {MAX_BINARY_BYTES:,} bytes", hint="attach only the relevant part"
    )
