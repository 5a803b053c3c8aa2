"""Model endpoints: resolves a model table of the config, with the environment, to an address, a key and headers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from msgspec.structs import replace

from mcpchat.config import secret_refs
from mcpchat.config.schema import ModelConfig, ModelEntry
from mcpchat.config.validation import address_problem
from mcpchat.errors import ConfigError
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.urls import redact_url


@dataclass(frozen=True, kw_only=True)
class EndpointDefaults:
    """What a provider uses if the config does not say it."""

    base_url: str
    base_url_variable: str  # the environment variable that replaces base_url
    api_key_variable: str  # the environment variable that contains the key
    model: str


@dataclass(frozen=True, kw_only=True)
class ModelEndpoint:
    """The address of a model's server and the settings for it.

    ``label`` is the NAME of its [model.NAME] table, or empty for [model]; ``config_table`` is "model.NAME" or "model".
    What is learnt about the server is kept in ``cache``, a folder; None keeps it for the run.
    """

    label: str
    settings: ModelEntry
    base_url: str
    api_key: str | None  # a reference such as "env:NAME"
    config_table: str
    defaults: EndpointDefaults
    cache: Path | None = None

    @property
    def requires_api_key(self) -> bool:
        """Whether this is the provider's own host, which accepts no request without a key."""
        return _host(self.base_url) == _host(self.defaults.base_url)


def find_endpoint(
    config: ModelConfig, environ: Mapping[str, str], label: str, get_defaults: Callable[[str], EndpointDefaults]
) -> ModelEndpoint:
    """The endpoint of the [model.``label``] table, or of [model] if ``label`` is empty.

    ``get_defaults`` returns a provider's defaults by an ``api`` value. Raises ConfigError if the address is not valid.
    """
    settings = config.entries[label] if label else config
    main_defaults = get_defaults(config.api)
    main_base_url = _default_base_url(config.base_url, main_defaults, environ)
    own_defaults = main_defaults if settings.api == "auto" else get_defaults(settings.api)
    if own_defaults == main_defaults:
        base_url = settings.base_url or main_base_url
    else:
        base_url = _default_base_url(settings.base_url, own_defaults, environ)
    if problem := address_problem(base_url):
        raise ConfigError(
            f"the model's address is {redact_url(base_url)!r}: {problem}", hint=own_defaults.base_url_variable
        )
    api_key = settings.api_key
    if base_url.rstrip("/") == main_base_url.rstrip("/"):
        # A table with the address of [model] is another model of the same server: it shares key, API and headers.
        api_key = api_key or config.api_key
        api = settings.api if settings.api != "auto" else config.api
        allow_http = settings.allow_http or config.allow_http
        settings = replace(settings, api=api, headers=config.headers | settings.headers, allow_http=allow_http)
        defaults = get_defaults(api)
        uses_default_key = True
    else:
        defaults = get_defaults(settings.api)
        uses_default_key = _host(base_url) == _host(defaults.base_url)
    if uses_default_key:
        api_key = api_key or f"env:{defaults.api_key_variable}"
    return ModelEndpoint(
        label=label,
        settings=settings,
        base_url=base_url,
        api_key=api_key,
        config_table=f"model.{label}" if label else "model",
        defaults=defaults,
    )


def _default_base_url(configured: str | None, defaults: EndpointDefaults, environ: Mapping[str, str]) -> str:
    return configured or environ.get(defaults.base_url_variable) or defaults.base_url


async def resolve_api_key(endpoint: ModelEndpoint, environ: Mapping[str, str], secrets: SecretRegistry) -> str | None:
    """The endpoint's key, or None if it has none or the provider's own environment variable is not set.

    Registers the key with ``secrets``. Raises ConfigError if another reference cannot be resolved.
    """
    if not endpoint.api_key:
        return None
    config_key = f"{endpoint.config_table}.api_key"
    if endpoint.api_key == f"env:{endpoint.defaults.api_key_variable}":
        config_key = endpoint.defaults.api_key_variable
        if not environ.get(config_key):
            return None
    secret_refs.check_encrypted(
        endpoint.base_url, allow_http=endpoint.settings.allow_http, config_key=f"{endpoint.config_table}.api_key"
    )
    return await secret_refs.resolve_header(endpoint.api_key, environ, config_key=config_key, on_secret=secrets.add)


async def resolve_headers(
    endpoint: ModelEndpoint, environ: Mapping[str, str], secrets: SecretRegistry
) -> dict[str, str]:
    """The endpoint's extra HTTP headers, with references resolved. Raises ConfigError if one cannot be resolved."""
    return await secret_refs.resolve_headers(
        endpoint.settings.headers,
        environ,
        url=endpoint.base_url,
        allow_http=endpoint.settings.allow_http,
        config_key=f"{endpoint.config_table}.headers",
        on_secret=secrets.add,
    )


def _host(url: str) -> str | None:
    return urlsplit(url).hostname
