"""The provider of OpenAI's two APIs: OpenAI itself, Azure, and every compatible server."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mcpchat.models.endpoint import EndpointDefaults, ModelEndpoint
from mcpchat.models.openai.compatibility import is_openai
from mcpchat.models.openai.learned_limits import LimitFiles
from mcpchat.models.openai.model import OpenAIModel, WireApi, import_client

if TYPE_CHECKING:
    from mcpchat.models.openai.client import OpenAIClient

OPENAI_BASE_URL = "https://api.openai.com/v1"


class OpenAIProvider:
    """The Provider for ``api = "auto"``, ``"responses"`` and ``"chat"``.

    "auto" is Responses at OpenAI and Azure, and Chat Completions elsewhere, which most compatible servers implement.
    """

    defaults = EndpointDefaults(
        base_url=OPENAI_BASE_URL,
        base_url_variable="OPENAI_BASE_URL",
        api_key_variable="OPENAI_API_KEY",
        model="gpt-5.5",
    )

    def is_own_service(self, base_url: str) -> bool:
        return is_openai(base_url)

    def build(self, endpoint: ModelEndpoint, *, api_key: str | None, headers: Mapping[str, str]) -> OpenAIModel:
        def create_client() -> "OpenAIClient":
            return import_client()(
                base_url=endpoint.base_url,
                api_key=api_key,
                headers=headers,
                config_table=f"[{endpoint.config_table}]",
                timeout=endpoint.settings.timeout,
            )

        api = _create_api(endpoint)
        limits = LimitFiles(endpoint.cache, f"{endpoint.base_url} {api.name}") if endpoint.cache is not None else None
        return OpenAIModel(create_client, api, limits=limits, load_timeout=endpoint.settings.timeout)


def _create_api(endpoint: ModelEndpoint) -> WireApi:
    api = endpoint.settings.api
    if api == "responses" or (api == "auto" and is_openai(endpoint.base_url)):
        from mcpchat.models.openai.responses import Responses

        return Responses()
    from mcpchat.models.openai.chat_completions import ChatCompletions

    return ChatCompletions()
