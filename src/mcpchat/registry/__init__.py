"""The MCP registry: finds servers in it, and turns what it says of one into settings for the config.

Imports ``config``, ``core`` and ``util``.
"""
