"""mcpchat tasks: the calls that servers run on their own time, from any terminal and after a restart."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.app.tool_call import tool_failure
from mcpchat.cli.content import print_tool_result
from mcpchat.cli.mcp_session import open_servers, print_notices, require_server, restrict_to, terminal_user
from mcpchat.cli.options import (
    FileOption,
    TextJsonOrRaw,
    TimeoutOption,
    config_and_servers,
    form_answers,
    with_options,
)
from mcpchat.cli.output import print_table, write_json
from mcpchat.cli.runtime import build_context, current_run, run_async
from mcpchat.config.run import ConfigChoice, RunContext
from mcpchat.core.events import VERSION
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.core.messages import ToolResult
from mcpchat.core.protocols import TaskStore
from mcpchat.core.server_task import ServerTask
from mcpchat.errors import ServerError, UsageError
from mcpchat.mcp import kept_servers
from mcpchat.mcp.server_tasks import ServerTasks
from mcpchat.threads import resume
from mcpchat.ui.render import tables
from mcpchat.ui.render.progress import CallProgress
from mcpchat.util.sanitize import sanitize_message
from mcpchat.util.time_limit import time_limit

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(config=config_and_servers, answers=form_answers)
def tasks(
    config: ConfigChoice,
    answers: FormAnswers,
    task: Annotated[str | None, typer.Argument(metavar="[ID]", help="The task; without it, all are listed.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its result, and print it.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Tell its server to cancel it.")] = False,
    output: TextJsonOrRaw = "text",
    file: FileOption = None,
    timeout: TimeoutOption = None,
) -> int:
    """List the calls that servers run as tasks; show one, its result, wait for it or cancel it.

    A list asks no server. Ctrl-C ends the waiting; the task goes on.

    \b
      mcpchat call --detach box.count to=1000
      mcpchat tasks
      mcpchat tasks 3fa21c
      mcpchat tasks 3fa21c --wait -o json
      mcpchat tasks 3fa21c --cancel
    """
    if wait and cancel:
        raise UsageError("--wait and --cancel exclude each other")
    if task is None and (wait or cancel or file is not None):
        raise UsageError("--wait, --cancel and --file need the ID of a task", hint="mcpchat tasks lists them")
    context = build_context(config)
    if task is None:
        return run_async(_list_tasks(context, output))
    with use_answers(answers):
        if cancel:
            return run_async(_cancel_task(context, task, timeout))
        return run_async(_show_task(context, task, output, file, timeout, wait=wait))


@asynccontextmanager
async def _open_tasks(context: RunContext) -> AsyncIterator[TaskStore]:
    def warn(text: str) -> None:
        sys.stderr.write(f"warning: {sanitize_message(text)}\n")

    store = await resume.open_store(context, warn)
    try:
        yield store.tasks
    finally:
        store.close()


async def _list_tasks(context: RunContext, output: str) -> int:
    async with _open_tasks(context) as store:
        listed = await asyncio.to_thread(store.recent)
    if output == "json":
        write_json(msgspec.to_builtins(listed))
    elif listed:
        print_table(tables.task_table(listed))
    else:
        sys.stderr.write("no tasks\n")
    return 0


async def _find_task(context: RunContext, name: str) -> ServerTask:
    async with _open_tasks(context) as store:
        return await asyncio.to_thread(store.find, name)


@asynccontextmanager
async def _open_server(
    context: RunContext, task: ServerTask, timeout: float | None
) -> AsyncIterator[tuple[ServerTasks, Callable[[], None]]]:
    """The tasks of the task's server, and a function that lifts the time limit."""
    require_server(context, task.server)
    context = _keep_as_before(restrict_to(context, task.server), task.server)
    async with (
        time_limit(timeout) as lift_limit,
        open_servers(context, print_notices, user=terminal_user()) as hub,
    ):
        yield hub.tasks(task.server), lift_limit


def _keep_as_before(context: RunContext, name: str) -> RunContext:
    """The context in which a local server counts as kept: its tasks are in that process.

    Raises ServerError if it is not kept: another process would know nothing of them.
    """
    folder = kept_servers.keeper_folder(context.environ, context.paths.state)
    kept = next((server for _, server in kept_servers.list_kept(folder) if server.name == name), None)
    config = context.config.servers[name]
    if config.effective_transport != "stdio":
        return context
    if kept is None:
        message = f"{name} is not kept: a task ends with the command that began it, and only that can ask about it"
        raise ServerError(message, hint=f'keep = "10m" under [servers.{name}], or --keep 10m, lets it stay')
    if config.keep is not None:
        return context
    server = msgspec.structs.replace(config, keep=f"{max(1, round(kept.idle))}s")
    return replace(context, config=msgspec.structs.replace(context.config, servers={name: server}))


async def _show_task(
    context: RunContext, name: str, output: str, file: Path | None, timeout: float | None, *, wait: bool
) -> int:
    """Raises UsageError, ServerError, SignInNeeded, LimitReached, ToolFailed."""
    task = await _find_task(context, name)
    async with _open_server(context, task, timeout) as (server, lift_limit):
        task, result = await _look(server, task, wait=wait)
        lift_limit()
        if result is None:
            if output == "json":
                write_json({"v": VERSION, **msgspec.to_builtins(task)})
            else:
                print_table(tables.task_table([task]))
            return 0
        print_tool_result(task.name, result, output, None if result.is_error else file)
    if result.is_error:
        current_run().error_written = output == "json"
        raise tool_failure(task.name)
    return 0


async def _look(server: ServerTasks, task: ServerTask, *, wait: bool) -> tuple[ServerTask, ToolResult | None]:
    """The task as it is now, and its result if it has ended, or if it is waited for."""
    progress = CallProgress(sys.stderr)
    try:
        if not wait:
            task, result = await server.look(task)
            if result is not None or not task.is_over:
                return task, result
        return task, await server.wait(task, progress)
    finally:
        progress.clear()


async def _cancel_task(context: RunContext, name: str, timeout: float | None) -> int:
    """Raises UsageError, ServerError, SignInNeeded, LimitReached."""
    task = await _find_task(context, name)
    async with _open_server(context, task, timeout) as (server, _):
        await server.cancel(task)
    sys.stderr.write(f"cancelled {task.id}\n")
    return 0
