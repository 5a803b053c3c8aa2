"""A batch that the provider runs: files of requests go there, and files of answers come back, hours later and cheaper.

OpenAI's Batch API, and whoever speaks it. What was sent is written down beside the results, so that any of the steps
can be a process of its own, and nothing is sent twice.
"""

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.app import attachments
from mcpchat.batch.session_factory import PASSING, Pool
from mcpchat.batch.types import Asked, Result, key_of, with_files
from mcpchat.core.protocols import ModelChoice, ModelRequest
from mcpchat.core.report import fault
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.errors import McpChatError, ModelError, StoreError, UsageError
from mcpchat.models.openai.model import OpenAIModel
from mcpchat.models.selection import Reached
from mcpchat.util import json_schema
from mcpchat.util.private_files import read_private, write_private

MOST_REQUESTS = 50_000  # in one file
MOST_BYTES = 190_000_000
_OVER = {"completed", "failed", "expired", "cancelled"}


class NeedsTools(UsageError):
    """What every request that names no agent of its own is refused for."""


class Sent(Struct, frozen=True, kw_only=True):
    """One file of requests: ``model`` answers all of them; ``batch`` is its id, once the provider gave one."""

    model: str
    path: str
    file: str
    requests: int
    batch: str = ""
    status: str = "validating"
    done: int = 0
    outputs: tuple[str, ...] = ()
    problem: str = ""


class State(Struct, frozen=True, kw_only=True):
    """What was sent. ``run`` is this run's own name, by which a batch is found again; ``at`` the provider's address."""

    run: str
    at: str
    sent: tuple[Sent, ...] = ()

    @property
    def over(self) -> bool:
        """Whether the provider is done with all of it."""
        return all(sent.status in _OVER for sent in self.sent)


