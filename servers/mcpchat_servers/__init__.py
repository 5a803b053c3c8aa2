"""The MCP servers that come with mcpchat. Each runs alone: ``python -m mcpchat_servers.calculator``."""
