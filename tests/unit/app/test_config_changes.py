"""Changes of the config while a chat runs."""

from pathlib import Path

import pytest

from mcpchat.app.config_changes import ConfigFiles, describe_changes
from mcpchat.config.run import Paths
from mcpchat.config.schema import parse


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", "", ""),
        ('[servers.a]\ncommand = "a"', '[servers.b]\ncommand = "b"', "added b; removed a"),
        ('[servers.a]\ncommand = "a"', '[servers.a]\ncommand = "b"', "changed a"),
        ("", '[agents.x]\ndescription = "d"', "added agent x"),
        ("", '[approvals]\ndeny = ["calculator.*"]', "rules"),
        ("", '[chat]\nkeys = "vi"\n[limits]\nmax_steps = 3', "chat, limits"),
    ],
)
def test_what_differs_is_said_in_one_line(old: str, new: str, words: str) -> None:
    assert describe_changes(parse(old, "c"), parse(new, "c")) == words


def test_each_change_of_a_file_is_noticed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ConfigFiles(Paths(tmp_path / "c.toml", tmp_path, tmp_path / "state", tmp_path))
    assert not files.have_changed()
    for name in ("c.toml", ".mcp.json", ".mcpchat.toml"):
        (tmp_path / name).write_text("x")
        assert (files.have_changed(), files.have_changed()) == (True, False)
    (tmp_path / "c.toml").unlink()
    assert (files.have_changed(), files.have_changed()) == (True, False)
