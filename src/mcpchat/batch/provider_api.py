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
from mcpchat.batch.session_factory import TRANSIENT_ERRORS, SessionFactory
from mcpchat.batch.types import BatchResult, PreparedRequest, attach_files, request_key
from mcpchat.core.protocols import ModelRequest, SelectedModel
from mcpchat.core.report import error_report
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.errors import McpChatError, ModelError, StoreError, UsageError
from mcpchat.models.openai.model import OpenAIModel
from mcpchat.models.selection import LazyOpenAIModel
from mcpchat.util import json_schema
from mcpchat.util.private_files import read_private, write_private

MAX_REQUESTS = 50_000  # in one file
MAX_FILE_BYTES = 190_000_000
_FINAL_STATUSES = {"completed", "failed", "expired", "cancelled"}


class ToolsNotSupported(UsageError):
    """What every request that names no agent of its own is refused for."""


class SubmittedFile(Struct, frozen=True, kw_only=True):
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


class BatchState(Struct, frozen=True, kw_only=True):
    """What was sent. ``run`` is this run's own name, by which a batch is found again; ``at`` the provider's address."""

    run: str
    at: str
    sent: tuple[SubmittedFile, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether the provider is done with all of it."""
        return all(submitted.status in _FINAL_STATUSES for submitted in self.sent)


class ProviderBatch:
    """One batch of one pool; ``path`` is where its state is kept."""

    def __init__(self, factory: SessionFactory, path: Path, notify: Callable[[str], None]) -> None:
        self._factory = factory
        self._path = path
        self._notify = notify

    def load(self) -> BatchState | None:
        """What was sent; None where nothing was. Raises UsageError."""
        try:
            data = read_private(self._path)
            return msgspec.json.decode(data, type=BatchState) if data is not None else None
        except (StoreError, msgspec.MsgspecError) as error:
            raise UsageError(f"{self._path} is not what an earlier run wrote: {error}") from error

    def _save(self, state: BatchState) -> BatchState:
        write_private(self._path, msgspec.json.encode(state))
        return state

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    # Submit.

    async def submit(
        self, requests: AsyncIterator[PreparedRequest | BatchResult], write: Callable[[BatchResult], None]
    ) -> BatchState:
        """Send the requests; what is none is written as a result at once. Raises UsageError, ModelError."""
        if self.load() is not None:
            raise UsageError(f"a batch was sent already: {self._path}", hint="--provider-batch wait, or fetch")
        state = BatchState(run=uuid.uuid4().hex, at="")
        files: dict[tuple[str, str], RequestFile] = {}
        problem = "there are none"
        try:
            async for item in requests:
                try:
                    if isinstance(item, BatchResult):
                        write(item)
                        continue
                    choice = await self._factory.select_model(item.source.agent, item.source.model)
                    path, line = self._request_line(item, choice)
                except ToolsNotSupported:
                    raise
                except UsageError as error:
                    problem = f"{error.message} ({error.hint})" if error.hint else error.message
                    write(BatchResult(id=item.id, line=item.line, error=error_report(error)))
                    continue
                state = self._check_address(state, choice)
                file = files.setdefault((choice.name, path), RequestFile())
                if file.is_full(len(line)):
                    state = await self._submit_file(state, choice, path, file)
                    file = files[choice.name, path] = RequestFile()
                file.add(line, choice)
            for (_, path), file in files.items():
                assert file.choice is not None
                state = await self._submit_file(state, file.choice, path, file)
        finally:
            for file in files.values():
                file.close()
        if not state.sent:
            raise UsageError(f"no request could be sent: {problem}")
        return state

    def _check_address(self, state: BatchState, choice: SelectedModel) -> BatchState:
        address = _openai_model(choice).client.base_url
        if state.at not in {"", address}:
            raise UsageError(f"a provider's batch goes to one address, not to {state.at} and {address}")
        return replace(state, at=address)

    def _request_line(self, request: PreparedRequest, choice: SelectedModel) -> tuple[str, bytes]:
        source = request.source
        agent, active_agent = self._factory.resolve_agent(source.agent)
        if agent.servers != () and not self._factory.without_tools:
            hint = "--no-tools, or an agent with servers = [], asks without any"
            error_type = ToolsNotSupported if source.agent is None else UsageError
            raise error_type("a provider runs no tools", hint=hint)
        if source.attach:
            request = attach_files(
                request, tuple(part for name in source.attach for part in attachments.read_attachment(name))
            )
        schema = self._answer_schema(request)
        system_texts = [active_agent.instructions, request.system, schema.instructions if schema else ""]
        model_request = ModelRequest(
            model=choice.name,
            messages=request.messages,
            system="\n\n".join(text for text in system_texts if text),
            options=choice.options,
            schema=schema.schema if schema else None,
        )
        path, body = _openai_model(choice).build_batch_request(model_request)
        line = {"custom_id": f"{request.line}|{request.id}"[:512], "method": "POST", "url": f"/v1{path}", "body": body}
        return path, json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n"

    def _answer_schema(self, request: PreparedRequest) -> AnswerSchema | None:
        schema = request.source.schema or self._factory.schema
        return AnswerSchema(dict(schema), json_schema.find_error) if schema is not None else None

    async def _submit_file(
        self, state: BatchState, choice: SelectedModel, path: str, file: "RequestFile"
    ) -> BatchState:
        client = _openai_model(choice).client
        upload = await client.upload(file.rewind(), purpose="batch")
        submitted = SubmittedFile(
            model=choice.selector or choice.name, path=path, file=str(upload.get("id", "")), requests=file.count
        )
        state = self._save(replace(state, sent=(*state.sent, submitted)))
        batch = await client.request_json("POST", "/batches", self._create_payload(state, submitted))
        self._notify(f"sent {file.count:,} requests for {choice.name}: {batch.get('id', '')}")
        return self._save(replace(state, sent=(*state.sent[:-1], _updated(submitted, batch))))

    @staticmethod
    def _create_payload(state: BatchState, submitted: SubmittedFile) -> dict[str, Any]:
        return {
            "input_file_id": submitted.file,
            "endpoint": f"/v1{submitted.path}",
            "completion_window": "24h",
            "metadata": {"mcpchat": f"{state.run}-{len(state.sent)}"},
        }

    # Wait.

    async def wait(self, state: BatchState, *, interval: float, on_progress: Callable[[int], None]) -> BatchState:
        """Until all is over, at the provider's; looked at every ``poll`` seconds. Raises ModelError."""
        started_at = time.monotonic()
        while True:
            try:
                state = await self.poll(state)
            except ModelError as error:
                if error.kind not in TRANSIENT_ERRORS:
                    raise
                self._notify(f"{error.message}; asking again")
            on_progress(sum(submitted.done for submitted in state.sent))
            if state.is_finished:
                return state
            await asyncio.sleep(min(interval, max(interval / 10, time.monotonic() - started_at)))

    async def poll(self, state: BatchState) -> BatchState:
        """How it stands now."""
        files = []
        for number, submitted in enumerate(state.sent, 1):
            if submitted.status in _FINAL_STATUSES:
                files.append(submitted)
                continue
            client = _openai_model(await self._factory.select_model(None, submitted.model)).client
            if not submitted.batch:
                submitted = await self._find_or_create(state, submitted, number)
            if submitted.batch:
                submitted = _updated(submitted, await client.request_json("GET", f"/batches/{submitted.batch}"))
            files.append(submitted)
        return self._save(replace(state, sent=tuple(files)))

    async def _find_or_create(self, state: BatchState, submitted: SubmittedFile, number: int) -> SubmittedFile:
        """The batch of a file whose sender died before it was told its name; made now where there is none."""
        client = _openai_model(await self._factory.select_model(None, submitted.model)).client
        listed = (await client.request_json("GET", "/batches?limit=100")).get("data")
        for batch in listed if isinstance(listed, list) else ():
            if isinstance(batch, dict) and batch.get("input_file_id") == submitted.file:
                return _updated(submitted, batch)
        payload = self._create_payload(replace(state, sent=state.sent[:number]), submitted)
        return _updated(submitted, await client.request_json("POST", "/batches", payload))

    # Fetch.

    async def fetch(
        self,
        state: BatchState,
        requests: Mapping[int, PreparedRequest],
        finished_keys: set[str],
        write: Callable[[BatchResult], None],
    ) -> int:
        """Write the answers to requests that are not ``done``; how many belong to none. Raises ModelError."""
        unmatched = 0
        for submitted in state.sent:
            choice = await self._factory.select_model(None, submitted.model)
            if submitted.problem:
                self._notify(f"warning: {submitted.batch} {submitted.status}: {submitted.problem}")
            for output in submitted.outputs:
                async with aclosing(_openai_model(choice).client.stream_lines(f"/files/{output}/content")) as lines:
                    async for line in lines:
                        if line.strip():
                            result = self._parse_result(line, requests, choice)
                            if result is None:
                                unmatched += 1
                            elif request_key(result.id, result.line) not in finished_keys:
                                write(result)
        return unmatched

    def _parse_result(
        self, line: bytes, requests: Mapping[int, PreparedRequest], choice: SelectedModel
    ) -> BatchResult | None:
        """What a line of the provider's says; None where it belongs to no request."""
        try:
            output = json.loads(line)
            number, _, name = output["custom_id"].partition("|")
            request = requests[int(number)]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if not request.id.startswith(name):
            return None
        result = BatchResult(id=request.id, line=request.line, model=choice.name)
        try:
            self._fill_result(output, request, choice, result)
        except McpChatError as error:
            error.message = self._factory.context.secrets.redact(error.message)
            result.error = error_report(error)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            text = f"the provider's answer cannot be read: {type(error).__name__}"
            result.error = error_report(ModelError(text, kind="broken_stream"))
        return result

    def _fill_result(
        self, output: dict[str, Any], request: PreparedRequest, choice: SelectedModel, result: BatchResult
    ) -> None:
        response, error = output.get("response"), output.get("error")
        body = response.get("body") if isinstance(response, dict) else None
        if not isinstance(body, dict):
            reason = error.get("message") or error.get("code") if isinstance(error, dict) else "no answer"
            raise ModelError(f"the provider did not answer: {reason}", kind="server")
        done = _openai_model(choice).parse_batch_response(choice.name, body, choice.options.max_output_tokens)
        secrets = self._factory.context.secrets
        result.answer = secrets.redact(done.message.text)
        result.stop, result.usage, result.steps = done.stop, done.usage, 1
        self._factory.run_usage.add(done.usage, None)
        if (schema := self._answer_schema(request)) is not None and done.stop == "end":
            text, problem = schema.parse(done.message.text)
            if problem:
                raise ModelError(f"the model's answer does not fit the schema: {problem}", kind="schema")
            result.value = secrets.redact_value(json.loads(text))
        if done.stop in {"length", "filter", "refusal"}:
            raise ModelError(f"the answer ended early: {done.stop}", kind="refused")


class RequestFile:
    """Requests on their way into one file of the provider's."""

    def __init__(self) -> None:
        self.count = 0
        self.choice: SelectedModel | None = None
        self._bytes = 0
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``

    def is_full(self, line_bytes: int) -> bool:
        return self.count >= MAX_REQUESTS or self._bytes + line_bytes > MAX_FILE_BYTES

    def add(self, line: bytes, choice: SelectedModel) -> None:
        self._file.write(line)
        self._bytes += len(line)
        self.count += 1
        self.choice = choice

    def rewind(self) -> Any:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


def _openai_model(choice: SelectedModel) -> OpenAIModel:
    """Raises UsageError for a model that is no provider's."""
    if not isinstance(choice.adapter, LazyOpenAIModel):
        raise UsageError(f"{choice.name} is no provider's model", hint="batch without --provider-batch runs it")
    return choice.adapter.load()


def _updated(submitted: SubmittedFile, batch: Mapping[str, Any]) -> SubmittedFile:
    """What the provider says of a batch."""
    counts, errors = batch.get("request_counts"), batch.get("errors")
    outputs = tuple(str(batch[key]) for key in ("output_file_id", "error_file_id") if batch.get(key))
    details = errors.get("data") if isinstance(errors, dict) else None
    messages = (
        [str(item.get("message", "")) for item in details if isinstance(item, dict)]
        if isinstance(details, list)
        else []
    )
    done = (
        sum(int(counts.get(key) or 0) for key in ("completed", "failed"))
        if isinstance(counts, dict)
        else submitted.done
    )
    return replace(
        submitted,
        batch=str(batch.get("id") or submitted.batch),
        status=str(batch.get("status") or submitted.status),
        done=done,
        outputs=outputs,
        problem="; ".join(messages[:3]),
    )
