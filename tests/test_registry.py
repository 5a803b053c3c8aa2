"""The config file, edited: what was written by hand stays as it was."""

from pathlib import Path

import pytest

from mcpchat.config import edit, schema
from mcpchat.errors import ConfigError, UsageError

HAND_MADE = """\
# my servers

[approvals]  # careful
default = "ask"

[servers.box]   # the box
command = "box"   # by hand

[agents.a]
servers = ["box"]
"""


def test_a_server_is_added_and_all_else_stays() -> None:
    text = edit.add_server(HAND_MADE, "far", {"url": "https://x.example/mcp", "headers": {"A": "env:T"}})
    for line in HAND_MADE.splitlines():
        assert line in text.splitlines()
    servers = schema.parse(text, "c").servers
    assert text.startswith(HAND_MADE)
    assert list(servers) == ["box", "far"]
    assert (servers["far"].url, servers["far"].headers) == ("https://x.example/mcp", {"A": "env:T"})


def test_the_first_server_of_a_file_does_not_drive_out_the_calculator() -> None:
    servers = schema.parse(edit.add_server("[limits]\nmax_steps = 3\n", "a", {"command": "b"}), "c").servers
    assert [(name, server.builtin) for name, server in servers.items()] == [("calculator", "calculator"), ("a", None)]


def test_switching_off_and_on_and_removing() -> None:
    off = edit.enable_server(HAND_MADE, "box", False)
    assert schema.parse(off, "c").servers["box"].enabled is False
    assert 'command = "box"   # by hand' in off
    assert schema.parse(edit.enable_server(off, "box", True), "c").servers["box"].enabled
    assert "box" not in edit.remove_server("[servers.box]\ncommand = 'x'\n", "box").replace("\n", "")


def test_removing_takes_the_table_and_its_parts_and_leaves_what_is_said_below() -> None:
    text = """\
[servers.keep]
command = "k"

[servers.box]   # the box
command = "b"
# about the arguments
args = [
  "[servers.fake]",
]

[servers.box.env]
A = "b"

# about the limits
[limits]
max_steps = 3
"""
    assert (
        edit.remove_server(text, "box")
        == """\
[servers.keep]
command = "k"


# about the limits
[limits]
max_steps = 3
"""
    )
    inline = 'servers.a = { command = "x" }\nservers.b = { command = "y" }\n'
    assert list(schema.parse(edit.remove_server(inline, "a"), "c").servers) == ["b"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda: edit.add_server(HAND_MADE, "box", {"command": "x"}), "there is a server named 'box' already"),
        (lambda: edit.remove_server(HAND_MADE, "bax"), "no server named 'bax'; did you mean box?"),
        (lambda: edit.enable_server(HAND_MADE, "zzz", True), "no server named 'zzz'; known: box"),
    ],
)
def test_what_cannot_be_done_is_told(edit: object, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        edit()  # type: ignore[operator]
    assert told in caught.value.message


def test_a_change_that_would_break_the_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HAND_MADE)
    with pytest.raises(ConfigError, match="no server is named 'box'"):
        edit.write(path, edit.remove_server(edit.add_server(HAND_MADE, "b", {"command": "x"}), "box"))
    assert path.read_text() == HAND_MADE
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text(HAND_MADE)
    real.chmod(0o640)
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    edit.write(link, edit.add_server(HAND_MADE, "b", {"command": "x"}))
    assert link.is_symlink()
    assert "[servers.b]" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640