class ProviderBatch:
    """One batch of one pool; ``path`` is where its state is kept."""

    def __init__(self, pool: Pool, path: Path, tell: Callable[[str], None]) -> None:
        self._pool = pool
        self._path = path
        self._tell = tell

    def load(self) -> State | None:
        """What was sent; None where nothing was. Raises UsageError."""
        try:
            data = read_private(self._path)
            return msgspec.json.decode(data, type=State) if data is not None else None
        except (StoreError, msgspec.MsgspecError) as error:
            raise UsageError(f"{self._path} is not what an earlier run wrote: {error}") from error

    def _save(self, state: State) -> State:
        write_private(self._path, msgspec.json.encode(state))
        return state

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    # Submit.

    async def submit(self, requests: AsyncIterator[Asked | Result], write: Callable[[Result], None]) -> State:
        """Send the requests; what is none is written as a result at once. Raises UsageError, ModelError."""
        if self.load() is not None:
            raise UsageError(f"a batch was sent already: {self._path}", hint="--provider-batch wait, or fetch")
        state = State(run=uuid.uuid4().hex, at="")
        files: dict[tuple[str, str], _File] = {}
        problem = "there are none"
        try:
            async for item in requests:
                try:
                    if isinstance(item, Result):
                        write(item)
                        continue
                    choice = await self._pool.choice(item.request.agent, item.request.model)
                    path, line = self._line(item, choice)
                except NeedsTools:
                    raise
                except UsageError as error:
                    problem = f"{error.message} ({error.hint})" if error.hint else error.message
                    write(Result(id=item.id, line=item.line, error=fault(error)))
                    continue
                state = self._at(state, choice)
                file = files.setdefault((choice.name, path), _File())
                if file.full(len(line)):
                    state = await self._send(state, choice, path, file)
                    file = files[choice.name, path] = _File()
                file.add(line, choice)
            for (_, path), file in files.items():
                assert file.choice is not None
                state = await self._send(state, file.choice, path, file)
        finally:
            for file in files.values():
                file.close()
        if not state.sent:
            raise UsageError(f"no request could be sent: {problem}")
        return state

    def _at(self, state: State, choice: ModelChoice) -> State:
        at = _model(choice).client.base_url
        if state.at not in {"", at}:
            raise UsageError(f"a provider's batch goes to one address, not to {state.at} and {at}")
        return replace(state, at=at)

    def _line(self, asked: Asked, choice: ModelChoice) -> tuple[str, bytes]:
        request = asked.request
        agent, role = self._pool.role(request.agent)
        if agent.servers != () and not self._pool.without_tools:
            hint = "--no-tools, or an agent with servers = [], asks without any"
            kind = NeedsTools if request.agent is None else UsageError
            raise kind("a provider runs no tools", hint=hint)
        if request.attach:
            asked = with_files(asked, tuple(part for name in request.attach for part in attachments.read(name)))
        schema = self._schema(asked)
        told = [role.instructions, asked.system, schema.instructions if schema else ""]
        made = ModelRequest(
            model=choice.name,
            messages=asked.said,
            system="\n\n".join(text for text in told if text),
            options=choice.options,
            schema=schema.schema if schema else None,
        )
        path, body = _model(choice).offline(made)
        line = {"custom_id": f"{asked.line}|{asked.id}"[:512], "method": "POST", "url": f"/v1{path}", "body": body}
        return path, json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n"

    def _schema(self, asked: Asked) -> AnswerSchema | None:
        schema = asked.request.schema or self._pool.schema
        return AnswerSchema(dict(schema), json_schema.problem) if schema is not None else None

    async def _send(self, state: State, choice: ModelChoice, path: str, file: "_File") -> State:
        client = _model(choice).client
        uploaded = await client.upload(file.rewound(), purpose="batch")
        sent = Sent(
            model=choice.chosen or choice.name, path=path, file=str(uploaded.get("id", "")), requests=file.count
        )
        state = self._save(replace(state, sent=(*state.sent, sent)))
        made = await client.ask("POST", "/batches", self._order(state, sent))
        self._tell(f"sent {file.count:,} requests for {choice.name}: {made.get('id', '')}")
        return self._save(replace(state, sent=(*state.sent[:-1], _told(sent, made))))

    @staticmethod
    def _order(state: State, sent: Sent) -> dict[str, Any]:
        return {
            "input_file_id": sent.file,
            "endpoint": f"/v1{sent.path}",
            "completion_window": "24h",
            "metadata": {"mcpchat": f"{state.run}-{len(state.sent)}"},
        }

    # Wait.

    async def wait(self, state: State, *, poll: float, advance: Callable[[int], None]) -> State:
        """Until all is over, at the provider's; looked at every ``poll`` seconds. Raises ModelError."""
        began = time.monotonic()
        while True:
            try:
                state = await self.look(state)
            except ModelError as error:
                if error.kind not in PASSING:
                    raise
                self._tell(f"{error.message}; asking again")
            advance(sum(sent.done for sent in state.sent))
            if state.over:
                return state
            await asyncio.sleep(min(poll, max(poll / 10, time.monotonic() - began)))

    async def look(self, state: State) -> State:
        """How it stands now."""
        sent = []
        for number, one in enumerate(state.sent, 1):
            if one.status in _OVER:
                sent.append(one)
                continue
            client = _model(await self._pool.choice(None, one.model)).client
            if not one.batch:
                one = await self._found(state, one, number)
            if one.batch:
                one = _told(one, await client.ask("GET", f"/batches/{one.batch}"))
            sent.append(one)
        return self._save(replace(state, sent=tuple(sent)))

    async def _found(self, state: State, sent: Sent, number: int) -> Sent:
        """The batch of a file whose sender died before it was told its name; made now where there is none."""
        client = _model(await self._pool.choice(None, sent.model)).client
        listed = (await client.ask("GET", "/batches?limit=100")).get("data")
        for made in listed if isinstance(listed, list) else ():
            if isinstance(made, dict) and made.get("input_file_id") == sent.file:
                return _told(sent, made)
        order = self._order(replace(state, sent=state.sent[:number]), sent)
        return _told(sent, await client.ask("POST", "/batches", order))

    # Fetch.

    async def fetch(
        self, state: State, asked: Mapping[int, Asked], done: set[str], write: Callable[[Result], None]
    ) -> int:
        """Write the answers to requests that are not ``done``; how many belong to none. Raises ModelError."""
        strange = 0
        for sent in state.sent:
            choice = await self._pool.choice(None, sent.model)
            if sent.problem:
                self._tell(f"warning: {sent.batch} {sent.status}: {sent.problem}")
            for output in sent.outputs:
                async with aclosing(_model(choice).client.lines(f"/files/{output}/content")) as lines:
                    async for line in lines:
                        if line.strip():
                            result = self._result(line, asked, choice)
                            if result is None:
                                strange += 1
                            elif key_of(result.id, result.line) not in done:
                                write(result)
        return strange

    def _result(self, line: bytes, asked: Mapping[int, Asked], choice: ModelChoice) -> Result | None:
        """What a line of the provider's says; None where it belongs to no request."""
        try:
            found = json.loads(line)
            number, _, name = found["custom_id"].partition("|")
            request = asked[int(number)]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if not request.id.startswith(name):
            return None
        result = Result(id=request.id, line=request.line, model=choice.name)
        try:
            self._read(found, request, choice, result)
        except McpChatError as error:
            error.message = self._pool.context.secrets.redact(error.message)
            result.error = fault(error)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            told = f"the provider's answer cannot be read: {type(error).__name__}"
            result.error = fault(ModelError(told, kind="broken_stream"))
        return result

    def _read(self, found: dict[str, Any], asked: Asked, choice: ModelChoice, result: Result) -> None:
        response, error = found.get("response"), found.get("error")
        body = response.get("body") if isinstance(response, dict) else None
        if not isinstance(body, dict):
            said = error.get("message") or error.get("code") if isinstance(error, dict) else "no answer"
            raise ModelError(f"the provider did not answer: {said}", kind="server")
        done = _model(choice).read_offline(choice.name, body, choice.options.max_output_tokens)
        secrets = self._pool.context.secrets
        result.answer = secrets.redact(done.message.text)
        result.stop, result.usage, result.steps = done.stop, done.usage, 1
        self._pool.spent.add(done.usage, None)
        if (schema := self._schema(asked)) is not None and done.stop == "end":
            text, problem = schema.read(done.message.text)
            if problem:
                raise ModelError(f"the model's answer does not fit the schema: {problem}", kind="schema")
            result.value = secrets.redact_value(json.loads(text))
        if done.stop in {"length", "filter", "refusal"}:
            raise ModelError(f"the answer ended early: {done.stop}", kind="refused")


