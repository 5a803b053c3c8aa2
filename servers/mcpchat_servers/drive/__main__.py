"""Runs the server: python -m mcpchat_servers.drive."""

from mcpchat_servers.drive import (  # noqa: F401 - imported to register the tools
    comment_tools,
    document_tools,
    read_tools,
    sharing_tools,
    write_tools,
)
from mcpchat_servers.drive.server import server

server.main()
