"""Which server it is, whatever it is named today: what it runs, or where it is."""

import hashlib
import json

from mcpchat.config.schema import ServerConfig


def server_fingerprint(name: str, server: ServerConfig, directory: str) -> str:
    """A digest of the server's name and of the program, folder and variables' names, or the address, behind it.

    What was agreed with one is nothing that another can use. ``folder`` is the one that its command line is read in,
    empty where that makes no difference.
    """
    parts = [
        name,
        [server.command, *server.args],
        directory,
        sorted({*server.env, *server.env_pass}),
        server.env.get("PATH"),
        server.url,
        server.builtin,
        server.account,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
