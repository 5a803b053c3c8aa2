"""What the front and the warm process tell each other."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.mcp.kept_servers import keeper_folder
from mcpchat.warm import request

words = st.binary(max_size=20).map(lambda word: word.replace(b"\0", b""))


@given(st.lists(st.lists(words, max_size=5), min_size=1, max_size=5))
def test_what_is_packed_is_unpacked(lists: list[list[bytes]]) -> None:
    assert request.unpack(request.pack(lists)) == lists


@pytest.mark.parametrize("message", [b"", b"x", b"3\0a", b"-1", b"1"])
def test_a_damaged_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of int, or of ours
        request.unpack(message)


def test_the_socket_is_beside_those_of_kept_servers(tmp_path: Path) -> None:
    for environ in ({"XDG_RUNTIME_DIR": "/tmp"}, {"HOME": "/home/me"}, {"XDG_STATE_HOME": "/s", "HOME": "/home/me"}):
        state = Path(environ.get("XDG_STATE_HOME", f"{environ.get('HOME')}/.local/state")) / "mcpchat"
        assert request.find_folder(environ) == str(keeper_folder(environ, state))


def test_without_a_folder_or_with_a_long_path_there_is_no_socket() -> None:
    assert request.find_socket({}) == ""
    assert request.find_socket({"HOME": "relative"}) == ""
    assert request.find_socket({"HOME": "/" + "x" * 100}) == ""
    assert request.find_socket({"HOME": "/home/me"}).startswith("/home/me/.local/state/mcpchat/kept/warm-")


def test_another_interpreter_is_told_apart() -> None:
    plain = request.describe_interpreter({"LANG": "C.UTF-8", "HOME": "/a"})
    assert plain == request.describe_interpreter({"HOME": "/b", "LANG": "C.UTF-8", "TERM": "dumb"})
    assert plain != request.describe_interpreter({"LANG": "de_DE.UTF-8"})
    assert plain != request.describe_interpreter({"LANG": "C.UTF-8", "PYTHONOPTIMIZE": "2"})
