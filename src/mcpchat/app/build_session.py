"""A session, assembled: its transcript, its limits, what becomes of large results."""

from mcpchat.config.run import RunContext, RunOptions
from mcpchat.config.schema import Config
from mcpchat.core.events import Emit
from mcpchat.core.protocols import ModelChoice, ThreadStore, Toolbox
from mcpchat.core.usage import Spending
from mcpchat.engine.session import Role, Session
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.engine.tool_results import BoundedToolbox
from mcpchat.engine.transcript import Transcript
from mcpchat.engine.turn import Limits
from mcpchat.threads.result_store import Results
from mcpchat.util import json_schema

MAX_STEPS, MAX_STEPS_IN_CHAT = 25, 50  # rounds of tool calls, unless the config or the run says otherwise


def build_session(
    context: RunContext,
    *,
    model: ModelChoice,
    toolbox: Toolbox,
    agent: Role,
    emit: Emit,
    limits: Limits,
    schema: dict[str, object] | None = None,
    title: str = "",
    store: ThreadStore | None = None,
    save: bool = False,
    run_total: Spending | None = None,
) -> Session:
    """Build a session over the toolbox.

    ``store`` has the results of earlier turns; with ``save`` the conversation is kept there, as a thread with this
    ``title``. ``run_total`` is a budget that the session shares with others.
    """
    results = Results(store, thread=lambda: transcript.thread)
    transcript = Transcript(
        emit, store if save else None, clean=context.secrets.redact_value, fresh=results.fresh, title=title
    )
    return Session(
        model=model,
        toolbox=BoundedToolbox(toolbox, limit=context.config.limits.max_result, store=results),
        role=agent,
        emit=emit,
        transcript=transcript,
        limits=limits,
        schema=AnswerSchema(schema, json_schema.problem) if schema is not None else None,
        run_total=run_total,
    )


def turn_limits(config: Config, options: RunOptions, max_steps: int = MAX_STEPS) -> Limits:
    """The limits of a turn: those of the run, then of the config, then the defaults."""
    return Limits(
        max_steps=options.max_steps or config.limits.max_steps or max_steps,
        max_calls=config.limits.max_calls,
        max_tokens=options.max_tokens or config.limits.max_tokens,
        max_dollars=config.limits.max_cost if options.max_cost is None else options.max_cost,
    )
