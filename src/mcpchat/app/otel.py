"""Spans for OpenTelemetry, by the semantic conventions for generative AI and for MCP, sent by OTLP over HTTP.

A turn is a span; so is each request to a model and each tool call in it. The SDK of MCP adds a span for each request to
a server, below that of its call, and passes ``traceparent`` on in ``_meta``. What people, models and tools say is left
out, unless the config asks for it. The variables of OpenTelemetry (``OTEL_*``) say where spans go.
"""

import json
import os
from collections.abc import Sequence
from contextvars import Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mcpchat.config.run import RunContext
from mcpchat.core.events import (
    Emit,
    Event,
    MessageAdded,
    ToolDecided,
    ToolFinished,
    ToolStarted,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from mcpchat.core.messages import Message, Text, ToolCall, Usage, result_text
from mcpchat.core.policy import Decision
from mcpchat.version import __version__

_TIMEOUT = 3  # seconds for sending, unless OTEL_EXPORTER_OTLP_TIMEOUT says another
_SDK_SPAN_PREFIX = "MCP send "  # of the MCP SDK's spans, whose names the conventions want without it
_TIMEOUT_VARIABLES = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_exporters: list["_Exporter"] = []


def start(context: RunContext) -> None:
    """Set up the process's tracer, once. A program that has set up its own keeps it.

    What the current task starts from now on belongs to its span, or to the trace that the environment names.
    """
    otel_context.attach(_parent_context(context))
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    own = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "mcpchat"}
    provider = TracerProvider(resource=Resource.create({**own, "service.version": __version__}))
    timeout = None if any(name in os.environ for name in _TIMEOUT_VARIABLES) else _TIMEOUT
    exporter = _Exporter(OTLPSpanExporter(timeout=timeout), with_content=context.config.telemetry.content)
    _exporters.append(exporter)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def flush() -> str:
    """Send what has not been sent. Returns what went wrong, or an empty string."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush()
    failed = [exporter for exporter in _exporters if exporter.has_failed]
    for exporter in failed:
        exporter.has_failed = False
    return "traces could not be sent (OTEL_EXPORTER_OTLP_ENDPOINT says where to)" if failed else ""


class TracingEmitter:
    """Passes the events of one session on, and makes spans of them."""

    def __init__(self, context: RunContext, emit: Emit) -> None:
        self._emit = emit
        self._with_content = context.config.telemetry.content
        self._tracer = trace.get_tracer("mcpchat", __version__)
        self._context = context
        self._turn: Span | None = None
        self._turn_context: otel_context.Context | None = None  # with the span of the turn
        self._calls: dict[str, tuple[Span, Token[otel_context.Context]]] = {}
        self._decisions: dict[str, Decision] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case TurnStarted():
                self._begin_turn(event)
            case MessageAdded():
                self._add_message(event)
            case ToolDecided():
                self._decisions[event.call.id] = event.decision
            case ToolStarted():
                self._begin_call(event)
            case ToolFinished():
                self._end_call(event)
            case TurnFinished() | TurnFailed():
                self._end_turn(event)
            case _:
                pass
        self._emit(event)

    def _begin_turn(self, event: TurnStarted) -> None:
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "openai",
            "gen_ai.agent.name": "mcpchat",
            "gen_ai.request.model": event.model,
            **({"gen_ai.conversation.id": event.thread_id} if event.thread_id else {}),
        }
        parent = _parent_context(self._context)
        self._turn = self._tracer.start_span("invoke_agent mcpchat", parent, SpanKind.INTERNAL, attributes)
        self._turn_context = trace.set_span_in_context(self._turn, parent)

    def _add_message(self, event: MessageAdded) -> None:
        if self._turn is None:
            return
        record, message = event.record, event.message
        if message.role == "user":
            if record.agent:
                self._turn.update_name(f"invoke_agent {record.agent}")
                self._turn.set_attribute("gen_ai.agent.name", record.agent)
            if self._with_content:
                self._turn.set_attribute("gen_ai.input.messages", _encode([message]))
        elif record.usage is not None:
            end = round(record.at * 1e9)
            span = self._tracer.start_span(
                f"chat {record.model}",
                self._turn_context,
                SpanKind.CLIENT,
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": record.model,
                    **_usage_attributes(record.usage, record.cost),
                },
                start_time=end - round((record.seconds or 0.0) * 1e9),
            )
            reason = "length" if message.cut == "length" else "tool_calls" if message.calls else "stop"
            span.set_attribute("gen_ai.response.finish_reasons", [reason])
            if self._with_content:
                span.set_attribute("gen_ai.output.messages", _encode([message]))
            span.end(end)

    def _begin_call(self, event: ToolStarted) -> None:
        server, _, tool = event.tool.partition(".")
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool or server,
            "gen_ai.tool.type": "extension",
            "gen_ai.tool.call.id": event.call.id,
            "mcpchat.server.name": server if tool else "",
        }
        if (decision := self._decisions.pop(event.call.id, None)) is not None:
            attributes |= {"mcpchat.decision.allowed": decision.allowed, "mcpchat.decision.by": decision.by}
        if self._with_content:
            attributes["gen_ai.tool.call.arguments"] = event.call.arguments
        parent = self._turn_context or _parent_context(self._context)
        span = self._tracer.start_span(f"execute_tool {tool or server}", parent, SpanKind.INTERNAL, attributes)
        # Until the call ends: the request to the server is below this span, and carries it.
        self._calls[event.call.id] = span, otel_context.attach(trace.set_span_in_context(span, parent))

    def _end_call(self, event: ToolFinished) -> None:
        if event.call.id not in self._calls:
            return
        span, token = self._calls.pop(event.call.id)
        otel_context.detach(token)
        text = result_text(event.result)
        span.set_attribute("mcpchat.result.characters", len(text))
        if self._with_content:
            span.set_attribute("gen_ai.tool.call.result", text)
        if event.result.is_error:
            span.set_attribute("error.type", "tool_error")
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _end_turn(self, event: TurnFinished | TurnFailed) -> None:
        span, self._turn, self._turn_context = self._turn, None, None
        if span is None:
            return
        if isinstance(event, TurnFailed):
            span.set_attribute("error.type", event.kind)
            span.set_status(Status(StatusCode.ERROR))
        else:
            span.set_attributes({**_usage_attributes(event.usage, event.cost), "mcpchat.turn.stop": event.stop})
        span.end()


class _Exporter(SpanExporter):
    """Sends spans, without words of errors unless content is wanted, and with the names of the conventions."""

    def __init__(self, inner: SpanExporter, *, with_content: bool) -> None:
        self._inner = inner
        self._with_content = with_content
        self.has_failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export([self._prepare(span) for span in spans])
        self.has_failed = self.has_failed or result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def _prepare(self, span: ReadableSpan) -> ReadableSpan:
        attributes = dict(span.attributes or {})
        name = span.name.removeprefix(_SDK_SPAN_PREFIX)
        if attributes.get("mcp.method.name") == "tools/call":
            attributes["gen_ai.tool.name"] = name.partition(" ")[2]
        return ReadableSpan(
            name=name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=attributes,
            events=span.events if self._with_content else (),
            links=span.links,
            kind=span.kind,
            status=span.status if self._with_content else Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )


def _parent_context(context: RunContext) -> otel_context.Context:
    """The span of the program that runs us; without one, the trace that the environment names (``TRACEPARENT``)."""
    current = otel_context.get_current()
    if trace.get_current_span(current).get_span_context().is_valid:
        return current
    names = ("traceparent", "tracestate", "baggage")
    return extract({name: value for name in names if (value := context.environ.get(name.upper()))})


def _usage_attributes(usage: Usage, cost: float | None) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": usage.input,
        "gen_ai.usage.output_tokens": usage.output,
        **({"gen_ai.usage.cache_read.input_tokens": usage.cached} if usage.cached else {}),
        **({"gen_ai.usage.cache_creation.input_tokens": usage.written} if usage.written else {}),
        **({"gen_ai.usage.reasoning.output_tokens": usage.reasoning} if usage.reasoning else {}),
        **({"mcpchat.usage.cost": cost} if cost is not None else {}),
    }


def _encode(messages: Sequence[Message]) -> str:
    """Messages as the conventions have them."""
    return json.dumps(
        [
            {"role": message.role, "parts": [part for item in message.parts for part in _encode_part(item)]}
            for message in messages
        ],
        ensure_ascii=False,
    )


def _encode_part(part: object) -> list[dict[str, Any]]:
    match part:
        case Text(text=text):
            return [{"type": "text", "content": text}]
        case ToolCall(id=call_id, name=name, arguments=arguments):
            return [{"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}]
        case _:
            return []
