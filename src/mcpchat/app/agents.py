"""Agents of the config: their instructions and model options."""

import dataclasses
import getpass
import platform
import time

from mcpchat.config.run import RunContext, get_agent, resolve_agent_name
from mcpchat.config.schema import AgentConfig, AgentOptions
from mcpchat.core.protocols import ModelOptions, SelectedModel
from mcpchat.core.templates import render
from mcpchat.errors import ConfigError
from mcpchat.util.paths import expand_user
from mcpchat.util.private_files import writable_by_others
from mcpchat.util.text_files import read_text

_MAX_INSTRUCTIONS_BYTES = 1_000_000


def render_instructions(context: RunContext, name: str | None) -> str:
    """Return the agent's instructions with the template variables replaced.

    Raises UsageError if the agent is unknown, ConfigError if the instructions file cannot be read.
    """
    text = _load_instructions(context, get_agent(context.config, name), name)
    return (
        render(text, template_variables(context, agent=resolve_agent_name(context.config, name)))
        if "$" in text
        else text
    )


def _load_instructions(context: RunContext, agent: AgentConfig, name: str | None) -> str:
    if agent.instructions_file is None:
        return agent.instructions
    path = context.paths.config.parent / expand_user(agent.instructions_file)
    try:
        problem, hint = writable_by_others(path)
        if problem:
            raise ConfigError(f"{path} is not read: {problem}, and it contains instructions for the model", hint=hint)
    except OSError:
        pass  # read_text raises the error
    return read_text(
        path,
        max_bytes=_MAX_INSTRUCTIONS_BYTES,
        error=ConfigError,
        source=f"agents.{name or 'default'}.instructions_file",
        hint="a relative path is relative to the folder of the config file",
    ).strip()


def template_variables(context: RunContext, *, agent: str = "") -> dict[str, str]:
    """Return the built-in variables of instructions and prompt templates."""
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
    """Return the model with the agent's options, which override those of the model."""
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
