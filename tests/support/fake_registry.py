"""A registry of MCP servers over HTTP: the API v0.1, with documents in the form of the published schema."""

import http.server
import json
import threading
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http_server import HttpServer

_OFFICIAL = "io.modelcontextprotocol.registry/official"
STDIO = {"type": "stdio"}


def document(name: str, version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
    """A server.json with the schema's required fields."""
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": name,
        "description": f"The server {name}",
        "version": version,
        **fields,
    }


WEATHER = document(
    "io.github.example/weather-mcp-server",
    "2.1.0",
    title="Weather",
    description="Forecasts for any place",
    repository={"url": "https://github.com/example/weather", "source": "github"},
    packages=[
        {
            "registryType": "npm",
            "registryBaseUrl": "https://packages.npmjs.example",
            "identifier": "@example/weather",
            "version": "2.1.0",
            "runtimeHint": "npx",
            "transport": STDIO,
            "packageArguments": [
                {"type": "named", "name": "--units", "default": "metric", "choices": ["metric", "imperial"]},
                {"type": "named", "name": "--verbose", "format": "boolean"},
                {"type": "positional", "valueHint": "place", "description": "Where", "isRequired": True},
            ],
            "environmentVariables": [
                {"name": "WEATHER_API_KEY", "description": "Your key", "isRequired": True, "isSecret": True},
                {"name": "LOG_LEVEL", "default": "info"},
            ],
        },
        {
            "registryType": "pypi",
            "identifier": "weather-mcp",
            "version": "2.1.0",
            "transport": STDIO,
        },
        {
            "registryType": "oci",
            "identifier": "images.example/example/weather:2.1.0",
            "transport": STDIO,
            "runtimeArguments": [
                {
                    "type": "named",
                    "name": "--mount",
                    "value": "type=bind,src={source},dst=/data",
                    "variables": {"source": {"description": "A folder", "format": "filepath", "isRequired": True}},
                }
            ],
            "environmentVariables": [{"name": "WEATHER_API_KEY", "isRequired": True, "isSecret": True}],
        },
    ],
)
REMOTE = document(
    "com.example/notes",
    remotes=[
        {
            "type": "streamable-http",
            "url": "https://{tenant}.example.com/mcp",
            "variables": {"tenant": {"description": "Your company", "isRequired": True}},
            "headers": [
                {
                    "name": "Authorization",
                    "value": "Bearer {token}",
                    "variables": {"token": {"isRequired": True, "isSecret": True}},
                },
                {"name": "X-Region", "default": "eu"},
            ],
        }
    ],
)


class FakeRegistry:
    """The registry. ``url`` is its address; ``documents`` are its servers, ``statuses`` those that are not active."""

    def __init__(self) -> None:
        self.documents: list[Any] = [WEATHER, REMOTE]
        self.statuses: dict[str, str] = {}
        self.page = 100
        self.body: bytes | None = None  # in place of every answer
        self.status = 200
        self.redirect = ""  # the address that every request is sent to
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []

    def __enter__(self) -> "FakeRegistry":
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.paths.append(self.path)
                fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                if fake.redirect:
                    self.send_response(302)
                    self.send_header("Location", f"{fake.redirect}{self.path}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                status, value = fake._answer(self.path)
                body = fake.body if fake.body is not None else json.dumps(value).encode()
                self.send_response(fake.status if fake.status != 200 else status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = HttpServer(Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, Any]:
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        words = parts.path.split("/")
        if words[1:3] != ["v0.1", "servers"]:
            return 404, {"error": "not found"}
        if len(words) == 3:
            return 200, self._list(query.get("search", ""), query.get("cursor"))
        name, version = unquote(words[3]), unquote(words[5])
        for item in self.documents:
            if item.get("name") == name and version in ("latest", item["version"]):
                return 200, self._wrap(item)
        return 404, {"error": "Server not found"}

    def _list(self, text: str, cursor: str | None) -> dict[str, Any]:
        found = [item for item in self.documents if text in item.get("name", "").lower()]
        first = int(cursor or 0)
        page = found[first : first + self.page]
        metadata: dict[str, Any] = {"count": len(page)}
        if first + self.page < len(found):
            metadata["nextCursor"] = str(first + self.page)
        return {"servers": [self._wrap(item) for item in page], "metadata": metadata}

    def _wrap(self, item: dict[str, Any]) -> dict[str, Any]:
        status = self.statuses.get(item.get("name", ""), "active")
        official = {"status": status, "publishedAt": "2026-05-01T00:00:00Z", "isLatest": True}
        return {"server": item, "_meta": {_OFFICIAL: official}}
