"""mcpchat threads: the conversations that are kept."""

from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.options import (
    ConfigOption,
    DebugOption,
    DeleteOption,
    JsonOutput,
    bad_choice,
    make_setup,
    pass_on,
    run_async,
)
from mcpchat.errors import UsageError

app = typer.Typer(rich_markup_mode=None)

Named = Annotated[
    str, typer.Argument(metavar="ID|TITLE", help="The thread: its id, the beginning of it, or its title.")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=100_000, help="How many at most.")]
AgentsOption = Annotated[str | None, typer.Option("--agent", "-a", metavar="NAME", help="Only with this agent.")]
ToolsOption = Annotated[
    list[str] | None, typer.Option("--tool", metavar="GLOB", help="Only where this tool was used. Repeatable.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="Only from then on: a date, yesterday, 7d.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Only until then.")]
_FORMATS = ("text", "json")
_SHOW = ("text", "markdown", "json", "jsonl")
_EXPORT = ("markdown", "html", "json", "jsonl")


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    limit: LimitOption = 20,
    agent: AgentsOption = None,
    tool: ToolsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output: JsonOutput = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """List the threads that are kept, the latest first.

    \b
      mcpchat threads
      mcpchat threads search "quarterly numbers" --since 30d
      mcpchat threads show 1a2b3c4d
      mcpchat --thread 1a2b3c4d                 goes on with it
    """
    if ctx.invoked_subcommand is not None:
        pass_on(ctx)
        return 0
    return show_list(limit, agent, tool, since, until, output, config, debug)


@app.command("list")
def show_list(
    limit: LimitOption = 20,
    agent: AgentsOption = None,
    tool: ToolsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output: JsonOutput = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """List them, as mcpchat threads does."""
    from mcpchat.cli import threads_work

    if output not in _FORMATS:
        bad_choice("--output", output, _FORMATS)
    wanted = threads_work.wanted(agent, tool, since, until)
    return run_async(threads_work.show_list(make_setup(config), wanted, limit, output))


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS...", help='All of them; "in quotes" as they stand.')],
    limit: LimitOption = 10,
    agent: AgentsOption = None,
    tool: ToolsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output: JsonOutput = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Search what was said, called and found: the newest first, with the places.

    All words must be in one message, in any case and with or without accents; word* is the beginning of a word.

    \b
      mcpchat threads search invoice "late fee"
      mcpchat threads search ann@example.com --tool 'gmail.*'
    """
    from mcpchat.cli import threads_work

    if output not in _FORMATS:
        bad_choice("--output", output, _FORMATS)
    # The shell took the quotes: a word with a space in it was quoted.
    asked = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
    wanted = threads_work.wanted(agent, tool, since, until)
    return run_async(threads_work.search(make_setup(config), wanted, asked, limit, output))


@app.command()
def show(
    name: Named,
    tree: Annotated[bool, typer.Option("--tree", help="Its branches instead of its messages.")] = False,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FORMAT", help="text, markdown, json or jsonl.")
    ] = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Show a thread: its current branch, who decided on each call, what each answer took."""
    from mcpchat.cli import threads_work

    if output not in _SHOW:
        bad_choice("--output", output, _SHOW)
    return run_async(threads_work.show(make_setup(config), name, output, tree=tree))


@app.command()
def fork(
    name: Named,
    at: Annotated[
        int | None, typer.Option("--at", metavar="NUMBER", min=1, help="Up to this message, of whatever branch.")
    ] = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="What the fork is called.")] = "",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Begin a new thread with what another has; its id goes to stdout."""
    from mcpchat.cli import threads_work

    return run_async(threads_work.fork(make_setup(config), name, at, title))


@app.command()
def rename(
    name: Named,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What it is called from now on.")],
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Give a thread another title."""
    from mcpchat.cli import threads_work

    if not title.strip():
        raise UsageError("the title is empty")
    return run_async(threads_work.rename(make_setup(config), name, title))


@app.command()
def export(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ID|TITLE]...", help="The threads.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them; with json, one a line.")] = False,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FORMAT", help="markdown, html, json (all branches) or jsonl (events)."),
    ] = "markdown",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Write it there, for your eyes alone.")
    ] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Write threads for other programs, and for people.

    \b
      mcpchat threads export 1a2b3c4d > talk.md
      mcpchat threads export 1a2b3c4d -o html --file talk.html
      mcpchat threads export --all -o json --file backup.jsonl
    """
    from mcpchat.cli import threads_work

    if output not in _EXPORT:
        bad_choice("--output", output, _EXPORT)
    return run_async(threads_work.export(make_setup(config), names or [], output, file, everything=everything))


@app.command("import")
def bring(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE|-]...", help="What was exported, here or by another client.")
    ] = None,
    place: Annotated[
        str | None,
        typer.Option("--from", metavar="PLACE", help="All threads of another database: a file, or postgresql://..."),
    ] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Add threads: mcpchat's JSON, conversations.json of ChatGPT and of Claude, llm logs --json, lists of messages.

    What is there already is left as it is.

    \b
      mcpchat threads import backup.jsonl
      mcpchat threads import --from ~/.local/share/mcpchat/threads.db
    """
    from mcpchat.cli import threads_work

    if bool(files) == (place is not None):
        raise UsageError("name files, or a database by --from", hint="mcpchat threads import FILE")
    return run_async(threads_work.bring(make_setup(config), files or [], place))


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="ID|TITLE...", help="The threads.")],
    yes: DeleteOption = False,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Delete threads, with all their branches and what only they held."""
    from mcpchat.cli import threads_work

    return run_async(threads_work.delete(make_setup(config), names, yes=yes))


@app.command()
def gc(
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="WHEN", help="Delete threads that did not change since: 90d, a date."),
    ] = None,
    yes: DeleteOption = False,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Check the database, throw away what nothing uses, and make it small again."""
    from mcpchat.cli import threads_work

    return run_async(threads_work.gc(make_setup(config), older_than, yes=yes))


NAMES = ("list", "search", "show", "fork", "rename", "export", "import", "delete", "gc")
