"""Tool pinning: changes of a server since the user's approval are withheld until approved."""

import time
from typing import Any

import pytest
from msgspec.structs import replace

from mcpchat.core.catalog import Catalog, ServerInfo
from mcpchat.core.events import Event, Notice
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import Denied, StoreError
from mcpchat.permissions import pinned_toolbox
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.permissions.pins import ServerPins, accept, diff_pins, pin_catalog
from tests.support.fakes import FakeToolbox, MemoryPins, ScriptedDialog, make_tool

ECHO, WRITE = make_tool("echo"), make_tool("write", read_only=False)
NEW_ECHO = make_tool("echo", description="Sends\u200b your files")


def catalog(*tools: ToolSpec, instructions: str = "") -> Catalog:
    return Catalog(info=ServerInfo(instructions=instructions), tools=tools)


class PinnedServer:
    """A pinned toolbox for a server whose catalog can be changed."""

    def __init__(
        self,
        *answers: bool,
        store: Any = None,
        exempt: tuple[str, ...] = (),
        exposed: tuple[str, ...] = ("echo", "write"),
    ) -> None:
        self.toolbox = FakeToolbox()
        self.now: dict[str, Catalog] = {}
        self.seen: list[Event] = []
        self.asker = ScriptedDialog(*answers)
        self.store = store or MemoryPins()
        self.pinned = PinnedToolbox(
            self.toolbox,
            catalogs=lambda: self.now,
            store=self.store,
            asker=self.asker,
            emit=self.seen.append,
            is_trusted=lambda server: server in exempt,
            is_exposed=lambda server, tool: tool in exposed,
        )

    async def list_offered(self, *tools: ToolSpec, instructions: str = "") -> list[str]:
        """Return the names that are offered if the server lists these tools."""
        self.now = {"box": catalog(*tools, instructions=instructions)}
        self.toolbox._specs = tools
        self.toolbox.server_instructions = {"box": instructions} if instructions else {}
        return [spec.name for spec in await self.pinned.list_tools()]

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.seen if isinstance(event, Notice)]


async def test_the_first_use_is_recorded_and_reported_once() -> None:
    pinned_server = PinnedServer()
    assert await pinned_server.list_offered(ECHO, WRITE) == ["echo", "write"]
    assert await pinned_server.list_offered(ECHO, WRITE) == ["echo", "write"]
    assert pinned_server.notices == ["box: 2 tools pinned at first use"]
    saved = pinned_server.store.saved["box"]
    assert diff_pins(saved, pin_catalog("box", catalog(ECHO, WRITE))) == []
    assert saved.tools["echo"].date == time.strftime("%Y-%m-%d")


async def test_questions_show_the_title_that_was_pinned() -> None:
    pinned_server = PinnedServer()

    async def titles(title: str) -> set[str]:
        spec = replace(ECHO, server_title=title)
        pinned_server.now = {"box": Catalog(info=ServerInfo(title=title), tools=(spec,))}
        pinned_server.toolbox._specs = (spec,)
        return {item.server_title for item in await pinned_server.pinned.list_tools()}

    assert await titles("My notes") == {"My notes"}
    assert await titles("Your bank") == {"My notes"}
    assert pinned_server.notices == ["box: 1 tool pinned at first use"]  # another title alone is no change
    pinned_server.store.saved["box"] = replace(pinned_server.store.saved["box"], title=None)  # by an earlier version
    assert await titles("Notes, at noon") == {"Notes, at noon"}
    assert pinned_server.store.saved["box"].title == "Notes, at noon"


async def test_a_changed_tool_is_offered_after_approval() -> None:
    pinned_server = PinnedServer(True)
    await pinned_server.list_offered(ECHO)
    assert await pinned_server.list_offered(NEW_ECHO) == ["echo"]
    server, request, details = pinned_server.asker.prompts[0]
    assert (server, request) == ("box", "change a tool: box.echo")
    assert "\u200b" not in details
    assert '+ "description": "Sends\\u{200b} your files",' in details
    assert diff_pins(pinned_server.store.saved["box"], pin_catalog("box", catalog(NEW_ECHO))) == []


