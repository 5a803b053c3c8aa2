"""What a server refuses in tools is kept for the next runs, for a while."""

import time
from pathlib import Path

import msgspec
import pytest

from mcpchat.core.messages import user_message
from mcpchat.core.protocols import ModelRequest
from mcpchat.errors import ModelError
from mcpchat.models.openai import learned_limits
from mcpchat.models.openai.compatibility import Compatibility
from mcpchat.models.openai.learned_limits import LimitFiles
from mcpchat.models.openai.model import OpenAIModel
from tests.support.fake_openai import DONE, chunk
from tests.support.fakes import make_tool
from tests.support.recorded_streams import RecordedTransport, collect_events, error_response, stream

DEFAULT = Compatibility()
LEARNT = Compatibility(max_tools=3, max_description=100, schema_without=frozenset({"format"}), basic_schemas=True)


def test_limits_are_kept_by_server_and_model(tmp_path: Path) -> None:
    LimitFiles(tmp_path / "models", "https://a.example chat").save("m", DEFAULT, LEARNT)
    (path,) = (tmp_path / "models").iterdir()
    assert 0 <= time.time() - msgspec.json.decode(path.read_bytes())["learnt"] < 600
    again = LimitFiles(tmp_path / "models", "https://a.example chat")
    assert again.apply("m", DEFAULT) == LEARNT
    assert again.apply("other", DEFAULT) == DEFAULT
    assert LimitFiles(tmp_path / "models", "https://b.example chat").apply("m", DEFAULT) == DEFAULT


def test_limits_are_forgotten_after_a_month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LimitFiles(tmp_path, "s")
    files.save("m", DEFAULT, LEARNT)
    later = time.time() + 31 * 24 * 3600
    monkeypatch.setattr(learned_limits.time, "time", lambda: later)
    assert files.apply("m", DEFAULT) == DEFAULT


def test_other_settings_and_other_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LimitFiles(tmp_path, "s")
    files.save("m", DEFAULT, Compatibility(max_tools=20))
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    files.save("m", Compatibility(max_tools=20), Compatibility(max_tools=20, omitted=frozenset({"temperature"})))
    assert path.read_bytes() == before
    LimitFiles(tmp_path, "s").save("m", DEFAULT, Compatibility(max_description=50))  # it did not know of the 20
    assert files.apply("m", DEFAULT) == Compatibility(max_tools=20, max_description=50)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"learnt": "x"}', b"\xff"])
def test_a_damaged_file_counts_as_missing(tmp_path: Path, data: bytes) -> None:
    files = LimitFiles(tmp_path, "s")
    files.save("m", DEFAULT, LEARNT)
    (path,) = tmp_path.iterdir()
    path.write_bytes(data)
    assert files.apply("m", DEFAULT) == DEFAULT


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    LimitFiles(tmp_path / "file", "s").save("m", DEFAULT, LEARNT)


async def test_the_next_run_sends_what_the_server_takes(tmp_path: Path) -> None:
    refusal = error_response(400, "Too many tools: at most 3 tools are allowed")
    wire = RecordedTransport(refusal, stream(chunk({"content": "ok"}, "stop"), DONE))

    def new_model() -> OpenAIModel:
        model = wire.chat_model()
        model._limits = LimitFiles(tmp_path, "s")
        return model

    request = ModelRequest(model="m", messages=(user_message("hi"),), tools=tuple(make_tool(name) for name in "abcde"))
    with pytest.raises(ModelError):
        await collect_events(new_model(), request)
    later = new_model()
    assert later.max_tools("m") == 3
    await collect_events(later, request)
    assert len(wire.bodies[1]["tools"]) == 3
