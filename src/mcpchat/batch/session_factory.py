"""Creates the sessions of a batch: many conversations over one set of servers and models."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

from mcpchat.app.agents import apply_agent_options
from mcpchat.app.build_session import build_session, turn_limits
from mcpchat.app.call_recorder import record_calls
from mcpchat.app.chat import build_agent
from mcpchat.app.mcp import build_auth_service, build_request_handler, open_hub, tool_filter
from mcpchat.config.run import RunContext, RunOptions, get_agent
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit
from mcpchat.core.protocols import SelectedModel, SignInDialog, Toolbox, UserDialog
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.errors import NoModelConfigured
from mcpchat.mcp.hub import McpHub
from mcpchat.models.selection import ModelSelector
from mcpchat.permissions.factory import pinned_toolbox


class SessionFactory:
    """Creates sessions that share the servers, the models' connections and one budget. They are not saved.

    ``run_usage`` is the total usage of all sessions.
    """

    def __init__(self, context: RunContext, options: RunOptions, hub: McpHub, asker: UserDialog, emit: Emit) -> None:
        self.context = context
        self.run_usage = UsageTotals()
        self.track_cost = options.track_cost
        self.schema = options.schema
        self.without_tools = not options.with_tools
        self._options = options
        self._hub = hub
        self._asker = asker
        self._emit = emit
        self._limits = turn_limits(context.config, options)
        self._models = ModelSelector(
            context, track_cost=options.track_cost, require_price=self._limits.max_dollars is not None
        )
        self._agents: dict[str | None, tuple[AgentConfig, Toolbox, ActiveAgent]] = {}
        self._selected: dict[tuple[str | None, str | None], SelectedModel] = {}

    async def aclose(self) -> None:
        """Close the models' connections."""
        await self._models.aclose()

    async def create_session(
        self,
        emit: Emit,
        *,
        agent: str | None = None,
        model: str | None = None,
        system: str = "",
        schema: dict[str, object] | None = None,
    ) -> Session:
        """Create a session with this agent and model, or those of the run.

        ``system`` is appended to the agent's instructions. ``schema`` is the JSON Schema of the answer, or that of the
        run. Raises UsageError if the agent is unknown, ConfigError if its instructions cannot be read,
        NoModelConfigured if no model is configured.
        """
        _, toolbox, active_agent = self._load_agent(agent if agent is not None else self._options.agent)
        choice = await self.select_model(agent, model)
        if system:
            active_agent = replace(
                active_agent, instructions="\n\n".join(text for text in (active_agent.instructions, system) if text)
            )
        if schema is None and self.schema is not None:
            schema = dict(self.schema)
        emit = record_calls(self.context, emit, "batch")
        return build_session(
            self.context,
            model=choice,
            toolbox=toolbox,
            agent=active_agent,
            emit=emit,
            limits=self._limits,
            schema=schema,
            run_usage=self.run_usage,
        )

    async def select_model(self, agent: str | None = None, model: str | None = None) -> SelectedModel:
        """Select the model of a request, or of the run.

        Raises NoModelConfigured if there is none, UsageError or ConfigError if the agent or model is not valid.
        """
        agent = agent if agent is not None else self._options.agent
        key = agent, model
        if not self._models.default_locked:
            with suppress(NoModelConfigured):  # each request may name a model
                await self._models.select(
                    self._options.model or get_agent(self.context.config, self._options.agent).model
                )
            # A model's own name means the run's server, whichever request selected a model first.
            self._models.default_locked = True
        if key not in self._selected:
            agent_config = get_agent(self.context.config, agent)
            selected = await self._models.select(model or self._options.model or agent_config.model)
            self._selected[key] = apply_agent_options(selected, agent_config)
        return self._selected[key]

    def resolve_agent(self, agent: str | None) -> tuple[AgentConfig, ActiveAgent]:
        """Return the agent of a request, or of the run: its config and the ready agent.

        Raises UsageError if the agent is unknown, ConfigError if its instructions cannot be read.
        """
        config, _, active_agent = self._load_agent(agent if agent is not None else self._options.agent)
        return config, active_agent

    def _load_agent(self, name: str | None) -> tuple[AgentConfig, Toolbox, ActiveAgent]:
        if name not in self._agents:
            agent = get_agent(self.context.config, name)
            view = self._hub.view(() if self.without_tools else agent.servers, tool_filter(agent))
            toolbox = pinned_toolbox(self.context, view, self._asker, self._emit)
            active_agent = build_agent(
                self.context, replace(self._options, agent=name), self._asker, toolbox, self._emit
            )
            self._agents[name] = agent, toolbox, active_agent
        return self._agents[name]


@asynccontextmanager
async def open_session_factory(
    context: RunContext, options: RunOptions, *, emit: Emit, asker: UserDialog, screen: SignInDialog
) -> AsyncIterator[SessionFactory]:
    """Open a SessionFactory. Servers are started when a request needs them, and stopped at the end."""
    emit = RedactingEmitter(emit, context.secrets)
    host = build_request_handler(context, asker, emit, yes=options.yes)
    auth = build_auth_service(context, asker, screen)
    no_servers = AgentConfig(servers=())  # each agent gets its own view of the hub
    async with (
        open_hub(context, emit, host, auth=auth, agent=no_servers, refresh=options.refresh) as hub,
        aclosing(SessionFactory(context, options, hub, asker, emit)) as factory,
    ):
        yield factory
