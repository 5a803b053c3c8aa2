"""Model selection by name, with address and key; context windows and prices."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mcpchat.config import schema
from mcpchat.config.run import Paths, RunContext
from mcpchat.config.schema import PriceConfig
from mcpchat.core.messages import Usage
from mcpchat.core.protocols import ModelOptions, SelectedModel
from mcpchat.errors import ConfigError, ModelError, NoModelConfigured, UsageError
from mcpchat.models import pricing
from mcpchat.models.context_sizes import ModelInfo, build_window_lookup, context_size
from mcpchat.models.openai.model import OpenAIModel
from mcpchat.models.selection import ModelSelector, _min_tokens_to_look_up
from tests.support.selection import TABLES, UNUSED_PATH, models


def describe(choice: SelectedModel) -> tuple[str, str, str, str]:
    """Return the model's name, API, base URL and key."""
    model = choice.adapter
    assert isinstance(model, OpenAIModel)
    return choice.name, model.api_name, model.client.base_url, model.client._sdk.api_key


OPENAI = "https://api.openai.com/v1/"
KEYS = {"KEY": "k1", "AZURE": "k2", "OPENAI_API_KEY": "k3"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, ("gpt-5.5", "responses", OPENAI, "k1")),
        ("anything", ("anything", "responses", OPENAI, "k1")),
        ("mini", ("gpt-5.5-mini", "responses", OPENAI, "k1")),
        ("local", ("qwen3", "chat", "http://127.0.0.1:9/v1/", "none")),
        ("gemma3:4b@local", ("gemma3:4b", "chat", "http://127.0.0.1:9/v1/", "none")),
        ("azure", ("my-deployment", "responses", "https://me.openai.azure.com/openai/v1/", "k2")),
        ("old", ("old", "chat", OPENAI, "k1")),
    ],
)
async def test_a_name_is_a_table_a_model_of_a_table_or_itself(name: str | None, expected: tuple[str, ...]) -> None:
    assert describe(await models(TABLES, **KEYS).select(name)) == expected


async def test_a_key_is_never_sent_to_another_address() -> None:
    text = '[model]\nname = "m"\napi_key = "env:KEY"\n[model.other]\nbase_url = "https://other.example.com/v1"\n'
    assert describe(await models(text, KEY="secret", OPENAI_API_KEY="secret2").select("other"))[3] == "none"


async def test_options_come_from_the_table() -> None:
    selector = models(TABLES, **KEYS)
    assert (await selector.select("local")).options == ModelOptions(temperature=0.2, extra_body={"top_k": 20})
    assert (await selector.select("mini")).options == ModelOptions(reasoning_effort="low")


async def test_in_a_thread_a_plain_name_is_a_model_of_the_current_server() -> None:
    selector = models(TABLES, **KEYS)
    local = await selector.select("local")
    llama = await selector.select("llama3")
    assert describe(llama) == ("llama3", "chat", "http://127.0.0.1:9/v1/", "none")
    assert llama.adapter is local.adapter  # the adapter keeps the learned compatibility
    assert describe(await selector.select("gpt-5.5"))[2] == OPENAI


async def test_the_environment_names_a_model_and_an_address() -> None:
    choice = await models(OPENAI_BASE_URL="http://127.0.0.1:9/v1", MCPCHAT_MODEL="m").select(None)
    assert describe(choice) == ("m", "chat", "http://127.0.0.1:9/v1/", "none")


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ({"id": "vllm", "max_model_len": 4096}, 4096),
        ({"id": "openrouter", "context_length": 8192, "top_provider": {"context_length": 4096}}, 8192),
        ({"id": "groq", "context_window": 131072}, 131072),
        ({"id": "mistral", "max_context_length": 32768}, 32768),
        ({"id": "lm studio", "loaded_context_length": 4096, "max_context_length": 32768}, 4096),
        ({"id": "llama.cpp", "meta": {"n_ctx": 2048, "n_ctx_train": 32768}}, 2048),
        ({"id": "openai"}, None),
        ({"id": "odd", "context_length": "many"}, None),
    ],
)
def test_context_size_fields_are_known(entry: dict[str, Any], size: int | None) -> None:
    assert context_size(entry) == size


USAGE = Usage(input=1000, output=100, cached=400)


