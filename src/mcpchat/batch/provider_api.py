"""Batches through a provider's Batch API (OpenAI's and compatible ones): cheaper answers, up to 24 hours later.

Request files are uploaded, and output files downloaded. The state of what was submitted is saved beside the results:
submit, wait and fetch can be separate processes, and no request is submitted twice.
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
from mcpchat.batch.session_factory import SessionFactory
from mcpchat.batch.types import BatchResult, PreparedRequest, attach_files, request_key
from mcpchat.core.protocols import ModelRequest, SelectedModel
from mcpchat.core.report import error_report
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.errors import TRANSIENT_ERRORS, McpChatError, ModelError, StoreError, UsageError
from mcpchat.models.providers import BatchModel
from mcpchat.util import json_schema
from mcpchat.util.private_files import read_private, write_private

MAX_REQUESTS = 50_000  # in one file
MAX_FILE_BYTES = 190_000_000
_FINAL_STATUSES = {"completed", "failed", "expired", "cancelled"}


class ToolsNotSupported(UsageError):
    """The run's agent has tools, which a provider's batch cannot run: this affects every request without an agent."""


class SubmittedFile(Struct, frozen=True, kw_only=True):
    """One uploaded file of requests for one model.

    ``batch`` is the id that the provider gave the batch, empty until then. ``requests`` and ``done`` count requests;
    ``outputs`` are ids of output files.
    """

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
    """What was submitted. ``run`` is the unique id of this run; ``at`` is the base URL of the provider."""

    run: str
    at: str
    sent: tuple[SubmittedFile, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether the provider has finished every batch."""
        return all(submitted.status in _FINAL_STATUSES for submitted in self.sent)


