"""What the user agreed to, in private files: pinned tool definitions, and calls that are always allowed."""

import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mcpchat.core.tools import ToolSpec
from mcpchat.errors import StoreError
from mcpchat.permissions.pins import Pins
from mcpchat.util.private_json import load_json, locked, save_json


class PinFiles:
    """A PinStore of one file for each server's identity; ``identities`` has those by the servers' names."""

    def __init__(self, folder: Path, identities: Mapping[str, str]) -> None:
        self._folder = folder
        self._identities = identities

    def load(self, server: str) -> Pins | None:
        return load_json(self._path(server), Pins)

    def save(self, server: str, pins: Pins) -> None:
        save_json(self._path(server), pins)

    def _path(self, server: str) -> Path:
        return self._folder / f"{self._identities[server][:32]}.json"


class Approval(Struct, frozen=True, kw_only=True):
    """A tool that needs no question: of this server and definition, and no other. ``since`` is in epoch seconds."""

    tool: str
    identity: str
    fingerprint: str
    since: float

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%d", time.localtime(self.since))


class _Approvals(Struct, frozen=True, kw_only=True):
    approvals: tuple[Approval, ...] = ()


class ApprovalFile:
    """The Approvals in one file; ``identities`` has the servers' by their names."""

    def __init__(self, path: Path, identities: Mapping[str, str]) -> None:
        self._path = path
        self._identities = identities

    def all(self) -> tuple[Approval, ...]:
        """Raises StoreError."""
        kept = load_json(self._path, _Approvals)
        return kept.approvals if kept is not None else ()

    def given(self, tool: ToolSpec) -> str:
        identity = self._identities.get(tool.server)
        try:
            kept = self.all()
        except StoreError:
            return ""  # then it is asked
        for one in kept:
            if (one.tool, one.identity, one.fingerprint) == (tool.label, identity, tool.fingerprint):
                return one.date
        return ""

    def give(self, tool: ToolSpec) -> None:
        identity = self._identities.get(tool.server)
        if identity is None:
            raise StoreError(f"{tool.server} is no configured server")
        new = Approval(tool=tool.label, identity=identity, fingerprint=tool.fingerprint, since=time.time())
        with locked(self._path):
            kept = [one for one in self.all() if (one.tool, one.identity) != (new.tool, new.identity)]
            save_json(self._path, _Approvals(approvals=(*kept, new)))

    def revoke(self, gone: set[Approval]) -> None:
        """Raises StoreError."""
        with locked(self._path):
            save_json(self._path, _Approvals(approvals=tuple(one for one in self.all() if one not in gone)))