def test_prices_are_known_only_at_their_provider() -> None:
    cost = pricing.known_cost(USAGE, model="gpt-4o", base_url=OPENAI)
    assert cost is not None
    assert 0 < cost < 0.01
    assert pricing.known_cost(USAGE, model="gpt-4o", base_url="http://127.0.0.1:9/v1/") is None
    assert pricing.known_cost(USAGE, model="no-such-model", base_url=OPENAI) is None


async def test_a_configured_price_counts_cached_tokens() -> None:
    price = PriceConfig(input=2.0, cached=1.0, output=10.0)
    assert pricing.configured_cost(USAGE, price) == pytest.approx((600 * 2 + 400 * 1 + 100 * 10) / 1e6)
    text = '[model]\nbase_url = "http://127.0.0.1:9/v1"\nname = "m"\nprice = { input = 1, output = 2 }\n'
    choice = await models(text, priced=True).select(None)
    assert choice.price is not None
    assert choice.price(USAGE) == pytest.approx(0.0012)


async def test_a_model_on_this_machine_costs_nothing_unless_it_has_a_price() -> None:
    text = """[model.free]
base_url = "http://localhost:1/v1"
[model.dear]
base_url = "http://127.0.0.1:2/v1"
price = { input = 1, output = 1 }
"""
    selector = models(text, priced=True)
    prices = [(await selector.select(name)).price for name in ("free", "dear")]
    assert [price(Usage(input=1_000_000)) for price in prices if price is not None] == [0.0, 1.0]


async def test_a_local_server_is_asked_for_its_window_at_once_and_again_after_a_failure() -> None:
    answers: list[object] = [ModelError("Loading model", kind="overloaded"), [ModelInfo(name="m", window=2048)]]

    async def list_models() -> Sequence[ModelInfo]:
        answer = answers.pop(0)
        if isinstance(answer, ModelError):
            raise answer
        return cast(Sequence[ModelInfo], answer)

    base_url = "http://127.0.0.1:1/v1"
    find_window = build_window_lookup("m", base_url, configured=None, min_tokens=0, list_models=list_models)
    assert [await find_window(1), await find_window(1), await find_window(1)] == [None, 2048, 2048]
    assert _min_tokens_to_look_up(base_url, is_own_service=False) == 0
    assert _min_tokens_to_look_up("https://models.example.com/v1", is_own_service=False) > 0


def test_known_windows_apply_to_other_providers_but_not_locally() -> None:
    assert (
        pricing.known_window(model="gpt-4o", base_url="https://gateway.example.com/v1/", any_provider=True) == 128_000
    )
    assert pricing.known_window(model="gpt-4o", base_url="http://127.0.0.1:9/v1/", any_provider=False) is None
    assert pricing.known_window(model="no-such-model", base_url=OPENAI, any_provider=True) is None


