"""Runs the server: python -m mcpchat_servers.calendar."""

from mcpchat_servers.calendar import read_tools, write_tools  # noqa: F401 - imported to register the tools
from mcpchat_servers.calendar.server import server

server.main()