class _File:
    """Requests on their way into one file of the provider's."""

    def __init__(self) -> None:
        self.count = 0
        self.choice: ModelChoice | None = None
        self._bytes = 0
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``

    def full(self, more: int) -> bool:
        return self.count >= MOST_REQUESTS or self._bytes + more > MOST_BYTES

    def add(self, line: bytes, choice: ModelChoice) -> None:
        self._file.write(line)
        self._bytes += len(line)
        self.count += 1
        self.choice = choice

    def rewound(self) -> Any:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


def _model(choice: ModelChoice) -> OpenAIModel:
    """Raises UsageError for a model that is no provider's."""
    if not isinstance(choice.adapter, Reached):
        raise UsageError(f"{choice.name} is no provider's model", hint="batch without --provider-batch runs it")
    return choice.adapter.load()


def _told(sent: Sent, made: Mapping[str, Any]) -> Sent:
    """What the provider says of a batch."""
    counts, errors = made.get("request_counts"), made.get("errors")
    outputs = tuple(str(made[key]) for key in ("output_file_id", "error_file_id") if made.get(key))
    listed = errors.get("data") if isinstance(errors, dict) else None
    told = [str(one.get("message", "")) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    done = sum(int(counts.get(key) or 0) for key in ("completed", "failed")) if isinstance(counts, dict) else sent.done
    return replace(
        sent,
        batch=str(made.get("id") or sent.batch),
        status=str(made.get("status") or sent.status),
        done=done,
        outputs=outputs,
        problem="; ".join(told[:3]),
    )
