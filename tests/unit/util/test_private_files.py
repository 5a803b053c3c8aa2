"""Private folders: closed to others, and never made where others can change them."""

import os
import stat
from pathlib import Path

import pytest

from mcpchat.errors import StoreError
from mcpchat.util.private_files import ensure_private_directory

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_missing_folders_are_private(tmp_path: Path) -> None:
    ensure_private_directory(tmp_path / "a/b/c")
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_our_folders_that_others_can_write_to_are_closed(tmp_path: Path) -> None:
    inner = tmp_path / "share/mcpchat/pins/x"
    inner.mkdir(parents=True)
    for path in (inner, *inner.parents[:3]):
        path.chmod(0o777)
    with pytest.raises(StoreError, match=f"nothing is stored below .*: every user can write to {tmp_path / 'share'}"):
        ensure_private_directory(inner)
    (tmp_path / "share").chmod(0o755)
    ensure_private_directory(inner)
    assert [mode(path) for path in (inner, *inner.parents[:3])] == [0o700, 0o755, 0o755, 0o755]


@pytest.mark.parametrize(("others", "problem"), [(0o777, "every user can write to"), (0o770, "its group can write to")])
def test_nothing_is_made_in_a_folder_that_others_can_change(tmp_path: Path, others: int, problem: str) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    if others == 0o770:
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder to another group")
        os.chown(open_folder, -1, 12345)
    open_folder.chmod(others)
    (open_folder / "inner").mkdir(mode=0o700)
    for path in (open_folder / "mcpchat", open_folder / "inner/mcpchat"):
        with pytest.raises(StoreError, match=f"nothing is stored below .*: {problem} {open_folder}") as error_info:
            ensure_private_directory(path)
        assert error_info.value.hint.startswith("chmod ")
        assert not path.exists()
    open_folder.chmod(others | 0o1000)  # as /tmp: nobody can rename what another user made
    ensure_private_directory(open_folder / "mcpchat")


def test_nothing_is_made_through_a_link_into_such_a_folder(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to("open")
    with pytest.raises(StoreError, match="every user can write to"):
        ensure_private_directory(tmp_path / "link/mcpchat")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(StoreError, match="cannot create"):
        ensure_private_directory(tmp_path / "dangling/mcpchat")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
def test_nothing_is_made_in_a_folder_of_another_user(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to another user"):
        ensure_private_directory(theirs / "mcpchat")
    (tmp_path / "link").symlink_to("theirs")
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    with pytest.raises(StoreError, match="belongs to another user"):
        ensure_private_directory(tmp_path / "link/mcpchat")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
def test_a_folder_of_ours_below_one_of_another_user_is_not_used(tmp_path: Path) -> None:
    for name in ("theirs/mcpchat", "theirs/share/mcpchat/pins"):
        (tmp_path / name).mkdir(parents=True)
        ensure_private_directory(tmp_path / name)
    os.chown(tmp_path / "theirs", 12345, 12345)
    for name in ("theirs/mcpchat", "theirs/share/mcpchat/pins"):
        with pytest.raises(StoreError, match="belongs to another user"):
            ensure_private_directory(tmp_path / name)


def test_a_link_or_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(StoreError, match="is not a folder that you own"):
            ensure_private_directory(tmp_path / name)
    with pytest.raises(StoreError):
        ensure_private_directory(tmp_path / "file/mcpchat")
