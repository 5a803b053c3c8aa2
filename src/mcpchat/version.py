"""The version of mcpchat."""

__version__ = "0.1.0"
