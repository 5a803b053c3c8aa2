"""Runs the server: python -m mcpchat_servers.sheets."""

from mcpchat_servers.sheets import read_tools, write_tools  # noqa: F401 - imported to register the tools
from mcpchat_servers.sheets.server import server

server.main()
