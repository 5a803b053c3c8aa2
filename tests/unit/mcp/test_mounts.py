"""Where a folder is seen: at its own path, and wherever it, a part of it or a folder around it is mounted."""

from pathlib import Path

import pytest

from mcpchat.mcp.mounts import Mount, find_places, read_mounts

MOUNTS = [
    Mount("8:1", Path("/"), Path("/")),
    Mount("8:2", Path("/"), Path("/home")),
    Mount("8:2", Path("/ann"), Path("/srv/ann")),
    Mount("8:2", Path("/ann/.config/mcpchat/threads"), Path("/opt/x")),
    Mount("8:1", Path("/usr"), Path("/opt/usr")),
    Mount("9:9", Path("/ann"), Path("/other")),
]


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("/home/ann/.config/mcpchat", ["/home/ann/.config/mcpchat", "/srv/ann/.config/mcpchat", "/opt/x"]),
        ("/home/bob", ["/home/bob"]),
        ("/usr/lib", ["/opt/usr/lib", "/usr/lib"]),
    ],
)
def test_bind_mounts_show_a_folder_at_other_places(path: str, places: list[str]) -> None:
    assert set(find_places(Path(path), MOUNTS)) == set(map(Path, places))


def test_a_path_on_no_known_mount_is_seen_at_itself() -> None:
    assert find_places(Path("/a"), []) == [Path("/a")]


def test_this_machine_has_a_root() -> None:
    assert any(mount.point == Path("/") for mount in read_mounts())
