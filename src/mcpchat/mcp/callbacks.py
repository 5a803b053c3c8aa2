"""The SDK's callbacks for requests from a server: elicitation, sampling and roots.

A callback must not raise: the exception would end the whole call.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mcp import types
from mcp.client.session import ClientRequestContext
from pydantic import FileUrl

from mcpchat.core.elicitation import Form, SamplingRequest, UrlRequest
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.errors import ModelError
from mcpchat.mcp import decode
from mcpchat.mcp.protocols import ServerSpec
from mcpchat.util.paths import expand_user

_MAX_SAMPLING_TOKENS = 4000  # tokens of one sampling response


class ServerCallbacks:
    """The callbacks for one server.

    ``pause_timeouts`` stops the request timeouts while the user is being asked. ``find_answers`` returns the answers
    that were given beforehand for the requests that are open.
    """

    def __init__(
        self,
        spec: ServerSpec,
        pause_timeouts: Callable[[], AbstractContextManager[None]],
        find_answers: Callable[[], FormAnswers],
    ) -> None:
        self._spec = spec
        self._find_answers = find_answers
        self._pause_timeouts = pause_timeouts

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        request: Form | UrlRequest
        if isinstance(params, types.ElicitRequestURLParams):
            request = UrlRequest(server=self._spec.name, message=params.message, url=params.url)
        else:
            request = decode.parse_form(self._spec.name, params.message, params.requested_schema)
        with self._pause_timeouts(), use_answers(self._find_answers()):
            answer = await self._spec.request_handler.elicit(request)
        return types.ElicitResult(action=answer.action, content=answer.content)

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        request = SamplingRequest(
            server=self._spec.name,
            messages=tuple(
                decode.parse_sampling_message(
                    message.role,
                    [block.model_dump(by_alias=True, exclude_none=True) for block in message.content_as_list],
                )
                for message in params.messages
            ),
            instructions=params.system_prompt or "",
            max_tokens=min(params.max_tokens, _MAX_SAMPLING_TOKENS),
            temperature=params.temperature,
        )
        try:
            with self._pause_timeouts():
                result = await self._spec.request_handler.sample(request)
        except ModelError as error:
            return types.ErrorData(code=types.INTERNAL_ERROR, message=f"the model failed: {error.message}")
        if result is None:
            return types.ErrorData(code=-1, message="the sampling request was refused")
        return types.CreateMessageResult(
            role="assistant",
            content=types.TextContent(type="text", text=result.text),
            model=result.model,
            stop_reason="maxTokens" if result.truncated else "endTurn",
        )

    async def list_roots(self, context: ClientRequestContext) -> types.ListRootsResult | types.ErrorData:
        paths = [expand_user(folder).absolute() for folder in self._spec.config.roots]
        folders = [str(path) for path in paths if path.is_dir()]
        with self._pause_timeouts():
            if not await self._spec.request_handler.allow_roots(self._spec.name, folders):
                return types.ListRootsResult(roots=[])
        roots = [types.Root(uri=FileUrl(Path(folder).as_uri()), name=Path(folder).name) for folder in folders]
        return types.ListRootsResult(roots=roots)
