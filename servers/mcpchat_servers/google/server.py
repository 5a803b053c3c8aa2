"""Base of the Google MCP servers: tool registration, results, error results for the model, command-line options."""

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args
from urllib.parse import urlsplit

from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, ContentBlock, InputRequiredResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from mcpchat_servers.google.api import GoogleApi, ProgressCallback, check_base_url
from mcpchat_servers.google.credentials import TokenExpired, TokenSource, find_token_source
from mcpchat_servers.google.folders import AllowedFolders
from mcpchat_servers.google.text_extraction import MAX_PAGE_LENGTH, TextCache

BASE_URL_VARIABLE = "GOOGLE_API_URL"
HOUR_MS = 3_600_000  # milliseconds
DAY_MS = 24 * HOUR_MS
_LENGTH_LIMITS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "pattern"})
_DEFERRED_META: dict[str, Any] = {"mcpchat/deferLoading": True}  # on a tool that is seldom used
_TOKEN_EXPIRED_META: dict[str, Any] = {"mcpchat/auth": "expired"}
_logger = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Session:
    """State that the tools of a running server share."""

    api: GoogleApi
    folders: AllowedFolders
    text_cache: TextCache
    other_apis: Mapping[str, GoogleApi] = field(default_factory=dict)  # by name: see GoogleServer
    cache: dict[str, Any] = field(default_factory=dict)  # responses to reuse, such as the account's address


@dataclass(frozen=True)
class OtherApi:
    """A further API that a server uses: its base URL, and the scopes that it needs beside those of the server."""

    base_url: str
    optional_scopes: tuple[str, ...] = ()


Ctx = Context[Session, Any]

Cursor = Annotated[
    str | None,
    Field(description="next_cursor of the last page.", max_length=4096),
]
Offset = Annotated[int, Field(description="next_offset of the previous piece.", ge=0)]
Limit = Annotated[int, Field(description="Characters.", ge=100, le=MAX_PAGE_LENGTH)]


class _RawStringArguments(FuncMetadata):
    """Tool arguments. The SDK parses strings as JSON; this keeps them if the parameter accepts a string.

    Such a string may be the content of a JSON file.
    """

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        fields = self.arg_model.model_fields
        annotations = {name: (field.annotation, *get_args(field.annotation)) for name, field in fields.items()}
        strings = {
            name: value for name, value in data.items() if isinstance(value, str) and str in annotations.get(name, ())
        }
        return super().pre_parse_json({name: value for name, value in data.items() if name not in strings}) | strings


