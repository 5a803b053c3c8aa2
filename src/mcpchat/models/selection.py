"""Which model, where it is, and what is known of it: from the config, the environment and the command line."""

import asyncio
import ipaddress
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.config.run import RunContext, sdk_import
from mcpchat.config.schema import ModelEntry
from mcpchat.config.validation import address_problem
from mcpchat.core.messages import Usage
from mcpchat.core.protocols import ModelEvent, ModelOptions, ModelRequest, SelectedModel
from mcpchat.errors import ConfigError, McpChatError, ModelError, NoModelConfigured, UsageError
from mcpchat.models.openai.compatibility import is_openai
from mcpchat.util.text import closest_matches, suggest

if TYPE_CHECKING:
    from mcpchat.models.local_discovery import LocalServer
    from mcpchat.models.openai.model import OpenAIModel

DEFAULT_MODEL = "gpt-5.5"
OPENAI_BASE_URL = "https://api.openai.com/v1"
LIST_MODELS_TIMEOUT = 5.0  # seconds, for a server's list of models
MIN_TOKENS_TO_PROBE_WINDOW, MIN_TOKENS_TO_LOOK_UP_WINDOW = 2_000, 16_000  # tokens, before a window is looked for


class ListedModel(Struct, frozen=True, kw_only=True):
    """One model to choose: ``model`` is what to type, ``at`` where it is; ``window`` in tokens, None if unknown."""

    model: str
    at: str
    window: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelEndpoint:
    """A model's entry with all that it leaves open filled in; ``label`` names its table, empty for [model] itself."""

    label: str
    settings: ModelEntry
    base_url: str
    api_key: str | None  # a reference, or None
    config_table: str

    @property
    def is_openai(self) -> bool:
        return urlsplit(self.base_url).hostname == urlsplit(OPENAI_BASE_URL).hostname


