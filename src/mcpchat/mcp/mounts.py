"""The mounts of this machine: a bind mount shows a folder at a second place."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_POINT = 4  # the index of the mount point among the fields of a line


class Mount(NamedTuple):
    """A mounted file system, or a folder of one: ``root`` is its path in the file system, ``point`` where it is."""

    device: str
    root: Path
    point: Path


def read_mounts() -> list[Mount]:
    """The mounts of this process. Source: proc_pid_mountinfo(5)."""
    try:
        lines = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()
    except OSError:
        return []
    fields = [line.split(" ") for line in lines]
    return [Mount(field[2], _unescape(field[3]), _unescape(field[4])) for field in fields if len(field) > _POINT]


def _unescape(path: str) -> Path:
    return Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path))


def find_places(path: Path, mounts: Sequence[Mount]) -> list[Path]:
    """Every path at which the file or folder, or a part of it, is seen: bind mounts show it elsewhere too."""
    own = max(
        (mount for mount in mounts if path.is_relative_to(mount.point)),
        key=lambda mount: len(mount.point.parts),
        default=None,
    )
    if own is None:
        return [path]
    inner = own.root / path.relative_to(own.point)
    places = [path]
    for mount in mounts:
        if mount.device == own.device and inner.is_relative_to(mount.root):
            places.append(mount.point / inner.relative_to(mount.root))
        elif mount.device == own.device and mount.root.is_relative_to(inner):
            places.append(mount.point)
    return list(dict.fromkeys(places))
