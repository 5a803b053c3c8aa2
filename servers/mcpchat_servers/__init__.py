"""The MCP servers that come with mcpchat. Each runs alone: ``python -m mcpchat_servers.calculator``."""

import gc

# What an SDK makes at its import stays: looking through it again and again for garbage is a fifth of a server's start.
gc.set_threshold(100_000, 50, 50)
