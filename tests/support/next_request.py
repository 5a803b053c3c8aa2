"""A check of what a history becomes in the next request."""

import json

from mcpchat.core.messages import (
    Message,
    user_message,
)
from mcpchat.core.protocols import ModelRequest
from mcpchat.engine.compaction import render_history
from tests.support import openai_rules
from tests.support.recorded_streams import RecordedTransport


def check_next_request(history: list[Message]) -> None:
    """Check the next request for both APIs."""
    wire = RecordedTransport()
    for model in (wire.chat_model(), wire.responses_model()):
        api = model._api
        request = ModelRequest(model="m", messages=render_history([*history, user_message("next")]))
        body = api.build_body(
            request, api.default_compatibility(is_openai=False), {"api": api.name, "base_url": "", "model": "m"}
        )
        openai_rules.check_request(api.path, json.loads(json.dumps(body)))
