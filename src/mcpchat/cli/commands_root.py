"""The commands and their options: parse, call the app, return the exit code."""

import sys
from typing import Annotated

import typer

from mcpchat.cli.commands import agents, approvals, auth, schema, servers, threads, trust
from mcpchat.cli.commands import config as config_commands
from mcpchat.cli.options import (
    AgentOption,
    AllowOption,
    ConfigOption,
    ContinueOption,
    CostOption,
    DebugOption,
    DenyOption,
    FileOption,
    JsonOutput,
    ModelOption,
    NoColorOption,
    NoSaveOption,
    PlainOption,
    QuietOption,
    RawOutput,
    RefreshOption,
    SchemaOption,
    StatsOption,
    StepsOption,
    ThreadOption,
    TimeoutOption,
    TitleOption,
    TokensOption,
    VerboseOption,
    YesOption,
    bad_choice,
    is_terminal,
    make_setup,
    run_async,
)

app = typer.Typer(
    name="mcpchat",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage or config, 3 sign-in needed, 4 server down, 5 tool failed, "
    "6 denied, 7 limit reached, 8 model failed, 130 interrupted.",
)
app.add_typer(servers.app, name="servers")
app.add_typer(auth.app, name="auth")
app.add_typer(threads.app, name="threads")
app.add_typer(agents.app, name="agents")
app.add_typer(config_commands.app, name="config")
app.add_typer(trust.app, name="trust")
app.add_typer(approvals.app, name="approvals")


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    model: ModelOption = None,
    agent: AgentOption = None,
    allow: AllowOption = None,
    deny: DenyOption = None,
    yes: YesOption = False,
    max_steps: StepsOption = None,
    max_tokens: TokensOption = None,
    max_cost: CostOption = None,
    go_on: ContinueOption = False,
    thread: ThreadOption = None,
    title: TitleOption = "",
    no_save: NoSaveOption = False,
    stats: StatsOption = False,
    plain: PlainOption = False,
    config: ConfigOption = None,
    refresh: RefreshOption = False,
    no_color: NoColorOption = False,
    debug: DebugOption = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> int:
    """Talk to your MCP servers from the terminal and from scripts. Without a command: chat.

    \b
      mcpchat ask --model demo "What is 1234 * 5678?"
      mcpchat tools
      mcpchat call calculator.calculate expression="2 ** 10"
    """
    if version:
        from mcpchat.version import __version__

        sys.stdout.write(f"mcpchat {__version__}\n")
        return 0
    if ctx.invoked_subcommand is not None:
        # What stands before the command's name holds for the command.
        given = {name: value for name, value in ctx.params.items() if value is not None and value is not False}
        # Only a group has commands of these names; elsewhere they could be options (ask --schema).
        groups = {
            "approvals": approvals.NAMES,
            "auth": auth.NAMES,
            "agents": agents.NAMES,
            "config": config_commands.NAMES,
            "threads": threads.NAMES,
            "servers": servers.NAMES,
            "trust": trust.NAMES,
        }
        if ctx.invoked_subcommand in groups:  # where these are words of the command's own
            given = {
                name: value for name, value in given.items() if name not in {"thread", "go_on", "title", "no_save"}
            }
        inner = dict.fromkeys(groups.get(ctx.invoked_subcommand, ()), given)
        ctx.default_map = {ctx.invoked_subcommand: given | inner}
        return 0
    return chat(**{name: value for name, value in ctx.params.items() if name != "version"})


@app.command()
def chat(
    model: ModelOption = None,
    agent: AgentOption = None,
    allow: AllowOption = None,
    deny: DenyOption = None,
    yes: YesOption = False,
    max_steps: StepsOption = None,
    max_tokens: TokensOption = None,
    max_cost: CostOption = None,
    go_on: ContinueOption = False,
    thread: ThreadOption = None,
    title: TitleOption = "",
    no_save: NoSaveOption = False,
    stats: StatsOption = False,
    plain: PlainOption = False,
    config: ConfigOption = None,
    refresh: RefreshOption = False,
    no_color: NoColorOption = False,
    debug: DebugOption = False,
) -> int:
    """Chat at the terminal; mcpchat alone does the same."""
    from mcpchat.cli import display
    from mcpchat.config.run import Wishes

    wishes = Wishes(
        model=model,
        agent=agent,
        allow=tuple(allow or ()),
        deny=tuple(deny or ()),
        yes=yes,
        refresh=refresh,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        priced=True,
        thread=thread,
        go_on=go_on,
        title=title,
        save=not no_save,
    )
    setup = make_setup(config, offer=is_terminal(sys.stdin, sys.stdout, sys.stderr))
    return run_async(display.chat(setup, wishes, display.Look(no_color=no_color, stats=stats, plain=plain)))


