"""The MCP client: server processes, connections, and the hub that makes one toolbox of many servers.

May import config, engine, core, util and errors; never another package of its layer.
"""
