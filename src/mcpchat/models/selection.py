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
from mcpchat.core.protocols import ModelChoice, ModelEvent, ModelRequest, Options
from mcpchat.errors import ConfigError, McpChatError, ModelError, NoModel, UsageError
from mcpchat.models.openai.compatibility import is_openai
from mcpchat.util.text import closest_matches, suggest

if TYPE_CHECKING:
    from mcpchat.models.local_discovery import LocalServer
    from mcpchat.models.openai.model import OpenAIModel

DEFAULT_MODEL = "gpt-5.5"
OPENAI = "https://api.openai.com/v1"
_PATIENCE = 5.0  # seconds, for a server's list of models
_WORTH_LOOKING, _WORTH_LOOKING_AT_OPENAI = 2_000, 16_000  # tokens, before a window is looked for


class ModelRow(Struct, frozen=True, kw_only=True):
    """One model to choose: ``model`` is what to type, ``at`` where it is; ``window`` in tokens, None if unknown."""

    model: str
    at: str
    window: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A model's entry with all that it leaves open filled in; ``label`` names its table, empty for [model] itself."""

    label: str
    entry: ModelEntry
    address: str
    key: str | None  # a reference, or None
    where: str

    @property
    def is_openai(self) -> bool:
        return urlsplit(self.address).hostname == urlsplit(OPENAI).hostname


