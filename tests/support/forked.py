"""Runs a Python script in a fork of the fork server: forked.py SOCKET SCRIPT ARGUMENTS...

It passes on its streams, environment, folder and the exit code, and imports next to nothing (use python -I -S). It is for
programs that start Python scripts themselves; a test starts processes with tests/support/processes.py.
"""

import json
import os
import socket
import sys


def main() -> int:
    _, path, *arguments = sys.argv
    read_end, write_end = os.pipe()
    request = {
        "command": [sys.executable, *arguments],
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "new_session": False,
        "terminal": False,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(path)
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2, write_end])
        os.close(write_end)
        os.closerange(0, 3)  # so that whoever waits for their end sees it
        with os.fdopen(read_end) as status:
            return int(status.read().split()[-1])


sys.exit(main())
