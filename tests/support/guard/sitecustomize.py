"""Loaded by every Python process of the tests: blocks connections beyond loopback."""

import socket
from typing import Any

_connect = socket.socket.connect


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(address[0]):
        raise AssertionError(f"a test tried to reach {address}")
    _connect(self, address)


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


socket.socket.connect = _guarded_connect  # type: ignore[method-assign]
