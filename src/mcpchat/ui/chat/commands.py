"""The slash commands. One table, COMMANDS, also provides /help and the completions."""

import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from mcpchat.core.catalog import Resource, ResourceTemplate, parse_prompt_arguments
from mcpchat.core.messages import user_message
from mcpchat.core.templates import compose_prompt
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.mentions import attach_resources
from mcpchat.errors import McpChatError, UsageError
from mcpchat.ui.chat import argument_completions, thread_commands
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.markdown.render import find_code_blocks
from mcpchat.ui.render import stats, tables, transcripts
from mcpchat.ui.render.tool_page import format_signatures, format_tool_page
from mcpchat.ui.terminal import external
from mcpchat.util.sanitize import one_line, sanitize
from mcpchat.util.text import closest_matches, did_you_mean

_LOG_LINES = 40
_MAX_MODELS = 40
_TALK, _TOOLS, _SETTINGS = "talk", "tools", "more"  # groups of commands
_ROWS_AROUND_HELP = 4  # the echoed line, the input line and the status line
_WIDE_SCREEN = 100  # columns; /help shows the equivalent command lines from this width on
_MAX_DIGITS = 9  # digits of a typed number


@dataclass(frozen=True)
class Command:
    """A slash command. ``handler`` and ``complete`` are called with the context and the text after the name.

    ``complete`` returns the possible arguments, each with a short help text. ``cli_equivalent`` is the command line
    that does the same outside the chat.
    """

    name: str
    argument: str
    help: str
    handler: Callable[[CommandContext, str], Awaitable[None]]
    group: str
    aliases: tuple[str, ...] = ()
    cli_equivalent: str = ""
    complete: Callable[[CommandContext, str], Mapping[str, str]] = argument_completions.complete_nothing


async def _show_help(context: CommandContext, argument: str) -> None:
    """Print the commands in groups, and the keys if they fit on the screen too."""
    if argument not in {"", "keys"}:
        raise UsageError(f"/help {argument}: expected nothing, or keys")
    keys = LINE_MODE_KEY_HELP if context.plain else KEY_HELP
    if not argument:
        _print_commands(context)
    if argument or context.plain or len(COMMANDS) + len(keys) + _ROWS_AROUND_HELP <= context.console.height:
        for line in keys:
            context.print(f"  {line}", "dim")
    else:
        context.print("  /help keys lists the keys", "dim")


def _print_commands(context: CommandContext) -> None:
    width = max(len(f"{command.name} {command.argument}") for command in COMMANDS)
    group_width, group = max(len(command.group) for command in COMMANDS), ""
    for command in COMMANDS:
        label, group = command.group if command.group != group else "", command.group
        row = Text(f"{label:<{group_width}}", style="bold")
        row.append(f"  {f'{command.name} {command.argument}':<{width}}  {command.help}", style="not bold")
        if command.cli_equivalent and context.console.width >= _WIDE_SCREEN:
            row.append(f"  {command.cli_equivalent}", style="dim not bold")
        context.console.print(row)


async def _show_tools(context: CommandContext, argument: str) -> None:
    names = [status.name for status in context.servers.status()]
    server = argument.partition(".")[0] if " " not in argument else ""
    specs = await context.toolbox.list_tools()
    own = [spec for spec in specs if spec.server == server]
    if argument and server not in names:
        found = await context.chat.search_tools(argument)
        if not found:
            raise UsageError(f"no tool is about {argument}", hint=f"servers: {', '.join(names) or 'none'}")
        context.console.print(tables.tool_table(found))
    elif "." in argument:
        await _show_tool(context, argument, own)
    elif own:
        context.console.print(format_signatures(own))
    elif specs and not argument:
        context.console.print(tables.tool_table(specs))
    else:
        context.print(f"no tools of {argument}: /servers shows why" if argument else "no tools: /servers shows why")


async def _show_tool(context: CommandContext, name: str, specs: Sequence[ToolSpec]) -> None:
    spec = next((spec for spec in specs if spec.qualified_name == name), None)
    if spec is None:
        suggestion = did_you_mean(name, [spec.qualified_name for spec in specs])
        raise UsageError(f"no tool {name}{suggestion}", hint="/tools lists them")
    decision = context.session.agent.gate.policy.evaluate(spec, {})
    context.console.print(format_tool_page(spec, decision, context.chat.pinned_on(spec)))