@app.command()
def ask(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]...", help="The question.")] = None,
    model: ModelOption = None,
    agent: AgentOption = None,
    allow: AllowOption = None,
    deny: DenyOption = None,
    yes: YesOption = False,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FORMAT",
            help="text (rendered at a terminal), markdown (as the model wrote it), json or jsonl.",
        ),
    ] = "text",
    template: Annotated[
        str | None,
        typer.Option(
            "--template", "-t", metavar="NAME", help="Ask by a template; KEY=VALUE words are values of its variables."
        ),
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option("--attach", metavar="FILE", help="Send a text, an image or a PDF along; - is stdin. Repeatable."),
    ] = None,
    schema: SchemaOption = None,
    input_format: Annotated[
        str,
        typer.Option(
            "--input-format",
            metavar="FORMAT",
            help="text, or jsonl: messages and answers come in as lines.",
        ),
    ] = "text",
    max_steps: StepsOption = None,
    max_tokens: TokensOption = None,
    max_cost: CostOption = None,
    timeout: TimeoutOption = None,
    go_on: ContinueOption = False,
    thread: ThreadOption = None,
    title: TitleOption = "",
    no_save: NoSaveOption = False,
    stats: StatsOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    config: ConfigOption = None,
    refresh: RefreshOption = False,
    no_color: NoColorOption = False,
    debug: DebugOption = False,
) -> int:
    """Ask once: the answer goes to stdout, everything else to stderr.

    The question is the words, or standard input, or both: the words first, then what is piped in.

    \b
      mcpchat ask "What is 15% of 80?"
      cat report.txt | mcpchat ask "Sum up in three lines:"
      mcpchat ask --attach chart.png "What does this show?"
      mcpchat ask -c "And in euros?"                          with the latest thread
      git diff | mcpchat ask -t review language=German        a template of yours
    """
    from mcpchat.app.attachments import read_attachments
    from mcpchat.cli import display
    from mcpchat.cli.inputs import read_schema
    from mcpchat.config.run import Wishes

    if output not in display.FORMATS:
        bad_choice("--output", output, display.FORMATS)
    if input_format not in display.INPUT_FORMATS:
        bad_choice("--input-format", input_format, display.INPUT_FORMATS)
    wishes = Wishes(
        model=model,
        agent=agent,
        allow=tuple(allow or ()),
        deny=tuple(deny or ()),
        yes=yes,
        refresh=refresh,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        schema=read_schema(schema) if schema is not None else None,
        priced=stats or output in {"json", "jsonl"},
        thread=thread,
        go_on=go_on,
        title=title,
        save=not no_save,
    )
    files = attach or []
    setup = make_setup(config, quiet=quiet)
    if input_format == "jsonl":
        from mcpchat.cli.commands import ask_jsonl

        ask_jsonl.check(output, {"WORDS": words, "--template": template, "--attach": attach, "--schema": schema})
        return run_async(ask_jsonl.run(setup, wishes, timeout=timeout, verbose=verbose))
    question = display.question(words or [], setup, template=template, read_input="-" not in files)
    attached = read_attachments(files)
    look = display.Look(quiet=quiet, verbose=verbose, no_color=no_color, stats=stats)
    return run_async(display.ask(setup, wishes, question, attached, output, look, timeout=timeout))


