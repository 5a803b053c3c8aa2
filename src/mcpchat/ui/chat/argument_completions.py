"""Completions of the slash commands' arguments: each function maps a possible value to a short help text.

``typed`` is the text after the command's name, up to the cursor.
"""

import os
from collections.abc import Mapping

from mcpchat.core.templates import find_variables
from mcpchat.errors import McpChatError
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.chat.thread_commands import THREAD_ACTIONS
from mcpchat.ui.render.transcripts import format_time
from mcpchat.util.paths import expand_user

_MAX_THREADS = 100
_MAX_FILES = 50
_MAX_SCANNED_ENTRIES = 2000  # entries of a directory


def complete_nothing(context: CommandContext, typed: str) -> Mapping[str, str]:
    return {}


def complete_server(context: CommandContext, typed: str) -> Mapping[str, str]:
    return {status.name: status.state for status in context.servers.status()}


def complete_servers(context: CommandContext, typed: str) -> Mapping[str, str]:
    servers = complete_server(context, typed)
    if typed.startswith("remove "):
        return {f"remove {name}": text for name, text in servers.items()}
    return {
        **servers,
        "refresh": "list every server again, and retry those that failed",
        "add": "NAME URL, NAME -- COMMAND, or a known server: written into the config",
        "remove": "NAME: removed from the config",
    }


def complete_tool(context: CommandContext, typed: str) -> Mapping[str, str]:
    """Servers and their tools."""
    tools = {
        spec.qualified_name: spec.description or spec.title
        for catalog in context.servers.catalogs().values()
        for spec in catalog.tools
    }
    return {**complete_server(context, typed), **tools}


def complete_approval(context: CommandContext, typed: str) -> Mapping[str, str]:
    try:
        return {f"revoke {name}": since for name, since in context.chat.list_approvals()}
    except McpChatError:
        return {}


def complete_login(context: CommandContext, typed: str) -> Mapping[str, str]:
    return dict.fromkeys(context.chat.login_names(), "")


def complete_agent(context: CommandContext, typed: str) -> Mapping[str, str]:
    return context.chat.agents


def complete_model(context: CommandContext, typed: str) -> Mapping[str, str]:
    model = context.session.model
    listed = dict.fromkeys(context.known_models, f"at {model.endpoint}")
    configured = dict.fromkeys(context.chat.configured_models, "from the config")
    return listed | {model.name: "current"} | configured | {"demo": "no language model: demonstrates the tools"}


def complete_thread(context: CommandContext, typed: str) -> Mapping[str, str]:
    """The actions of /threads, and the ids of the latest threads."""
    try:
        threads = context.chat.recent_threads()[:_MAX_THREADS]
    except McpChatError:
        return THREAD_ACTIONS
    ids = {thread.short_id: f"{format_time(thread.updated)}  {thread.title}" for thread in threads}
    return {**THREAD_ACTIONS, **ids}


def complete_copy(context: CommandContext, typed: str) -> Mapping[str, str]:
    return {"code": "only the last code block"}


def complete_file(context: CommandContext, typed: str) -> Mapping[str, str]:
    return dict.fromkeys(complete_path(typed), "")


def complete_template_variable(context: CommandContext, template: str, typed: str) -> Mapping[str, str]:
    """The variables of a template that have no value yet, each after what was typed before it."""
    try:
        variables = find_variables(context.chat.read_template(template))
    except McpChatError:
        return {}
    previous = typed.rpartition(" ")[0]
    assigned = {token.partition("=")[0] for token in previous.split()}
    prefix = f"{previous} " if previous else ""
    return {
        f"{prefix}{variable.name}=": variable.default or "" for variable in variables if variable.name not in assigned
    }


def complete_path(typed: str) -> list[str]:
    """Files and directories that begin with the typed path, sorted; directories end in a slash.

    Hidden ones are included only if the typed name begins with a dot. At most 50 paths; none if the directory cannot
    be read.
    """
    directory, slash, prefix = typed.rpartition("/")
    matches = []
    try:
        path = expand_user(f"{directory}{slash}" or ".")
        with os.scandir(path) as entries:
            for _, entry in zip(range(_MAX_SCANNED_ENTRIES), entries, strict=False):
                hidden = entry.name.startswith(".") and not prefix.startswith(".")
                if entry.name.casefold().startswith(prefix.casefold()) and not hidden and entry.name.isprintable():
                    matches.append(f"{directory}{slash}{entry.name}{'/' * entry.is_dir()}")
    except (OSError, ValueError, RuntimeError):  # no such directory, no such user
        return []
    return sorted(matches)[:_MAX_FILES]
