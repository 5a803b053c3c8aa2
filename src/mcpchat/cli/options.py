"""What the commands share: their common options, the setup, and the running of async work under signals."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mcpchat.config.load import load_config
from mcpchat.config.project_file import ProjectFile, with_project
from mcpchat.config.run import Setup, default_paths
from mcpchat.config.schema import Config
from mcpchat.errors import LimitReached, McpChatError
from mcpchat.util.redaction import Secrets

if TYPE_CHECKING:
    import logging

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The config file. Default: MCPCHAT_CONFIG, then the usual place."),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the SDKs' logs.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help='The model; "demo" needs no key and no network.')
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", "-a", metavar="NAME", help="The agent, a table of the config.")
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="PATTERN",
        help="Run these tools without a question, as in 'files.write(path=/tmp/*)'. Repeatable.",
    ),
]
DenyOption = Annotated[
    list[str] | None, typer.Option("--deny", metavar="PATTERN", help="Never run these tools. Repeatable.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Run every tool that no rule denies; agree to what servers ask.")
]
StepsOption = Annotated[
    int | None,
    typer.Option("--max-steps", metavar="N", min=1, help="Rounds of tool calls in one turn. Default: 25; chat: 50."),
]
TokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", metavar="N", min=1, help="Tokens of the run, in and out: stop before the next request."
    ),
]
CostOption = Annotated[
    float | None,
    typer.Option("--max-cost", metavar="USD", min=0, help="US dollars of the run: stop before the next request."),
]
ContinueOption = Annotated[bool, typer.Option("--continue", "-c", help="Go on with the latest thread.")]
ThreadOption = Annotated[
    str | None,
    typer.Option("--thread", metavar="ID|TITLE", help="Go on with this thread; with @NUMBER, after that message."),
]
TitleOption = Annotated[str, typer.Option("--title", metavar="TEXT", help="What the new thread is called.")]
NoSaveOption = Annotated[bool, typer.Option("--no-save", help="Keep nothing of what is said.")]
DeleteOption = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]
StatsOption = Annotated[bool, typer.Option("--stats", help="Say what each turn took: tokens, money, time.")]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Draw nothing over, say who speaks: for screen readers and logs.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No tool lines and notices, only warnings.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Explain on stderr: the model, the servers, who decided on each call.")
]
SchemaOption = Annotated[
    str | None,
    typer.Option(
        "--schema", metavar="FILE|JSON", help="A JSON Schema that the answer must fit, - is stdin; stdout is that JSON."
    ),
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Stop after so long, with exit code 7.")
]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Ask every server anew what it offers.")]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="No colour, as with NO_COLOR.")]
JsonOutput = Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="text or json.")]

RawOutput = Annotated[
    str, typer.Option("--output", "-o", metavar="FORMAT", help="text, json, or raw: the bytes as they came.")
]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="Write what comes there, as it came; images too.")
]


class Terminated(McpChatError):
    """The process was told to end by a signal."""

    kind = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__("")
        self.code = 128 + number


def user_config(config: Path | None) -> Config:
    """The user's own config. Raises ConfigError."""
    path = config or default_paths(os.environ).config
    return load_config(path, must_exist=config is not None or bool(os.environ.get("MCPCHAT_CONFIG")))


def make_setup(config: Path | None, *, quiet: bool = False, offer: bool = False) -> Setup:
    """Read the config, the environment and the platform's folders; and the project's file, where it is trusted.

    ``offer`` asks whether it is, where it is not; without that it is left out, and that is said unless ``quiet``.
    """
    paths = default_paths(os.environ)
    settings, told = with_project(user_config(config), config or paths.config, paths, agree=_asked if offer else None)
    for line in told if not quiet else ():
        sys.stderr.write(f"{line}\n")
    return Setup(config=settings, environ=dict(os.environ), paths=paths, secrets=secrets)


def _asked(found: ProjectFile, own: Path) -> bool:
    from mcpchat.cli.commands.trust import agree

    return agree(found, own)


secrets = Secrets()  # of this process: what is printed when something fails goes past them
debug_wanted = False  # set by cli.run from the words themselves: what fails while they are parsed counts too


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end and return its exit code; signals cancel it, so that all is closed in order."""
    import logging

    # The SDKs log tracebacks of what we report in words; without a handler Python would print them.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_redacting())
    logging.basicConfig(level=logging.DEBUG if debug_wanted else logging.CRITICAL + 1, handlers=[handler])
    for name in _TELLTALES if debug_wanted else ():
        logging.getLogger(name).setLevel(logging.WARNING)
    return asyncio.run(_under_signals(work))


# They log codes, verifiers and whole tokens.
_TELLTALES = (
    "google_auth_oauthlib",
    "requests_oauthlib",
    "oauthlib",
    "google",
    "urllib3",
    "keyring",
    "mcp.client.auth",
)


def _redacting() -> "logging.Formatter":
    """Lines as logging has them, without secrets, for a terminal; what a traceback shows counts too."""
    import logging

    from mcpchat.util.sanitize import clean

    class Redacting(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return clean(secrets.redact_log(super().format(record)))

    return Redacting(logging.BASIC_FORMAT)


async def _under_signals(work: Coroutine[Any, Any, int]) -> int:
    from mcpchat.util.signals import cancelled_by

    task = asyncio.create_task(work)
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    with cancelled_by(task, [getattr(signal, name) for name in names if hasattr(signal, name)]) as caught:
        try:
            return await task
        except asyncio.CancelledError:
            if caught:
                raise Terminated(caught[0]) from None
            raise


@asynccontextmanager
async def within(seconds: float | None) -> AsyncIterator[None]:
    """Raise LimitReached where what is inside takes longer; None is no limit."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise LimitReached(f"stopped: the time of {seconds:g} s is up", hint="--timeout allows more") from error


def is_terminal(*streams: Any) -> bool:
    return all(stream is not None and stream.isatty() for stream in streams)


def as_json(value: object, *, indent: int | None = None) -> str:
    """The value as JSON; at a terminal with all that would act or hide there as escapes, which is the same JSON."""
    import json

    from mcpchat.util.sanitize import spelt_out

    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return spelt_out(text) if is_terminal(sys.stdout) else text


def write_json(value: object) -> None:
    import msgspec

    sys.stdout.write(as_json(msgspec.to_builtins(value), indent=2) + "\n")


def pass_on(ctx: typer.Context) -> None:
    """Have what stands between a group's name and its command's hold for the command, as if it came after."""
    usual = {parameter.name: parameter.default for parameter in ctx.command.params}
    given = {name: value for name, value in ctx.params.items() if value not in (None, usual.get(name))}
    if ctx.invoked_subcommand is not None:
        known = dict(ctx.default_map or {})
        ctx.default_map = {**known, ctx.invoked_subcommand: {**known.get(ctx.invoked_subcommand, {}), **given}}


def bad_choice(option: str, value: str, known: tuple[str, ...]) -> NoReturn:
    from mcpchat.errors import UsageError

    raise UsageError(f"{option} {value}: expected one of {', '.join(known)}")