DOCUMENTED = re.findall(r"```toml\n(.*?)```", Path("docs/models.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "name",
    [
        "openai",
        "azure",
        "openrouter",
        "ollama",
        "llamacpp",
        "vllm",
        "lmstudio",
        "gemini",
        "groq",
        "mistral",
        "deepseek",
    ],
)
async def test_the_documented_entry_of_each_server_works(name: str) -> None:
    text = next(block for block in DOCUMENTED if "[model.azure]" in block)
    keys = dict.fromkeys(re.findall(r"env:(\w+)", text), "k")
    choice = describe(await models(text, **keys).select(name))
    assert choice[1] == ("responses" if name in {"openai", "azure"} else "chat")
    assert choice[3] == (
        "k"
        if f"[model.{name}]" in text and "api_key" in text.split(f"[model.{name}]")[1].split("[model.")[0]
        else "none"
    )


def test_every_config_block_in_the_docs_is_valid() -> None:
    for block in DOCUMENTED:
        schema.parse(block if "[" in block else f"[model]\n{block}", "docs")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://user:p4ssw0rd@127.0.0.1:9/v1", "secrets are not allowed in a URL"),
        ("http://127.0.0.1:9/v1?api-key=SECRET", "expected a URL without"),
        ("http://127.0.0.1:abc/v1", "has no valid port"),
        ("http://127.0.0.1:9999999/v1", "has no valid port"),
        ("http://[::1/v1", "has no valid host"),
        ("http://127.0.0.1:9/v1 ", "has a blank or an invisible character"),
        ("127.0.0.1:9", "begins with https"),
    ],
)
async def test_an_invalid_address_is_reported_without_secrets(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error_info:
        await models(OPENAI_BASE_URL=address, MCPCHAT_MODEL="m").select(None)
    assert "p4ssw0rd" not in str(error_info.value)
    assert "SECRET" not in str(error_info.value)
    with pytest.raises(ConfigError, match=message):
        models(f'[model.a]\nbase_url = "{address}"\n')


async def test_a_model_with_a_colon_keeps_its_server() -> None:
    text = '[model]\nname = "qwen3:8b"\nbase_url = "http://127.0.0.1:1/v1"\n[model.qwen3]\nbase_url = "http://127.0.0.1:2/v1"\n'
    assert describe(await models(text).select(None))[::2] == ("qwen3:8b", "http://127.0.0.1:1/v1/")
    assert describe(await models(text).select("qwen3:14b"))[::2] == ("qwen3:14b", "http://127.0.0.1:1/v1/")


async def test_headers_belong_to_an_address_for_any_api() -> None:
    text = (
        '[model]\nname = "m"\nbase_url = "http://127.0.0.1:1/v1"\nheaders = { api-key = "env:KEY" }\n'
        '[model.two]\napi = "responses"\n[model.three]\nbase_url = "http://127.0.0.1:1/v1/"\n'
        '[model.four]\nbase_url = "http://127.0.0.1:2/v1"\n'
    )
    selector = models(text, KEY="secret")
    sent_headers = [
        (await selector.select(name)).adapter.client._sdk._custom_headers for name in ("two", "three", "four")
    ]  # type: ignore[attr-defined]
    assert sent_headers == [{"api-key": "secret"}, {"api-key": "secret"}, {}]


async def test_a_cost_limit_applies_after_a_model_switch() -> None:
    text = '[model]\nname = "m"\nbase_url = "http://127.0.0.1:1/v1"\nprice = { input = 1, output = 1 }\n[model.dear]\nbase_url = "https://models.example.com/v1"\n'
    context = RunContext(
        config=schema.parse(text, "c.toml"),
        environ={},
        paths=Paths(config=UNUSED_PATH, cache=UNUSED_PATH, state=UNUSED_PATH, data=UNUSED_PATH),
    )
    selector = ModelSelector(context, require_price=True)
    await selector.select("m")
    with pytest.raises(UsageError, match="the price of dear is not known"):
        await selector.select("dear")
    assert describe(await selector.select("m"))[2] == "http://127.0.0.1:1/v1/"


@pytest.mark.parametrize("name", ["tiny@locl", "Local", "x@"])
async def test_a_similar_table_name_is_suggested(name: str) -> None:
    if name == "x@":
        assert (await models(TABLES, **KEYS).select(name)).name == "x@"
        return
    with pytest.raises(UsageError, match="did you mean local"):
        await models(TABLES, **KEYS).select(name)


async def test_tables_without_a_choice_are_reported() -> None:
    with pytest.raises(NoModelConfigured, match="no model is chosen; the config has local"):
        await models('[model.local]\nbase_url = "http://127.0.0.1:9/v1"\n').select(None)


def test_a_misspelt_price_key_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"model.a.price.outptu: unknown key; did you mean output"):
        models("[model.a]\nprice = { input = 1, outptu = 2 }\n")


async def test_the_key_is_not_sent_without_encryption() -> None:
    for text, environ, table in [
        ('[model]\nname = "m"\nbase_url = "http://10.0.0.5/v1"\n', {"OPENAI_API_KEY": "k"}, "model"),
        ('[model]\nname = "m"\n', {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://10.0.0.5/v1"}, "model"),
        ('[model.a]\nbase_url = "http://10.0.0.5/v1"\napi_key = "env:K"\n', {"K": "k"}, "model.a"),
    ]:
        with pytest.raises(ConfigError, match=rf"{table}\.api_key would be sent without encryption to 10\.0\.0\.5"):
            await models(text, **environ).select("a" if table == "model.a" else None)
        allowed = text.replace("[model]", "[model]\nallow_http = true").replace(
            "[model.a]", "[model.a]\nallow_http = true"
        )
        await models(allowed, **environ).select("a" if table == "model.a" else None)
    await models('[model]\nname = "m"\nbase_url = "http://10.0.0.5/v1"\n').select(None)  # without a key


async def test_another_model_of_the_same_server_may_be_reached_too() -> None:
    text = '[model]\nname = "m"\nbase_url = "http://10.0.0.5/v1"\nallow_http = true\n[model.b]\nname = "b"\n'
    assert (await models(text, OPENAI_API_KEY="k").select("b")).name == "b"
