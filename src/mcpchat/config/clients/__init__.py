"""The config files of other MCP clients: where they are, the servers in them, and what an import of these would do.

They are only read. Imports the rest of ``config``, ``core`` and ``util``.
"""
