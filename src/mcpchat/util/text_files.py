"""Read text files of a limited size."""

import codecs
from pathlib import Path

from mcpchat.errors import McpChatError

_CHUNK_SIZE = 1_000_000  # bytes


def read_text(path: Path, *, max_bytes: int, error: type[McpChatError], source: str = "", hint: str = "") -> str:
    """The text of a UTF-8 file, without a byte order mark, with its line ends unchanged.

    Raises ``error``, with ``hint``, if the file cannot be read, is larger than ``max_bytes`` or is not UTF-8.
    ``source`` is the option or config key that names the file; the message begins with it.
    """
    cause: Exception | None = None
    data = bytearray()
    try:
        with path.open("rb") as file:
            while len(data) <= max_bytes and (chunk := file.read(_CHUNK_SIZE)):
                data += chunk
        if len(data) <= max_bytes:
            return data.decode("utf-8-sig")
        reason = f"larger than {max_bytes:,} bytes"
    except UnicodeDecodeError as decode_error:
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        reason, cause = "UTF-16 text; save it as UTF-8" if is_utf16 else "not UTF-8 text", decode_error
    except OSError as os_error:
        reason, cause = os_error.strerror or str(os_error), os_error
    except ValueError as value_error:  # a path with a null byte
        reason, cause = str(value_error), value_error
    prefix = f"{source}: " if source else ""
    raise error(f"{prefix}cannot read {path}: {reason}", hint=hint) from cause
