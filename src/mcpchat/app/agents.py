"""The agents of the config: which one it is, what it is told, who decides on its calls."""

import dataclasses
import getpass
import platform
import time
from pathlib import Path

from mcpchat.config.run import RunContext, get_agent, resolve_agent_name
from mcpchat.config.schema import AgentConfig, AgentOptions
from mcpchat.core.protocols import ModelOptions, SelectedModel
from mcpchat.core.templates import render
from mcpchat.errors import ConfigError
from mcpchat.util.private_files import writable_by_others

_MAX_INSTRUCTIONS_BYTES = 1_000_000  # bytes


def render_instructions(context: RunContext, name: str | None) -> str:
    """What the agent tells its model, with all that stands for something put in. Raises UsageError, ConfigError."""
    text = _load_instructions(context, get_agent(context.config, name), name)
    return (
        render(text, template_variables(context, agent=resolve_agent_name(context.config, name)))
        if "$" in text
        else text
    )


def _load_instructions(context: RunContext, agent: AgentConfig, name: str | None) -> str:
    if agent.instructions_file is None:
        return agent.instructions
    path = context.paths.config.parent / Path(agent.instructions_file).expanduser()
    try:
        others, hint = writable_by_others(path)
        if others:
            raise ConfigError(f"{path} is not read: {others}, and a model is told what stands in it", hint=hint)
        with path.open("rb") as file:
            return file.read(_MAX_INSTRUCTIONS_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"agents.{name or 'default'}.instructions_file: cannot read {path}: {reason}",
            hint="a path that is not whole begins beside the config file",
        ) from error


def template_variables(context: RunContext, *, agent: str = "") -> dict[str, str]:
    """What instructions and templates can name without being told."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = ""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "time": time.strftime("%H:%M"),
        "folder": str(context.working_directory),
        "user": user,
        "host": platform.node(),
        "agent": agent,
    }


def apply_agent_options(model: SelectedModel, agent: AgentConfig) -> SelectedModel:
    """The model, answering as the agent wants it to where it says so."""
    if agent.options == AgentOptions():
        return model
    overrides, defaults = agent.options, model.options
    options = ModelOptions(
        temperature=defaults.temperature if overrides.temperature is None else overrides.temperature,
        max_output_tokens=overrides.max_output_tokens or defaults.max_output_tokens,
        reasoning_effort=overrides.reasoning_effort or defaults.reasoning_effort,
        extra_body=defaults.extra_body | overrides.extra_body,
    )
    return dataclasses.replace(model, options=options)