class Models:
    """The models of one run. Each is made once, so that what was learnt of its server stays known.

    ``priced``: what requests cost is wanted. ``must_be_priced``: a model of unknown price is none to choose.
    ``at_ease``: nothing is asked for yet, so that the SDK is imported with the first request, or by ``warm``.
    """

    def __init__(
        self, context: RunContext, *, priced: bool = False, must_be_priced: bool = False, at_ease: bool = False
    ) -> None:
        self._context = context
        self._at_ease = at_ease
        self._priced = priced or must_be_priced
        self._must_be_priced = must_be_priced
        self._adapters: dict[tuple[str, str], Reached] = {}
        self._here = ""  # the label of the table in use
        self.settled = False  # it stays so, whatever else is chosen

    async def choose(self, name: str | None) -> ModelChoice:
        """The model by the name of its table, or as NAME@TABLE, or by its own name at the server in use.

        Without a name, the configured one, else the one the environment names. Raises NoModel where nothing says
        which, with the ways on; ConfigError for a key that leads nowhere; UsageError where a price must be known.
        """
        environ = self._context.environ
        usual = self._context.config.model.name or environ.get("MCPCHAT_MODEL") or environ.get("OPENAI_MODEL")
        label, name = self._where(name or usual, usual)
        if name == "demo":
            from mcpchat.models.demo import NOTICE, DemoModel

            cost = _free if self._priced else None
            return ModelChoice(name=name, adapter=DemoModel(), chosen=name, notice=NOTICE, price=cost)
        place = self._place(label)
        adapter = await self._adapter(place, name)
        if name is None and not adapter.at_openai:
            raise NoModel(await _which_model(adapter, place.address))
        name = name or DEFAULT_MODEL
        price = _price(place, name) if self._priced else None
        if self._must_be_priced and (price is None or price(Usage(input=1, output=1)) is None):
            raise UsageError(
                f"a limit of cost cannot be kept: the price of {name} is not known",
                hint="give it one in the config (price under its model table), or limit tokens: --max-tokens",
            )
        if not self.settled:
            self._here = label
        table = self._context.config.model.entries.get(label)
        chosen = name if table is None else label if name == (table.name or label) else f"{name}@{label}"
        return ModelChoice(
            name=name,
            adapter=adapter,
            options=Options(
                temperature=place.entry.temperature,
                max_output_tokens=place.entry.max_output_tokens,
                reasoning_effort=place.entry.reasoning_effort,
                extra_body=place.entry.extra_body,
            ),
            chosen=chosen,
            at=f"{place.address.rstrip('/')}, {adapter.api_name}",
            window=_window(adapter, place, name),
            price=price,
        )

    def _where(self, name: str | None, usual: str | None) -> tuple[str, str | None]:
        """The table and the model's own name that a name stands for."""
        entries = self._context.config.model.entries
        if name is None:
            return "", None
        if name in entries:
            return name, entries[name].name or name
        if name == usual:
            return "", name
        of_label, at, label = name.rpartition("@")
        if label in entries and of_label:
            return label, of_label
        meant = next((one for one in entries if one.lower() == name.lower()), "") or (
            closest_matches(label, entries, 1) if at else ""
        )
        if meant:
            raise UsageError(f"no [model.{label}] is configured; did you mean {''.join(meant)}?")
        return self._here, name

    async def listed(self, label: str | None) -> tuple[Sequence[ModelRow], McpChatError | None]:
        """What can be chosen, of one table's server, or all tables and [model]'s server; and why the last did not say.

        Raises UsageError for a table that is not there, and what asking its server raises.
        """
        entries = self._context.config.model.entries
        if label is not None:
            if label not in entries:
                raise UsageError(f"no [model.{label}] is configured; {suggest(label, entries)}")
            return await self._offered(label), None
        usual = self._context.config.model
        rows: list[ModelRow] = []
        if usual.name and usual.name not in entries:
            at = self._place("").address
            rows.append(ModelRow(model=usual.name, at=at, window=usual.context_window, note="the usual one"))
        rows += [
            ModelRow(model=name, at=self._place(name).address, window=entry.context_window, note=entry.name or "")
            for name, entry in entries.items()
        ]
        problem: McpChatError | None = None
        try:
            rows += (row for row in await self._offered("") if row.model != usual.name)
        except (ModelError, ConfigError) as error:
            problem = error
        except NoModel as error:
            problem = None if entries else error  # who has tables of their own needs no usual one
        return [*rows, ModelRow(model="demo", at="built in", note="no language model: it shows the tools")], problem

    async def offered(self) -> Sequence[str]:
        """The names that the server in use lists, as they can be typed. Raises ModelError, NoModel, ConfigError."""
        return [row.model.removesuffix(f"@{self._here}") for row in await self._offered(self._here)]

    async def _offered(self, label: str) -> list[ModelRow]:
        from mcpchat.models import context_sizes

        place = self._place(label)
        adapter = await self._adapter(place, None)
        try:
            async with asyncio.timeout(_PATIENCE * 2):
                listed = await (await adapter.loaded()).client.models()
        except TimeoutError as error:
            told = f"{place.address} does not say what models it has"
            raise ModelError(f"{told}: no answer within {_PATIENCE * 2:.0f} s", kind="network") from error
        suffix = f"@{label}" if label else ""
        return [
            ModelRow(model=f"{model['id']}{suffix}", at=place.address.rstrip("/"), window=context_sizes.window(model))
            for model in listed
        ]

    def _place(self, label: str) -> _Place:
        usual = self._context.config.model
        entry = usual.entries[label] if label else usual
        where = f"model.{label}" if label else "model"
        usual_address = usual.base_url or self._context.environ.get("OPENAI_BASE_URL") or OPENAI
        address = entry.base_url or usual_address
        if problem := address_problem(address):
            raise ConfigError(f"the model's address is {redacted(address)!r}: {problem}", hint="OPENAI_BASE_URL")
        key = entry.api_key
        if address.rstrip("/") == usual_address.rstrip("/"):
            # A table without an address of its own is another model at the same place.
            key = key or usual.api_key or "env:OPENAI_API_KEY"
            api = entry.api if entry.api != "auto" else usual.api
            entry = replace(entry, api=api, headers=usual.headers | entry.headers)
        elif urlsplit(address).hostname == urlsplit(OPENAI).hostname:
            key = key or "env:OPENAI_API_KEY"
        return _Place(label=label, entry=entry, address=address, key=key, where=where)

    async def warm(self) -> None:
        """Import what the first request will want, behind what is going on."""
        for adapter in tuple(self._adapters.values()):
            await adapter.loaded()

    async def _adapter(self, place: _Place, name: str | None) -> "Reached":
        kept = self._adapters.get((place.label, place.address))
        if kept is not None:
            return kept
        from mcpchat.config.secret_refs import header_value

        key = None
        if place.key != "env:OPENAI_API_KEY" or self._context.environ.get("OPENAI_API_KEY"):
            where = "OPENAI_API_KEY" if place.key == "env:OPENAI_API_KEY" else f"{place.where}.api_key"
            key = (
                await header_value(place.key, self._context.environ, where=where, keep=self._context.secrets.add)
                if place.key
                else None
            )
        if not key and place.is_openai:
            raise NoModel(await ways_to_a_model(name, tuple(self._context.config.model.entries)))
        headers = {
            name: await header_value(
                value, self._context.environ, where=f"{place.where}.headers.{name}", keep=self._context.secrets.add
            )
            for name, value in place.entry.headers.items()
        }
        reached = self._adapters[place.label, place.address] = Reached(place, key, headers)
        if not self._at_ease:
            reached.load()
        return reached


