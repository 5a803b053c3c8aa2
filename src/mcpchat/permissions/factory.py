"""Who decides on calls, and what was agreed before: rules, answers that are kept, pins."""

from pathlib import Path

from mcpchat.config.run import RunContext, RunOptions, get_agent
from mcpchat.config.schema import Config, ServerConfig
from mcpchat.config.validation import idle_pattern
from mcpchat.core.events import Emit, Notice
from mcpchat.core.policy import YES, Policy, rules
from mcpchat.core.protocols import Asker, CatalogToolbox, Toolbox
from mcpchat.engine.approval_gate import Gate
from mcpchat.errors import UsageError
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.permissions.server_fingerprint import server_identity
from mcpchat.permissions.store import ApprovalFile, PinFiles


def make_policy(config: Config, options: RunOptions) -> Policy:
    """The config's rules, the agent's and the run's. Raises UsageError for a pattern that can match nothing."""
    for pattern in (*options.allow, *options.deny):
        if problem := idle_pattern(pattern, config.servers):
            raise UsageError(problem, hint="mcpchat tools lists the names")
    agent = get_agent(config, options.agent).approvals
    named = f"agent {options.agent or 'default'}"
    written = (
        *rules("deny", config.approvals.deny),
        *rules("deny", agent.deny, named),
        *rules("deny", options.deny, "--deny"),
        *rules("ask", config.approvals.ask),
        *rules("ask", agent.ask, named),
        *rules("allow", config.approvals.allow),
        *rules("allow", agent.allow, named),
    )
    default = agent.default or config.approvals.default or "ask"
    policy = Policy(rules=written, default=default).granting(*options.allow, source="--allow")
    return policy.granting("*", source=YES) if options.yes else policy


def identities(context: RunContext) -> dict[str, str]:
    """Which server each name stands for, as what is agreed with it is kept."""
    servers = context.config.servers
    return {
        name: server_identity(name, server, _read_in(server, context.working_directory))
        for name, server in servers.items()
    }


def _read_in(server: ServerConfig, folder: Path) -> str:
    """The folder in which the server's command line names files, so that elsewhere it would be another program."""
    if server.command is None:
        return ""
    place = folder / Path(server.cwd or ".").expanduser()
    words = (server.command, *server.args)
    named = any(not Path(word).is_absolute() and (place / word).exists() for word in words if word and len(word) < 4096)
    return str(place) if server.cwd or named else ""


def pin_files(context: RunContext) -> PinFiles:
    return PinFiles(context.paths.state / "pins", identities(context))


def approval_file(context: RunContext) -> ApprovalFile:
    return ApprovalFile(context.paths.state / "approvals.json", identities(context))


def pinned(context: RunContext, toolbox: CatalogToolbox, asker: Asker, emit: Emit) -> PinnedToolbox:
    """The servers' tools, without those that changed since they were agreed to."""
    servers = context.config.servers
    return PinnedToolbox(
        toolbox,
        catalogs=toolbox.catalogs,
        store=pin_files(context),
        asker=asker,
        emit=emit,
        exempt=[name for name, server in servers.items() if server.builtin is not None],
        offers=lambda server, tool: server not in servers or servers[server].offers(tool),
    )


def make_gate(context: RunContext, options: RunOptions, asker: Asker, toolbox: Toolbox, emit: Emit) -> Gate:
    """Who decides on calls. Raises UsageError."""
    return Gate(
        make_policy(context.config, options),
        asker,
        approvals=approval_file(context),
        check=toolbox.check,
        warn=lambda text: emit(Notice(level="warning", text=text)),
    )
