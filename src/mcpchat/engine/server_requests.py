"""Answers requests of servers: elicitation, sampling, roots."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from mcpchat.core.elicitation import (
    ElicitationResult,
    Form,
    InvalidValue,
    SamplingRequest,
    SamplingResult,
    UrlRequest,
    find_format_error,
)
from mcpchat.core.events import Emit, Notice
from mcpchat.core.form_answers import FormAnswers, current_answers
from mcpchat.core.messages import Message, Text, Usage
from mcpchat.core.protocols import ModelRequest, ResponseDone, Retrying, SelectedModel, UserDialog
from mcpchat.engine.history import normalize_history
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import InvalidUrl, parse_web_url

_MAX_SAMPLES = 20  # of one server in one run
_MAX_FORM_ATTEMPTS = 5  # of a form whose values do not fit the schema


class ServerRequestHandler:
    """Handles the requests of servers (``ServerRequests``) by asking the user.

    ``check`` validates a value against a schema and returns the error or an empty string. ``model`` returns the model
    to sample, None if there is none; ``add_usage`` receives the usage of a sample. ``yes`` accepts sampling and roots
    without asking. ``redact`` removes secrets from a request before the model gets it.
    """

    def __init__(
        self,
        asker: UserDialog,
        *,
        emit: Emit,
        check: Callable[[dict[str, Any], object], str],
        model: Callable[[], SelectedModel | None] = lambda: None,
        add_usage: Callable[[Usage], None] = lambda usage: None,
        yes: bool = False,
        redact: Callable[[SamplingRequest], SamplingRequest] = lambda request: request,
    ) -> None:
        self._asker = asker
        self._emit = emit
        self._check = check
        self._model = model
        self._add_usage = add_usage
        self._yes = yes
        self._redact = redact
        self._sample_counts: Counter[str] = Counter()
        self._roots_allowed: dict[tuple[str, tuple[str, ...]], bool] = {}

    async def elicit(self, request: Form | UrlRequest) -> ElicitationResult:
        if isinstance(request, UrlRequest):
            try:
                parse_web_url(request.url)
            except InvalidUrl as error:
                self._notify("warning", f"{request.server} asks to open an unsafe URL: {error}")
                return ElicitationResult(action="decline")
        if isinstance(request, Form) and (answers := current_answers()):
            if answers.matches(request):
                return self._fill_in(request, answers)
            names = ", ".join(one_line(field.name, 40) for field in request.fields[:20])
            self._notify("info", f"{request.server} asks for {names}: no answer was given beforehand")
        problem = ""
        for _ in range(_MAX_FORM_ATTEMPTS):
            answer = await self._asker.elicit(request, problem)
            if answer.action == "accept" and isinstance(request, Form):
                content = answer.content or {}
                problem = self._check(request.schema, content) or find_format_error(request, content)
                if problem:
                    continue
            outcome = {"accept": "answered", "decline": "declined", "cancel": "cancelled"}[answer.action]
            self._notify("info", f"{request.server} asked: {one_line(request.message, 200)} ({outcome})")
            return answer
        return ElicitationResult(action="cancel")

    def _fill_in(self, form: Form, answers: FormAnswers) -> ElicitationResult:
        """Answer the form with what was given beforehand; decline, and say why, if it does not fit."""
        try:
            content = answers.fill_in(form)
            problem = self._check(form.schema, content) or find_format_error(form, content)
        except InvalidValue as error:
            content, problem = {}, str(error)
        asked = f"{form.server} asked: {one_line(form.message, 200)}"
        if problem:
            self._notify("warning", f"{asked} (declined: the given answer does not fit: {one_line(problem, 200)})")
            return ElicitationResult(action="decline")
        self._notify("info", f"{asked} (answered: {', '.join(one_line(name, 40) for name in content)})")
        return ElicitationResult(action="accept", content=content)

    async def sample(self, request: SamplingRequest) -> SamplingResult | None:
        request = self._redact(request)
        choice = self._model()
        if choice is None:
            self._notify("warning", f"{request.server} asks for a sample, but there is no model")
            return None
        self._sample_counts[request.server] += 1
        if self._sample_counts[request.server] > _MAX_SAMPLES:
            self._notify("warning", f"{request.server} asks for too many samples: declined from now on")
            return None
        conversation = "\n\n".join(f"{message.role}: {message.text}" for message in request.messages)
        prompt = f"system: {request.instructions}\n\n{conversation}" if request.instructions else conversation
        if not await self._confirm(request.server, f"ask {choice.name} (at most {request.max_tokens} tokens)", prompt):
            return None
        sample = await self._sample(choice, request)
        return sample if await self._confirm(request.server, "have this answer", sample.text) else None

    async def allow_roots(self, server: str, folders: Sequence[str]) -> bool:
        key = (server, tuple(folders))
        if key not in self._roots_allowed:
            self._roots_allowed[key] = await self._confirm(server, "know of these folders", "\n".join(folders))
        return self._roots_allowed[key]

    async def _confirm(self, server: str, action: str, details: str) -> bool:
        if self._yes:
            self._notify("info", f"{server} may {action} (--yes)")
            return True
        return await self._asker.confirm(server, action, details)

    def _notify(self, level: Any, text: str) -> None:
        self._emit(Notice(level=level, text=text))

    async def _sample(self, choice: SelectedModel, request: SamplingRequest) -> SamplingResult:
        """The model's answer. Raises ModelError."""
        messages = (Message(role=message.role, parts=(Text(text=message.text),)) for message in request.messages)
        options = replace(choice.options, max_output_tokens=request.max_tokens)
        if request.temperature is not None:
            options = replace(options, temperature=request.temperature)
        model_request = ModelRequest(
            model=choice.name, system=request.instructions, messages=normalize_history(tuple(messages)), options=options
        )
        async with aclosing(choice.adapter.stream(model_request)) as events:
            async for event in events:
                if isinstance(event, Retrying):
                    self._notify("warning", event.text)
                if isinstance(event, ResponseDone):
                    self._add_usage(event.usage)
                    return SamplingResult(
                        model=choice.name, text=event.message.text, truncated=event.stop in {"length", "window"}
                    )
        raise AssertionError("a model's stream ends with ResponseDone or raises ModelError")
