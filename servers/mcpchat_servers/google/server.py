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

from mcpchat_servers.google.api import Api, Progress, checked_base
from mcpchat_servers.google.credentials import TokenEnded, Tokens, tokens
from mcpchat_servers.google.folders import Folders
from mcpchat_servers.google.texts import LONGEST_PAGE, PAGE, KeptTexts

BASE = "GOOGLE_API_URL"
HOUR = 3_600_000  # milliseconds
DAY = 24 * HOUR
_EXPIRED: dict[str, Any] = {"mcpchat/auth": "expired"}
_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Session:
    """What the tools of one running server use."""

    api: Api
    folders: Folders
    texts: KeptTexts
    known: dict[str, Any] = field(default_factory=dict)  # what need not be asked twice, such as the account's address


Ctx = Context[Session, Any]

Cursor = Annotated[
    str | None,
    Field(description="next_cursor of the page before, with the other arguments as they were.", max_length=4096),
]
Offset = Annotated[int, Field(description="The character to begin at: next_offset of the piece before.", ge=0)]
Limit = Annotated[int, Field(description="Characters to give at most.", ge=100, le=LONGEST_PAGE, examples=[PAGE])]


class _AsGiven(FuncMetadata):
    """Arguments of a tool, with strings left as they are where strings are wanted: a JSON file's content is one."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        fields = self.arg_model.model_fields
        kinds = {name: (field.annotation, *get_args(field.annotation)) for name, field in fields.items()}
        texts = {name: value for name, value in data.items() if isinstance(value, str) and str in kinds.get(name, ())}
        return super().pre_parse_json({name: value for name, value in data.items() if name not in texts}) | texts


class GoogleServer(MCPServer[Session]):
    """``scopes`` and ``reading_scopes`` are the narrowest that serve all tools, and those that only read."""

    def __init__(
        self,
        name: str,
        *,
        title: str,
        instructions: str,
        base: str,
        scopes: Sequence[str],
        reading_scopes: Sequence[str],
        takes_folders: bool,
    ) -> None:
        # The SDK would set up boxes of 80 columns otherwise.
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        super().__init__(
            name,
            title=title,
            version="1.0.0",
            instructions=instructions,
            log_level="WARNING",
            lifespan=self._session,
            cache_hints={
                "tools/list": CacheHint(ttl_ms=DAY, scope="public"),
                "resources/list": CacheHint(ttl_ms=HOUR, scope="private"),
                "resources/templates/list": CacheHint(ttl_ms=DAY, scope="public"),
            },
        )
        self.scopes = tuple(scopes)
        self.reading_scopes = tuple(reading_scopes)
        self.takes_folders = takes_folders
        self._base = base
        self._folders = Folders(())
        self._tokens: Tokens = tokens({}, ())
        self._changing: list[str] = []
        self._saving: list[str] = []
        self.running: Session | None = None

    # Tools.

    def reads(self, title: str) -> Callable[[_Function], _Function]:
        """A tool that changes nothing at Google."""
        return self._tool(title, ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True))

    def changes(
        self, title: str, *, destructive: bool = False, idempotent: bool = False
    ) -> Callable[[_Function], _Function]:
        """A tool that changes something; it is left out by --read-only."""
        hints = ToolAnnotations(
            read_only_hint=False, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=True
        )
        return self._tool(title, hints, kept_in=self._changing)

    def saves(self, title: str) -> Callable[[_Function], _Function]:
        """A tool that changes nothing at Google, and makes a new file on this machine: in a folder that is allowed."""
        hints = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)
        return self._tool(title, hints, kept_in=self._saving)

    def _tool(
        self, title: str, hints: ToolAnnotations, *, kept_in: list[str] | None = None
    ) -> Callable[[_Function], _Function]:
        def add(function: _Function) -> _Function:
            name = function.__name__
            hints.open_world_hint = True
            self.add_tool(function, title=title, description=_one_paragraph(function.__doc__), annotations=hints)
            tool = self._tool_manager.get_tool(name)
            assert tool is not None
            tool.fn_metadata = _AsGiven(**dict(tool.fn_metadata))
            if kept_in is not None:
                kept_in.append(name)
            return function

        return add

    async def list_tools(self) -> list[Tool]:
        """The tools, with input schemas that let nothing else through and say nothing twice."""
        listed = await super().list_tools()
        for tool in listed:
            tool.input_schema = {**_lean(tool.input_schema), "additionalProperties": False}
            tool.output_schema = _lean(tool.output_schema) if tool.output_schema else None
        return listed

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Session, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the SDK does, with errors in a model's words, and the agreed mark where the token has ended."""
        tool = self._tool_manager.get_tool(name)
        known = tool.parameters.get("properties", {}) if tool is not None else {}
        if tool is not None and (unknown := sorted(set(arguments) - set(known))):
            return failed(f"{name} takes no argument {unknown[0]!r}; it takes {', '.join(known) or 'none'}")
        required = tool.parameters.get("required", ()) if tool is not None else ()
        # Some clients send null for what they leave out.
        given = {key: value for key, value in arguments.items() if value is not None or key in required}
        try:
            return await super().call_tool(name, given, context)
        except UnexpectedToolError:
            _log.exception("%s", name)
            return failed(f"{name} failed, by a fault of this server: what it logged tells more")
        except ToolError as error:
            match error.__cause__:
                case TokenEnded() as ended:
                    return failed(f"{ended}: sign in anew, or give a new one", meta=_EXPIRED)
                case ValidationError() as wrong:
                    return failed(_wrong_arguments(name, wrong))
                case ToolError() as told:
                    return failed(str(told))
            raise

    # The process.

    @asynccontextmanager
    async def _session(self, server: "MCPServer[Session]") -> AsyncIterator[Session]:
        service = f"{self.name}.googleapis.com"
        api = Api(tokens=self._tokens, base=self._base, service=service, scopes=self.scopes)
        self.running = Session(api=api, folders=self._folders, texts=KeptTexts())
        try:
            yield self.running
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
            epilog=f"Environment: GOOGLE_ACCESS_TOKEN, or GOOGLE_APPLICATION_CREDENTIALS (a file); {BASE} (default: "
            f"{self._base}). Scopes: {' '.join(self.scopes)}; with --read-only: {' '.join(self.reading_scopes)}.",
        )
        parser.add_argument("--read-only", action="store_true", help="only the tools that change nothing")
        if self.takes_folders:
            parser.add_argument(
                "--folder",
                action="append",
                default=[],
                metavar="PATH",
                help="a folder that files may be saved into and sent from; repeatable",
            )
        options = parser.parse_args(arguments)
        if options.read_only:
            self.scopes = self.reading_scopes
            for name in self._changing:
                self.remove_tool(name)
        try:
            self._base = checked_base(environ.get(BASE) or self._base)
        except ValueError as error:
            parser.error(f"{BASE}: {error}")
        folders = options.folder if self.takes_folders else []
        self._folders = Folders([Path(path).expanduser().resolve() for path in folders])
        if options.read_only and not folders:
            for name in self._saving:
                self.remove_tool(name)
        self._tokens = tokens(environ, self.scopes)


