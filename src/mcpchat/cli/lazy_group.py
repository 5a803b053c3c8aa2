"""Command groups: subcommands are imported when they run, and take over options that were given to their group."""

import copy
import functools
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

import typer.main
from typer.core import TyperGroup

from mcpchat.util.text import did_you_mean

_NO_LIMIT = 1000  # characters of a command's short help
_GIVEN = "mcpchat.given"  # in the context's meta: values that were given to a group, by the option's names


@functools.cache
def _build_once(name: str, module: str) -> Any:
    command = typer.main.get_command(import_module(module).app)
    command.name = name
    return command


def _build_command(name: str, module: str) -> Any:
    """The command that the module's ``app`` describes: a copy, because a run changes it."""
    return copy.copy(_build_once(name, module))


class CommandGroup(TyperGroup):
    """A group whose options may come before the name of a subcommand: ``mcpchat --model demo ask "Hello"``.

    Without a subcommand the group's own function runs, with one only the subcommand's.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in their sections, each with its whole first sentence."""
        for heading, names in self.command_sections(ctx).items():
            commands = {name: self.get_command(ctx, name) for name in names}
            rows = [(name, command.get_short_help_str(_NO_LIMIT)) for name, command in commands.items() if command]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def command_sections(self, ctx: Any) -> Mapping[str, Sequence[str]]:
        """The names of the commands that ``--help`` shows, under their headings."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return {"Commands": [name for name, command in commands.items() if command and not command.hidden]}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        assert command is not None  # only shell completion by Typer resolves none
        given = ctx.meta.setdefault(_GIVEN, {})
        for parameter in self.params:
            source = ctx.get_parameter_source(parameter.name)
            if source is not None and source.name in {"COMMANDLINE", "DEFAULT_MAP"}:
                given[frozenset(parameter.opts)] = ctx.params[parameter.name]
        defaults = {parameter.name: given.get(frozenset(parameter.opts)) for parameter in command.params}
        ctx.default_map = {name: {key: value for key, value in defaults.items() if value is not None}}
        self.callback = None  # of the copy for this run
        return name, command, rest


class LazyGroup(CommandGroup):
    """A group whose subcommands are modules, each with an ``app``.

    ``sections`` names the subcommands under the headings of ``--help``, ``modules`` their modules, and
    ``other_names`` what other programs call them. Without a subcommand ``default`` runs.
    """

    sections: ClassVar[Mapping[str, Sequence[str]]] = {}
    modules: ClassVar[Mapping[str, str]] = {}
    other_names: ClassVar[Mapping[str, str]] = {}
    default: ClassVar[str] = ""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.modules)

    def command_sections(self, ctx: Any) -> Mapping[str, Sequence[str]]:
        return self.sections

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _build_command(cmd_name, self.modules[cmd_name]) if cmd_name in self.modules else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if not ctx._protected_args:
            ctx._protected_args = [self.default]
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.modules:
            if " " in args[0].strip() or args[0].endswith("?"):
                ctx.fail(f"no such command; to ask a question: mcpchat ask {shlex.quote(args[0])}")
            if meant := self.other_names.get(args[0]):
                ctx.fail(f"no such command: {args[0]}; it is {ctx.command_path} {meant}")
            ctx.fail(f"no such command: {args[0]}{did_you_mean(args[0], self.modules)}")
        return super().resolve_command(ctx, args)
