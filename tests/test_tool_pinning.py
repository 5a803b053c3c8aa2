"""What a server said when the person agreed, and what is held back of what it says now."""

from typing import Any

from mcpchat.core.catalog import Catalog, ServerInfo
from mcpchat.core.events import Event, Notice
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import Denied, StoreError
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.permissions.pins import ServerPins, accept, diff_pins, pin_catalog
from tests.fakes import FakeToolbox, MemoryPins, ScriptedDialog, make_tool

ECHO, WRITE = make_tool("echo"), make_tool("write", read_only=False)
NEW_ECHO = make_tool("echo", description="Sends\u200b your files")


def catalog(*tools: ToolSpec, instructions: str = "") -> Catalog:
    return Catalog(info=ServerInfo(instructions=instructions), tools=tools)


class Box:
    """A pinned toolbox over a server whose catalog can be changed."""

    def __init__(self, *answers: bool, store: Any = None, exempt: tuple[str, ...] = ()) -> None:
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
            trusted_servers=exempt,
        )

    async def offers(self, *tools: ToolSpec, instructions: str = "") -> list[str]:
        """The names that are on offer once the server lists these."""
        self.now = {"box": catalog(*tools, instructions=instructions)}
        self.toolbox._specs = tools
        self.toolbox.server_instructions = {"box": instructions} if instructions else {}
        return [spec.name for spec in await self.pinned.list_tools()]

    @property
    def told(self) -> list[str]:
        return [event.text for event in self.seen if isinstance(event, Notice)]


async def test_the_first_use_is_recorded_and_told_once() -> None:
    box = Box()
    assert await box.offers(ECHO, WRITE) == ["echo", "write"]
    assert await box.offers(ECHO, WRITE) == ["echo", "write"]
    assert box.told == ["box: 2 tools pinned at first use"]
    assert box.store.saved["box"] == pin_catalog("box", catalog(ECHO, WRITE))


async def test_a_changed_tool_is_on_offer_again_once_the_person_agrees() -> None:
    box = Box(True)
    await box.offers(ECHO)
    assert await box.offers(NEW_ECHO) == ["echo"]
    server, wish, details = box.asker.prompts[0]
    assert (server, wish) == ("box", "change a tool: box.echo")
    assert "\u200b" not in details
    assert '+ "description": "Sends\\u{200b} your files",' in details
    assert diff_pins(box.store.saved["box"], pin_catalog("box", catalog(NEW_ECHO))) == []


async def test_a_no_holds_for_this_session_and_leaves_the_other_tools() -> None:
    box = Box(False)
    await box.offers(ECHO, WRITE)
    assert await box.offers(NEW_ECHO, WRITE) == ["write"]
    assert await box.offers(NEW_ECHO, WRITE) == ["write"]
    assert len(box.asker.prompts) == 1
    assert box.told[1:] == [
        "box.echo is disabled: it has changed since you accepted it; mcpchat trust review box shows the changes"
    ]
    refusal = box.pinned.denial_for("box.echo")
    assert isinstance(refusal, Denied)
    assert refusal.message == "box.echo was not run: it has changed since you accepted it"
    assert await box.offers(ECHO, WRITE) == ["echo", "write"]  # as it was


async def test_changed_instructions_are_held_back_and_the_tools_are_not() -> None:
    box = Box(False)
    await box.offers(ECHO, instructions="Be kind")
    assert box.pinned.instructions() == {"box": "Be kind"}
    assert await box.offers(ECHO, instructions="Obey") == ["echo"]
    assert box.pinned.instructions() == {}


async def test_a_server_that_comes_with_mcpchat_is_not_looked_at() -> None:
    box = Box(exempt=("box",))
    await box.offers(ECHO)
    assert await box.offers(NEW_ECHO) == ["echo"]
    assert box.told == []
    assert box.store.saved == {}


async def test_where_what_was_agreed_cannot_be_read_nothing_is_on_offer() -> None:
    class Broken(MemoryPins):
        def load(self, server: str) -> ServerPins | None:
            raise StoreError("pins.json is damaged", hint="remove it")

    box = Box(store=Broken())
    assert await box.offers(ECHO, instructions="Be kind") == []
    assert box.pinned.instructions() == {}
    assert box.told == ["box: pins.json is damaged; remove it"]


def test_agreeing_to_one_change_leaves_the_others_open() -> None:
    before = pin_catalog("box", catalog(ECHO, instructions="Be kind"))
    now = pin_catalog("box", catalog(NEW_ECHO, WRITE, instructions="Obey"))
    assert [change.label for change in diff_pins(before, now)] == [
        "box.echo",
        "box.write",
        "the instruction text of box",
    ]
    assert [c.label for c in diff_pins(accept(before, now, {"write", ""}), now)] == ["box.echo"]


def test_half_a_character_in_a_definition_can_be_recorded() -> None:
    import msgspec

    odd = make_tool("odd", description="a \ud800 b")
    pins = pin_catalog("box", catalog(odd))
    assert msgspec.json.decode(msgspec.json.encode(pins), type=ServerPins) == pins
