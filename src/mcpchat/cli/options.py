"""The options that commands share, each declared once, and the decorator that gives them to a command."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from mcpchat.cli.pairs import parse_json, split_pair
from mcpchat.config.run import ConfigChoice, RunOptions
from mcpchat.core.form_answers import FormAnswers
from mcpchat.errors import UsageError
from mcpchat.util.dates import parse_duration
from mcpchat.util.paths import expand_user
from mcpchat.util.text import did_you_mean
from mcpchat.util.text_files import read_text

_MAX_ANSWERS = 1_000_000  # bytes

ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help='The model; "demo" needs no key and no network.')
]
AgentOption = Annotated[str | None, typer.Option("--agent", "-a", metavar="NAME", help="The agent, from the config.")]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="PATTERN",
        help="Run these tools without asking, as in 'files.write(path=/tmp/*)'. Repeatable.",
    ),
]
DenyOption = Annotated[
    list[str] | None, typer.Option("--deny", metavar="PATTERN", help="Never run these tools. Repeatable.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Run every tool that no rule denies; accept what servers ask for.")
]
SchemaOption = Annotated[
    str | None,
    typer.Option(
        "--schema", metavar="FILE|JSON", help="The answer is JSON that fits this JSON Schema; - reads it from stdin."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Stop after this time, with exit code 7."),
]
NoStdinOption = Annotated[
    bool, typer.Option("--no-stdin", "-n", help="Do not read standard input: for loops that read it themselves.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No tool lines and no notices, only warnings.")]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="No colour, as with NO_COLOR.")]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="List the tools of every server again.")]
StatsOption = Annotated[bool, typer.Option("--stats", help="Show what each turn took: tokens, cost, time.")]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Line by line, for screen readers and logs: nothing is redrawn.")
]
DeleteOption = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="Write the result there, byte for byte.")
]


def choice(*names: str, of: tuple[str, ...], help: str = "", metavar: str = "FORMAT") -> OptionInfo:  # noqa: A002
    """A Typer option that takes one of the names in ``of``. Another one raises UsageError."""

    def check(value: str | None) -> str | None:
        return value if value is None else _check_choice(names[0], value, of)

    check.choices = of  # type: ignore[attr-defined]  # for scripts/generate.py: completion offers them
    option: OptionInfo = typer.Option(*names, metavar=metavar, help=help or _listed(of), callback=check)
    return option


def argument_choice(metavar: str, *, of: tuple[str, ...]) -> ArgumentInfo:
    """A Typer argument that takes one of the names in ``of``. Another one raises UsageError."""

    def check(value: str) -> str:
        return _check_choice(metavar, value, of)

    check.choices = of  # type: ignore[attr-defined]
    argument: ArgumentInfo = typer.Argument(metavar=metavar, help=_listed(of), callback=check)
    return argument


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of the choices. Raises UsageError."""
    if value in choices:
        return value
    raise UsageError(f"{name} {value}: expected one of {', '.join(choices)}{did_you_mean(value, choices)}")


def _listed(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}."


TextOrJson = Annotated[str, choice("--output", "-o", of=("text", "json"))]
TextJsonOrRaw = Annotated[
    str, choice("--output", "-o", of=("text", "json", "raw"), help="text, json, or raw: the bytes themselves.")
]


def with_options(**builders: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command shared options.

    A builder is a function whose parameters are Typer options. ``@with_options(options=run_options)`` replaces the
    command's parameter ``options`` by the parameters of ``run_options``, and passes what ``run_options`` returns. They
    follow the command's own parameters in ``--help``.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command).parameters
        parameters: dict[str, inspect.Parameter] = {}
        for declared in (
            {name: parameter for name, parameter in own.items() if name not in builders},
            *(inspect.signature(build).parameters for build in builders.values()),
        ):
            parameters |= {name: parameter.replace(kind=parameter.KEYWORD_ONLY) for name, parameter in declared.items()}
        needs = {name: tuple(inspect.signature(build).parameters) for name, build in builders.items()}

        def run(**values: Any) -> Any:
            built = {name: build(**{key: values[key] for key in needs[name]}) for name, build in builders.items()}
            return command(**{name: values[name] for name in own if name not in builders}, **built)

        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
        run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]  # inspect reads it
        return run

    return decorate


def config_file(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The config file. Default: MCPCHAT_CONFIG, then the usual place."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the SDKs' logs.")] = False,
) -> Path | None:
    """The config file that is named, if one is. --debug is read by ``RunState``."""
    return config


NamedServers = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp",
        metavar="NAME=TARGET",
        help="Add a server for this run: NAME=URL, NAME='COMMAND ARGS', or another client's FILE.json. Repeatable.",
    ),
]


