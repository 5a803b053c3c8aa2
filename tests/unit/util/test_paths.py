"""Users without a home folder, and paths that name a user who does not exist."""

import os
import sys

import pytest

from mcpchat.config.run import default_paths
from mcpchat.errors import ConfigError
from mcpchat.util.paths import ensure_home, expand_user


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no passwd entries")
def test_a_user_without_an_entry_gets_the_root_as_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_no_entry(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", find_no_entry)
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(ConfigError, match="your user has no home folder"):
        default_paths({})
    monkeypatch.setenv("HOME", "")  # so that monkeypatch restores it
    monkeypatch.delenv("HOME")
    ensure_home()
    assert os.environ["HOME"] == "/"
    assert default_paths({}).config.parts[0] == "/"


def test_an_unknown_user_stays_in_the_path() -> None:
    assert str(expand_user("~nosuchuser/x")) == "~nosuchuser/x"
    assert expand_user("~/x").is_absolute()
