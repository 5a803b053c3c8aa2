"""What a server says of its models, in whatever words: names and windows."""

from collections.abc import Mapping
from typing import Any

from mcpchat.models.openai import wire

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


def context_size(model: Mapping[str, Any]) -> int | None:
    """How many tokens the model takes, None where its server does not say."""
    return next((size for keys in _WINDOW_KEYS if (size := wire.read_token_count(model, *keys)) > 0), None)