class ProviderBatch:
    """Submits, polls and fetches one provider batch. ``path`` is the file of its state."""

    def __init__(self, factory: SessionFactory, path: Path, notify: Callable[[str], None]) -> None:
        self._factory = factory
        self._path = path
        self._notify = notify

    def load(self) -> BatchState | None:
        """Return the saved state, or None if nothing was submitted. Raises UsageError if it cannot be read."""
        try:
            data = read_private(self._path)
            return msgspec.json.decode(data, type=BatchState) if data is not None else None
        except (StoreError, msgspec.MsgspecError) as error:
            raise UsageError(f"{self._path} is not the state of a batch: {error}") from error

    def _save(self, state: BatchState) -> BatchState:
        write_private(self._path, msgspec.json.encode(state))
        return state

    def forget(self) -> None:
        """Delete the saved state."""
        self._path.unlink(missing_ok=True)

    # Submit.

    async def submit(
        self, requests: AsyncIterator[PreparedRequest | BatchResult], write: Callable[[BatchResult], None]
    ) -> BatchState:
        """Upload the requests and create the batches. A request that cannot be sent is written as a failed result.

        Raises UsageError if a batch was submitted already, if the agent has tools, or if no request can be sent;
        ModelError if the provider's API fails.
        """
        if self.load() is not None:
            raise UsageError(f"a batch was submitted already: {self._path}", hint="use --provider-batch wait, or fetch")
        state = BatchState(run=uuid.uuid4().hex, at="")
        files: dict[tuple[str, str], RequestFile] = {}
        problem = "there are no requests"
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
                key = choice.name, path
                if key in files and files[key].is_full(len(line)):
                    state = await self._submit_file(state, choice, path, files[key])
                    files.pop(key).close()
                if key not in files:
                    files[key] = RequestFile()
                files[key].add(line, choice)
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
        address = _batch_model(choice).client.base_url
        if state.at not in {"", address}:
            raise UsageError(f"a provider batch must use one address, not both {state.at} and {address}")
        return replace(state, at=address)

    def _request_line(self, request: PreparedRequest, choice: SelectedModel) -> tuple[str, bytes]:
        source = request.source
        agent, active_agent = self._factory.resolve_agent(source.agent)
        if agent.servers != () and not self._factory.without_tools:
            hint = "use --no-tools, or an agent with servers = []"
            error_type = ToolsNotSupported if source.agent is None else UsageError
            raise error_type("a provider batch cannot run tools", hint=hint)
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
        path, body = _batch_model(choice).build_batch_request(model_request)
        line = {"custom_id": f"{request.line}|{request.id}"[:512], "method": "POST", "url": f"/v1{path}", "body": body}
        return path, json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n"

    def _answer_schema(self, request: PreparedRequest) -> AnswerSchema | None:
        schema = request.source.schema or self._factory.schema
        return AnswerSchema(dict(schema), json_schema.find_error) if schema is not None else None

    async def _submit_file(
        self, state: BatchState, choice: SelectedModel, path: str, file: "RequestFile"
    ) -> BatchState:
        client = _batch_model(choice).client
        upload = await client.upload(file.rewind(), purpose="batch")
        submitted = SubmittedFile(
            model=choice.selector or choice.name, path=path, file=str(upload.get("id", "")), requests=file.count
        )
        state = self._save(replace(state, sent=(*state.sent, submitted)))
        batch = await client.request_json("POST", "/batches", self._create_payload(state, submitted))
        self._notify(f"submitted {file.count:,} requests for {choice.name}: {batch.get('id', '')}")
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
        """Poll until the provider has finished every batch; return the final state.

        ``interval`` is in seconds; the first polls are closer together. ``on_progress`` receives the number of finished
        requests. Raises ModelError if the API fails; a transient failure is retried.
        """
        started_at = time.monotonic()
        while True:
            try:
                state = await self.poll(state)
            except ModelError as error:
                if error.kind not in TRANSIENT_ERRORS:
                    raise
                self._notify(f"{error.message}; trying again")
            on_progress(sum(submitted.done for submitted in state.sent))
            if state.is_finished:
                return state
            await asyncio.sleep(min(interval, max(interval / 10, time.monotonic() - started_at)))

    async def poll(self, state: BatchState) -> BatchState:
        """Ask the provider for the current state, and save it. Raises ModelError if the API fails."""
        files = []
        for number, submitted in enumerate(state.sent, 1):
            if submitted.status in _FINAL_STATUSES:
                files.append(submitted)
                continue
            client = _batch_model(await self._factory.select_model(None, submitted.model)).client
            if not submitted.batch:
                submitted = await self._find_or_create(state, submitted, number)
            if submitted.batch:
                submitted = _updated(submitted, await client.request_json("GET", f"/batches/{submitted.batch}"))
            files.append(submitted)
        return self._save(replace(state, sent=tuple(files)))

    async def _find_or_create(self, state: BatchState, submitted: SubmittedFile, number: int) -> SubmittedFile:
        """Find the batch of an uploaded file, or create it.

        Used if the earlier process ended before it knew the id of the batch.
        """
        client = _batch_model(await self._factory.select_model(None, submitted.model)).client
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
        """Write the results of the requests that are not in ``finished_keys``.

        Returns how many results match no request. ``requests`` maps line numbers to requests. Raises ModelError if the
        API fails.
        """
        unmatched = 0
        for submitted in state.sent:
            choice = await self._factory.select_model(None, submitted.model)
            if submitted.problem:
                self._notify(f"warning: {submitted.batch} {submitted.status}: {submitted.problem}")
            for output in submitted.outputs:
                async with aclosing(_batch_model(choice).client.stream_lines(f"/files/{output}/content")) as lines:
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
        """Parse one line of an output file; None if it matches no request."""
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
        done = _batch_model(choice).parse_batch_response(choice.name, body, choice.options.max_output_tokens)
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
    """A temporary file of requests, to be uploaded."""

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


def _batch_model(choice: SelectedModel) -> BatchModel:
    """Return the model if its provider runs batches. Raises UsageError if not, as for the demo model."""
    if not isinstance(choice.adapter, BatchModel):
        raise UsageError(f"{choice.name} does not run at a provider", hint="run the batch without --provider-batch")
    return choice.adapter


def _updated(submitted: SubmittedFile, batch: Mapping[str, Any]) -> SubmittedFile:
    """Return the file with the state that the provider reports for its batch."""
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
