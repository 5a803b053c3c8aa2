"""Files that the user names for output."""

import os
import pty
from pathlib import Path

import pytest

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
