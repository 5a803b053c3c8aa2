"""A process that has imported everything and forks for each start, so that a program starts in milliseconds (Linux).

What it starts is a real process: with an id, a session, streams, signals and an exit code of its own. Only its imports
are not its own. A test of start-up, of lazy imports or of memory therefore starts the installed command instead.

It listens on the socket whose path is its argument, and ends with its stdin. A request is a JSON object and four file
descriptors: stdin, stdout, stderr, and a pipe that receives the process id and later the exit code, a line each.
"""

import contextlib
import fcntl
import functools
import json
import os
import runpy
import selectors
import socket
import sys
import termios
import threading
import traceback
from typing import Any, NoReturn

from mcpchat.warm import fork
from tests.support.paths import MCPCHAT, ROOT

MAX_REQUEST = 1 << 20  # bytes
MEASURED_VARIABLE = "TESTS_MEASURE_COVERAGE"
LIBRARIES = (*fork.LIBRARIES, "mcp.server", "uvicorn")


def serve(listener: socket.socket) -> None:
    """Fork for each request until stdin ends. Each event's data is the function that handles it."""
    selector = selectors.DefaultSelector()

    def accept(key: selectors.SelectorKey) -> None:
        selector.register(listener.accept()[0], selectors.EVENT_READ, start)

    def start(key: selectors.SelectorKey) -> None:
        client: Any = key.fileobj
        data, files, _flags, _address = socket.recv_fds(client, MAX_REQUEST, 4)
        if not data:
            selector.unregister(client)
            client.close()
            return
        *streams, status_pipe = files
        pid = os.fork()
        if pid == 0:
            become(json.loads(data), streams)
        for file in streams:
            os.close(file)
        _report(status_pipe, pid)
        selector.register(os.pidfd_open(pid), selectors.EVENT_READ, functools.partial(finish, pid, status_pipe))

    def finish(pid: int, status_pipe: int, key: selectors.SelectorKey) -> None:
        _, status = os.waitpid(pid, 0)
        selector.unregister(key.fileobj)
        os.close(key.fd)
        _report(status_pipe, os.waitstatus_to_exitcode(status))
        os.close(status_pipe)

    selector.register(listener, selectors.EVENT_READ, accept)
    selector.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                return
            key.data(key)


def _report(status_pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test has ended
        os.write(status_pipe, b"%d\n" % number)


def become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Turn this process into the requested one. Never returns."""
    code = 1
    coverage = None
    try:
        if request["new_session"]:
            os.setsid()
        fork.take_files(streams, range(3))
        if request["terminal"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.chdir(request["cwd"])
        fork.take_environment({os.fsencode(name): os.fsencode(value) for name, value in request["env"].items()})
        fork.reset_signals()
        fork.open_streams()
        if os.environ.get(MEASURED_VARIABLE):
            coverage = start_coverage()
        code = _run(request["command"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what an interpreter does at its end
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if coverage is not None:
            coverage.stop()
            coverage.save()
        os._exit(code)


def start_coverage() -> Any:
    """Start to measure the coverage of this process; also ``os._exit`` saves it. Returns the running measurement."""
    from coverage import Coverage

    coverage = Coverage(data_file=ROOT / ".coverage", data_suffix=True, config_file=ROOT / "pyproject.toml")
    coverage.set_option("run:patch", ["_exit"])
    coverage.set_option("run:disable_warnings", ["module-not-measured", "module-not-imported", "no-data-collected"])
    coverage.start()
    return coverage


def _run(command: list[str]) -> int:
    program, *arguments = command
    if program == MCPCHAT:
        sys.argv = command
        from mcpchat.__main__ import main

        main()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    sys.argv = arguments
    sys.path[0] = os.path.dirname(arguments[0])
    runpy.run_path(arguments[0], run_name="__main__")
    return 0


def main() -> None:
    fork.import_all(LIBRARIES)
    assert threading.active_count() == 1, "a fork copies only one thread"
    fork.freeze_objects()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(sys.argv[1])
    listener.listen(100)
    print("ready", flush=True)
    serve(listener)


if __name__ == "__main__":
    main()
