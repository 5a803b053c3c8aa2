"""The MCP servers bundled with mcpchat. Each also runs on its own: ``python -m mcpchat_servers.calculator``."""
