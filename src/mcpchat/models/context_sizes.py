"""Context windows of models: from the config, the server's list of models, or known data."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from mcpchat.errors import ModelError
from mcpchat.util.urls import is_loopback

LIST_MODELS_TIMEOUT = 5.0  # seconds
MAX_LIST_FAILURES = 3  # of one model's server, until only known data is used
_WINDOW_KEYS = (
    ("loaded_context_length",),
    ("max_model_len",),
    ("context_length",),
    ("context_window",),
    ("max_context_length",),
    ("inputTokenLimit",),
    ("meta", "n_ctx"),
    ("top_provider", "context_length"),
)


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model that a server lists; ``window`` is in tokens, or None if the server does not say it."""

    name: str
    window: int | None = None


def read_token_count(usage: Mapping[str, Any], *path: str) -> int:
    """The number of tokens at this path of a server's usage; 0 if it is missing or not a sensible number."""
    value: object = usage
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
        return 0
    return int(value)


def context_size(model: Mapping[str, Any]) -> int | None:
    """The window in tokens from a server's description of a model, or None. Servers use many names for it."""
    return next((size for keys in _WINDOW_KEYS if (size := read_token_count(model, *keys)) > 0), None)


def build_window_lookup(
    name: str,
    base_url: str,
    *,
    configured: int | None,
    min_tokens: int,
    list_models: Callable[[], Awaitable[Sequence[ModelInfo]]] | None,
) -> Callable[[int], Awaitable[int | None]]:
    """A function from the size of a conversation in tokens to the model's window.

    It looks the window up once, when a conversation has ``min_tokens``: in the server's list (unless ``list_models`` is
    None), then in known data. A server that cannot list its models, perhaps because it still loads one, is asked again
    later. The function returns None before that, and if the window is unknown.
    """
    cached: list[int | None] = [configured] if configured else []
    failures = 0

    async def find_window(tokens: int) -> int | None:
        nonlocal failures
        if cached or tokens < min_tokens:
            return cached[0] if cached else None
        window = None
        if list_models is not None:
            try:
                async with asyncio.timeout(LIST_MODELS_TIMEOUT):
                    window = _find_listed_window(name, await list_models())
            except (ModelError, TimeoutError):
                failures += 1
                if failures < MAX_LIST_FAILURES:
                    return None
        cached.append(window or await asyncio.to_thread(_find_known_window, base_url, name))
        return cached[0]

    return find_window


def _find_listed_window(name: str, models: Sequence[ModelInfo]) -> int | None:
    matches = [model for model in models if model.name == name]
    # A server with one model uses it for every name.
    return (matches or models)[0].window if matches or len(models) == 1 else None


def _find_known_window(base_url: str, name: str) -> int | None:
    from mcpchat.models import pricing

    # A model on this machine has the window that its server was started with, whatever its name.
    is_local = is_loopback(urlsplit(base_url).hostname or "")
    return pricing.known_window(model=name, base_url=base_url, any_provider=not is_local)
