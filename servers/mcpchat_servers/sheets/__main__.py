"""Runs the server: python -m mcpchat_servers.sheets."""

from mcpchat_servers.sheets import (  # noqa: F401 - imported to register the tools
    cell_tools,
    read_tools,
    structure_tools,
    write_tools,
)
from mcpchat_servers.sheets.server import server

server.main()
