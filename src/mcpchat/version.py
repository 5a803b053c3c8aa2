"""The version of mcpchat."""

__version__ = "0.2.0"
