"""Chooses the model of a run by name: from the config, the environment and the command line."""

import asyncio
import dataclasses
from collections.abc import Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from mcpchat.config.run import RunContext
from mcpchat.config.schema import ModelConfig, ModelEntry
from mcpchat.core.messages import Usage
from mcpchat.core.protocols import Embedder, ModelOptions, SelectedModel
from mcpchat.core.usage import Price
from mcpchat.errors import ConfigError, McpChatError, ModelError, NoModelConfigured, UsageError
from mcpchat.models.context_sizes import LIST_MODELS_TIMEOUT, build_window_lookup
from mcpchat.models.endpoint import (
    EndpointDefaults,
    ModelEndpoint,
    find_endpoint,
    resolve_api_key,
    resolve_headers,
)
from mcpchat.models.onboarding import find_only_model, no_model_help
from mcpchat.models.providers import EmbeddingModel, ProviderModel, find_provider
from mcpchat.util.text import closest_matches, suggest
from mcpchat.util.urls import is_loopback

DEMO = "demo"
# A model's window is looked up when a conversation has this many tokens: in its server's list of models, or, for a
# provider's own service, in the known data alone. A server on this machine is asked at once: it answers in
# milliseconds, and its window can be as small as 2,000 tokens.
MIN_TOKENS_TO_ASK_LOCAL_SERVER, MIN_TOKENS_TO_ASK_SERVER, MIN_TOKENS_TO_USE_KNOWN_DATA = 0, 2_000, 16_000


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model to choose from: ``model`` is what to type, ``at`` its address, ``window`` in tokens (None if unknown)."""

    model: str
    at: str
    window: int | None = None
    note: str = ""


@dataclasses.dataclass
class _EndpointEmbedder:
    """An embedding model at an endpoint."""

    model: EmbeddingModel
    model_name: str
    base_url: str

    @property
    def name(self) -> str:
        return f"{self.model_name} {self.base_url}"

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return await self.model.embed(self.model_name, texts)


class ModelSelector:
    """The models of one run. There is one Model per endpoint, so that adaptations to its server are kept.

    ``track_cost``: requests get a price. ``require_price``: a model without a known price cannot be selected.
    ``lazy``: the SDK is imported by the first request or by ``preload``, not by ``select``.
    """

    def __init__(
        self, context: RunContext, *, track_cost: bool = False, require_price: bool = False, lazy: bool = False
    ) -> None:
        self._context = context
        self._lazy = lazy
        self._track_cost = track_cost or require_price
        self._require_price = require_price
        self._models: dict[tuple[str, str], ProviderModel] = {}  # by label and address
        self._current_table = ""  # the label of the table in use
        self.default_locked = False  # if True, ``select`` does not change the table in use

    @property
    def _config(self) -> ModelConfig:
        return self._context.config.model

    async def select(self, name: str | None) -> SelectedModel:
        """The model with this name: a table's NAME, MODEL@NAME, or a model of the server in use.

        Without a name, it is the model of the config, of MCPCHAT_MODEL or of OPENAI_MODEL, in this order, or the only
        model of the server. Raises NoModelConfigured, with help, if none of them names one and the server has no
        default and not exactly one model; ConfigError if the address is not valid or a key cannot be resolved;
        UsageError if the table does not exist or a price is required and unknown.
        """
        environ = self._context.environ
        default_name = self._config.name or environ.get("MCPCHAT_MODEL") or environ.get("OPENAI_MODEL")
        label, name = self._resolve(name or default_name, default_name)
        if name == DEMO:
            return self._select_demo()
        endpoint = self._find_endpoint(label)
        provider = find_provider(endpoint.settings.api)
        model = await self._get_model(endpoint, name)
        is_own_service = provider.is_own_service(endpoint.base_url)
        if name is None and not is_own_service:
            name = await find_only_model(model, endpoint.base_url)
        name = name or endpoint.defaults.model
        price = _build_price_function(endpoint, name) if self._track_cost else None
        if self._require_price and (price is None or price(Usage(input=1, output=1)) is None):
            raise UsageError(
                f"the cost limit cannot be applied: the price of {name} is not known",
                hint="set price in its model table of the config, or limit tokens: --max-tokens",
            )
        if not self.default_locked:
            self._current_table = label
        table = self._config.entries.get(label)
        return SelectedModel(
            name=name,
            adapter=model,
            options=ModelOptions(
                temperature=endpoint.settings.temperature,
                max_output_tokens=endpoint.settings.max_output_tokens,
                reasoning_effort=endpoint.settings.reasoning_effort,
                extra_body=endpoint.settings.extra_body,
            ),
            notice=model.notice,
            selector=name if table is None else label if name == (table.name or label) else f"{name}@{label}",
            endpoint=f"{endpoint.base_url.rstrip('/')}, {model.api_name}",
            max_tools=lambda: model.max_tools(name),
            count_tokens=model.count_tokens,
            window=build_window_lookup(
                name,
                endpoint.base_url,
                configured=endpoint.settings.context_window,
                min_tokens=_min_tokens_to_look_up(endpoint.base_url, is_own_service=is_own_service),
                list_models=None if is_own_service else model.list_models,
            ),
            price=price,
        )

    def find_price(self, name: str) -> Price | None:
        """The price of earlier requests to the model with this name, one as in ``select``.

        None if no model is named so now, and if it is on this machine: another server may have had the name before.
        """
        try:
            label, model_name = self._resolve(name, None)
            if model_name == DEMO:
                return _zero_cost
            endpoint = self._find_endpoint(label)
        except (UsageError, ConfigError):
            return None
        if endpoint.settings.price is None and _is_local(endpoint.base_url):
            return None
        return _build_price_function(endpoint, model_name or endpoint.defaults.model)

    async def select_embedder(self, name: str) -> Embedder:
        """The model with this name that turns texts into vectors. The name is one as in ``select``.

        Raises UsageError if its API has none, and what ``select`` raises.
        """
        label, model_name = self._resolve(name, None)
        endpoint = self._find_endpoint(label)
        if endpoint.requires_api_key and not await resolve_api_key(
            endpoint, self._context.environ, self._context.secrets
        ):
            hint = f"set api_key in [model.{name}], or base_url to a server without one"
            raise ConfigError(f"no key is set for the embeddings of {name}", hint=hint)
        if model_name == DEMO or not isinstance(model := await self._get_model(endpoint, model_name), EmbeddingModel):
            raise UsageError(f"{name} has no embeddings")
        return _EndpointEmbedder(model, model_name or "", endpoint.base_url)

    def _select_demo(self) -> SelectedModel:
        provider = find_provider(DEMO)
        endpoint = ModelEndpoint(
            label="", settings=ModelEntry(), base_url="", api_key=None, config_table="", defaults=provider.defaults
        )
        model = provider.build(endpoint, api_key=None, headers={})
        price = _zero_cost if self._track_cost else None
        return SelectedModel(name=DEMO, adapter=model, selector=DEMO, notice=model.notice, price=price)

    def _resolve(self, name: str | None, default_name: str | None) -> tuple[str, str | None]:
        """The label of the table and the model's name at its server. Raises UsageError for a misspelled table."""
        entries = self._config.entries
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
        """The models to choose from, and the error if the server of [model] could not list its own.

        With a label, only those that this table's server lists. Raises UsageError if the table does not exist, and
        ModelError, ConfigError or NoModelConfigured if its server cannot list them.
        """
        entries = self._config.entries
        if label is not None:
            if label not in entries:
                raise UsageError(f"no [model.{label}] is configured; {suggest(label, entries)}")
            return await self._list_server_models(label), None
        default_name = self._config.name
        rows: list[ListedModel] = []
        if default_name and default_name not in entries:
            base_url = self._find_endpoint("").base_url
            rows.append(
                ListedModel(model=default_name, at=base_url, window=self._config.context_window, note="default")
            )
        rows += [
            ListedModel(
                model=name, at=self._find_endpoint(name).base_url, window=entry.context_window, note=entry.name or ""
            )
            for name, entry in entries.items()
        ]
        problem: McpChatError | None = None
        try:
            rows += (row for row in await self._list_server_models("") if row.model != default_name)
        except (ModelError, ConfigError) as error:
            problem = error
        except NoModelConfigured as error:
            problem = None if entries else error  # with tables, [model] itself is not needed
        demo = ListedModel(model=DEMO, at="built in", note="not a language model: shows how tools are called")
        return [*rows, demo], problem

    async def list_server_models(self) -> Sequence[str]:
        """The names that the server in use lists, as the user can type them.

        Raises ModelError, NoModelConfigured or ConfigError.
        """
        return [
            row.model.removesuffix(f"@{self._current_table}")
            for row in await self._list_server_models(self._current_table)
        ]

    async def _list_server_models(self, label: str) -> list[ListedModel]:
        endpoint = self._find_endpoint(label)
        model = await self._get_model(endpoint, None)
        try:
            async with asyncio.timeout(LIST_MODELS_TIMEOUT * 2):
                infos = await model.list_models()
        except TimeoutError as error:
            raise ModelError(
                f"{endpoint.base_url} did not list its models within {LIST_MODELS_TIMEOUT * 2:.0f} s", kind="network"
            ) from error
        suffix = f"@{label}" if label else ""
        return [
            ListedModel(model=f"{info.name}{suffix}", at=endpoint.base_url.rstrip("/"), window=info.window)
            for info in infos
        ]

    def find_address(self, name: str | None) -> str:
        """The address of the model's server, by a name as in ``select``. Raises ConfigError and UsageError."""
        default_name = self._config.name
        return self._find_endpoint(self._resolve(name or default_name, default_name)[0]).base_url

    async def preload(self) -> None:
        """Import what the first request of the selected models needs, in a thread."""
        for model in tuple(self._models.values()):
            await model.preload()

    async def aclose(self) -> None:
        """Close the connections of all models."""
        for model in self._models.values():
            await model.aclose()

    def _find_endpoint(self, label: str) -> ModelEndpoint:
        endpoint = find_endpoint(self._config, self._context.environ, label, _get_defaults)
        return dataclasses.replace(endpoint, cache=self._context.paths.cache / "models")

    async def _get_model(self, endpoint: ModelEndpoint, name: str | None) -> ProviderModel:
        """The Model of the endpoint. Raises NoModelConfigured if it has no key but needs one; ConfigError."""
        existing = self._models.get((endpoint.label, endpoint.base_url))
        if existing is not None:
            return existing
        environ, secrets = self._context.environ, self._context.secrets
        api_key = await resolve_api_key(endpoint, environ, secrets)
        if not api_key and endpoint.requires_api_key:
            raise NoModelConfigured(
                await no_model_help(name, tuple(self._config.entries), key_variable=endpoint.defaults.api_key_variable)
            )
        headers = await resolve_headers(endpoint, environ, secrets)
        model = find_provider(endpoint.settings.api).build(endpoint, api_key=api_key, headers=headers)
        self._models[endpoint.label, endpoint.base_url] = model
        if not self._lazy:
            await model.preload()
        return model


def _get_defaults(api: str) -> EndpointDefaults:
    return find_provider(api).defaults


def _min_tokens_to_look_up(base_url: str, *, is_own_service: bool) -> int:
    if is_own_service:
        return MIN_TOKENS_TO_USE_KNOWN_DATA
    return MIN_TOKENS_TO_ASK_LOCAL_SERVER if _is_local(base_url) else MIN_TOKENS_TO_ASK_SERVER


def _is_local(base_url: str) -> bool:
    return is_loopback(urlsplit(base_url).hostname or "")


def _zero_cost(usage: Usage) -> float:
    return 0.0


def _build_price_function(endpoint: ModelEndpoint, name: str) -> Price:
    from mcpchat.models import pricing

    price = endpoint.settings.price
    if price is not None:
        return lambda usage: pricing.configured_cost(usage, price)
    if _is_local(endpoint.base_url):
        return _zero_cost
    return lambda usage: pricing.known_cost(usage, model=name, base_url=endpoint.base_url)
