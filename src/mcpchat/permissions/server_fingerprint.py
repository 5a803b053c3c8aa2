"""Fingerprints of servers: a permission for one server must not apply to another that has the same name."""

import hashlib
import json

from mcpchat.config.schema import ServerConfig


def server_fingerprint(name: str, server: ServerConfig, directory: str) -> str:
    """Return the SHA-256 of the server's name and of its command, directory and variable names, or its URL.

    ``directory`` is the directory in which the command line is read, empty if that makes no difference. Permissions are
    saved under the fingerprint, so that another server cannot use them.
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