async def _show_servers(context: CommandContext, argument: str) -> None:
    verb, *words = _split_arguments(argument) or [""]
    if verb == "add" or (verb == "remove" and len(words) == 1):
        await _change_servers(context, verb, words)
        return
    if argument == "refresh":
        context.print(f"{len(await context.servers.refresh())} tools on offer", "dim")
        return
    statuses = {status.name: status for status in context.servers.status()}
    if not argument:
        context.console.print(tables.server_table(list(statuses.values())))
        return
    if argument not in statuses:
        raise UsageError(f"no server {argument}", hint=f"/servers NAME, one of {', '.join(statuses) or 'none'}")
    await context.toolbox.list_tools()  # starts servers whose catalog is not known yet
    catalog = context.servers.catalogs().get(argument)
    context.console.print(
        tables.server_table([status for status in context.servers.status() if status.name == argument])
    )
    resources: list[Resource | ResourceTemplate] = (
        [*catalog.resources, *catalog.templates] if catalog is not None else []
    )
    if resources:
        context.console.print(tables.resource_table(resources))
        context.print("  @server:uri in a message inserts a resource", "dim")
    if catalog is not None and catalog.prompts:
        context.console.print(tables.prompt_table(catalog.prompts))
        context.print("  /server:name key=value sends a prompt", "dim")
    if catalog is not None and not (catalog.resources or catalog.templates or catalog.prompts):
        context.print("  no resources, no prompts", "dim")


async def _change_servers(context: CommandContext, verb: str, words: Sequence[str]) -> None:
    """Write the config, and show the servers that were added."""
    if verb == "remove":
        await context.chat.remove_server(words[0])
        return
    if not words:
        raise UsageError("which server?", hint="/servers add NAME URL, NAME -- COMMAND, or a known name such as notion")
    name, *target = words
    names = await context.chat.add_server([name, *(target[1:] if target[:1] == ["--"] else target)])
    await context.toolbox.list_tools()  # starts them
    added = [status for status in context.servers.status() if status.name in names]
    context.console.print(tables.server_table(added))


async def _show_log(context: CommandContext, argument: str) -> None:
    names = [status.name for status in context.servers.status()]
    if argument not in names:
        context.print(f"usage: /logs SERVER, one of {', '.join(names) or 'none'}", "yellow")
        return
    lines = context.servers.log(argument).splitlines()[-_LOG_LINES:]
    context.print("\n".join(lines) or f"{argument} has logged nothing")


async def _sign_in(context: CommandContext, argument: str) -> None:
    names = context.chat.login_names()
    if not argument and len(names) != 1:
        message = f"usage: /login NAME, one of {', '.join(names)}" if names else "no server or provider needs a sign-in"
        context.print(message, "yellow")
        return
    await context.chat.login(argument or names[0])
    await context.toolbox.list_tools()


async def _show_approvals(context: CommandContext, argument: str) -> None:
    """List what the user allowed, or ask again about the tools that match a glob."""
    action, _, glob = argument.partition(" ")
    if action not in {"", "list", "revoke"} or (action == "revoke") is not bool(glob.strip()):
        raise UsageError(f"/approvals {argument}: expected nothing, or revoke SERVER.TOOL (a tool or a glob)")
    if action == "revoke":
        for name in context.chat.revoke_approvals(glob.strip()) or ["nothing that you allowed"]:
            context.print(f"  {one_line(name, 200)} asks again")
        return
    approvals = context.chat.list_approvals()
    for name, since in approvals:
        context.print(f"  {one_line(name, 200)}  {since}")
    hint = "/approvals revoke SERVER.TOOL asks again" if approvals else "you allowed no tool beyond a single call"
    context.print(f"  {hint}; rules are in the config, under [approvals]", "dim")


async def _show_trust(context: CommandContext, argument: str) -> None:
    context.print(f"  {context.chat.describe_trust()}")
    context.print("  mcpchat trust review SERVER shows tools that a server has changed", "dim")


