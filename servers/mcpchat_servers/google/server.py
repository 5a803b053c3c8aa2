"""An MCP server over one of Google's APIs: its tools, their answers, how errors reach the model, its options."""

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, ContentBlock, InputRequiredResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from mcpchat_servers.google.api import GoogleApi, ProgressCallback, check_base_url
from mcpchat_servers.google.credentials import TokenExpired, TokenSource, find_token_source
from mcpchat_servers.google.folders import AllowedFolders
from mcpchat_servers.google.text_extraction import MAX_PAGE_LENGTH, PAGE_LENGTH, TextCache

BASE_URL_VARIABLE = "GOOGLE_API_URL"
HOUR_MS = 3_600_000  # milliseconds
DAY_MS = 24 * HOUR_MS
_TOKEN_EXPIRED_META: dict[str, Any] = {"mcpchat/auth": "expired"}
_logger = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Session:
    """What the tools of one running server use."""

    api: GoogleApi
    folders: AllowedFolders
    text_cache: TextCache
    cache: dict[str, Any] = field(default_factory=dict)  # what need not be asked twice, such as the account's address


Ctx = Context[Session, Any]

Cursor = Annotated[
    str | None,
    Field(description="next_cursor of the page before, with the other arguments as they were.", max_length=4096),
]
Offset = Annotated[int, Field(description="The character to begin at: next_offset of the piece before.", ge=0)]
Limit = Annotated[
    int, Field(description="Characters to give at most.", ge=100, le=MAX_PAGE_LENGTH, examples=[PAGE_LENGTH])
]


