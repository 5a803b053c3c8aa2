"""Load the config file."""

from importlib.resources import files
from pathlib import Path

from mcpchat.config import schema
from mcpchat.config.schema import Config
from mcpchat.errors import ConfigError
from mcpchat.util import stdin
from mcpchat.util.private_files import writable_by_others
from mcpchat.util.text_files import read_text

_MAX_BYTES = 10_000_000


def starter_config() -> str:
    """The text of the starter config, a config file with comments."""
    return files("mcpchat").joinpath("data/starter.toml").read_text(encoding="utf-8")


def read_raw_config(path: Path) -> str:
    """The text of the config file, with its own line ends. Raises ConfigError if it cannot be read."""
    return read_text(path, max_bytes=_MAX_BYTES, error=ConfigError)


def read_config(path: Path) -> str:
    """The text of the config file, with line ends as ``\\n``. Raises ConfigError if it cannot be read."""
    return read_raw_config(path).replace("\r\n", "\n")


def load_config(path: Path, *, must_exist: bool) -> Config:
    """Load the config file, or standard input if the path is "-". A missing file gives the defaults.

    Raises ConfigError if the file is invalid, cannot be read, can be changed by other users, or is missing although it
    ``must_exist``.
    """
    if str(path) == "-":
        return schema.parse(stdin.read_text("--config -"), "standard input")
    if not path.exists():
        if must_exist:
            raise ConfigError(f"no such config file: {path}", hint="mcpchat config init writes one")
        return Config()
    require_own_config(path)
    return schema.parse(read_config(path), str(path))


def require_own_config(path: Path) -> None:
    """Raise ConfigError if other users can change the config file, or put one in its place; it may be missing."""
    try:
        exposure, hint = writable_by_others(path)
    except OSError as error:
        raise ConfigError(
            f"{path} is not read: its permissions cannot be checked ({error.strerror})",
            hint="check its folder and the folders above",
        ) from None
    if exposure:
        raise ConfigError(f"{path} is not used: {exposure}, and its content is executed", hint=hint)
