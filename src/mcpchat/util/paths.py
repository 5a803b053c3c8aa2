"""Paths as users write them, and the home folder."""

import os
from os import PathLike
from pathlib import Path


def expand_user(path: str | PathLike[str]) -> Path:
    """The path with ``~`` and ``~user`` replaced; unchanged if that user, or any home folder, does not exist."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError then


def ensure_home() -> None:
    """Set HOME to / for a user who has no home folder, as containers do, so that the platform's folders are defined."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"
