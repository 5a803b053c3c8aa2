"""The server: python -m mcpchat_servers.gmail."""

from mcpchat_servers.gmail import read_tools, send_tools, write_tools  # noqa: F401 - which give the server its tools
from mcpchat_servers.gmail.server import server

server.main()
