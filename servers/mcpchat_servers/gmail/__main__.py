"""Runs the server: python -m mcpchat_servers.gmail."""

from mcpchat_servers.gmail import (  # noqa: F401 - imported to register the tools
    read_tools,
    send_tools,
    settings_tools,
    write_tools,
)
from mcpchat_servers.gmail.server import server

server.main()
