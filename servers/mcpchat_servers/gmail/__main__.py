"""Runs the server: python -m mcpchat_servers.gmail."""

from mcpchat_servers.gmail import read_tools, send_tools, write_tools  # noqa: F401 - imported to register the tools
from mcpchat_servers.gmail.server import server

server.main()
