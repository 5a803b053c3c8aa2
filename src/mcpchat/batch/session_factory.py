"""Many conversations over one set of servers: the pool that a batch draws on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from mcpchat.app.agents import with_options
from mcpchat.app.chat import limits_of, make_role
from mcpchat.app.mcp import make_host, make_logins, offered_to, open_hub
from mcpchat.config.run import Setup, Wishes, choose_agent
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit
from mcpchat.core.protocols import Asker, ModelChoice, SignInScreen, Toolbox
from mcpchat.core.usage import Spending
from mcpchat.engine.event_redaction import Discreet
from mcpchat.engine.session import Role, Session
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.engine.tool_results import BoundedToolbox
from mcpchat.engine.transcript import Transcript
from mcpchat.errors import NoModel
from mcpchat.mcp.hub import McpHub
from mcpchat.models.selection import Models
from mcpchat.permissions.factory import pinned
from mcpchat.threads.result_store import Results
from mcpchat.util import json_schema

PASSING = frozenset({"rate", "overloaded", "network", "server", "broken_stream"})  # kinds of ModelError that may pass


class Pool:
    """Makes sessions that share the servers, the models' connections and one budget. Nothing of them is kept.

    ``spent`` is what all of them took together.
    """

    def __init__(self, setup: Setup, wishes: Wishes, hub: McpHub, asker: Asker, emit: Emit) -> None:
        self.setup = setup
        self.spent = Spending()
        self.priced = wishes.priced
        self.schema = wishes.schema
        self.without_tools = not wishes.tools
        self._wishes = wishes
        self._hub = hub
        self._asker = asker
        self._emit = emit
        self._limits = limits_of(setup.config, wishes)
        self._models = Models(setup, priced=wishes.priced, must_be_priced=self._limits.max_dollars is not None)
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
        _, toolbox, role = self._role(agent if agent is not None else self._wishes.agent)
        choice = await self.choice(agent, model)
        if system:
            role = replace(role, instructions="\n\n".join(text for text in (role.instructions, system) if text))
        if schema is None and self.schema is not None:
            schema = dict(self.schema)
        emit = Discreet(emit, self.setup.secrets)
        transcript = Transcript(emit)
        results = Results(None, thread=lambda: transcript.thread)
        return Session(
            model=choice,
            toolbox=BoundedToolbox(toolbox, limit=self.setup.config.limits.max_result, store=results),
            role=role,
            emit=emit,
            transcript=transcript,
            limits=self._limits,
            schema=AnswerSchema(schema, json_schema.problem) if schema is not None else None,
            run_total=self.spent,
        )

    async def choice(self, agent: str | None = None, model: str | None = None) -> ModelChoice:
        """The model that a request is for. Raises NoModel, ConfigError, UsageError."""
        agent = agent if agent is not None else self._wishes.agent
        key = agent, model
        if not self._models.settled:
            with suppress(NoModel):  # each request may name its own
                await self._models.choose(
                    self._wishes.model or choose_agent(self.setup.config, self._wishes.agent).model
                )
            self._models.settled = True  # a name is that of a model where the run's own is, whichever came before
        if key not in self._chosen:
            config = choose_agent(self.setup.config, agent)
            chosen = await self._models.choose(model or self._wishes.model or config.model)
            self._chosen[key] = with_options(chosen, config)
        return self._chosen[key]

    def role(self, agent: str | None) -> tuple[AgentConfig, Role]:
        """The agent of a request, or the run's own. Raises UsageError, ConfigError."""
        config, _, role = self._role(agent if agent is not None else self._wishes.agent)
        return config, role

    def _role(self, name: str | None) -> tuple[AgentConfig, Toolbox, Role]:
        if name not in self._roles:
            agent = choose_agent(self.setup.config, name)
            view = self._hub.view(() if self.without_tools else agent.servers, offered_to(agent))
            agreed = pinned(self.setup, view, self._asker, self._emit)
            role = make_role(self.setup, replace(self._wishes, agent=name), self._asker, agreed, self._emit)
            self._roles[name] = agent, agreed, role
        return self._roles[name]


@asynccontextmanager
async def open_pool(
    setup: Setup, wishes: Wishes, *, emit: Emit, asker: Asker, screen: SignInScreen
) -> AsyncIterator[Pool]:
    """A pool; its servers are started when a request needs them, and stopped at the end."""
    emit = Discreet(emit, setup.secrets)
    host = make_host(setup, asker, emit, yes=wishes.yes)
    logins = make_logins(setup, asker, screen)
    nobody = AgentConfig(servers=())  # each agent has a view of its own
    async with open_hub(setup, emit, host, logins=logins, agent=nobody, refresh=wishes.refresh) as hub:
        yield Pool(setup, wishes, hub, asker, emit)