class Reached:
    """The Model at one place. The SDK, which is slow to import, is there once something is asked."""

    def __init__(self, place: _Place, key: str | None, headers: Mapping[str, str]) -> None:
        self._place = place
        self._key = key
        self._headers = headers
        self._model: OpenAIModel | None = None
        api = place.entry.api
        self.at_openai = is_openai(place.address)
        self.api_name = "responses" if api == "responses" or (api == "auto" and self.at_openai) else "chat"

    def load(self) -> "OpenAIModel":
        if self._model is None:
            with sdk_import():
                from mcpchat.models.openai.client import OpenAIClient
                from mcpchat.models.openai.model import Api, OpenAIModel

            api: Api
            if self.api_name == "responses":
                from mcpchat.models.openai.responses import Responses

                api = Responses()
            else:
                from mcpchat.models.openai.chat_completions import ChatCompletions

                api = ChatCompletions()
            place = self._place
            client = OpenAIClient(
                base_url=place.address,
                api_key=self._key,
                headers=self._headers,
                where=f"[{place.where}]",
                timeout=place.entry.timeout,
            )
            self._model = OpenAIModel(client, api)
        return self._model

    async def loaded(self) -> "OpenAIModel":
        """The model, imported beside what else goes on."""
        if self._model is None:
            await asyncio.to_thread(_import_sdk)
        return self.load()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """As the port's."""
        async with aclosing((await self.loaded()).stream(request)) as events:
            async for event in events:
                yield event


def _import_sdk() -> None:
    with sdk_import():
        import mcpchat.models.openai.chat_completions
        import mcpchat.models.openai.model
        import mcpchat.models.openai.responses  # noqa: F401


def redacted(address: str) -> str:
    """The address without what may be a secret in it."""
    return re.sub(r"//[^/@]*@", "//…@", address.partition("?")[0])


def _window(adapter: Reached, place: _Place, name: str) -> Callable[[int], Awaitable[int | None]]:
    """Finds the window out once, when a conversation is long enough to care: config, server, known models."""
    known: list[int | None] = [place.entry.context_window] if place.entry.context_window else []

    async def window(tokens: int) -> int | None:
        at_openai = adapter.at_openai
        if not known and tokens >= (_WORTH_LOOKING_AT_OPENAI if at_openai else _WORTH_LOOKING):
            known.append(None if at_openai else await _listed_window(adapter, name))
            if known[0] is None:
                known[0] = await asyncio.to_thread(_known_window, place.address, name)
        return known[0] if known else None

    return window