class GoogleServer(MCPServer[Session]):
    """MCP server for one Google API.

    ``service`` is the API's name in Google's console, by default that of the server. ``scopes`` are the narrowest
    OAuth scopes for the tools, ``read_only_scopes`` those for the read tools. ``other_apis`` are further APIs by the
    name by which a session has them.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str,
        instructions: str,
        base_url: str,
        service: str = "",
        scopes: Sequence[str],
        read_only_scopes: Sequence[str],
        accepts_folders: bool,
        other_apis: Mapping[str, OtherApi] | None = None,
    ) -> None:
        # Otherwise the SDK sets up a log handler that draws boxes of 80 columns.
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        super().__init__(
            name,
            title=title,
            version="1.0.0",
            instructions=instructions,
            log_level="WARNING",
            lifespan=self._open_session,
            cache_hints={
                "tools/list": CacheHint(ttl_ms=DAY_MS, scope="public"),
                "resources/list": CacheHint(ttl_ms=HOUR_MS, scope="private"),
                "resources/templates/list": CacheHint(ttl_ms=DAY_MS, scope="public"),
            },
        )
        self.scopes = tuple(scopes)
        self.read_only_scopes = tuple(read_only_scopes)
        self.accepts_folders = accepts_folders
        self._base_url = base_url
        self._service = service or f"{name}.googleapis.com"
        self._has_own_url = False  # whether the environment sets the base URL of every API
        self._other_apis = other_apis or {}
        self._folders = AllowedFolders(())
        self._token_source: TokenSource = find_token_source({}, ())
        self._write_tools: list[str] = []
        self._save_tools: list[str] = []
        self.current_session: Session | None = None

    # Tools.

    def read_tool(self, title: str, *, deferred: bool = False) -> Callable[[_Function], _Function]:
        """Register a tool that changes nothing at Google. A ``deferred`` one is sent only to a model that asks."""
        hints = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True)
        return self._register_tool(title, hints, deferred=deferred)

    def write_tool(
        self, title: str, *, destructive: bool = False, idempotent: bool = False, deferred: bool = False
    ) -> Callable[[_Function], _Function]:
        """Register a tool that changes something. --read-only removes it."""
        hints = ToolAnnotations(
            read_only_hint=False, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=True
        )
        return self._register_tool(title, hints, registry=self._write_tools, deferred=deferred)

    def save_tool(self, title: str, *, deferred: bool = False) -> Callable[[_Function], _Function]:
        """Register a tool that changes nothing at Google but creates a local file in an allowed folder."""
        hints = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)
        return self._register_tool(title, hints, registry=self._save_tools, deferred=deferred)

    def _register_tool(
        self, title: str, hints: ToolAnnotations, *, deferred: bool, registry: list[str] | None = None
    ) -> Callable[[_Function], _Function]:
        def register(function: _Function) -> _Function:
            name = function.__name__
            hints.open_world_hint = True
            self.add_tool(
                function,
                title=title,
                description=_collapse_whitespace(function.__doc__),
                annotations=hints,
                meta=_DEFERRED_META if deferred else None,
            )
            tool = self._tool_manager.get_tool(name)
            assert tool is not None
            tool.fn_metadata = _RawStringArguments(**dict(tool.fn_metadata))
            if registry is not None:
                registry.append(name)
            return function

        return register

    async def list_tools(self) -> list[Tool]:
        """Return the tools, with input schemas that reject unknown arguments and contain what a model can use."""
        tools = await super().list_tools()
        for tool in tools:
            simplified = _simplify_schema(tool.input_schema)
            properties = {name: _remove_limits(schema) for name, schema in simplified.get("properties", {}).items()}
            tool.input_schema = {**simplified, "properties": properties, "additionalProperties": False}
            tool.output_schema = _simplify_schema(tool.output_schema) if tool.output_schema else None
        return tools

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Session, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool as the SDK does, but return errors as results that a model can act on.

        If the token has expired, the result's ``_meta`` says so; mcpchat then signs in again.
        """
        tool = self._tool_manager.get_tool(name)
        properties = tool.parameters.get("properties", {}) if tool is not None else {}
        if tool is not None and (unknown := sorted(set(arguments) - set(properties))):
            return build_error_result(
                f"{name} takes no argument {unknown[0]!r}; it takes {', '.join(properties) or 'none'}"
            )
        required = tool.parameters.get("required", ()) if tool is not None else ()
        # Some clients send null for omitted arguments.
        supplied = {key: value for key, value in arguments.items() if value is not None or key in required}
        try:
            return await super().call_tool(name, supplied, context)
        except UnexpectedToolError:
            _logger.exception("%s", name)
            return build_error_result(f"{name} failed with an internal error of this server: see its log")
        except ToolError as error:
            match error.__cause__:
                case TokenExpired() as expired:
                    return build_error_result(f"{expired}: sign in again, or set a new token", meta=_TOKEN_EXPIRED_META)
                case ValidationError() as invalid:
                    return build_error_result(_describe_invalid_arguments(name, invalid))
                case ToolError() as cause:
                    return build_error_result(str(cause))
            raise

    # The process.

    @asynccontextmanager
    async def _open_session(self, server: "MCPServer[Session]") -> AsyncIterator[Session]:
        api = self._build_api(self._base_url, self._service)
        others = {
            name: self._build_api(
                self._base_url if self._has_own_url else other.base_url,
                urlsplit(other.base_url).hostname or "",
                other.optional_scopes,
            )
            for name, other in self._other_apis.items()
        }
        self.current_session = Session(api=api, folders=self._folders, text_cache=TextCache(), other_apis=others)
        try:
            yield self.current_session
        finally:
            for opened in (api, *others.values()):
                await opened.close()

    def _build_api(self, base_url: str, service: str, optional_scopes: Sequence[str] = ()) -> GoogleApi:
        return GoogleApi(
            token_source=self._token_source,
            base_url=base_url,
            service=service,
            scopes=self.scopes,
            optional_scopes=optional_scopes,
        )

    def main(self) -> None:
        """Serve on stdin and stdout until stdin closes. Exits with code 2 if the options are wrong."""
        self.configure(sys.argv[1:], os.environ)
        self.run()
        # Skip the interpreter's teardown: it takes 0.3 seconds, and the client that closed stdin may be waiting.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def configure(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        """Apply the command-line options and the environment. Exits with code 2 if they are wrong."""
        parser = argparse.ArgumentParser(
            prog=f"python -m mcpchat_servers.{self.name}",
            description=f"{self.title} as an MCP server on stdin and stdout.",
            epilog="Environment: GOOGLE_ACCESS_TOKEN, or GOOGLE_APPLICATION_CREDENTIALS (a file); "
            f"{BASE_URL_VARIABLE} (default: "
            f"{self._base_url}). Scopes: {' '.join(self.scopes)}; with --read-only: {' '.join(self.read_only_scopes)}.",
        )
        parser.add_argument("--read-only", action="store_true", help="offer only the tools that change nothing")
        if self.accepts_folders:
            parser.add_argument(
                "--folder",
                action="append",
                default=[],
                metavar="PATH",
                help="a folder to save files in and send files from; repeatable",
            )
        options = parser.parse_args(arguments)
        if options.read_only:
            self.scopes = self.read_only_scopes
            for name in self._write_tools:
                self.remove_tool(name)
        try:
            self._has_own_url = bool(environ.get(BASE_URL_VARIABLE))
            self._base_url = check_base_url(environ.get(BASE_URL_VARIABLE) or self._base_url)
        except ValueError as error:
            parser.error(f"{BASE_URL_VARIABLE}: {error}")
        folders = options.folder if self.accepts_folders else []
        self._folders = AllowedFolders([Path(path).expanduser().resolve() for path in folders])
        if options.read_only and not folders:
            for name in self._save_tools:
                self.remove_tool(name)
        self._token_source = find_token_source(environ, self.scopes)


