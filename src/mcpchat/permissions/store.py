"""Private files of the user's permissions: pinned tool definitions, and tools that are always allowed."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from mcpchat.core.tools import ToolSpec
from mcpchat.errors import StoreError
from mcpchat.permissions.pins import PinSummary, ServerPins
from mcpchat.util.private_json import load_json, locked, save_json

_LARGE = 100_000  # bytes


class _SavedSummary(Struct, frozen=True, kw_only=True):
    """The summary of a file of this size, in bytes, and of this modification time, in nanoseconds."""

    size: int
    modified: int
    summary: PinSummary


class FilePinStore:
    """A PinStore with one file for each server. ``server_fingerprints`` maps server names to fingerprints."""

    def __init__(self, directory: Path, server_fingerprints: Mapping[str, str]) -> None:
        self._directory = directory
        self._server_fingerprints = server_fingerprints

    def load_summary(self, server: str) -> PinSummary | None:
        """The summary of the pins. For a large file, it is saved in a second file."""
        path = self._path(server)
        summary_path = path.with_suffix(".summary.json")
        try:
            info = path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        if info.st_size < _LARGE:
            return load_json(path, PinSummary)
        with suppress(StoreError):
            saved = load_json(summary_path, _SavedSummary)
            if saved is not None and (saved.size, saved.modified) == (info.st_size, info.st_mtime_ns):
                return saved.summary
        summary = load_json(path, PinSummary)
        if summary is not None:
            with suppress(StoreError):  # it only saves time
                save_json(summary_path, _SavedSummary(size=info.st_size, modified=info.st_mtime_ns, summary=summary))
        return summary

    def load(self, server: str) -> ServerPins | None:
        return load_json(self._path(server), ServerPins)

    def save(self, server: str, pins: ServerPins) -> None:
        save_json(self._path(server), pins)

    def _path(self, server: str) -> Path:
        return self._directory / f"{self._server_fingerprints[server][:32]}.json"


class Approval(Struct, frozen=True, kw_only=True):
    """A tool that runs without asking, as long as its server and definition are the same.

    ``identity`` is the server's fingerprint, ``fingerprint`` the tool's; ``since`` is in epoch seconds.
    """

    tool: str
    identity: str
    fingerprint: str
    since: float

    @property
    def date(self) -> str:
        """The local date of the approval, YYYY-MM-DD."""
        return time.strftime("%Y-%m-%d", time.localtime(self.since))


class _SavedApprovals(Struct, frozen=True, kw_only=True):
    approvals: tuple[Approval, ...] = ()


class FileApprovalStore:
    """The Approvals in one file. ``server_fingerprints`` maps server names to fingerprints."""

    def __init__(self, path: Path, server_fingerprints: Mapping[str, str]) -> None:
        self._path = path
        self._server_fingerprints = server_fingerprints

    def read_all(self) -> tuple[Approval, ...]:
        """Return all saved approvals. Raises StoreError if the file cannot be read."""
        saved = load_json(self._path, _SavedApprovals)
        return saved.approvals if saved is not None else ()

    def approved_on(self, tool: ToolSpec) -> str:
        identity = self._server_fingerprints.get(tool.server)
        try:
            saved = self.read_all()
        except StoreError:
            return ""  # the user is asked instead
        for approval in saved:
            if (approval.tool, approval.identity, approval.fingerprint) == (
                tool.qualified_name,
                identity,
                tool.fingerprint,
            ):
                return approval.date
        return ""

    def approve_always(self, tool: ToolSpec) -> None:
        identity = self._server_fingerprints.get(tool.server)
        if identity is None:
            raise StoreError(f"{tool.server} is not a configured server")
        new = Approval(tool=tool.qualified_name, identity=identity, fingerprint=tool.fingerprint, since=time.time())
        with locked(self._path):
            others = [
                approval
                for approval in self.read_all()
                if (approval.tool, approval.identity) != (new.tool, new.identity)
            ]
            save_json(self._path, _SavedApprovals(approvals=(*others, new)))

    def revoke(self, revoked: set[Approval]) -> None:
        """Remove these approvals. Raises StoreError if the file cannot be read or written."""
        with locked(self._path):
            save_json(
                self._path,
                _SavedApprovals(approvals=tuple(approval for approval in self.read_all() if approval not in revoked)),
            )
