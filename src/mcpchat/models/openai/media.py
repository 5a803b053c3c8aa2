"""Images and files in requests: their type by content, and an identifier to recognize them."""

import hashlib

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})
_IMAGE_SIGNATURES = (
    (b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF87a", "image/gif"), (b"GIF89a", "image/gif"),
)  # fmt: skip


def image_type(data: bytes) -> str:
    """The media type of an image by its first bytes; "" if it is none that models accept."""
    for start, media_type in _IMAGE_SIGNATURES:
        if data.startswith(start):
            return media_type
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def digest_media(url: str) -> str:
    """A short identifier of a data URL."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]
