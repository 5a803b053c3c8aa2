"""Checks of the model: its address, key and name; and with one small request, whether it calls tools."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import urlsplit

from mcpchat.config.run import RunContext
from mcpchat.core.messages import Message, Text, Usage
from mcpchat.core.protocols import ModelRequest, ResponseDone, Retrying, SelectedModel
from mcpchat.core.tools import ToolSpec
from mcpchat.doctor.check import Check, Subject
from mcpchat.errors import McpChatError, NoModelConfigured
from mcpchat.models import local_discovery
from mcpchat.models.selection import DEMO, ModelSelector
from mcpchat.util.urls import is_loopback

_PING = ToolSpec(
    server="doctor",
    name="ping",
    description="Answers with pong.",
    schema={"type": "object", "properties": {}, "additionalProperties": False},
)
_QUESTION = "Call the tool doctor__ping once."


async def check_model(context: RunContext, name: str | None, *, with_request: bool) -> AsyncIterator[Check]:
    """Check the model of the config, or the one named. ``with_request`` also asks it to call a tool."""
    subject = Subject("model")
    async with aclosing(ModelSelector(context, track_cost=True)) as selector:
        try:
            selected = await selector.select(name)
        except NoModelConfigured as error:
            has_address = bool(context.config.model.base_url or context.environ.get("OPENAI_BASE_URL"))
            yield await _describe_missing(subject, error, has_address=has_address)
            return
        except McpChatError as error:
            yield subject.error("model", error)
            return
        yield subject.ok("model", f"{selected.name} at {selected.endpoint}" if selected.endpoint else selected.name)
        if selected.name == DEMO:
            return
        yield await _check_list(subject, selector, selected)
        if with_request:
            async for check in _check_request(subject, selected):
                yield check


async def _describe_missing(subject: Subject, error: NoModelConfigured, *, has_address: bool) -> Check:
    """The check without a model: its name is the fix if the server is known, or a server on this machine."""
    if has_address:
        fix = "set name under [model] in the config, or MCPCHAT_MODEL; mcpchat models lists the server's"
        return subject.warning("model", error.message.splitlines()[0].partition(". Choose one")[0], fix)
    found = [server for server in await local_discovery.discover() if server.models]
    fix = "export OPENAI_API_KEY=..., or set [model] in the config"
    if found:
        fix = f"OPENAI_BASE_URL={found[0].base_url} mcpchat --model {found[0].models[0]} ({found[0].name} is running)"
    return subject.warning("model", error.message.splitlines()[0].partition(". Choose one")[0], fix)


def find_address(context: RunContext, name: str | None) -> str:
    """The address of the model's server if it is on another machine; else, and without a model, empty."""
    try:
        address = ModelSelector(context).find_address(name)
    except McpChatError:
        return ""
    return "" if is_loopback(urlsplit(address).hostname or "") else address


async def _check_list(subject: Subject, selector: ModelSelector, selected: SelectedModel) -> Check:
    """Ask the model's server for its models, which needs the key and costs nothing."""
    began = time.monotonic()
    try:
        names = await selector.list_server_models()
    except McpChatError as error:
        return subject.error("server", error)
    seconds = time.monotonic() - began
    if not names:
        return subject.ok("server", f"answers, but lists no models, {seconds:.1f} s")
    if selected.name not in names and not any(name.partition("@")[0] == selected.name for name in names):
        some = ", ".join(names[:5])
        return subject.warning("server", f"its list of models has no {selected.name}, but {some}", "mcpchat models")
    return subject.ok("server", f"accepts the key and has the model, {seconds:.1f} s")


async def _check_request(subject: Subject, selected: SelectedModel) -> AsyncIterator[Check]:
    """Let the model call a tool, in a streamed answer."""
    options = selected.options
    request = ModelRequest(
        model=selected.name,
        messages=(Message(role="user", parts=(Text(text=_QUESTION),)),),
        tools=(_PING,),
        options=options,
    )
    began, first, done, retries = time.monotonic(), None, None, 0
    try:
        async with aclosing(selected.adapter.stream(request)) as events:
            async for event in events:
                if isinstance(event, ResponseDone):
                    done = event
                elif isinstance(event, Retrying):
                    retries += 1
                elif first is None:
                    first = time.monotonic() - began
    except McpChatError as error:
        yield subject.error("answer", error)
        return
    assert done is not None  # the last event, exactly once
    times = f"first part after {first or time.monotonic() - began:.1f} s, all after {time.monotonic() - began:.1f} s"
    again = f", {retries} tries again" if retries else ""
    yield subject.ok("streaming", f"{times}{again}")
    if any(call.name == _PING.model_name for call in done.message.calls):
        yield subject.ok("tools", f"it called the tool ({_describe_cost(selected, done.usage)})")
    else:
        detail = "it answered, but did not call the tool that it was asked to call"
        yield subject.warning("tools", detail, "choose a model that can call tools: mcpchat models")


def _describe_cost(selected: SelectedModel, usage: Usage) -> str:
    cost = selected.price(usage) if selected.price is not None else None
    tokens = f"{usage.input + usage.output:,} tokens"
    return f"{tokens}, ${cost:.4f}" if cost else tokens
