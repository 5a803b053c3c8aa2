"""Models that a server lists, and choices that it refuses."""

import pytest

from mcpchat.errors import ConfigError, NoModelConfigured, UsageError
from mcpchat.models.demo import DemoModel
from mcpchat.models.endpoint import EndpointDefaults, ModelEndpoint
from mcpchat.models.openai.model import OpenAIModel
from mcpchat.models.providers import PROVIDERS
from tests.support.fake_openai import FakeOpenAI
from tests.support.selection import TABLES, models


async def test_invalid_choices_are_reported() -> None:
    with pytest.raises(NoModelConfigured, match="Choose one of these"):
        await models().select(None)
    with pytest.raises(ConfigError, match="environment variable KEY is not set"):
        await models(TABLES).select("mini")
    with pytest.raises(UsageError, match=r"no \[model.loca\] is configured; did you mean local"):
        await models(TABLES).list_all("loca")


async def test_a_server_lists_its_models_with_their_windows(fake_openai: FakeOpenAI) -> None:
    fake_openai.models = ["small", {"id": "large", "max_model_len": 32768}]
    text = f'[model]\nbase_url = "{fake_openai.base_url}"\n[model.mine]\nname = "x"\ncontext_window = 9\n'
    rows, problem = await models(text).list_all(None)
    assert [(row.model, row.window) for row in rows] == [("mine", 9), ("large", 32768), ("small", None), ("demo", None)]
    assert problem is None
    choice = await models(text).select("large")
    assert await choice.window(0) == 32768  # a server on this machine is asked at once


async def test_without_an_answer_only_configured_models_are_listed() -> None:
    text = '[model]\nbase_url = "http://127.0.0.1:9/v1"\n[model.mine]\nname = "x"\n'
    rows, problem = await models(text).list_all(None)
    assert [row.model for row in rows] == ["mine", "demo"]
    assert problem is not None


async def test_the_only_model_of_a_server_gives_the_window(fake_openai: FakeOpenAI) -> None:
    fake_openai.models = [{"id": "/models/it.gguf", "meta": {"n_ctx": 4096}}]
    text = f'[model]\nname = "any"\nbase_url = "{fake_openai.base_url}"\n'
    assert await (await models(text).select(None)).window(10_000) == 4096


class EchoProvider:
    """A provider of another API that records the arguments of ``build``."""

    defaults = EndpointDefaults(
        base_url="https://echo.example.com", base_url_variable="ECHO_URL", api_key_variable="ECHO_KEY", model="echo-1"
    )

    def __init__(self) -> None:
        self.built: list[tuple[str, str | None, dict[str, str]]] = []

    def is_own_service(self, base_url: str) -> bool:
        return base_url == self.defaults.base_url

    def build(self, endpoint: ModelEndpoint, *, api_key: str | None, headers: dict[str, str]) -> DemoModel:
        self.built.append((endpoint.base_url, api_key, headers))
        return DemoModel()


async def test_another_provider_has_its_own_address_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = EchoProvider()
    monkeypatch.setitem(PROVIDERS, "chat", lambda: provider)
    text = (
        '[model]\nname = "m"\napi_key = "env:KEY"\nheaders = { x-team = "env:KEY" }\n'
        '[model.echo]\napi = "chat"\n[model.proxy]\napi = "chat"\nbase_url = "http://127.0.0.1:1/v1"\n'
    )
    selector = models(text, KEY="k1", OPENAI_API_KEY="k2", ECHO_KEY="k3")
    assert (await selector.select("echo")).endpoint == "https://echo.example.com, demo"
    await selector.select("proxy")
    assert provider.built == [("https://echo.example.com", "k3", {}), ("http://127.0.0.1:1/v1", None, {})]
    with pytest.raises(NoModelConfigured, match="ECHO_KEY is not set"):
        await models(text, KEY="k1").select("echo")
    assert isinstance((await selector.select("m")).adapter, OpenAIModel)