def build_result(value: BaseModel, text: str | None = None, *blocks: ContentBlock) -> CallToolResult:
    """Build a result: the value as structured content, and ``text`` (default: the value's JSON) as text content."""
    content_text = text if text is not None else value.model_dump_json(exclude_none=True)
    return CallToolResult(
        content=[TextContent(type="text", text=content_text), *blocks],
        structured_content=value.model_dump(mode="json", exclude_none=True),
    )


def build_error_result(text: str, *, meta: dict[str, Any] | None = None) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta=meta)


def get_session(ctx: Ctx) -> Session:
    return ctx.request_context.lifespan_context


def progress_reporter(ctx: Ctx, message: str) -> ProgressCallback:
    """Return a callback that reports transfer progress: at the start, then every 1 % (1 MiB if no total is known)."""
    reported = float("-inf")

    async def progress(done: float, total: float | None) -> None:
        nonlocal reported
        step = (total or 0) / 100 or 2**20
        if done - reported >= step or done == total:
            reported = done
            await ctx.report_progress(done, total, message)

    return progress


def _collapse_whitespace(text: str | None) -> str:
    return " ".join((text or "").split())


def _simplify_schema(schema: Any) -> Any:
    """Return the schema without titles (they repeat property names), and without "or null" if null is the default."""
    if isinstance(schema, list):
        return [_simplify_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    simplified = {
        key: {name: _simplify_schema(subschema) for name, subschema in value.items()}
        if key in {"properties", "$defs"}
        else _simplify_schema(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    choices = simplified.get("anyOf")
    if isinstance(choices, list) and simplified.get("default", 0) is None and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        if len(rest) == 1:
            del simplified["anyOf"], simplified["default"]
            simplified = {**rest[0], **simplified}
    return simplified


def _remove_limits(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an argument's schema without limits of lengths and what is the default anyway: a call is checked here."""
    kept = {key: value for key, value in schema.items() if key not in _LENGTH_LIMITS}
    if kept.get("default") is False or kept.get("default") == "":
        del kept["default"]
    if isinstance(kept.get("items"), dict):
        kept["items"] = _remove_limits(kept["items"])
    return kept


def _describe_invalid_arguments(name: str, error: ValidationError) -> str:
    """Format pydantic's errors without its documentation URLs and without the passed values."""
    problems = [
        f"{'.'.join(str(step) for step in problem['loc'])}: {_describe_problem(problem)}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return f"invalid arguments for {name}: {'; '.join(problems[:10])}"


def _describe_problem(problem: Mapping[str, Any]) -> str:
    """Return pydantic's words, but not a regular expression."""
    if problem["type"] != "string_pattern_mismatch":
        return str(problem["msg"])
    pattern = str(problem.get("ctx", {}).get("pattern", ""))
    return "expected an address such as ada@example.com" if "+@[" in pattern else "no such value is possible here"
