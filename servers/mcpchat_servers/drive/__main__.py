"""The server: python -m mcpchat_servers.drive."""

from mcpchat_servers.drive import changing, reading  # noqa: F401 - which give the server its tools
from mcpchat_servers.drive.server import server

server.main()
