"""Assembles a session: its transcript, its limits, and the storage of large tool results."""

from mcpchat.app.mcp import tool_index
from mcpchat.config.run import RunContext, RunOptions
from mcpchat.config.schema import Config
from mcpchat.core.events import Emit
from mcpchat.core.protocols import SelectedModel, ThreadStore, Toolbox
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.engine.tool_results import TruncatingToolbox
from mcpchat.engine.tool_search import SearchToolbox, ToolSearchSettings
from mcpchat.engine.transcript import Transcript
from mcpchat.engine.turn import TurnLimits
from mcpchat.threads.result_store import ToolResultStore
from mcpchat.util import json_schema

MAX_STEPS, MAX_CHAT_STEPS = 25, 50  # default limits of tool call rounds per turn


def build_session(
    context: RunContext,
    *,
    model: SelectedModel,
    toolbox: Toolbox,
    agent: ActiveAgent,
    emit: Emit,
    limits: TurnLimits,
    schema: dict[str, object] | None = None,
    title: str = "",
    store: ThreadStore | None = None,
    save: bool = False,
    run_usage: UsageTotals | None = None,
) -> Session:
    """Build a session with this model, toolbox and agent.

    ``store`` has the tool results of earlier turns; with ``save``, the conversation is saved in it as a thread with
    this ``title``. ``run_usage`` is the usage that the limits of the run count; sessions can share it.
    """
    config = context.config
    results = ToolResultStore(store, current_thread=lambda: transcript.thread)
    transcript = Transcript(
        emit, store if save else None, redact=context.secrets.redact_value, pending_results=results.pending, title=title
    )
    return Session(
        model=model,
        toolbox=SearchToolbox(
            TruncatingToolbox(toolbox, limit=config.limits.max_result, store=results),
            tool_index(context, emit),
            limit=config.limits.max_result,
        ),
        agent=agent,
        emit=emit,
        transcript=transcript,
        limits=limits,
        schema=AnswerSchema(schema, json_schema.find_error) if schema is not None else None,
        run_usage=run_usage,
        tool_search=tool_search_settings(config),
    )


def tool_search_settings(config: Config) -> ToolSearchSettings:
    """When tools are searched for, by the config."""
    return ToolSearchSettings(mode=config.tool_search, always=config.always, max_tools=config.limits.max_tools)


def turn_limits(config: Config, options: RunOptions, max_steps: int = MAX_STEPS) -> TurnLimits:
    """Return the limits of a turn: from the run, else the config, else the defaults."""
    return TurnLimits(
        max_steps=options.max_steps or config.limits.max_steps or max_steps,
        max_calls=config.limits.max_calls,
        max_tokens=options.max_tokens or config.limits.max_tokens,
        max_dollars=config.limits.max_cost if options.max_cost is None else options.max_cost,
    )
