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
        try:
            data = read_private(self._path(model))
            learnt = msgspec.json.decode(data, type=LearnedLimits) if data is not None else None
        except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
            return compatibility
        if learnt is None or time.time() - learnt.learnt > _FORGET_AFTER:
            return compatibility
        return replace(
            compatibility,
            max_tools=learnt.max_tools,
            max_description=learnt.max_description,
            schema_without=compatibility.schema_without | learnt.schema_without,
            basic_schemas=learnt.basic_schemas or compatibility.basic_schemas,
        )

    def save(self, model: str, compatibility: Compatibility) -> None:
        """Keep the settings that are about tools."""
        learnt = LearnedLimits(
            learnt=time.time(),
            max_tools=compatibility.max_tools,
            max_description=compatibility.max_description,
            schema_without=compatibility.schema_without,
            basic_schemas=compatibility.basic_schemas,
        )
        with suppress(StoreError, OSError):
            write_private(self._path(model), msgspec.json.encode(learnt), durable=False)

    def _path(self, model: str) -> Path:
        digest = hashlib.sha256(f"{self._server}\0{model}".encode(errors="replace")).hexdigest()
        return self._folder / f"{digest[:32]}.json"
