"""Loaded by every Python process of the tests: blocks connections beyond loopback, and limits coverage to our code."""

import importlib.abc
import importlib.machinery
import os
import socket
import sys
from typing import Any

_connect = socket.socket.connect


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(address[0]):
        raise AssertionError(f"a test tried to reach {address}")
    _connect(self, address)


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


socket.socket.connect = _guarded_connect  # type: ignore[method-assign]


class _UntracedFinder(importlib.abc.MetaPathFinder):
    """Imports large third-party packages without coverage, which would double the time of their import."""

    names = frozenset({"mcp", "openai", "prompt_toolkit", "rich", "typer", "keyring", "google_auth_oauthlib", "httpx2"})

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            exec_module = spec.loader.exec_module

            def exec_untraced(module: Any) -> None:
                tracer = sys.gettrace()
                sys.settrace(None)
                try:
                    exec_module(module)
                finally:
                    sys.settrace(tracer)

            spec.loader.exec_module = exec_untraced  # type: ignore[method-assign]
        return spec


if os.environ.get("COVERAGE_PROCESS_CONFIG"):
    sys.meta_path.insert(0, _UntracedFinder())
