"""Many conversations over one set of servers: the pool that a batch draws on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from mcpchat.app.agents import with_options
from mcpchat.app.build_session import build_session, turn_limits
from mcpchat.app.chat import make_role
from mcpchat.app.mcp import make_host, make_logins, offered_to, open_hub
from mcpchat.config.run import RunContext, RunOptions, get_agent
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit
from mcpchat.core.protocols import Asker, ModelChoice, SignInScreen, Toolbox
from mcpchat.core.usage import Spending
from mcpchat.engine.event_redaction import Discreet
from mcpchat.engine.session import Role, Session
from mcpchat.errors import NoModel
from mcpchat.mcp.hub import McpHub
from mcpchat.models.selection import Models
from mcpchat.permissions.factory import pinned

PASSING = frozenset({"rate", "overloaded", "network", "server", "broken_stream"})  # kinds of ModelError that may pass


class Pool:
    """Makes sessions that share the servers, the models' connections and one budget. Nothing of them is kept.

    ``spent`` is what all of them took together.
    """

    def __init__(self, context: RunContext, options: RunOptions, hub: McpHub, asker: Asker, emit: Emit) -> None:
        self.context = context
        self.spent = Spending()
        self.priced = options.track_cost
        self.schema = options.schema
        self.without_tools = not options.with_tools
        self._options = options
        self._hub = hub
        self._asker = asker
        self._emit = emit
        self._limits = turn_limits(context.config, options)
        self._models = Models(context, priced=options.track_cost, must_be_priced=self._limits.max_dollars is not None)
        self._roles: dict[str | None, tuple[AgentConfig, Toolbox, Role]] = {}
        self._chosen: dict[tuple[str | None, str | None], ModelChoice] = {}

    async def session(
        self,
        emit: Emit,
        *,
        agent: str | None = None,
        model: str | None = None,
        system: str = "",
        schema: dict[str, object] | None = None,
    ) -> Session:
        """A new conversation, with this agent and model or the run's own; ``system`` is said after the agent's words.

        Raises UsageError, ConfigError, NoModel.
        """
        _, toolbox, role = self._role(agent if agent is not None else self._options.agent)
        choice = await self.choice(agent, model)
        if system:
            role = replace(role, instructions="\n\n".join(text for text in (role.instructions, system) if text))
        if schema is None and self.schema is not None:
            schema = dict(self.schema)
        emit = Discreet(emit, self.context.secrets)
        return build_session(
            self.context,
            model=choice,
            toolbox=toolbox,
            agent=role,
            emit=emit,
            limits=self._limits,
            schema=schema,
            run_total=self.spent,
        )

    async def choice(self, agent: str | None = None, model: str | None = None) -> ModelChoice:
        """The model that a request is for. Raises NoModel, ConfigError, UsageError."""
        agent = agent if agent is not None else self._options.agent
        key = agent, model
        if not self._models.settled:
            with suppress(NoModel):  # each request may name its own
                await self._models.choose(
                    self._options.model or get_agent(self.context.config, self._options.agent).model
                )
            self._models.settled = True  # a name is that of a model where the run's own is, whichever came before
        if key not in self._chosen:
            config = get_agent(self.context.config, agent)
            chosen = await self._models.choose(model or self._options.model or config.model)
            self._chosen[key] = with_options(chosen, config)
        return self._chosen[key]

    def role(self, agent: str | None) -> tuple[AgentConfig, Role]:
        """The agent of a request, or the run's own. Raises UsageError, ConfigError."""
        config, _, role = self._role(agent if agent is not None else self._options.agent)
        return config, role

    def _role(self, name: str | None) -> tuple[AgentConfig, Toolbox, Role]:
        if name not in self._roles:
            agent = get_agent(self.context.config, name)
            view = self._hub.view(() if self.without_tools else agent.servers, offered_to(agent))
            agreed = pinned(self.context, view, self._asker, self._emit)
            role = make_role(self.context, replace(self._options, agent=name), self._asker, agreed, self._emit)
            self._roles[name] = agent, agreed, role
        return self._roles[name]


@asynccontextmanager
async def open_pool(
    context: RunContext, options: RunOptions, *, emit: Emit, asker: Asker, screen: SignInScreen
) -> AsyncIterator[Pool]:
    """A pool; its servers are started when a request needs them, and stopped at the end."""
    emit = Discreet(emit, context.secrets)
    host = make_host(context, asker, emit, yes=options.yes)
    logins = make_logins(context, asker, screen)
    nobody = AgentConfig(servers=())  # each agent has a view of its own
    async with open_hub(context, emit, host, logins=logins, agent=nobody, refresh=options.refresh) as hub:
        yield Pool(context, options, hub, asker, emit)
