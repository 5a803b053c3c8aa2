"""Write the files that are generated from the code: help texts, example config, schemas, man page and command page.

``--check`` writes nothing and fails if a file is out of date.
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


def walk_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the command and all visible commands below it, each with its path."""
    yield path, command
    for name, inner in subcommands(command).items():
        yield from walk_commands(inner, (*path, name))


def subcommands(command: Any) -> dict[str, Any]:
    if not hasattr(command, "list_commands"):
        return {}
    inner = {name: command.get_command(None, name) for name in command.list_commands(None)}
    return {name: value for name, value in inner.items() if not value.hidden}


def help_texts() -> dict[str, str]:
    """Return each command's path ("", "ask", "config init") with its help as Typer prints it, 80 columns wide."""
    os.environ["COLUMNS"] = "80"
    import typer.main

    from mcpchat.cli.main import app

    texts = {}
    for path, _ in walk_commands(typer.main.get_command(app)):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            app([*path, "--help"], prog_name="mcpchat", standalone_mode=False)
        texts[" ".join(path)] = out.getvalue()
    return texts


def command_table() -> dict[str, Any]:
    """Return the commands with their arguments, options and subcommands, as ``mcpchat.cli.completion`` reads them."""
    import typer.main

    from mcpchat.cli.main import app

    table = {}
    for path, command in walk_commands(typer.main.get_command(app)):
        arguments, options = [], {}
        for parameter in command.params:
            choices = list(getattr(parameter.callback, "choices", ()))
            if parameter.param_type_name == "argument":
                arguments.append((parameter.name, parameter.nargs == -1, choices))
            elif not parameter.hidden:
                description = (parameter.help or "").split(". ")[0].removesuffix(".")
                option = (description, not parameter.is_flag, parameter.name, bool(parameter.multiple), choices)
                options |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), option)
        options |= dict.fromkeys(("--help", "-h"), ("Show the help", False, "help", False, []))
        commands = {
            name: inner.get_short_help_str(80).removesuffix(".") for name, inner in subcommands(command).items()
        }
        table[" ".join(path)] = {"arguments": arguments, "options": options, "commands": commands}
    return table


def man_page(texts: dict[str, str]) -> str:
    """Return the man page in roff: the help texts with a list of files and environment variables."""
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
    """Yield the path and the content of each generated file."""
    from mcpchat.config import schema
    from mcpchat.core import jsonl_protocol

    texts = help_texts()
    yield ROOT / "src/mcpchat/data/help.json", json.dumps(texts, indent=1, ensure_ascii=False) + "\n"
    yield ROOT / "src/mcpchat/data/commands.json", json.dumps(command_table(), indent=1, ensure_ascii=False) + "\n"
    yield ROOT / "docs/mcpchat.1", man_page(texts)
    starter = (ROOT / "src/mcpchat/data/starter.toml").read_text(encoding="utf-8")
    yield ROOT / "config.example.toml", starter
    yield ROOT / "docs/config.schema.json", json.dumps(schema.json_schema(), indent=2) + "\n"
    yield ROOT / "docs/events.schema.json", json.dumps(jsonl_protocol.output_schema(), indent=2) + "\n"
    pages = "\n".join(
        f"## {('mcpchat ' + name).strip()}\n\n```text\n{text.rstrip()}\n```\n" for name, text in texts.items()
    )
    yield ROOT / "docs/commands.md", f"# Commands\n\nWhat `--help` prints, for every command.\n\n{pages}"


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
