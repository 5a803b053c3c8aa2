"""Runs the server: python -m mcpchat_servers.drive."""

from mcpchat_servers.drive import read_tools, write_tools  # noqa: F401 - imported to register the tools
from mcpchat_servers.drive.server import server

server.main()