async def _listed_window(adapter: Reached, name: str) -> int | None:
    from mcpchat.models import context_sizes

    try:
        async with asyncio.timeout(_PATIENCE):
            listed = await (await adapter.loaded()).client.models()
    except (ModelError, TimeoutError):
        return None
    named = [model for model in listed if model["id"] == name]
    # A server of one model answers with it, whatever it is called.
    return context_sizes.window((named or listed)[0]) if named or len(listed) == 1 else None


def _known_window(base_url: str, name: str) -> int | None:
    from mcpchat.models import pricing

    # What runs on this machine has the window that it was started with, whatever its model is called.
    return pricing.window(model=name, base_url=base_url, elsewhere=not _is_local(base_url))


def _is_local(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free(usage: Usage) -> float:
    return 0.0


def _price(place: _Place, name: str) -> Callable[[Usage], float | None]:
    from mcpchat.models import pricing

    price = place.entry.price
    if price is not None:
        return lambda usage: pricing.configured(usage, price)
    return lambda usage: pricing.known(usage, model=name, base_url=place.address)


async def _which_model(adapter: Reached, base_url: str) -> str:
    try:
        offered = [str(model["id"]) for model in await (await adapter.loaded()).client.models()]
    except ModelError as error:
        return f"no model is named, and {base_url} does not say what it has: {error.message}\nName one: --model NAME"
    return f"no model is named; {base_url} has: {', '.join(offered) or 'none'}\nName one: --model NAME"


async def first_screen() -> tuple[str, dict[str, ModelEntry]]:
    """What somebody without a model is told in the chat, where the demo answers; and the local models to go on with."""
    from mcpchat.models import local_discovery

    return without_a_model([server for server in await local_discovery.find() if server.models])


def without_a_model(found: "Sequence[LocalServer]") -> tuple[str, dict[str, ModelEntry]]:
    """The first screen where these servers run on this machine, and their models by the names that it gives them."""
    entries = {
        server.name.lower().replace(" ", "").partition(".")[0]: ModelEntry(
            name=server.models[0], base_url=server.base_url
        )
        for server in found
    }
    here = [
        f"{server.name} is running, with {', '.join(server.models[:3])}: /model {label}"
        for server, label in zip(found, entries, strict=True)
    ]
    lines = (
        "mcpchat lets a language model use tools: MCP servers, here or elsewhere.",
        "No model is set up. What answers is the demo: no language model, but it really",
        "calls the tools, such as the calculator's.",
        "",
        "  try it           What is 1234 * 5678?",
        "  a model          export OPENAI_API_KEY=...  (another's: OPENAI_BASE_URL too)",
        *(f"  on this machine  {line}" for line in here or ["none found (Ollama, LM Studio, llama.cpp)"]),
        "  a first server   mcpchat servers add wiki https://mcp.deepwiki.com/mcp",
        "  to keep it all   mcpchat config init writes a commented config file",
        "  what else        /help",
    )
    return "\n".join(lines), entries


async def ways_to_a_model(name: str | None, tables: Sequence[str] = ()) -> str:
    """The screen for someone without a key: what to do next, the local servers that answer included."""
    if tables and name is None:
        return (
            f"no model is chosen; the config has {', '.join(tables)}.\n"
            f"Choose one for this run: --model {tables[0]}\n"
            f'or for always, in the config: [model] name = "{tables[0]}"'
        )
    from mcpchat.models import local_discovery

    found = await local_discovery.find()
    if found:
        local = "\n".join(
            f"       OPENAI_BASE_URL={server.base_url} mcpchat --model {(server.models or ('NAME',))[0]}\n"
            f"       ({server.name} is running here{', with ' + ', '.join(server.models[:5]) if server.models else ''})"
            for server in found
        )
    else:
        local = (
            "       OPENAI_BASE_URL=http://127.0.0.1:11434/v1 mcpchat --model NAME\n"
            "       (none is running here now: looked for Ollama, LM Studio and llama.cpp on their usual ports)"
        )
    asked = f" for {name}" if name else ""
    return (
        f"there is no model to talk to{asked}: OPENAI_API_KEY is not set. Three ways on:\n"
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
