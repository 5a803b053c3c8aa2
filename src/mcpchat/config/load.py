"""The config file, read from the disk."""

from importlib.resources import files
from pathlib import Path

from mcpchat.config import schema
from mcpchat.config.schema import Config
from mcpchat.errors import ConfigError
from mcpchat.util import stdin
from mcpchat.util.private_files import writable_by_others


def starter_config() -> str:
    """The commented config file to start from."""
    return files("mcpchat").joinpath("data/starter.toml").read_text(encoding="utf-8")


def read_text(path: Path) -> str:
    """The file's text. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from error


def load_config(path: Path, *, must_exist: bool) -> Config:
    """Read the config file; a file that need not exist and does not is an empty one. Raises ConfigError."""
    if str(path) == "-":
        return schema.parse(stdin.read_text("--config -"), "standard input")
    if not path.exists():
        if must_exist:
            raise ConfigError(f"no such config file: {path}", hint="mcpchat config init writes one")
        return Config()
    try:
        exposure, hint = writable_by_others(path)
    except OSError:
        exposure, hint = "", ""  # reading it will say what is wrong
    if exposure:
        raise ConfigError(f"{path} is not read: {exposure}, and what stands in it is run", hint=hint)
    return schema.parse(read_text(path), str(path))