@app.command()
def models(
    table: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only what the server of this [model.NAME] has.")
    ] = None,
    output: JsonOutput = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """List the models that can be chosen: those that the config names, and what the model's server offers.

    Any other name works too: what is not in the list is the server's to judge.

    \b
      mcpchat models
      mcpchat models local
      mcpchat ask -m qwen3@local "Hello"      a model of that server
    """
    from mcpchat.cli.commands import tools

    if output not in tools.FORMATS:
        bad_choice("--output", output, tools.FORMATS)
    return run_async(tools.models(make_setup(config), table, output))


@app.command()
def call(
    tool: Annotated[str, typer.Argument(metavar="SERVER.TOOL", help="The tool.")],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments.")] = None,
    arguments: Annotated[
        str | None, typer.Option("--json", metavar="OBJECT", help="The arguments as one JSON object; also @FILE or -.")
    ] = None,
    agent: AgentOption = None,
    allow: AllowOption = None,
    deny: DenyOption = None,
    yes: YesOption = False,
    output: RawOutput = "text",
    file: FileOption = None,
    timeout: TimeoutOption = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Call one tool, without a model. Values are typed by the tool's schema; KEY:=VALUE is JSON.

    KEY=@FILE and KEY:=@FILE take what stands in a file, - and @- what is piped in; a value that begins with @ is
    written @@.

    \b
      mcpchat call calculator.calculate expression="2 ** 10"
      mcpchat call calculator.statistics values=1,2,3.5
      mcpchat call files.write path=notes.md content=@draft.md
      mcpchat call camera.shot -f shot.png
      echo '{"expression": "6 * 7"}' | mcpchat call calculator.calculate --json -
    """
    from mcpchat.cli.commands import call
    from mcpchat.config.run import Wishes

    if output not in call.FORMATS:
        bad_choice("--output", output, call.FORMATS)
    wishes = Wishes(agent=agent, allow=tuple(allow or ()), deny=tuple(deny or ()), yes=yes)
    return run_async(
        call.call(make_setup(config), wishes, tool, pairs or [], arguments, output, file=file, timeout=timeout)
    )


@app.command()
def read(
    resource: Annotated[
        str | None, typer.Argument(metavar="[SERVER:URI]", help="The resource; a server's name lists its own.")
    ] = None,
    output: RawOutput = "text",
    file: FileOption = None,
    timeout: TimeoutOption = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Read a server's resource; without one, list them all.

    In a question, @SERVER:URI puts a resource into it.

    \b
      mcpchat read
      mcpchat read notes:file:///todo.md
      mcpchat read notes:file:///chart.png -f chart.png
    """
    from mcpchat.cli.commands import call

    if output not in call.FORMATS:
        bad_choice("--output", output, call.FORMATS)
    return run_async(call.read(make_setup(config), resource, output, file=file, timeout=timeout))


@app.command()
def prompt(
    name: Annotated[
        str | None, typer.Argument(metavar="[SERVER:NAME]", help="The prompt; a server's name lists its own.")
    ] = None,
    pairs: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments.")] = None,
    output: JsonOutput = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Show the messages that a server makes of one of its prompts; without one, list them all.

    In a chat, /SERVER:NAME KEY=VALUE sends them.

    \b
      mcpchat prompt
      mcpchat prompt notes:summary style=short
    """
    from mcpchat.cli.commands import call, tools

    if output not in tools.FORMATS:
        bad_choice("--output", output, tools.FORMATS)
    return run_async(call.prompt(make_setup(config), name, pairs or [], output))


@app.command()
def tools(
    server: Annotated[str | None, typer.Argument(metavar="[SERVER]", help="Only this server's.")] = None,
    form: Annotated[
        str, typer.Option("--format", "--output", "-o", metavar="FORMAT", help="table, json or openai.")
    ] = "table",
    refresh: RefreshOption = False,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """List the tools of the configured servers.

    \b
      mcpchat tools calculator
      mcpchat tools --format openai     what the model gets
    """
    from mcpchat.cli.commands import tools

    if form not in tools.TOOL_FORMATS:
        bad_choice("--format", form, tools.TOOL_FORMATS)
    return run_async(tools.tools(make_setup(config), server, form, refresh=refresh))


app.command()(schema.batch)
app.command()(schema.schema)
app.command()(schema.completion)
