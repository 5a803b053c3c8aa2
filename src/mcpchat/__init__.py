"""mcpchat: talk to your MCP servers from the terminal and from scripts."""

__version__ = "0.1.0"
