"""Which server it is, whatever it is named today: what it runs, or where it is."""

import hashlib
import json

from mcpchat.core.config import ServerConfig


def server_identity(name: str, server: ServerConfig, folder: str) -> str:
    """A digest of the server's name and of the program, folder and variables' names, or the address, behind it.

    What was agreed with one is nothing that another can use. ``folder`` counts for a program named relative to it.
    """
    relative = server.command is not None and "/" in server.command and not server.command.startswith(("/", "~"))
    said = [
        name,
        [server.command, *server.args],
        server.cwd or (folder if relative else ""),
        sorted({*server.env, *server.env_pass}),
        server.url,
        server.account,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
