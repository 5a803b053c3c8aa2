"""The agents of the config: which one it is, what it is told, who decides on its calls."""

import dataclasses
import getpass
import platform
import time
from pathlib import Path

from mcpchat.config.run import RunContext, get_agent, resolve_agent_name
from mcpchat.config.schema import AgentConfig, AgentOptions
from mcpchat.core.protocols import ModelChoice, Options
from mcpchat.core.templates import filled
from mcpchat.errors import ConfigError
from mcpchat.util.private_files import open_to_others

_LARGEST = 1_000_000  # bytes


def instructions(context: RunContext, name: str | None) -> str:
    """What the agent tells its model, with all that stands for something put in. Raises UsageError, ConfigError."""
    text = _written(context, get_agent(context.config, name), name)
    return filled(text, known_values(context, agent=resolve_agent_name(context.config, name))) if "$" in text else text


def _written(context: RunContext, agent: AgentConfig, name: str | None) -> str:
    if agent.instructions_file is None:
        return agent.instructions
    path = context.paths.config.parent / Path(agent.instructions_file).expanduser()
    try:
        others, hint = open_to_others(path)
        if others:
            raise ConfigError(f"{path} is not read: {others}, and a model is told what stands in it", hint=hint)
        with path.open("rb") as file:
            return file.read(_LARGEST).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"agents.{name or 'default'}.instructions_file: cannot read {path}: {reason}",
            hint="a path that is not whole begins beside the config file",
        ) from error


def known_values(context: RunContext, *, agent: str = "") -> dict[str, str]:
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


def with_options(model: ModelChoice, agent: AgentConfig) -> ModelChoice:
    """The model, answering as the agent wants it to where it says so."""
    if agent.options == AgentOptions():
        return model
    wanted, usual = agent.options, model.options
    options = Options(
        temperature=usual.temperature if wanted.temperature is None else wanted.temperature,
        max_output_tokens=wanted.max_output_tokens or usual.max_output_tokens,
        reasoning_effort=wanted.reasoning_effort or usual.reasoning_effort,
        extra_body=usual.extra_body | wanted.extra_body,
    )
    return dataclasses.replace(model, options=options)
