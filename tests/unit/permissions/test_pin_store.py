"""The files of pins: the summary of a large file is never older than the file."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from mcpchat.core.catalog import Catalog, ServerInfo
from mcpchat.errors import StoreError
from mcpchat.permissions.pins import PinSummary, digest_catalog, pin_catalog
from mcpchat.permissions.store import FilePinStore
from tests.support.fakes import make_tool

CATALOG = Catalog(info=ServerInfo(title="Box"), tools=tuple(make_tool(f"tool{n}") for n in range(500)))


@pytest.mark.parametrize("count", [0, 3, 500])
def test_the_summary_follows_the_file(tmp_path: Path, count: int) -> None:
    store, path = FilePinStore(tmp_path, {"box": "f" * 64}), tmp_path / f"{'f' * 32}.json"
    assert store.load_summary("box") is None
    pins = pin_catalog("box", replace(CATALOG, tools=CATALOG.tools[:count]))
    for digest in ("one", "two"):
        store.save("box", replace(pins, catalog=digest))
        for _ in range(2):
            assert store.load_summary("box") == PinSummary(title="Box", catalog=digest)
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"six"'))  # as long as it was
    assert store.load_summary("box") == PinSummary(title="Box", catalog="six")
    path.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        store.load_summary("box")
    path.unlink()
    assert store.load_summary("box") is None


def test_a_damaged_summary_is_written_again(tmp_path: Path) -> None:
    store = FilePinStore(tmp_path, {"box": "f" * 64})
    store.save("box", replace(pin_catalog("box", CATALOG), catalog="one"))
    assert store.load_summary("box") == PinSummary(title="Box", catalog="one")
    (summary,) = tmp_path.glob("*.summary.json")
    good = summary.read_bytes()
    summary.write_text("{")
    assert store.load_summary("box") == PinSummary(title="Box", catalog="one")
    assert summary.read_bytes() == good


def test_the_digest_is_about_every_tool_and_their_order() -> None:
    first, *rest = CATALOG.tools
    others = [
        replace(CATALOG, tools=tuple(rest)),
        replace(CATALOG, tools=(*rest, first)),
        replace(CATALOG, tools=(*rest, replace(first, description="another"))),
        replace(CATALOG, tools=()),
        replace(CATALOG, info=ServerInfo(title="Box", instructions="Obey")),
        replace(CATALOG, info=ServerInfo(title="Fox")),
    ]
    assert len({digest_catalog(catalog) for catalog in (CATALOG, *others)}) == 7
