"""Traces of turns, requests and calls for OpenTelemetry. Nothing is loaded unless the config asks for them."""

from importlib import import_module
from typing import Any

from mcpchat.config.run import RunContext
from mcpchat.core.events import Emit
from mcpchat.errors import ConfigError


def load_tracing(context: RunContext) -> Any:
    """The module that makes traces, ready to be used; None if the config does not ask for them.

    Raises ConfigError if OpenTelemetry is not installed.
    """
    if not context.config.telemetry.traces:
        return None
    try:
        otel = import_module("mcpchat.app.otel")
    except ImportError as error:
        raise ConfigError(
            "telemetry.traces needs OpenTelemetry, which is not installed", hint='pip install "mcpchat[otel]"'
        ) from error
    otel.start(context)
    return otel


def trace_events(context: RunContext, emit: Emit) -> Emit:
    """An Emit that passes events on, and makes spans of them if the config asks for that."""
    tracing = load_tracing(context)
    traced: Emit = emit if tracing is None else tracing.TracingEmitter(context, emit)
    return traced
