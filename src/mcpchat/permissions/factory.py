"""Builds the objects that decide on tool calls: the policy, the approval gate, saved approvals and pins."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mcpchat.config.run import RunContext, RunOptions, get_agent
from mcpchat.config.schema import ServerConfig
from mcpchat.config.validation import unmatched_pattern
from mcpchat.core.events import Emit, Notice
from mcpchat.core.policy import YES_SOURCE, Policy, parse_rules
from mcpchat.core.protocols import CatalogToolbox, Toolbox, UserDialog
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.errors import StoreError, UsageError
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.permissions.server_fingerprint import server_fingerprint
from mcpchat.permissions.store import FileApprovalStore, FilePinStore
from mcpchat.util.paths import expand_user


def build_policy(context: RunContext, options: RunOptions) -> Policy:
    """Combine the rules of the config, of the agent and of the run.

    Raises UsageError if a pattern of the run cannot match any tool.
    """
    config = context.config
    for pattern in (*options.allow, *options.deny):
        if problem := unmatched_pattern(pattern, config.servers):
            raise UsageError(problem, hint="mcpchat tools lists the names")
    agent_approvals = get_agent(config, options.agent).approvals
    agent_source = f"agent {options.agent or 'default'}"
    written_rules = (
        *parse_rules("deny", config.approvals.deny),
        *parse_rules("deny", agent_approvals.deny, agent_source),
        *parse_rules("deny", options.deny, "--deny"),
        *parse_rules("ask", config.approvals.ask),
        *parse_rules("ask", agent_approvals.ask, agent_source),
        *parse_rules("allow", config.approvals.allow),
        *parse_rules("allow", agent_approvals.allow, agent_source),
    )
    default = agent_approvals.default or config.approvals.default or "ask"
    policy = Policy(rules=written_rules, default=default, aliases=context.server_aliases or {})
    policy = policy.with_overrides(*options.allow, source="--allow")
    return policy.with_overrides("*", source=YES_SOURCE) if options.yes else policy


class ServerFingerprints(Mapping[str, str]):
    """The fingerprint of each configured server by name, under which pins and approvals are saved.

    They are found once for each config that the context has.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._servers: Mapping[str, ServerConfig] | None = None
        self._fingerprints: dict[str, str] = {}

    def _current(self) -> dict[str, str]:
        servers, directory = self._context.config.servers, self._context.working_directory
        if servers is not self._servers:
            self._fingerprints = {
                name: server_fingerprint(name, server, _fingerprint_directory(server, directory))
                for name, server in servers.items()
            }
            self._servers = servers
        return self._fingerprints

    def __getitem__(self, server: str) -> str:
        return self._current()[server]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())


def _fingerprint_directory(server: ServerConfig, working_directory: Path) -> str:
    """Return the directory that is part of the server's identity, empty if it makes no difference.

    It counts if ``cwd`` is set or the command line refers to files by relative paths: in another directory it would be
    another program.
    """
    if server.command is None:
        return ""
    directory = working_directory / expand_user(server.cwd or ".")
    args = (server.command, *server.args)
    refers_to_files = any(
        not Path(arg).is_absolute() and (directory / arg).exists() for arg in args if arg and len(arg) < 4096
    )
    return str(directory) if server.cwd or refers_to_files else ""


def pin_store(context: RunContext) -> FilePinStore:
    return FilePinStore(context.paths.state / "pins", ServerFingerprints(context))


def pinned_on(context: RunContext, spec: ToolSpec) -> str:
    """Since when the tool's definition is pinned, YYYY-MM-DD; empty if it is not, or not known."""
    try:
        pins = pin_store(context).load(spec.server)
    except StoreError:
        return ""
    pin = pins.tools.get(spec.name) if pins is not None else None
    return pin.date if pin is not None and pin.sha256 == spec.fingerprint else ""


def approval_store(context: RunContext) -> FileApprovalStore:
    return FileApprovalStore(context.paths.state / "approvals.json", ServerFingerprints(context))


def pinned_toolbox(context: RunContext, toolbox: CatalogToolbox, asker: UserDialog, emit: Emit) -> PinnedToolbox:
    """Return the servers' tools without those that changed since the user accepted them.

    Servers that come with mcpchat are trusted and not checked.
    """

    def is_bundled(name: str) -> bool:
        server = context.config.servers.get(name)
        return server is not None and server.is_bundled

    def is_exposed(name: str, tool: str) -> bool:
        server = context.config.servers.get(name)
        return server is None or server.exposes(tool)

    return PinnedToolbox(
        toolbox,
        catalogs=toolbox.catalogs,
        store=pin_store(context),
        asker=asker,
        emit=emit,
        is_trusted=is_bundled,
        is_exposed=is_exposed,
    )


def build_approval_gate(
    context: RunContext, options: RunOptions, asker: UserDialog, toolbox: Toolbox, emit: Emit
) -> ApprovalGate:
    """Build the gate that decides on tool calls. Raises UsageError if a pattern of the run cannot match any tool."""
    return ApprovalGate(
        build_policy(context, options),
        asker,
        approvals=approval_store(context),
        check=toolbox.validate_arguments,
        warn=lambda text: emit(Notice(level="warning", text=text)),
    )
