"""Tools as they were agreed: a Toolbox around a Toolbox that holds back what its server has changed since."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from mcpchat.core.catalog import Catalog
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import ToolResult
from mcpchat.core.protocols import Asker, Toolbox
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import Denied, StoreError
from mcpchat.permissions.pins import Change, Pins, agreed, changes, pinned
from mcpchat.util.sanitize import visible


class PinStore(Protocol):
    """The pins of the configured servers, by their names."""

    def load(self, server: str) -> Pins | None:
        """What was agreed; None where the server was never seen. Raises StoreError."""
        ...

    def save(self, server: str, pins: Pins) -> None:
        """Raises StoreError."""
        ...


class PinnedToolbox:
    """The inner toolbox without the tools, and the instructions, that changed since the person agreed to them.

    They are asked about once; where nobody is, or says no, they stay out. ``catalogs`` gives all that servers list,
    by their names; those in ``exempt`` are not looked at: they come with mcpchat. ``offers`` says of a server and a
    tool whether the config lets it through.
    """

    def __init__(
        self,
        inner: Toolbox,
        *,
        catalogs: Callable[[], Mapping[str, Catalog]],
        store: PinStore,
        asker: Asker,
        emit: Emit,
        exempt: Iterable[str] = (),
        offers: Callable[[str, str], bool] = lambda server, tool: True,
    ) -> None:
        self._inner = inner
        self._catalogs = catalogs
        self._store = store
        self._asker = asker
        self._emit = emit
        self._exempt = frozenset(exempt)
        self._offers = offers
        self._troubles: dict[str, StoreError] = {}
        self._one_look = asyncio.Lock()
        self._seen: dict[str, Catalog] = {}
        self._held: dict[str, tuple[Change, ...]] = {}
        self._offer: tuple[Sequence[ToolSpec], Sequence[ToolSpec]] = ((), ())

    @property
    def held(self) -> Sequence[Change]:
        """What is held back."""
        return [change for held in self._held.values() for change in held]

    async def tools(self) -> Sequence[ToolSpec]:
        async with self._one_look:
            return await self._tools()

    async def _tools(self) -> Sequence[ToolSpec]:
        offered = await self._inner.tools()
        looked = False
        for server, catalog in self._catalogs().items():
            if server not in self._exempt and self._seen.get(server) != catalog:
                self._held[server] = await self._look(server, catalog)
                self._seen[server] = catalog
                looked = True
        if looked or offered is not self._offer[0]:
            out = {(change.server, change.tool) for change in self.held}
            kept = offered if not out else [spec for spec in offered if (spec.server, spec.name) not in out]
            self._offer = offered, kept
        return self._offer[1]

    async def _look(self, server: str, catalog: Catalog) -> tuple[Change, ...]:
        """What of the server is held back."""
        now = pinned(server, catalog)
        try:
            pins = self._store.load(server)
            if pins is None:
                self._record(server, now)
                return ()
            found = changes(pins, now, lambda tool: self._offers(server, tool))
            yes = {change.tool for change in found if await self._agrees(change)}
            if yes:
                self._store.save(server, agreed(pins, now, yes))
        except StoreError as error:
            self._troubles[server] = error
            self._emit(Notice(level="warning", text=f"{server}: {error.message}; {error.hint or 'it is left out'}"))
            found, yes = [Change(server=server, tool=name, before=None, after="") for name in (*now.tools, "")], set()
            return tuple(found)
        held = tuple(change for change in found if change.tool not in yes)
        self._tell(server, held)
        return held

    def _record(self, server: str, now: Pins) -> None:
        """The first use: what cannot be recorded is used all the same, as it would be by who never used it before."""
        try:
            self._store.save(server, now)
        except StoreError as error:
            told = f"{server}: its tools cannot be recorded, and their changes not noticed: {error.message}"
            self._emit(Notice(level="warning", text=told))
            return
        if now.tools:
            told = (
                f"{server}: {len(now.tools)} tool{'s' * (len(now.tools) != 1)}, recorded as they are at their first use"
            )
            self._emit(Notice(level="info", text=told))

    async def _agrees(self, change: Change) -> bool:
        wish = "give you a new tool" if change.before is None else "change what you agreed to"
        if not change.tool:
            wish = "tell your model something else of its tools" if change.before else "tell your model of its tools"
        return await self._asker.confirm(change.server, f"{wish}: {change.label}", change.shown())

    def _tell(self, server: str, held: Sequence[Change]) -> None:
        if held:
            names = ", ".join(change.label for change in held[:5]) + (f" and {len(held) - 5} more" * (len(held) > 5))
            what = "is left out: it" if len(held) == 1 else "are left out: they"
            how = held[0].told if len(held) == 1 else "are new or have changed"
            told = f"{names} {what} {how} since you agreed; mcpchat trust review {server} shows it"
            self._emit(Notice(level="warning", text=told))

    def refusal(self, label: str) -> Denied | StoreError | None:
        """Why the tool is not on offer, where it is held back."""
        for change in self.held:
            if change.tool and change.label == label:
                if change.server in self._troubles:
                    return self._troubles[change.server]
                told = f"{label} was not run: it {change.told} since you agreed to it"
                return Denied(told, hint=f"mcpchat trust review {change.server}")
        return None

    def expect(self, spec: ToolSpec) -> None:
        self._inner.expect(spec)

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self._inner.check(spec, arguments)

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        return await self._inner.call(spec, call_id, arguments, emit)

    def instructions(self) -> Mapping[str, str]:
        silent = {change.server for change in self.held if not change.tool}
        words = {server: said for server, said in self._inner.instructions().items() if server not in silent}
        # Only what was looked at: the server may have said something else since.
        seen = {server: visible(catalog.info.instructions) for server, catalog in self._seen.items()}
        return {server: said for server, said in words.items() if server in self._exempt or seen.get(server) == said}
