"""What a server asks of us, in the protocol's words: put to the host, and answered. An error that left one of these
would take the whole call with it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mcp import types
from mcp.client.session import ClientRequestContext
from pydantic import FileUrl

from mcpchat.core.elicitation import Form, SampleRequest, Visit
from mcpchat.errors import ModelError
from mcpchat.mcp import decode
from mcpchat.mcp.protocols import Dial

_MOST_TOKENS = 4000  # of one sample


class Asked:
    """The callbacks for one server. While one of them waits for somebody, ``asking`` is entered."""

    def __init__(self, dial: Dial, asking: Callable[[], AbstractContextManager[None]]) -> None:
        self._dial = dial
        self._asking = asking

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        question: Form | Visit
        if isinstance(params, types.ElicitRequestURLParams):
            question = Visit(server=self._dial.name, message=params.message, url=params.url)
        else:
            question = decode.form(self._dial.name, params.message, params.requested_schema)
        with self._asking():
            answer = await self._dial.host.elicit(question)
        return types.ElicitResult(action=answer.action, content=answer.content)

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        request = SampleRequest(
            server=self._dial.name,
            messages=tuple(
                decode.sample_message(
                    message.role,
                    [block.model_dump(by_alias=True, exclude_none=True) for block in message.content_as_list],
                )
                for message in params.messages
            ),
            instructions=params.system_prompt or "",
            max_tokens=min(params.max_tokens, _MOST_TOKENS),
            temperature=params.temperature,
        )
        try:
            with self._asking():
                sample = await self._dial.host.sample(request)
        except ModelError as error:
            return types.ErrorData(code=types.INTERNAL_ERROR, message=f"the model failed: {error.message}")
        if sample is None:
            return types.ErrorData(code=-1, message="the sampling request was refused")
        return types.CreateMessageResult(
            role="assistant",
            content=types.TextContent(type="text", text=sample.text),
            model=sample.model,
            stop_reason="maxTokens" if sample.cut else "endTurn",
        )

    async def roots(self, context: ClientRequestContext) -> types.ListRootsResult | types.ErrorData:
        paths = [Path(folder).expanduser().absolute() for folder in self._dial.roots]  # noqa: ASYNC240
        folders = [str(path) for path in paths if path.is_dir()]
        with self._asking():
            if not await self._dial.host.roots(self._dial.name, folders):
                return types.ListRootsResult(roots=[])
        roots = [types.Root(uri=FileUrl(Path(folder).as_uri()), name=Path(folder).name) for folder in folders]
        return types.ListRootsResult(roots=roots)
