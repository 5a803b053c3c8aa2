"""Write the files that are made from the code: stored help texts, the example config, the schemas and the command page.

``--check`` writes nothing, and fails when one of them is out of date.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def walked(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The command and all below it, each with its path."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walked(inner, (*path, name))


def help_texts() -> Iterator[tuple[str, str]]:
    """Each command's path ("", "ask", "config init") and its help as typer prints it, 80 columns wide."""
    os.environ["COLUMNS"] = "80"
    import typer.main

    from mcpchat.cli.commands_root import app

    for path, _ in walked(typer.main.get_command(app)):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            app([*path, "--help"], prog_name="mcpchat", standalone_mode=False)
        yield " ".join(path), out.getvalue()


def command_table() -> str:
    """The commands with their arguments, options and subcommands, as a module that imports nothing."""
    import typer.main

    from mcpchat.cli.commands_root import app

    lines = []
    for path, command in walked(typer.main.get_command(app)):
        arguments, options = [], {}
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                arguments.append((parameter.name, parameter.nargs == -1))
            elif not parameter.hidden:
                told = (parameter.help or "").split(". ")[0].removesuffix(".")
                known = (told, not parameter.is_flag, parameter.name, bool(parameter.multiple))
                options |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), known)
        options |= dict.fromkeys(("--help", "-h"), ("Show the help", False, "help", False))
        commands = {
            name: inner.get_short_help_str(80).removesuffix(".")
            for name, inner in getattr(command, "commands", {}).items()
        }
        pieces = "".join(f"        {piece!r},\n" for piece in (arguments, options, commands))
        lines.append(f"    {json.dumps(' '.join(path))}: (\n{pieces}    ),")
    return (
        '"""The commands as completion sees them. Written by scripts/generate.py.\n\n'
        "By path: the arguments (name, whether many), the options (what it does, whether it takes a value, its\n"
        'parameter, whether it may come again), the subcommands (what each does).\n"""\n\n'
        "# fmt: off\n# ruff: noqa: E501\n"
        "Option = tuple[str, bool, str, bool]\n"
        "COMMANDS: dict[str, tuple[list[tuple[str, bool]], dict[str, Option], dict[str, str]]] = {\n"
        + "\n".join(lines)
        + "\n}\n"
    )


def man_page(texts: dict[str, str]) -> str:
    """A page of the manual: the same texts, in roff."""
    from mcpchat.version import __version__

    def roff(text: str) -> str:
        lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
        return "\n".join("\\&" + line if line[:1] in {".", "'"} else line for line in lines)

    pages = [
        f'.TH MCPCHAT 1 "" "mcpchat {__version__}" "User Commands"',
        ".SH NAME\nmcpchat \\- talk to MCP servers from the terminal and from scripts",
        ".SH SYNOPSIS\n.B mcpchat\n[\\fIOPTIONS\\fR] [\\fICOMMAND\\fR] [\\fIARGS\\fR]...",
    ]
    for name, text in texts.items():
        pages.append(f".SH {('mcpchat ' + name).strip().upper()}\n.nf\n{roff(text.rstrip())}\n.fi")
    pages.append(
        ".SH FILES\n.nf\n"
        + roff(
            "~/.config/mcpchat/config.toml   the servers, models, agents and rules\n"
            "~/.local/share/mcpchat          threads\n"
            "~/.local/state/mcpchat          logs, history, what was agreed to\n"
            "~/.cache/mcpchat                what servers list"
        )
        + "\n.fi"
    )
    pages.append(
        ".SH ENVIRONMENT\n.nf\n"
        + roff("OPENAI_API_KEY, OPENAI_BASE_URL, MCPCHAT_MODEL, MCPCHAT_CONFIG, NO_COLOR")
        + "\n.fi"
    )
    return "\n".join(pages) + "\n"


def generated() -> Iterator[tuple[Path, str]]:
    from mcpchat.config import schema
    from mcpchat.core import jsonl_protocol

    texts = dict(help_texts())
    lines = ["    %s: (\n%s    )," % (json.dumps(name), _literal(text)) for name, text in texts.items()]
    yield (
        ROOT / "src/mcpchat/cli/help_texts.py",
        '"""What --help prints, stored so that it needs no parser. Written by scripts/generate.py."""\n\n'
        "# fmt: off\nTEXTS: dict[str, str] = {\n" + "\n".join(lines) + "\n}\n",
    )
    yield ROOT / "src/mcpchat/cli/command_table.py", command_table()
    yield ROOT / "docs/mcpchat.1", man_page(texts)
    starter = (ROOT / "src/mcpchat/data/starter.toml").read_text(encoding="utf-8")
    yield ROOT / "config.example.toml", starter
    yield ROOT / "docs/config.schema.json", json.dumps(schema.json_schema(), indent=2) + "\n"
    yield ROOT / "docs/events.schema.json", json.dumps(jsonl_protocol.written_schema(), indent=2) + "\n"
    pages = "\n".join(
        f"## {('mcpchat ' + name).strip()}\n\n```text\n{text.rstrip()}\n```\n" for name, text in texts.items()
    )
    yield ROOT / "docs/commands.md", f"# Commands\n\nWhat `--help` prints, for every command.\n\n{pages}"


def _literal(text: str) -> str:
    return "".join(f"        {json.dumps(line, ensure_ascii=False)}\n" for line in text.splitlines(keepends=True))


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = [
        (path, text) for path, text in generated() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(("out of date: " if check else "wrote ") + str(path.relative_to(ROOT)))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
