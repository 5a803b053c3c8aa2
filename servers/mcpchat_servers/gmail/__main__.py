"""The server: python -m mcpchat_servers.gmail."""

from mcpchat_servers.gmail import changing, reading, writing  # noqa: F401 - which give the server its tools
from mcpchat_servers.gmail.server import server

server.main()
