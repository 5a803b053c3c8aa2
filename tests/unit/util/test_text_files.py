"""Text files: with and without a byte order mark, and in other encodings."""

import codecs
from pathlib import Path

import pytest

from mcpchat.errors import UsageError
from mcpchat.util.text_files import read_text


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(codecs.BOM_UTF8 + "grün\r\n".encode())
    assert read_text(file, max_bytes=100, error=UsageError) == "grün\r\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("x = 1".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (codecs.BOM_UTF16_BE + "x = 1".encode("utf-16-be"), "UTF-16 text; save it as UTF-8"),
        (b"gr\xfcn", "not UTF-8 text"),
        (b"x" * 101, "larger than 100 bytes"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=f"--schema: cannot read {file}: {reason}"):
        read_text(file, max_bytes=100, error=UsageError, source="--schema")
