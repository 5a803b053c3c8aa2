"""Tests of attached files: the type is detected from the content."""

from pathlib import Path

import pytest

from mcpchat.app import attachments
from mcpchat.core.messages import File, Image, Text
from mcpchat.errors import UsageError

PNG = b"\x89PNG\r\n\x1a\n...."


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (PNG, Image(media_type="image/png", data=PNG)),
        (b"\xff\xd8\xff\xe0", Image(media_type="image/jpeg", data=b"\xff\xd8\xff\xe0")),
        (b"GIF89a..", Image(media_type="image/gif", data=b"GIF89a..")),
        (b"RIFF....WEBPVP8", Image(media_type="image/webp", data=b"RIFF....WEBPVP8")),
        (b"%PDF-1.7", File(media_type="application/pdf", data=b"%PDF-1.7", name="it.txt")),
    ],
)
def test_images_and_pdfs_are_detected_by_first_bytes(tmp_path: Path, content: bytes, part: Image | File) -> None:
    (tmp_path / "it.txt").write_bytes(content)
    assert attachments.read_attachment(str(tmp_path / "it.txt")) == (Text(text="\n\n[it.txt]\n"), part)


def test_a_text_file_has_its_name_and_no_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes("\ufeffhällo\n".encode())
    assert attachments.read_attachment(str(tmp_path / "a.png")) == (Text(text="\n\n[a.png]\nhällo\n"),)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\x00\x01\x02", "neither text"),
        (b"\xfe\xed", "neither text"),
        (b"", "it is empty"),
        (b"x" * (attachments.MAX_TEXT_BYTES + 1), "a text of more than 2,000,000 bytes"),
        (PNG + b"x" * attachments.MAX_BINARY_BYTES, "more than 20,000,000 bytes"),
        (None, "No such file"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, content: bytes | None, error: str) -> None:
    if content is not None:
        (tmp_path / "it").write_bytes(content)
    with pytest.raises(UsageError, match=error):
        attachments.read_attachment(str(tmp_path / "it"))


def test_a_folder_is_an_error_and_an_endless_file_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="directory"):
        attachments.read_attachment(str(tmp_path))
    with pytest.raises(UsageError, match="more than"):
        attachments.read_attachment("/dev/zero")
