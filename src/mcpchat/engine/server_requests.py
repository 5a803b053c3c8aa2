"""The answers to what servers ask: questions to the person, samples of the model, roots."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from mcpchat.core.elicitation import Answer, Form, Sample, SampleRequest, Visit
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import Message, Text, Usage
from mcpchat.core.protocols import Asker, Done, ModelChoice, ModelRequest, Retrying
from mcpchat.engine.history import sendable
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import BadAddress, web_address

_MOST_SAMPLES = 20  # for one server, in one run
_MOST_TRIES = 5  # at a form that the schema refuses


class AskingHost:
    """A Host that puts everything to an Asker.

    ``check`` says what is wrong with a value by a schema; ``model`` gives the model to sample, None where there is
    none; ``charge`` is told what a sample took; ``yes`` agrees to samples and roots without asking; ``clean``
    takes secrets out of what a model is to be sent.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        emit: Emit,
        check: Callable[[dict[str, Any], object], str],
        model: Callable[[], ModelChoice | None] = lambda: None,
        charge: Callable[[Usage], None] = lambda usage: None,
        yes: bool = False,
        clean: Callable[[SampleRequest], SampleRequest] = lambda request: request,
    ) -> None:
        self._asker = asker
        self._emit = emit
        self._check = check
        self._model = model
        self._charge = charge
        self._yes = yes
        self._clean = clean
        self._samples: Counter[str] = Counter()
        self._roots: dict[tuple[str, tuple[str, ...]], bool] = {}

    async def elicit(self, question: Form | Visit) -> Answer:
        if isinstance(question, Visit):
            try:
                web_address(question.url)
            except BadAddress as error:
                self._tell("warning", f"{question.server} wants an address opened that cannot be trusted: {error}")
                return Answer(action="decline")
        problem = ""
        for _ in range(_MOST_TRIES):
            answer = await self._asker.elicit(question, problem)
            if answer.action == "accept" and isinstance(question, Form):
                problem = self._check(question.schema, answer.content or {})
                if problem:
                    continue
            outcome = {"accept": "answered", "decline": "declined", "cancel": "cancelled"}[answer.action]
            self._tell("info", f"{question.server} asked: {one_line(question.message, 200)} ({outcome})")
            return answer
        return Answer(action="cancel")

    async def sample(self, request: SampleRequest) -> Sample | None:
        request = self._clean(request)
        choice = self._model()
        if choice is None:
            self._tell("warning", f"{request.server} wants to ask a model, and there is none here")
            return None
        self._samples[request.server] += 1
        if self._samples[request.server] > _MOST_SAMPLES:
            self._tell("warning", f"{request.server} asks your model too often: refused from now on")
            return None
        said = "\n\n".join(f"{message.role}: {message.text}" for message in request.messages)
        prompt = f"system: {request.instructions}\n\n{said}" if request.instructions else said
        if not await self._agreed(request.server, f"ask {choice.name} (at most {request.max_tokens} tokens)", prompt):
            return None
        sample = await self._sampled(choice, request)
        return sample if await self._agreed(request.server, "have this answer", sample.text) else None

    async def roots(self, server: str, folders: Sequence[str]) -> bool:
        key = (server, tuple(folders))
        if key not in self._roots:
            self._roots[key] = await self._agreed(server, "know of these folders", "\n".join(folders))
        return self._roots[key]

    async def _agreed(self, server: str, wish: str, details: str) -> bool:
        if self._yes:
            self._tell("info", f"{server} may {wish} (--yes)")
            return True
        return await self._asker.confirm(server, wish, details)

    def _tell(self, level: Any, text: str) -> None:
        self._emit(Notice(level=level, text=text))

    async def _sampled(self, choice: ModelChoice, request: SampleRequest) -> Sample:
        """The model's answer. Raises ModelError."""
        messages = (Message(role=message.role, parts=(Text(text=message.text),)) for message in request.messages)
        options = replace(choice.options, max_output_tokens=request.max_tokens)
        if request.temperature is not None:
            options = replace(options, temperature=request.temperature)
        wanted = ModelRequest(
            model=choice.name, system=request.instructions, messages=sendable(tuple(messages)), options=options
        )
        async with aclosing(choice.adapter.stream(wanted)) as events:
            async for event in events:
                if isinstance(event, Retrying):
                    self._tell("warning", event.text)
                if isinstance(event, Done):
                    self._charge(event.usage)
                    return Sample(model=choice.name, text=event.message.text, cut=event.stop == "length")
        raise AssertionError("a model's stream ends in Done or raises ModelError")
