"""Guesses the media type from a file name, with the same result on every machine for the types that matter here."""

import mimetypes

UNKNOWN_TYPE = "application/octet-stream"
_OFFICE = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
# Python's own table lacks these, and what each system adds to it differs.
_MEDIA_TYPES = {
    "md": "text/markdown",
    "markdown": "text/markdown",
    "rtf": "application/rtf",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
    "docx": f"{_OFFICE}wordprocessingml.document",
    "xlsx": f"{_OFFICE}spreadsheetml.sheet",
    "pptx": f"{_OFFICE}presentationml.presentation",
    "odt": f"{_ODF}text",
    "ods": f"{_ODF}spreadsheet",
    "odp": f"{_ODF}presentation",
    "epub": "application/epub+zip",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "webp": "image/webp",
}
OFFICE_KINDS = {_MEDIA_TYPES[kind]: kind for kind in ("docx", "xlsx", "pptx", "odt")}  # whose text can be read
_ENCODINGS = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def guess_media_type(name: str) -> str:
    """Return the media type for a file name's extension, or UNKNOWN_TYPE."""
    extension = name.rpartition(".")[2].lower()
    if extension in _MEDIA_TYPES:
        return _MEDIA_TYPES[extension]
    guessed, encoding = mimetypes.guess_type(name)
    if encoding:
        return _ENCODINGS.get(encoding, UNKNOWN_TYPE)
    return guessed or UNKNOWN_TYPE