@with_options(path=config_file)
def config_and_named_servers(path: Path | None, mcp: NamedServers = None) -> ConfigChoice:
    """The config file that is named, and the servers that are added."""
    return ConfigChoice(path, tuple(mcp or ()))


@with_options(path=config_file)
def config_and_servers(
    path: Path | None,
    mcp: NamedServers = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="TIME", help="Keep servers until they were idle for so long, as in 10m."),
    ] = None,
) -> ConfigChoice:
    """The config file that is named, the servers that are added, and how long servers are kept."""
    if keep is not None and sys.platform == "win32":
        raise UsageError("--keep: servers cannot be kept on Windows yet")
    if keep is not None and parse_duration(keep) is None:
        raise UsageError(f"--keep {keep}: expected a duration such as 10m, 90s or 2h")
    return ConfigChoice(path, tuple(mcp or ()), keep)


def form_answers(
    answer: Annotated[
        list[str] | None,
        typer.Option(
            "--answer",
            metavar="FIELD=VALUE",
            help="Answer a server's form: FIELD=VALUE, FIELD:=JSON, or SERVER.FIELD=VALUE. Repeatable.",
        ),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--answers", metavar="FILE", help="Answers to forms: a JSON object of fields.")
    ] = None,
) -> FormAnswers:
    """The answers to forms. Raises UsageError."""
    typed: dict[str, str] = {}
    values: dict[str, Any] = _read_object("--answers", answers) if answers is not None else {}
    for pair in answer or ():
        parts = split_pair(pair)
        if parts is None:
            raise UsageError(f"--answer {pair}: expected FIELD=VALUE")
        key, operator, text = parts
        if operator == ":=":
            values[key] = parse_json(f"--answer {pair}", text)
        else:
            typed[key] = text
            values.pop(key, None)
    return FormAnswers(typed=typed, values=values)


def _read_object(option: str, path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UsageError."""
    text = read_text(expand_user(path), max_bytes=_MAX_ANSWERS, error=UsageError, source=option)
    value = parse_json(f"{option} {path}", text)
    if not isinstance(value, dict):
        raise UsageError(f"{option} {path}: expected a JSON object of fields", hint='such as {"name": "Ann"}')
    return value


def permission_options(
    agent: AgentOption = None, allow: AllowOption = None, deny: DenyOption = None, yes: YesOption = False
) -> RunOptions:
    """Who may run which tools: enough for one call without a model."""
    return RunOptions(agent=agent, allow=tuple(allow or ()), deny=tuple(deny or ()), yes=yes)


@with_options(permissions=permission_options)
def run_options(
    permissions: RunOptions,
    model: ModelOption = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            "--max-steps", metavar="N", min=1, help="Rounds of tool calls in one turn. Default: 25; chat: 50."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", metavar="N", min=1, help="Tokens of the run, in and out: stop before the next request."
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", metavar="USD", min=0, help="US dollars of the run: stop before the next request."),
    ] = None,
) -> RunOptions:
    """The model, the permissions and the limits of a run."""
    return replace(permissions, model=model, max_steps=max_steps, max_tokens=max_tokens, max_cost=max_cost)


@with_options(options=run_options)
def conversation_options(
    options: RunOptions,
    go_on: Annotated[bool, typer.Option("--continue", "-c", help="Continue the latest thread.")] = False,
    thread: Annotated[
        str | None,
        typer.Option("--thread", metavar="ID|TITLE", help="Continue this thread; with @NUMBER, after that message."),
    ] = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The title of the new thread.")] = "",
    no_save: Annotated[bool, typer.Option("--no-save", help="Do not save the conversation.")] = False,
    refresh: RefreshOption = False,
) -> RunOptions:
    """The options of a run, and those of its thread."""
    return replace(options, continue_latest=go_on, thread=thread, title=title, save=not no_save, refresh=refresh)


@dataclass(frozen=True, kw_only=True)
class DisplayOptions:
    """How much is shown, and how."""

    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    stats: bool = False
    plain: bool = False
    stream: bool = True


def chat_display(
    stats: StatsOption = False, plain: PlainOption = False, no_color: NoColorOption = False
) -> DisplayOptions:
    """The display options of the chat."""
    return DisplayOptions(stats=stats, plain=plain, no_color=no_color)


def ask_display(
    stats: StatsOption = False,
    quiet: QuietOption = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Explain on stderr: the model, the servers, each decision.")
    ] = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Write the answer once it is complete, instead of as it comes.")
    ] = False,
    no_color: NoColorOption = False,
) -> DisplayOptions:
    """The display options of ``ask``."""
    return DisplayOptions(stats=stats, quiet=quiet, verbose=verbose, stream=not no_stream, no_color=no_color)
