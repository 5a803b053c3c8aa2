"""A Toolbox wrapper that withholds tools whose definition changed since the user accepted it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from mcpchat.core.catalog import Catalog
from mcpchat.core.events import Emit, Notice
from mcpchat.core.protocols import Toolbox, ToolboxWrapper, UserDialog
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import Denied, StoreError
from mcpchat.permissions.pins import (
    DefinitionChange,
    PinSummary,
    ServerPins,
    accept,
    diff_pins,
    digest_catalog,
    pin_catalog,
    set_dates,
)
from mcpchat.util.sanitize import strip_invisible


class PinStore(Protocol):
    """Stores the pins of the configured servers by server name."""

    def load_summary(self, server: str) -> PinSummary | None:
        """Like ``load``, but quick: without the texts of thousands of tools."""
        ...

    def load(self, server: str) -> ServerPins | None:
        """Return the server's pins, or None if it was never used. Raises StoreError if they cannot be read."""
        ...

    def save(self, server: str, pins: ServerPins) -> None:
        """Save the server's pins. Raises StoreError if they cannot be written."""
        ...


class PinnedToolbox(ToolboxWrapper):
    """The inner toolbox without the tools and instructions that changed since the user accepted them.

    The user is asked about each change once; without a user, or after a no, it stays withheld. ``catalogs`` returns the
    catalogs of the servers by name. Servers that ``is_trusted`` names are not checked: they come with mcpchat.
    ``is_exposed`` takes a server and a tool and says whether the config exposes the tool.
    """

    def __init__(
        self,
        inner: Toolbox,
        *,
        catalogs: Callable[[], Mapping[str, Catalog]],
        store: PinStore,
        asker: UserDialog,
        emit: Emit,
        is_trusted: Callable[[str], bool] = lambda server: False,
        is_exposed: Callable[[str, str], bool] = lambda server, tool: True,
    ) -> None:
        super().__init__(inner)
        self._catalogs = catalogs
        self._store = store
        self._asker = asker
        self._emit = emit
        self._is_trusted = is_trusted
        self._is_exposed = is_exposed
        self._errors: dict[str, StoreError] = {}
        self._check_lock = asyncio.Lock()
        self._checked_catalogs: dict[str, Catalog] = {}
        self._titles: dict[str, str | None] = {}  # as they were pinned
        self._withheld: dict[str, tuple[DefinitionChange, ...]] = {}
        self._cached_tools: tuple[Sequence[ToolSpec], Sequence[ToolSpec]] = ((), ())

    @property
    def withheld(self) -> Sequence[DefinitionChange]:
        """The changes that are withheld."""
        return [change for changes in self._withheld.values() for change in changes]

    def forget(self, servers: Iterable[str]) -> None:
        """Check these servers anew: the config has others of these names, or none."""
        for server in servers:
            self._checked_catalogs.pop(server, None)
            self._withheld.pop(server, None)
            self._titles.pop(server, None)
            self._errors.pop(server, None)

    async def list_tools(self) -> Sequence[ToolSpec]:
        """Return the tools that are not withheld. May start servers, and ask the user about changed tools."""
        async with self._check_lock:
            return await self._list_visible_tools()

    async def _list_visible_tools(self) -> Sequence[ToolSpec]:
        tools = await self._inner.list_tools()
        updated = False
        for server, catalog in self._catalogs().items():
            if not self._is_trusted(server) and self._checked_catalogs.get(server) != catalog:
                self._withheld[server] = await self._check_server(server, catalog)
                self._checked_catalogs[server] = catalog
                updated = True
        if updated or tools is not self._cached_tools[0]:
            self._cached_tools = tools, self._filter_tools(tools)
        return self._cached_tools[1]

    def _filter_tools(self, tools: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
        """Return the tools that are not withheld, with the titles of their servers as they were pinned."""
        withheld_names = {(change.server, change.tool) for change in self.withheld}
        visible_tools: Sequence[ToolSpec] = (
            [spec for spec in tools if (spec.server, spec.name) not in withheld_names] if withheld_names else tools
        )
        titles = {spec.server: title for spec in tools if (title := self._titles.get(spec.server)) is not None}
        if any(titles.get(spec.server, spec.server_title) != spec.server_title for spec in visible_tools):
            return [replace(spec, server_title=titles.get(spec.server, spec.server_title)) for spec in visible_tools]
        return visible_tools

    async def _check_server(self, server: str, catalog: Catalog) -> tuple[DefinitionChange, ...]:
        """Compare the catalog with the pins and ask about the changes; return those that stay withheld.

        If the pins cannot be read or written, all tools and the instructions of the server are withheld.
        """
        current = ServerPins(server=server)
        try:
            summary, digest = self._store.load_summary(server), digest_catalog(catalog)
            if summary is not None and digest and summary.catalog == digest:
                self._titles[server] = summary.title
                return ()
            pins = self._store.load(server)
            current = pin_catalog(server, catalog)
            if pins is None:
                self._save_first_use(server, replace(current, catalog=digest))
                return ()
            changes = diff_pins(pins, current, lambda tool: self._is_exposed(server, tool))
            accepted = {change.tool for change in changes if await self._confirm_change(change)}
            self._titles[server] = pins.title
            updated = accept(pins, current, accepted)
            # Tools that the config hides today are compared too: it may expose them tomorrow.
            updated = replace(updated, catalog="" if diff_pins(updated, current) else digest)
            if updated != pins:
                self._store.save(server, updated)
        except StoreError as error:
            self._errors[server] = error
            self._emit(
                Notice(level="warning", text=f"{server}: {error.message}; {error.hint or 'its tools are disabled'}")
            )
            names = [spec.name for spec in catalog.tools]
            changes, accepted = (
                [DefinitionChange(server=server, tool=name, before=None, after="") for name in (*names, "")],
                set(),
            )
            return tuple(changes)
        withheld = tuple(change for change in changes if change.tool not in accepted)
        self._notify(server, withheld)
        return withheld

    def _save_first_use(self, server: str, current: ServerPins) -> None:
        """Save the pins at first use. If that fails, the tools are used anyway, as at any first use."""
        try:
            self._store.save(server, set_dates(current))
        except StoreError as error:
            text = f"{server}: its tools cannot be pinned, so changes will not be noticed: {error.message}"
            self._emit(Notice(level="warning", text=text))
            return
        if current.tools and getattr(self._asker, "interactive", True):  # a script needs no such line
            text = f"{server}: {len(current.tools)} tool{'s' * (len(current.tools) != 1)} pinned at first use"
            self._emit(Notice(level="info", text=text))

    async def _confirm_change(self, change: DefinitionChange) -> bool:
        action = "add a tool" if change.before is None else "change a tool"
        if not change.tool:
            action = "change what it tells your model" if change.before else "give your model instructions"
        return await self._asker.confirm(change.server, f"{action}: {change.label}", change.diff_text())

    def _notify(self, server: str, withheld: Sequence[DefinitionChange]) -> None:
        if withheld:
            names = ", ".join(change.label for change in withheld[:5]) + (
                f" and {len(withheld) - 5} more" * (len(withheld) > 5)
            )
            reason = (
                f"is disabled: it {withheld[0].summary} since you accepted it"
                if len(withheld) == 1
                else "are disabled: they are new or have changed since you accepted them"
            )
            text = f"{names} {reason}; mcpchat trust review {server} shows the changes"
            self._emit(Notice(level="warning", text=text))

    def denial_for(self, label: str) -> Denied | StoreError | None:
        """Return the error for a call of a withheld tool (``server.tool``); None if it is not withheld."""
        for change in self.withheld:
            if change.tool and change.label == label:
                if change.server in self._errors:
                    return self._errors[change.server]
                text = f"{label} was not run: it {change.summary} since you accepted it"
                return Denied(text, hint=f"mcpchat trust review {change.server}")
        return None

    def instructions(self) -> Mapping[str, str]:
        """Return the servers' instructions that are not withheld."""
        withheld_servers = {change.server for change in self.withheld if not change.tool}
        instructions = {
            server: text for server, text in self._inner.instructions().items() if server not in withheld_servers
        }
        # Only instructions that were checked: the server may have changed them since.
        checked = {
            server: strip_invisible(catalog.info.instructions) for server, catalog in self._checked_catalogs.items()
        }
        return {
            server: text
            for server, text in instructions.items()
            if self._is_trusted(server) or checked.get(server) == text
        }