async def test_a_refusal_lasts_for_the_session_and_affects_one_tool() -> None:
    pinned_server = PinnedServer(False)
    await pinned_server.list_offered(ECHO, WRITE)
    assert await pinned_server.list_offered(NEW_ECHO, WRITE) == ["write"]
    assert await pinned_server.list_offered(NEW_ECHO, WRITE) == ["write"]
    assert len(pinned_server.asker.prompts) == 1
    assert pinned_server.notices[1:] == [
        "box.echo is disabled: it has changed since you accepted it; mcpchat trust review box shows the changes"
    ]
    refusal = pinned_server.pinned.denial_for("box.echo")
    assert isinstance(refusal, Denied)
    assert refusal.message == "box.echo was not run: it has changed since you accepted it"
    assert await pinned_server.list_offered(ECHO, WRITE) == ["echo", "write"]  # unchanged


async def test_changed_instructions_are_withheld_but_not_tools() -> None:
    pinned_server = PinnedServer(False)
    await pinned_server.list_offered(ECHO, instructions="Be kind")
    assert pinned_server.pinned.instructions() == {"box": "Be kind"}
    assert await pinned_server.list_offered(ECHO, instructions="Obey") == ["echo"]
    assert pinned_server.pinned.instructions() == {}


async def test_a_bundled_server_is_not_pinned() -> None:
    pinned_server = PinnedServer(exempt=("box",))
    await pinned_server.list_offered(ECHO)
    assert await pinned_server.list_offered(NEW_ECHO) == ["echo"]
    assert pinned_server.notices == []
    assert pinned_server.store.saved == {}


async def test_without_readable_pins_no_tool_is_offered() -> None:
    class Broken(MemoryPins):
        def load(self, server: str) -> ServerPins | None:
            raise StoreError("pins.json is damaged", hint="remove it")

    pinned_server = PinnedServer(store=Broken())
    assert await pinned_server.list_offered(ECHO, instructions="Be kind") == []
    assert pinned_server.pinned.instructions() == {}
    assert pinned_server.notices == ["box: pins.json is damaged; remove it"]


def test_accepting_one_change_leaves_the_others_open() -> None:
    old_pins = pin_catalog("box", catalog(ECHO, instructions="Be kind"))
    new_pins = pin_catalog("box", catalog(NEW_ECHO, WRITE, instructions="Obey"))
    assert [change.label for change in diff_pins(old_pins, new_pins)] == [
        "box.echo",
        "box.write",
        "the instruction text of box",
    ]
    assert [diff.label for diff in diff_pins(accept(old_pins, new_pins, {"write", ""}), new_pins)] == ["box.echo"]


def test_a_lone_surrogate_can_be_recorded() -> None:
    import msgspec

    odd_tool = make_tool("odd", description="a \ud800 b")
    pins = pin_catalog("box", catalog(odd_tool))
    assert msgspec.json.decode(msgspec.json.encode(pins), type=ServerPins) == pins


async def test_an_unchanged_catalog_is_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned_server = PinnedServer()
    await pinned_server.list_offered(ECHO, WRITE)
    store = pinned_server.store
    assert store.saved["box"].catalog
    with monkeypatch.context() as patch:
        patch.setattr(pinned_toolbox, "pin_catalog", None)  # no comparison tool by tool
        assert await PinnedServer(store=store).list_offered(ECHO, WRITE) == ["echo", "write"]
    assert await PinnedServer(False, store=store).list_offered(NEW_ECHO, WRITE) == ["write"]
    assert not store.saved["box"].catalog
    assert await PinnedServer(False, store=store).list_offered(NEW_ECHO, WRITE) == ["write"]
    assert await PinnedServer(True, store=store).list_offered(NEW_ECHO, WRITE) == ["echo", "write"]
    assert store.saved["box"].catalog


async def test_a_changed_tool_that_the_config_hid_is_asked_about_once_it_is_exposed() -> None:
    store = MemoryPins()
    await PinnedServer(store=store).list_offered(ECHO, WRITE)
    hiding = PinnedServer(store=store, exposed=("write",))
    await hiding.list_offered(NEW_ECHO, WRITE)
    assert hiding.asker.prompts == []
    asking = PinnedServer(False, store=store)
    assert await asking.list_offered(NEW_ECHO, WRITE) == ["write"]
    assert len(asking.asker.prompts) == 1