async def _switch_model(context: CommandContext, argument: str) -> None:
    if argument:
        await context.chat.switch_model(argument)
    model = context.session.model
    context.print(f"model: {model.name}" + (f"  ({model.endpoint})" if model.endpoint else ""))
    if argument:
        return
    try:
        context.known_models = await context.chat.list_models()
    except McpChatError as error:
        context.print(f"  cannot list the models: {error.message}", "dim")
    names = list(dict.fromkeys((*context.chat.configured_models, *context.known_models)))
    for name in names[:_MAX_MODELS]:
        is_current = name in {model.selector, model.name}
        context.print(f"{'*' if is_current else ' '} {one_line(name, 200)}", "" if is_current else "dim")
    if len(names) > _MAX_MODELS:
        context.print(f"  and {len(names) - _MAX_MODELS} more: mcpchat models", "dim")


async def _switch_agent(context: CommandContext, argument: str) -> None:
    if argument:
        await context.chat.switch_agent(argument if argument != "-" else None)
        context.print(f"agent: {context.session.agent.name or 'none'}, on {context.session.model.name}")
        return
    current, agents = context.session.agent.name, context.chat.agents
    context.print(f"agent: {current or 'none'}")
    for name, description in agents.items():
        context.print(f"{'*' if name == current else ' '} {name}  {one_line(description, 100)}".rstrip(), "dim")
    context.print("  /agent - selects no agent" if agents else "  mcpchat agents new NAME creates one", "dim")


def _split_arguments(argument: str) -> list[str]:
    try:
        return shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"a quote is not closed: {argument}", hint='write key="a value"') from error


async def _retry(context: CommandContext, argument: str) -> None:
    context.report_outcome(await context.session.retry())


async def _compact(context: CommandContext, argument: str) -> None:
    if not await context.session.compact():
        context.print("there is nothing to summarize yet", "dim")


async def _show_usage(context: CommandContext, argument: str) -> None:
    totals = context.session.thread_usage
    cost = (
        stats.format_cost(totals.cost)
        if not (totals.unpriced_requests and totals.dollars)
        else f"{stats.format_cost(totals.dollars)} and more"
    )
    for line in (f"{stats.format_tokens(totals.usage)} · {cost}", *stats.format_input(totals.usage)):
        context.print(line)
    context.print(stats.format_window(*await context.session.window_usage()), "dim")


async def _attach(context: CommandContext, argument: str) -> None:
    if not argument:
        context.attachments.clear()
        context.print("no attachments; /attach FILE sends a file with the next message", "dim")
        return
    path = argument[1:-1] if len(argument) > 1 and argument[0] == argument[-1] == '"' else argument
    resource = (await attach_resources(f"@{path}", context.servers)).parts[1:]
    context.attachments += resource or context.read_file(path)
    context.print(f"{argument} goes with the next message", "dim")


async def _start_new(context: CommandContext, argument: str) -> None:
    context.session.clear()
    context.reset_pending()
    context.print("a new conversation", "dim")


async def _show_last_calls(context: CommandContext, argument: str) -> None:
    """Show the arguments and results of the latest calls in full; ``argument`` selects a call, counted from the end."""
    if argument and not (argument.isdecimal() and 0 < len(argument) < _MAX_DIGITS):
        raise UsageError(f"/last {argument}: expected a number, 1 for the latest call")
    calls = list(transcripts.format_calls(context.session.history))
    if not calls:
        reasoning = context.latest_reasoning()
        await context.show_in_pager(reasoning) if reasoning else context.print("no tool was called yet")
        return
    selected = calls[-int(argument) :][:1] if argument else calls
    if not selected or int(argument or 1) > len(calls):
        raise UsageError(f"there were only {len(calls)} calls")
    header = (
        ["The model's latest reasoning:", context.latest_reasoning(), ""]
        if context.latest_reasoning() and not argument
        else []
    )
    await context.show_in_pager("\n".join([*header, *(line for call in reversed(selected) for line in call)]))


async def _copy(context: CommandContext, argument: str) -> None:
    if argument not in {"", "code"}:
        raise UsageError(f"/copy {argument}: expected nothing, or code")
    answer = next((m.text for m in reversed(context.session.history) if m.role == "assistant" and m.text.strip()), "")
    texts = find_code_blocks(answer) if argument else [answer.strip()]
    if not answer or not texts:
        context.print("there is no code in the latest answer" if answer else "there is no answer yet")
        return
    text = sanitize(texts[-1])  # what is pasted into a terminal must not control it
    method = await external.copy_to_clipboard(text, context.write_raw)
    context.print(f"  copied {len(text):,} characters with {method}", "dim")


