"""Which line of a failed program's output is shown."""

import pytest

from mcpchat.mcp.telling_line import find_telling_line

NODE = """node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module '/srv/index.js'
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)
    at Module._load (node:internal/modules/cjs/loader:1051:27) {
  code: 'MODULE_NOT_FOUND',
  requireStack: []
}

Node.js v20.11.0"""
PYTHON = """Traceback (most recent call last):
  File "/srv/server.py", line 3, in <module>
    import requests
ModuleNotFoundError: No module named 'requests'"""
SYNTAX = """  File "/srv/server.py", line 3
    def f(:
          ^
SyntaxError: invalid syntax"""
NPM = """npm error code E404
npm error 404 Not Found - GET https://registry.example/@x%2fy - Not found
npm error 404
npm error 404  '@x/y@*' is not in this registry.
npm error 404
npm error 404 Note that you can also install from a tarball
npm error A complete log of this run can be found in: /home/a/.npm/_logs/x.log"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (NODE, "Error: Cannot find module '/srv/index.js'"),
        (PYTHON, "ModuleNotFoundError: No module named 'requests'"),
        (SYNTAX, "SyntaxError: invalid syntax"),
        (NPM, "npm error 404  '@x/y@*' is not in this registry."),
        (
            "Starting\nError: listen EADDRINUSE: address already in use\nbye",
            "Error: listen EADDRINUSE: address already in use",
        ),
        ("sh: 1: foo: not found\nsh: bar: command not found", "sh: bar: command not found"),
        ("one\n\n  two  \n", "two"),
        ("", ""),
    ],
)
def test_the_cause_is_found(output: str, line: str) -> None:
    assert find_telling_line(output.splitlines()) == line