class ModelSelector:
    """The models of one run. Each is made once, so that what was learnt of its server stays known.

    ``priced``: what requests cost is wanted. ``must_be_priced``: a model of unknown price is none to choose.
    ``at_ease``: nothing is asked for yet, so that the SDK is imported with the first request, or by ``warm``.
    """

    def __init__(
        self, context: RunContext, *, track_cost: bool = False, require_price: bool = False, lazy: bool = False
    ) -> None:
        self._context = context
        self._lazy = lazy
        self._track_cost = track_cost or require_price
        self._require_price = require_price
        self._adapters: dict[tuple[str, str], LazyOpenAIModel] = {}
        self._current_table = ""  # the label of the table in use
        self.default_locked = False  # it stays so, whatever else is chosen

    async def select(self, name: str | None) -> SelectedModel:
        """The model by the name of its table, or as NAME@TABLE, or by its own name at the server in use.

        Without a name, the configured one, else the one the environment names. Raises NoModel where nothing says
        which, with the ways on; ConfigError for a key that leads nowhere; UsageError where a price must be known.
        """
        environ = self._context.environ
        default_name = self._context.config.model.name or environ.get("MCPCHAT_MODEL") or environ.get("OPENAI_MODEL")
        label, name = self._resolve(name or default_name, default_name)
        if name == "demo":
            from mcpchat.models.demo import NOTICE, DemoModel

            free = _zero_cost if self._track_cost else None
            return SelectedModel(name=name, adapter=DemoModel(), selector=name, notice=NOTICE, price=free)
        endpoint = self._find_endpoint(label)
        adapter = await self._get_adapter(endpoint, name)
        if name is None and not adapter.is_openai:
            raise NoModelConfigured(await _describe_missing_model(adapter, endpoint.base_url))
        name = name or DEFAULT_MODEL
        price = _build_price_function(endpoint, name) if self._track_cost else None
        if self._require_price and (price is None or price(Usage(input=1, output=1)) is None):
            raise UsageError(
                f"a limit of cost cannot be kept: the price of {name} is not known",
                hint="give it one in the config (price under its model table), or limit tokens: --max-tokens",
            )
        if not self.default_locked:
            self._current_table = label
        table = self._context.config.model.entries.get(label)
        selector = name if table is None else label if name == (table.name or label) else f"{name}@{label}"
        return SelectedModel(
            name=name,
            adapter=adapter,
            options=ModelOptions(
                temperature=endpoint.settings.temperature,
                max_output_tokens=endpoint.settings.max_output_tokens,
                reasoning_effort=endpoint.settings.reasoning_effort,
                extra_body=endpoint.settings.extra_body,
            ),
            selector=selector,
            endpoint=f"{endpoint.base_url.rstrip('/')}, {adapter.api_name}",
            window=_build_window_lookup(adapter, endpoint, name),
            price=price,
        )

    def _resolve(self, name: str | None, default_name: str | None) -> tuple[str, str | None]:
        """The table and the model's own name that a name stands for."""
        entries = self._context.config.model.entries
        if name is None:
            return "", None
        if name in entries:
            return name, entries[name].name or name
        if name == default_name:
            return "", name
        model_name, separator, label = name.rpartition("@")
        if label in entries and model_name:
            return label, model_name
        suggestion = next((candidate for candidate in entries if candidate.lower() == name.lower()), "") or (
            closest_matches(label, entries, 1) if separator else ""
        )
        if suggestion:
            raise UsageError(f"no [model.{label}] is configured; did you mean {''.join(suggestion)}?")
        return self._current_table, name

    async def list_all(self, label: str | None) -> tuple[Sequence[ListedModel], McpChatError | None]:
        """What can be chosen, of one table's server, or all tables and [model]'s server; and why the last did not say.

        Raises UsageError for a table that is not there, and what asking its server raises.
        """
        entries = self._context.config.model.entries
        if label is not None:
            if label not in entries:
                raise UsageError(f"no [model.{label}] is configured; {suggest(label, entries)}")
            return await self._list_server_models(label), None
        default = self._context.config.model
        rows: list[ListedModel] = []
        if default.name and default.name not in entries:
            base_url = self._find_endpoint("").base_url
            rows.append(
                ListedModel(model=default.name, at=base_url, window=default.context_window, note="the usual one")
            )
        rows += [
            ListedModel(
                model=name, at=self._find_endpoint(name).base_url, window=entry.context_window, note=entry.name or ""
            )
            for name, entry in entries.items()
        ]
        problem: McpChatError | None = None
        try:
            rows += (row for row in await self._list_server_models("") if row.model != default.name)
        except (ModelError, ConfigError) as error:
            problem = error
        except NoModelConfigured as error:
            problem = None if entries else error  # who has tables of their own needs no usual one
        return [*rows, ListedModel(model="demo", at="built in", note="no language model: it shows the tools")], problem

    async def list_server_models(self) -> Sequence[str]:
        """The names that the server in use lists, as they can be typed. Raises ModelError, NoModel, ConfigError."""
        return [
            row.model.removesuffix(f"@{self._current_table}")
            for row in await self._list_server_models(self._current_table)
        ]

    async def _list_server_models(self, label: str) -> list[ListedModel]:
        from mcpchat.models import context_sizes

        endpoint = self._find_endpoint(label)
        adapter = await self._get_adapter(endpoint, None)
        try:
            async with asyncio.timeout(LIST_MODELS_TIMEOUT * 2):
                models = await (await adapter.load_async()).client.list_models()
        except TimeoutError as error:
            message = f"{endpoint.base_url} does not say what models it has"
            raise ModelError(f"{message}: no answer within {LIST_MODELS_TIMEOUT * 2:.0f} s", kind="network") from error
        suffix = f"@{label}" if label else ""
        return [
            ListedModel(
                model=f"{model['id']}{suffix}",
                at=endpoint.base_url.rstrip("/"),
                window=context_sizes.context_size(model),
            )
            for model in models
        ]

    def _find_endpoint(self, label: str) -> ModelEndpoint:
        default = self._context.config.model
        settings = default.entries[label] if label else default
        config_table = f"model.{label}" if label else "model"
        default_base_url = default.base_url or self._context.environ.get("OPENAI_BASE_URL") or OPENAI_BASE_URL
        base_url = settings.base_url or default_base_url
        if problem := address_problem(base_url):
            raise ConfigError(f"the model's address is {redact_url(base_url)!r}: {problem}", hint="OPENAI_BASE_URL")
        api_key = settings.api_key
        if base_url.rstrip("/") == default_base_url.rstrip("/"):
            # A table without an address of its own is another model at the same place.
            api_key = api_key or default.api_key or "env:OPENAI_API_KEY"
            api = settings.api if settings.api != "auto" else default.api
            settings = replace(settings, api=api, headers=default.headers | settings.headers)
        elif urlsplit(base_url).hostname == urlsplit(OPENAI_BASE_URL).hostname:
            api_key = api_key or "env:OPENAI_API_KEY"
        return ModelEndpoint(
            label=label, settings=settings, base_url=base_url, api_key=api_key, config_table=config_table
        )

    async def preload(self) -> None:
        """Import what the first request will want, behind what is going on."""
        for adapter in tuple(self._adapters.values()):
            await adapter.load_async()

    async def _get_adapter(self, endpoint: ModelEndpoint, name: str | None) -> "LazyOpenAIModel":
        existing = self._adapters.get((endpoint.label, endpoint.base_url))
        if existing is not None:
            return existing
        from mcpchat.config.secret_refs import resolve_header

        api_key = None
        if endpoint.api_key != "env:OPENAI_API_KEY" or self._context.environ.get("OPENAI_API_KEY"):
            source = (
                "OPENAI_API_KEY" if endpoint.api_key == "env:OPENAI_API_KEY" else f"{endpoint.config_table}.api_key"
            )
            api_key = (
                await resolve_header(
                    endpoint.api_key, self._context.environ, config_key=source, on_secret=self._context.secrets.add
                )
                if endpoint.api_key
                else None
            )
        if not api_key and endpoint.is_openai:
            raise NoModelConfigured(await no_model_help(name, tuple(self._context.config.model.entries)))
        headers = {
            name: await resolve_header(
                value,
                self._context.environ,
                config_key=f"{endpoint.config_table}.headers.{name}",
                on_secret=self._context.secrets.add,
            )
            for name, value in endpoint.settings.headers.items()
        }
        adapter = self._adapters[endpoint.label, endpoint.base_url] = LazyOpenAIModel(endpoint, api_key, headers)
        if not self._lazy:
            adapter.load()
        return adapter