async def _exit(context: CommandContext, argument: str) -> None:
    context.exit_requested = True


COMMANDS: Sequence[Command] = (
    Command("/new", "", "start a new conversation", _start_new, _TALK, ("/clear",), "mcpchat"),
    Command(
        "/undo",
        "[COUNT]",
        "take back your latest message",
        thread_commands.undo,
        _TALK,
        cli_equivalent="mcpchat --thread ID@NUMBER",
    ),
    Command("/edit", "", "edit and resend your latest message", thread_commands.edit, _TALK),
    Command("/retry", "", "ask the model again", _retry, _TALK),
    Command(
        "/attach",
        "[FILE]",
        "send a file with the next message",
        _attach,
        _TALK,
        cli_equivalent="mcpchat ask --attach",
        complete=argument_completions.complete_file,
    ),
    Command(
        "/copy",
        "[code]",
        "copy the latest answer, or its code",
        _copy,
        _TALK,
        complete=argument_completions.complete_copy,
    ),
    Command(
        "/last",
        "[NUMBER]",
        "the latest calls and their full results",
        _show_last_calls,
        _TALK,
        cli_equivalent="mcpchat threads show",
    ),
    Command("/compact", "", "summarize the conversation to free space", _compact, _TALK),
    Command("/usage", "", "tokens, cost, context window", _show_usage, _TALK, ("/cost",), "mcpchat ask --stats"),
    Command(
        "/threads",
        "[ID|TITLE|...]",
        "resume another; fork, rename, branch",
        thread_commands.switch_thread,
        _TALK,
        ("/resume", "/history"),
        "mcpchat threads",
        argument_completions.complete_thread,
    ),
    Command(
        "/export",
        "[FILE]",
        "write the conversation to a .md or .html file",
        thread_commands.export,
        _TALK,
        cli_equivalent="mcpchat threads export",
        complete=argument_completions.complete_file,
    ),
    Command(
        "/tools",
        "[NAME|WORDS]",
        "the tools: all, a server's, one, a search",
        _show_tools,
        _TOOLS,
        cli_equivalent="mcpchat tools",
        complete=argument_completions.complete_tool,
    ),
    Command(
        "/servers",
        "[SERVER|add|...]",
        "server states; add, remove, refresh",
        _show_servers,
        _TOOLS,
        ("/mcp",),
        "mcpchat servers",
        argument_completions.complete_servers,
    ),
    Command(
        "/login",
        "[NAME]",
        "sign in to a provider or a server",
        _sign_in,
        _TOOLS,
        cli_equivalent="mcpchat auth login",
        complete=argument_completions.complete_login,
    ),
    Command(
        "/logs",
        "SERVER",
        "show a server's log",
        _show_log,
        _TOOLS,
        cli_equivalent="mcpchat servers logs",
        complete=argument_completions.complete_server,
    ),
    Command(
        "/approvals",
        "[revoke GLOB]",
        "what you allowed; ask again",
        _show_approvals,
        _TOOLS,
        ("/permissions",),
        "mcpchat approvals",
        argument_completions.complete_approval,
    ),
    Command("/trust", "", "the project file of this folder", _show_trust, _TOOLS, (), "mcpchat trust"),
    Command(
        "/model",
        "[NAME]",
        "list the models, or use another",
        _switch_model,
        _SETTINGS,
        cli_equivalent="mcpchat models",
        complete=argument_completions.complete_model,
    ),
    Command(
        "/agent",
        "[NAME]",
        "list the agents, or use another",
        _switch_agent,
        _SETTINGS,
        cli_equivalent="mcpchat agents",
        complete=argument_completions.complete_agent,
    ),
    Command("/help", "[keys]", "list the commands, or the keys", _show_help, _SETTINGS, ("/?",), "mcpchat --help"),
    Command("/exit", "", "leave", _exit, _SETTINGS, ("/quit",)),
)
KEY_HELP = (
    "Enter sends; Ctrl-J, Alt-Enter, or \\ at the end: new line; Ctrl-X Ctrl-E: editor",
    "Up, Ctrl-R: history; Tab completes; Right accepts the suggestion",
    "@ names a file or a resource; /server:prompt, /template:name; start with a space to send text that begins with /",
    "!command runs a command of your shell; !! sends its output along; Ctrl-O opens a folded paste",
    "Ctrl-C cancels an answer; Ctrl-B goes on without a task; Ctrl-T folds reasoning; Ctrl-D leaves",
)
LINE_MODE_KEY_HELP = (
    "Enter sends; a backslash at the end continues on the next line",
    "@ names a file or a resource; /server:prompt and /template:name send one",
    "Ctrl-C cancels an answer; Ctrl-D leaves",
)
# A line with only one of these words is a command.
BARE_WORDS = {"exit": "/exit", "quit": "/exit", ":q": "/exit", "help": "/help", "?": "/help"}
# What other clients call /threads and the like, where this one has no command in the chat.
_ELSEWHERE = {
    "/config": "mcpchat config show prints the settings",
}
TEMPLATE_PREFIX = "template"  # /template:NAME is one of the user's templates
_COMMANDS_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def help_by_name() -> dict[str, str]:
    return {command.name: command.help for command in COMMANDS}