def answered(value: BaseModel, text: str | None = None, *more: ContentBlock) -> CallToolResult:
    """A result: the value as structured content, and as a text: its JSON, where none is given."""
    shown = text if text is not None else value.model_dump_json(exclude_none=True)
    return CallToolResult(
        content=[TextContent(type="text", text=shown), *more],
        structured_content=value.model_dump(mode="json", exclude_none=True),
    )


def failed(text: str, *, meta: dict[str, Any] | None = None) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta=meta)


def session(ctx: Ctx) -> Session:
    return ctx.request_context.lifespan_context


def progress_to(ctx: Ctx, note: str) -> Progress:
    """Progress of a transfer, told at its begin and then for each hundredth, or each megabyte."""
    told = float("-inf")

    async def progress(done: float, total: float | None) -> None:
        nonlocal told
        step = (total or 0) / 100 or 2**20
        if done - told >= step or done == total:
            told = done
            await ctx.report_progress(done, total, note)

    return progress


def _one_paragraph(text: str | None) -> str:
    return " ".join((text or "").split())


def _lean(schema: Any) -> Any:
    """The schema without the titles that repeat a property's name, and without "or null" where null is the default."""
    if isinstance(schema, list):
        return [_lean(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    lean = {
        key: {name: _lean(one) for name, one in value.items()} if key in {"properties", "$defs"} else _lean(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    choices = lean.get("anyOf")
    if isinstance(choices, list) and lean.get("default", 0) is None and {"type": "null"} in choices:
        rest = [one for one in choices if one != {"type": "null"}]
        if len(rest) == 1:
            del lean["anyOf"], lean["default"]
            lean = {**rest[0], **lean}
    return lean


def _wrong_arguments(name: str, error: ValidationError) -> str:
    """pydantic's complaints without its addresses and without what was passed."""
    told = [
        f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False)
    ]
    return f"{name} was called wrongly: {'; '.join(told[:10])}"
