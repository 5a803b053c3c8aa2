"""The HTTP server that the doubles in the test's process use."""

import http.server
import sys
from typing import Any


class HttpServer(http.server.ThreadingHTTPServer):
    """Serves each connection in a thread, on a free port of loopback.

    A client that closes the connection is no error: its traceback would be written to the stderr that a test looks at.
    """

    daemon_threads = True
    request_queue_size = 200

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
