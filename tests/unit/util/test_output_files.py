"""Files that the user names for output."""

import os
import pty
from pathlib import Path

import pytest

from mcpchat.batch.results_file import open_file_results
from mcpchat.errors import UsageError
from mcpchat.util.output_files import write_file


def test_a_file_is_private_and_what_a_link_leads_to_is_written_in_its_place(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    write_file(file, ["one", b"two"])
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("onetwo", 0o600)
    link.symlink_to(file)
    with file.open("rb") as reader:  # as a shell that has redirected its output to it
        write_file(link, ["three"])
        assert reader.read() == b"three"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such files for terminals")
def test_a_terminal_gets_safe_text_and_no_bytes() -> None:
    main, terminal = pty.openpty()
    try:
        write_file(Path(os.ttyname(terminal)), ["a\x1b[2Jb"])
        assert b"\x1b" not in os.read(main, 100)
        with pytest.raises(UsageError, match="the result is binary"):
            write_file(Path(os.ttyname(terminal)), [b"a\x1b[2Jb"])
    finally:
        os.close(main)
        os.close(terminal)


@pytest.mark.skipif(os.name != "posix", reason="there are no named pipes")
def test_a_named_pipe_needs_a_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="no program reads from it"):
        write_file(pipe, ["one"])
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, ["one", b"two"])
        assert os.read(reader, 100) == b"onetwo"
    finally:
        os.close(reader)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("place", ["link", "through/file", "theirs", "inner/link", "pipe"])
def test_no_other_user_decides_what_is_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "inner").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("mine/file")
    (tmp_path / "through").symlink_to("mine")
    (tmp_path / "inner/link").symlink_to("../link")  # ours, but it leads to theirs
    for name in ("link", "through", "theirs", "pipe"):
        os.chown(tmp_path / name, 12345, 12345, follow_symlinks=False)
    with pytest.raises(UsageError, match=r"is a (link|file) of another user"):
        write_file(tmp_path / place, ["new"])
    with (
        pytest.raises(UsageError, match=r"is a (link|file) of another user"),
        open_file_results(tmp_path / place, lambda line: None, ordered=True, resume=False, retry_failed=False),
    ):
        pass
    assert [(tmp_path / name).read_text() for name in ("mine/file", "theirs")] == ["mine", "theirs"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
def test_no_other_user_decides_where_a_batch_keeps_its_results(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out.part").symlink_to("mine")
    os.chown(tmp_path / "out.part", 12345, 12345, follow_symlinks=False)
    with (
        pytest.raises(UsageError, match=r"out\.part is a link of another user"),
        open_file_results(tmp_path / "out", lambda line: None, ordered=True, resume=True, retry_failed=False),
    ):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