class LazyOpenAIModel:
    """The Model at one place. The SDK, which is slow to import, is there once something is asked."""

    def __init__(self, endpoint: ModelEndpoint, api_key: str | None, headers: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._headers = headers
        self._model: OpenAIModel | None = None
        api = endpoint.settings.api
        self.is_openai = is_openai(endpoint.base_url)
        self.api_name = "responses" if api == "responses" or (api == "auto" and self.is_openai) else "chat"

    def load(self) -> "OpenAIModel":
        if self._model is None:
            with sdk_import():
                from mcpchat.models.openai.client import OpenAIClient
                from mcpchat.models.openai.model import OpenAIModel, WireApi

            api: WireApi
            if self.api_name == "responses":
                from mcpchat.models.openai.responses import Responses

                api = Responses()
            else:
                from mcpchat.models.openai.chat_completions import ChatCompletions

                api = ChatCompletions()
            endpoint = self._endpoint
            client = OpenAIClient(
                base_url=endpoint.base_url,
                api_key=self._api_key,
                headers=self._headers,
                config_table=f"[{endpoint.config_table}]",
                timeout=endpoint.settings.timeout,
            )
            self._model = OpenAIModel(client, api)
        return self._model

    async def load_async(self) -> "OpenAIModel":
        """The model, imported beside what else goes on."""
        if self._model is None:
            await asyncio.to_thread(_import_sdk)
        return self.load()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """As the port's."""
        async with aclosing((await self.load_async()).stream(request)) as events:
            async for event in events:
                yield event


def _import_sdk() -> None:
    with sdk_import():
        import mcpchat.models.openai.chat_completions
        import mcpchat.models.openai.model
        import mcpchat.models.openai.responses  # noqa: F401


def redact_url(url: str) -> str:
    """The address without what may be a secret in it."""
    return re.sub(r"//[^/@]*@", "//…@", url.partition("?")[0])


def _build_window_lookup(
    adapter: LazyOpenAIModel, endpoint: ModelEndpoint, name: str
) -> Callable[[int], Awaitable[int | None]]:
    """Finds the window out once, when a conversation is long enough to care: config, server, known models."""
    cached: list[int | None] = [endpoint.settings.context_window] if endpoint.settings.context_window else []

    async def find_window(tokens: int) -> int | None:
        at_openai = adapter.is_openai
        if not cached and tokens >= (MIN_TOKENS_TO_LOOK_UP_WINDOW if at_openai else MIN_TOKENS_TO_PROBE_WINDOW):
            cached.append(None if at_openai else await _read_listed_window(adapter, name))
            if cached[0] is None:
                cached[0] = await asyncio.to_thread(_find_known_window, endpoint.base_url, name)
        return cached[0] if cached else None

    return find_window


async def _read_listed_window(adapter: LazyOpenAIModel, name: str) -> int | None:
    from mcpchat.models import context_sizes

    try:
        async with asyncio.timeout(LIST_MODELS_TIMEOUT):
            models = await (await adapter.load_async()).client.list_models()
    except (ModelError, TimeoutError):
        return None
    matches = [model for model in models if model["id"] == name]
    # A server of one model answers with it, whatever it is called.
    return context_sizes.context_size((matches or models)[0]) if matches or len(models) == 1 else None


def _find_known_window(base_url: str, name: str) -> int | None:
    from mcpchat.models import pricing

    # What runs on this machine has the window that it was started with, whatever its model is called.
    return pricing.known_window(model=name, base_url=base_url, any_provider=not _is_local(base_url))


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _zero_cost(usage: Usage) -> float:
    return 0.0


def _build_price_function(endpoint: ModelEndpoint, name: str) -> Callable[[Usage], float | None]:
    from mcpchat.models import pricing

    price = endpoint.settings.price
    if price is not None:
        return lambda usage: pricing.configured_cost(usage, price)
    return lambda usage: pricing.known_cost(usage, model=name, base_url=endpoint.base_url)


async def _describe_missing_model(adapter: LazyOpenAIModel, base_url: str) -> str:
    try:
        names = [str(model["id"]) for model in await (await adapter.load_async()).client.list_models()]
    except ModelError as error:
        return f"no model is named, and {base_url} does not say what it has: {error.message}\nName one: --model NAME"
    return f"no model is named; {base_url} has: {', '.join(names) or 'none'}\nName one: --model NAME"


async def onboarding() -> tuple[str, dict[str, ModelEntry]]:
    """What somebody without a model is told in the chat, where the demo answers; and the local models to go on with."""
    from mcpchat.models import local_discovery

    return format_onboarding([server for server in await local_discovery.discover() if server.models])


def format_onboarding(servers: "Sequence[LocalServer]") -> tuple[str, dict[str, ModelEntry]]:
    """The first screen where these servers run on this machine, and their models by the names that it gives them."""
    entries = {
        server.name.lower().replace(" ", "").partition(".")[0]: ModelEntry(
            name=server.models[0], base_url=server.base_url
        )
        for server in servers
    }
    local_lines = [
        f"{server.name} is running, with {', '.join(server.models[:3])}: /model {label}"
        for server, label in zip(servers, entries, strict=True)
    ]
    lines = (
        "mcpchat lets a language model use tools: MCP servers, here or elsewhere.",
        "No model is set up. What answers is the demo: no language model, but it really",
        "calls the tools, such as the calculator's.",
        "",
        "  try it           What is 1234 * 5678?",
        "  a model          export OPENAI_API_KEY=...  (another's: OPENAI_BASE_URL too)",
        *(f"  on this machine  {line}" for line in local_lines or ["none found (Ollama, LM Studio, llama.cpp)"]),
        "  a first server   mcpchat servers add wiki https://mcp.deepwiki.com/mcp",
        "  to keep it all   mcpchat config init writes a commented config file",
        "  what else        /help",
    )
    return "\n".join(lines), entries


async def no_model_help(name: str | None, tables: Sequence[str] = ()) -> str:
    """The screen for someone without a key: what to do next, the local servers that answer included."""
    if tables and name is None:
        return (
            f"no model is chosen; the config has {', '.join(tables)}.\n"
            f"Choose one for this run: --model {tables[0]}\n"
            f'or for always, in the config: [model] name = "{tables[0]}"'
        )
    from mcpchat.models import local_discovery

    servers = await local_discovery.discover()
    if servers:
        local = "\n".join(
            f"       OPENAI_BASE_URL={server.base_url} mcpchat --model {(server.models or ('NAME',))[0]}\n"
            f"       ({server.name} is running here{', with ' + ', '.join(server.models[:5]) if server.models else ''})"
            for server in servers
        )
    else:
        local = (
            "       OPENAI_BASE_URL=http://127.0.0.1:11434/v1 mcpchat --model NAME\n"
            "       (none is running here now: looked for Ollama, LM Studio and llama.cpp on their usual ports)"
        )
    for_model = f" for {name}" if name else ""
    return (
        f"there is no model to talk to{for_model}: OPENAI_API_KEY is not set. Three ways on:\n"
        "\n"
        "  1. Set a key of OpenAI, or of any compatible service (then OPENAI_BASE_URL too):\n"
        "       export OPENAI_API_KEY=...\n"
        "  2. Point at a model server on this machine:\n"
        f"{local}\n"
        "  3. Try the demo, which needs neither key nor network:\n"
        '       mcpchat ask --model demo "What is 1234 * 5678?"\n'
        "\n"
        "The first two can be kept in the config file, under [model]: mcpchat config init"
    )