def complete_argument(context: CommandContext, name: str, typed: str) -> Mapping[str, str]:
    """The possible values after a command's name, each with a short help text; ``name`` begins with a slash."""
    if command := _COMMANDS_BY_NAME.get(name):
        return command.complete(context, typed)
    prefix, _, template = name.partition(":")
    if prefix == f"/{TEMPLATE_PREFIX}":
        return argument_completions.complete_template_variable(context, template, typed)
    return {}


def complete_templates(context: CommandContext) -> Mapping[str, str]:
    """The user's templates as commands, ``/template:NAME``."""
    return {f"/{TEMPLATE_PREFIX}:{name}": "your template" for name in context.chat.template_names()}


async def run(context: CommandContext, line: str) -> None:
    """Run a line that begins with a slash. An unknown command prints the closest name. Raises McpChatError."""
    name, _, argument = line.strip().partition(" ")
    argument = argument.strip()
    command = _COMMANDS_BY_NAME.get(name)
    if command is None and ":" in name:
        await _run_prompt(context, name[1:], argument)
        return
    if command is None and name in _ELSEWHERE:
        context.print(f"no command {name} in the chat: {_ELSEWHERE[name]}", "yellow")
        return
    if command is None:
        close = closest_matches(name[1:], [known[1:] for known in _COMMANDS_BY_NAME], 1)
        hint = f"; did you mean /{close[0]}?" if close else "; /help lists them"
        context.print(f"no command {name}{hint}", "yellow")
        return
    if argument and not command.argument:
        raise UsageError(f"{name} takes no argument")
    await command.handler(context, argument)


async def _run_prompt(context: CommandContext, label: str, argument: str) -> None:
    """Send the messages of a server's prompt, or of one of the user's templates."""
    await context.toolbox.list_tools()
    prompts = {prompt.label: prompt for catalog in context.servers.catalogs().values() for prompt in catalog.prompts}
    prompt = prompts.get(label)
    prefix, _, name = label.partition(":")
    if prompt is None and prefix == TEMPLATE_PREFIX:
        await _run_template(context, name, argument)
        return
    if prompt is None:
        hint = did_you_mean(f"/{label}", [f"/{name}" for name in prompts]) or f"; /servers {prefix} lists its prompts"
        context.print(f"no prompt /{label}{hint}", "yellow")
        return
    arguments = parse_prompt_arguments(prompt, _split_arguments(argument))
    messages = await context.servers.get_prompt(prompt.server, prompt.name, arguments)
    if not messages:
        context.print(f"/{label} returned no messages", "yellow")
        return
    for message in messages:
        context.print(f"  {message.role}: {one_line(message.text, 300)}", "dim")
    if messages[-1].role == "assistant":  # the beginning of an answer; no API accepts that as the last message
        messages = [*messages, user_message("Go on.")]
    await context.send(*messages)


async def _run_template(context: CommandContext, name: str, argument: str) -> None:
    try:
        args = shlex.split(argument)
    except ValueError:  # an apostrophe
        args = argument.split()
    text = compose_prompt(name, context.chat.read_template(name), args, "", context.chat.template_variables())
    if not text:
        raise UsageError(f"the template {name} produced no text")
    await context.send_text(text, attach_files=False)
