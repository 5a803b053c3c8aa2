"""The config of a hostile server."""

import sys
from pathlib import Path

from tests.support.paths import HOSTILE

TIMEOUTS = "[timeouts]\nstart = 3\nidle = 2\ncall = 20\n"


def write_hostile_config(folder: Path, mode: str, marker: str, timeouts: str = TIMEOUTS) -> Path:
    """Write a config whose server "bad" misbehaves as ``mode`` says; ``marker`` is on its command line."""
    config = folder / "c.toml"
    server = f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "{mode}", "{marker}"]\n'
    config.write_text(server + timeouts)
    return config
