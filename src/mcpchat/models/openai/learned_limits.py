"""What a model's server was found to refuse in tools, kept for the next runs."""

import hashlib
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.errors import StoreError
from mcpchat.models.openai.compatibility import Compatibility
from mcpchat.util.private_files import read_private, write_private

_FORGET_AFTER = 30 * 24 * 3600.0  # seconds: the server may have learnt something too


class LearnedLimits(Struct, frozen=True, kw_only=True):
    """The fields of Compatibility of the same names. ``learnt`` is when, in epoch seconds."""

    learnt: float
    max_tools: int | None = None
    max_description: int | None = None
    schema_without: frozenset[str] = frozenset()
    basic_schemas: bool = False


class LimitFiles:
    """One file for each model of a server. A file that cannot be used counts as missing; write errors are ignored."""

    def __init__(self, folder: Path, server: str) -> None:
        """``server`` is the address and the API of the server."""
        self._folder = folder
        self._server = server

    def apply(self, model: str, compatibility: Compatibility) -> Compatibility:
        """The settings, with what was learnt about the model in the last 30 days."""
        learnt = self._load(model)
        if learnt is None:
            return compatibility
        return replace(
            compatibility,
            max_tools=_smaller(learnt.max_tools, compatibility.max_tools),
            max_description=_smaller(learnt.max_description, compatibility.max_description),
            schema_without=compatibility.schema_without | learnt.schema_without,
            basic_schemas=learnt.basic_schemas or compatibility.basic_schemas,
        )

    def save(self, model: str, before: Compatibility, after: Compatibility) -> None:
        """Keep what is new in the settings that are about tools, beside what another process has learnt."""
        if _tool_settings(before) == _tool_settings(after):
            return
        merged = self.apply(model, after)
        learnt = LearnedLimits(
            learnt=time.time(),
            max_tools=merged.max_tools,
            max_description=merged.max_description,
            schema_without=merged.schema_without,
            basic_schemas=merged.basic_schemas,
        )
        with suppress(StoreError, OSError):
            write_private(self._path(model), msgspec.json.encode(learnt), durable=False)

    def _load(self, model: str) -> LearnedLimits | None:
        try:
            data = read_private(self._path(model))
            learnt = msgspec.json.decode(data, type=LearnedLimits) if data is not None else None
        except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return learnt if learnt is not None and time.time() - learnt.learnt <= _FORGET_AFTER else None

    def _path(self, model: str) -> Path:
        digest = hashlib.sha256(f"{self._server}\0{model}".encode(errors="replace")).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _tool_settings(settings: Compatibility) -> tuple[object, ...]:
    return settings.max_tools, settings.max_description, settings.schema_without, settings.basic_schemas
