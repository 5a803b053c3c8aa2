"""Traces for OpenTelemetry, sent to a real collector's endpoint on loopback. In processes: a tracer is set up once."""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.http_server import HttpServer
from tests.support.paths import MCPCHAT
from tests.support.processes import run_process
from tests.support.scripted_http import TOOL, Answer, ScriptedHttpServer, error

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACES = "[telemetry]\ntraces = true\n"
pytestmark = pytest.mark.no_cover  # in this process; forks are measured


class Collector:
    """What a collector received: the raw bytes, and the spans by their names."""

    def __init__(self) -> None:
        self.raw = b""
        self.spans: dict[str, list[Any]] = {}
        self.resources: list[dict[str, str]] = []

    def take(self, data: bytes) -> None:
        self.raw += data
        request = ExportTraceServiceRequest()
        request.ParseFromString(data)
        for resource in request.resource_spans:
            self.resources.append({item.key: item.value.string_value for item in resource.resource.attributes})
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.name, []).append(span)


@pytest.fixture
def collector() -> Iterator[Collector]:
    received = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            received.take(gzip.decompress(data) if self.headers["Content-Encoding"] == "gzip" else data)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HttpServer(Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield received
        server.shutdown()


class Run:
    """Runs mcpchat in a process, with a server "box" that remembers the ``_meta`` of its requests."""

    def __init__(self, folder: Path, model: FakeOpenAI, collector: Collector, server: ScriptedHttpServer) -> None:
        self._folder = folder
        self._server = server
        self.metas: list[dict[str, Any]] = []
        server.respond = self._respond
        self.environ = {
            **os.environ,
            "OPENAI_BASE_URL": model.base_url,
            "MCPCHAT_MODEL": "m",
            "MCPCHAT_CONFIG": str(folder / "c.toml"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,  # type: ignore[attr-defined]
            "TRACEPARENT": f"00-{TRACE}-{PARENT}-01",
        }

    def _respond(self, message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        self.metas.append((message.get("params") or {}).get("_meta") or {})
        if message.get("method") == "tools/call" and message["params"]["name"] == "fail":
            return error(message, 200, -32000, "the secret reason")
        return None

    def __call__(self, *args: str, config: str = TRACES, **environ: str) -> "subprocess.CompletedProcess[str]":
        server = f'[servers.box]\nurl = "{self._server.url}"\nallow_http = true\n[approvals]\ndefault = "allow"\n'
        (self._folder / "c.toml").write_text(server + config)
        result = run_process([MCPCHAT, *args], env={**self.environ, **environ}, cwd=self._folder)
        assert "Traceback" not in result.stderr, result.stderr
        return result  # type: ignore[no-any-return]


@pytest.fixture
def run(tmp_path: Path, fake_openai: FakeOpenAI, collector: Collector) -> Iterator[Run]:
    with ScriptedHttpServer() as server:
        server.tools = [TOOL, {**TOOL, "name": "fail"}]
        yield Run(tmp_path, fake_openai, collector, server)


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


def test_a_turn_its_requests_and_its_calls_are_spans(run: Run, collector: Collector, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call("box__echo", '{"text": "what was said"}'), text("The answer.")]
    result = run("ask", "What is it?")
    assert (result.returncode, result.stdout) == (0, "The answer.\n"), result.stderr
    (turn,), (first, second), (call,) = (
        collector.spans[name] for name in ("invoke_agent mcpchat", "chat m", "execute_tool echo")
    )
    (request,) = collector.spans["tools/call echo"]
    assert {span.trace_id.hex() for spans in collector.spans.values() for span in spans} == {TRACE}
    assert turn.parent_span_id.hex() == PARENT
    assert {first.parent_span_id, second.parent_span_id, call.parent_span_id} == {turn.span_id}
    assert request.parent_span_id == call.span_id
    assert first.end_time_unix_nano <= call.start_time_unix_nano <= call.end_time_unix_nano
    assert call.end_time_unix_nano <= second.end_time_unix_nano <= turn.end_time_unix_nano
    usage = attributes(first)
    assert (usage["gen_ai.operation.name"], usage["gen_ai.request.model"]) == ("chat", "m")
    assert usage["gen_ai.usage.input_tokens"] > 0
    total = attributes(turn)
    assert total["gen_ai.usage.input_tokens"] == sum(
        attributes(span)["gen_ai.usage.input_tokens"] for span in (first, second)
    )
    assert total["gen_ai.conversation.id"]
    tool = attributes(call)
    assert (tool["gen_ai.tool.name"], tool["mcpchat.server.name"], tool["mcpchat.decision.allowed"]) == (
        "echo", "box", True
    )  # fmt: skip
    sent = next(meta["traceparent"] for meta in reversed(run.metas) if meta)
    assert sent.split("-")[1:3] == [TRACE, request.span_id.hex()]
    assert collector.resources[0]["service.name"] == "mcpchat"
    for content in (b"What is it?", b"what was said", b"The answer.", b"done"):
        assert content not in collector.raw


def test_what_fails_is_marked_without_its_words(run: Run, collector: Collector) -> None:
    assert run("call", "box.fail").returncode == 5
    (call,), (request,) = collector.spans["execute_tool fail"], collector.spans["tools/call fail"]
    assert (call.status.code, attributes(call)["error.type"]) == (2, "tool_error")
    assert (request.status.code, request.status.message, list(request.events)) == (2, "", [])
    assert b"secret reason" not in collector.raw


def test_a_failed_turn_is_an_error(run: Run, collector: Collector, fake_openai: FakeOpenAI) -> None:
    assert run("ask", "x", OPENAI_BASE_URL="http://127.0.0.1:9/v1", MCPCHAT_MODEL="m").returncode == 8
    (turn,) = collector.spans["invoke_agent mcpchat"]
    assert turn.status.code == 2
    assert attributes(turn)["error.type"]


def test_content_is_there_if_it_is_asked_for_but_no_secret(
    run: Run, collector: Collector, fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [tool_call("box__echo", '{"text": "key-of-the-model-12345"}'), text("The answer.")]
    run("ask", "What is it?", config=f"{TRACES}content = true\n", OPENAI_API_KEY="key-of-the-model-12345")
    (turn,), (call,) = collector.spans["invoke_agent mcpchat"], collector.spans["execute_tool echo"]
    assert json.loads(attributes(turn)["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "What is it?"}]}
    ]
    assert "The answer." in attributes(collector.spans["chat m"][1])["gen_ai.output.messages"]
    assert attributes(call)["gen_ai.tool.call.result"] == "done"
    assert "[secret]" in attributes(call)["gen_ai.tool.call.arguments"]
    assert b"key-of-the-model" not in collector.raw


def test_a_collector_that_is_down_changes_nothing_else(run: Run) -> None:
    result = run(
        "call", "box.echo", "text=x", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1"
    )
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert "traces could not be sent" in result.stderr


OWN_TRACER = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from mcpchat import open_session

exporter = InMemorySpanExporter()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
tracer = trace.get_tracer("program")

async def main():
    async with open_session(model="demo") as session:
        for name in ("first", "second"):
            with tracer.start_as_current_span(name):
                await session.ask("What is 6 * 7?")
                tracer.start_span(f"after {name}").end()
    tracer.start_span("last").end()

asyncio.run(main())
spans = exporter.get_finished_spans()
names = {span.context.span_id: span.name for span in spans}
for span in spans:
    print(f"{span.name} < {names.get(span.parent.span_id) if span.parent else None}")
"""


def test_the_span_of_a_program_is_the_parent(run: Run, collector: Collector) -> None:
    """And it is the current one again after each turn. The program's own tracer gets the spans."""
    assert run("config", "path").returncode == 0  # writes the config
    environ = {name: value for name, value in run.environ.items() if name != "TRACEPARENT"}
    result = run_process([sys.executable, "-c", OWN_TRACER], env=environ)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for name in ("first", "second"):
        assert lines.count(f"after {name} < {name}") == 1
    assert [line for line in lines if line.startswith("invoke_agent")] == [
        "invoke_agent mcpchat < first", "invoke_agent mcpchat < second"
    ]  # fmt: skip
    assert {line for line in lines if line.startswith(("execute_tool", "chat"))} <= {
        "execute_tool calculate < invoke_agent mcpchat", "chat demo < invoke_agent mcpchat"
    }  # fmt: skip
    assert "last < None" in lines
    assert collector.raw == b""


def test_without_the_config_nothing_is_sent_or_passed_on(run: Run, collector: Collector) -> None:
    assert run("call", "box.echo", "text=x", config="").returncode == 0
    assert collector.raw == b""
    assert all("traceparent" not in meta for meta in run.metas)


def test_without_the_packages_the_config_is_an_error(
    tmp_path: Path, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcpchat.app.otel", None)  # as an import that fails
    run = CommandLine(tmp_path, fake_openai, base_config=TRACES)
    for args in (("ask", "x"), ("call", "calculator.calculate", "expression=1")):
        code, _, err = unpack(run(*args))
        assert (code, 'pip install "mcpchat[otel]"' in err) == (2, True), err