class _RawStringArguments(FuncMetadata):
    """Arguments of a tool, with strings left as they are where strings are wanted: a JSON file's content is one."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        fields = self.arg_model.model_fields
        annotations = {name: (field.annotation, *get_args(field.annotation)) for name, field in fields.items()}
        strings = {
            name: value for name, value in data.items() if isinstance(value, str) and str in annotations.get(name, ())
        }
        return super().pre_parse_json({name: value for name, value in data.items() if name not in strings}) | strings


class GoogleServer(MCPServer[Session]):
    """``scopes`` and ``reading_scopes`` are the narrowest that serve all tools, and those that only read."""

    def __init__(
        self,
        name: str,
        *,
        title: str,
        instructions: str,
        base_url: str,
        scopes: Sequence[str],
        read_only_scopes: Sequence[str],
        accepts_folders: bool,
    ) -> None:
        # The SDK would set up boxes of 80 columns otherwise.
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
        self._folders = AllowedFolders(())
        self._token_source: TokenSource = find_token_source({}, ())
        self._write_tools: list[str] = []
        self._save_tools: list[str] = []
        self.current_session: Session | None = None

    # Tools.

    def read_tool(self, title: str) -> Callable[[_Function], _Function]:
        """A tool that changes nothing at Google."""
        return self._register_tool(
            title, ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True)
        )

    def write_tool(
        self, title: str, *, destructive: bool = False, idempotent: bool = False
    ) -> Callable[[_Function], _Function]:
        """A tool that changes something; it is left out by --read-only."""
        hints = ToolAnnotations(
            read_only_hint=False, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=True
        )
        return self._register_tool(title, hints, registry=self._write_tools)

    def save_tool(self, title: str) -> Callable[[_Function], _Function]:
        """A tool that changes nothing at Google, and makes a new file on this machine: in a folder that is allowed."""
        hints = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)
        return self._register_tool(title, hints, registry=self._save_tools)

    def _register_tool(
        self, title: str, hints: ToolAnnotations, *, registry: list[str] | None = None
    ) -> Callable[[_Function], _Function]:
        def register(function: _Function) -> _Function:
            name = function.__name__
            hints.open_world_hint = True
            self.add_tool(function, title=title, description=_collapse_whitespace(function.__doc__), annotations=hints)
            tool = self._tool_manager.get_tool(name)
            assert tool is not None
            tool.fn_metadata = _RawStringArguments(**dict(tool.fn_metadata))
            if registry is not None:
                registry.append(name)
            return function

        return register

    async def list_tools(self) -> list[Tool]:
        """The tools, with input schemas that let nothing else through and say nothing twice."""
        tools = await super().list_tools()
        for tool in tools:
            tool.input_schema = {**_simplify_schema(tool.input_schema), "additionalProperties": False}
            tool.output_schema = _simplify_schema(tool.output_schema) if tool.output_schema else None
        return tools

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Session, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the SDK does, with errors in a model's words, and the agreed mark where the token has ended."""
        tool = self._tool_manager.get_tool(name)
        properties = tool.parameters.get("properties", {}) if tool is not None else {}
        if tool is not None and (unknown := sorted(set(arguments) - set(properties))):
            return build_error_result(
                f"{name} takes no argument {unknown[0]!r}; it takes {', '.join(properties) or 'none'}"
            )
        required = tool.parameters.get("required", ()) if tool is not None else ()
        # Some clients send null for what they leave out.
        supplied = {key: value for key, value in arguments.items() if value is not None or key in required}
        try:
            return await super().call_tool(name, supplied, context)
        except UnexpectedToolError:
            _logger.exception("%s", name)
            return build_error_result(f"{name} failed, by a fault of this server: what it logged tells more")
        except ToolError as error:
            match error.__cause__:
                case TokenExpired() as expired:
                    return build_error_result(f"{expired}: sign in anew, or give a new one", meta=_TOKEN_EXPIRED_META)
                case ValidationError() as invalid:
                    return build_error_result(_describe_invalid_arguments(name, invalid))
                case ToolError() as cause:
                    return build_error_result(str(cause))
            raise

    # The process.

    @asynccontextmanager
    async def _open_session(self, server: "MCPServer[Session]") -> AsyncIterator[Session]:
        service = f"{self.name}.googleapis.com"
        api = GoogleApi(token_source=self._token_source, base_url=self._base_url, service=service, scopes=self.scopes)
        self.current_session = Session(api=api, folders=self._folders, text_cache=TextCache())
        try:
            yield self.current_session
        finally:
            await api.close()

    def main(self) -> None:
        """Serve on stdin and stdout, until stdin ends. Ends the process with code 2 where the options are wrong."""
        self.configure(sys.argv[1:], os.environ)
        self.run()
        # The interpreter's own teardown takes a third of a second, and whoever closed our stdin may be waiting.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def configure(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        """Take the options and the environment as they are."""
        parser = argparse.ArgumentParser(
            prog=f"python -m mcpchat_servers.{self.name}",
            description=f"{self.title} as an MCP server on stdin and stdout.",
            epilog="Environment: GOOGLE_ACCESS_TOKEN, or GOOGLE_APPLICATION_CREDENTIALS (a file); "
            f"{BASE_URL_VARIABLE} (default: "
            f"{self._base_url}). Scopes: {' '.join(self.scopes)}; with --read-only: {' '.join(self.read_only_scopes)}.",
        )
        parser.add_argument("--read-only", action="store_true", help="only the tools that change nothing")
        if self.accepts_folders:
            parser.add_argument(
                "--folder",
                action="append",
                default=[],
                metavar="PATH",
                help="a folder that files may be saved into and sent from; repeatable",
            )
        options = parser.parse_args(arguments)
        if options.read_only:
            self.scopes = self.read_only_scopes
            for name in self._write_tools:
                self.remove_tool(name)
        try:
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
    """A result: the value as structured content, and as a text: its JSON, where none is given."""
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
    """Progress of a transfer, told at its begin and then for each hundredth, or each megabyte."""
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
    """The schema without the titles that repeat a property's name, and without "or null" where null is the default."""
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


def _describe_invalid_arguments(name: str, error: ValidationError) -> str:
    """pydantic's complaints without its addresses and without what was passed."""
    problems = [
        f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return f"{name} was called wrongly: {'; '.join(problems[:10])}"
