"""Both eras of the protocol and all of its transports, against servers of the official SDK and odd ones."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import AcceptedElicitation, Context
from pydantic import BaseModel

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.core.elicitation import ElicitationResult, Form
from mcpchat.core.events import Notice, ToolProgress
from mcpchat.core.messages import Text
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.errors import Denied, ServerError, ToolFailed
from mcpchat.mcp import connection
from mcpchat.mcp.catalog_cache import cache_key
from mcpchat.mcp.protocols import ServerSpec
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.util.json_schema import find_error
from tests.fakes import ScriptedDialog
from tests.memory_transport import MemoryTransport
from tests.test_hub import SERVERS, Open, bench, odd, remote

__all__ = ["bench", "remote"]  # fixtures
CAPABLE = SERVERS / "full_featured.py"
ERAS = ["2026-07-28", "2025-11-25", "2024-11-05"]
Remote = Callable[..., str]


class Size(BaseModel):
    size: int


def capable(**more: Any) -> ServerConfig:
    return ServerConfig(command=sys.executable, args=(str(CAPABLE),), **more)


def tapped(journal: Path, script: str = f"{sys.executable} {CAPABLE}") -> ServerConfig:
    """The server with all that it is sent written down."""
    return ServerConfig(command="bash", args=("-c", f"tee -a {journal} | {script}"))


def methods(journal: Path) -> list[str]:
    """What was asked, and the file emptied for the next time."""
    asked = [json.loads(line).get("method", "") for line in journal.read_text().splitlines()]
    journal.write_text("")
    return asked


@pytest.mark.parametrize("era", ERAS)
async def test_everything_that_a_server_lists_is_known_in_each_era(bench: Open, era: Any) -> None:
    async with bench(box=capable(protocol=era)) as b:
        await b.hub.list_tools()
        kept = b.hub.catalogs()["box"]
        assert (kept.info.revision, kept.info.title, kept.info.version) == (era, "All of it", "7")
        assert b.hub.instructions() == {"box": "Count slowly."}
        assert {"tools", "resources", "prompts", "completions"} <= set(kept.info.capabilities)
        assert [resource.label for resource in kept.resources] == ["box:note://today"]
        assert [template.uri for template in kept.templates] == ["note://{day}/all"]
        assert [(a.name, a.required) for a in kept.prompts[0].arguments] == [("name", True), ("style", False)]
        assert await b.hub.read_resource("box", "note://monday/all") == [Text(text="notes of monday")]
        made = await b.hub.get_prompt("box", "greet", {"name": "Ann"})
        assert [(message.role, message.text) for message in made] == [("user", "Greet Ann in a kind way.")]
        assert await b.hub.complete("box", kept.prompts[0], "style", "k", {"name": "Ann"}) == ("kind", "kurt")
        with pytest.raises(ToolFailed, match="box did not read note://nowhere"):
            await b.hub.read_resource("box", "note://nowhere")


async def test_a_known_modern_server_costs_no_extra_round_trip(bench: Open, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with bench(box=tapped(journal)) as b:
        await b.hub.list_tools()
    assert methods(journal)[:2] == ["server/discover", "tools/list"]
    async with bench(box=tapped(journal)) as b:
        assert (await b.call("box.big", size=3)).parts == (Text(text="xxx"),)
    assert methods(journal) == ["tools/list", "tools/call"]  # the list: it is as it was agreed to


async def test_a_known_server_of_the_handshake_era_is_greeted_its_way_at_once(bench: Open, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    script = f"{sys.executable} {SERVERS / 'quirky.py'}"
    async with bench(box=tapped(journal, script)) as b:
        await b.hub.list_tools()
    assert methods(journal) == ["server/discover", "initialize", "notifications/initialized", "tools/list"]
    async with bench(box=tapped(journal, script)) as b:
        await b.call("box.echo", text="hi")
    assert methods(journal) == ["initialize", "notifications/initialized", "tools/list", "tools/call"]


@pytest.mark.parametrize("mode", ["good", "strict"])
async def test_a_server_that_speaks_another_era_than_remembered_is_met_anew(
    bench: Open, tmp_path: Path, mode: str
) -> None:
    script = tmp_path / "server.py"  # named in no argument of its own: the identity stays the same
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script} {mode}"))
    older = (SERVERS / "quirky.py").read_text()
    newer = (
        CAPABLE.read_text()
        .replace("(structured_output=False)", "(annotations=types.ToolAnnotations(idempotent_hint=True))")
        .replace("def big(size: int)", "def echo(text: str, size: int = 0)")
        .replace('return "x" * size', "return text")
        .replace("if len(sys.argv) < 2", "if len(sys.argv) < 3")
    )
    for first, second in ((newer, older), (older, newer)):
        script.write_text(first)
        async with bench(refresh=True, box=config) as b:
            await b.call("box.echo", text="hi")
        script.write_text(second)
        async with bench(box=config) as b:
            with pytest.raises(Denied, match=r"box\.echo was changed by its server, and did not run"):
                await b.call("box.echo", text="hi")
            assert not (await b.call("box.echo", text="hi")).is_error


async def test_an_era_that_is_configured_is_kept_to(bench: Open) -> None:
    async with bench(box=odd(protocol="2026-07-28"), old=odd(protocol="2025-03-26")) as b:
        assert {spec.server for spec in await b.hub.list_tools()} == {"old"}
        assert b.failure("box") == "it does not support 2026-07-28, only the older 2025-06-18"


# --- what servers ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS[:2])
async def test_a_question_reaches_the_person_and_the_answer_the_server(bench: Open, era: Any) -> None:
    class Slow(ScriptedDialog):
        async def elicit(self, request: Any, problem: str) -> ElicitationResult:
            await asyncio.sleep(1.5)  # longer than the call may be silent: a person takes their time
            assert isinstance(request, Form)
            assert (request.server, request.message, request.fields[0].kind) == ("box", "Which size?", "integer")
            return await super().elicit(request, problem)

    asker = Slow(
        ElicitationResult(action="accept", content={"size": 42}),
        ElicitationResult(action="decline"),
        ElicitationResult(action="cancel"),
    )
    short = Timeouts(idle=1, call=5)
    async with bench(asker=asker, box=capable(protocol=era, timeouts=short)) as b:
        for told in ("size 42", "no order: decline", "no order: cancel"):
            assert (await b.call("box.order")).parts[0].text == told


@pytest.mark.parametrize("era", ERAS[:2])
async def test_what_is_not_allowed_is_not_offered_to_the_server(bench: Open, era: Any) -> None:
    config = capable(protocol=era, elicitation=False)
    async with bench(asker=ScriptedDialog(), box=config) as b:
        for tool in ("order", "think", "folders"):
            assert (await b.call(f"box.{tool}")).is_error


async def test_sampling_and_roots_are_granted_after_a_question(bench: Open, tmp_path: Path) -> None:
    asker = ScriptedDialog(False, True)
    config = capable(protocol="2025-11-25", sampling=True, roots=(str(tmp_path),))
    async with bench(asker=asker, box=config) as b:
        assert (await b.call("box.think")).is_error  # there is no model here
        assert (await b.call("box.folders")).parts[0].text == "none"
        assert asker.prompts == [("box", "know of these folders", str(tmp_path))]
    async with bench(asker=ScriptedDialog(True), box=config) as b:
        assert (await b.call("box.folders")).parts[0].text == tmp_path.as_uri()


# --- time -------------------------------------------------------------------------------------------------------


async def test_progress_keeps_a_long_call_alive_and_the_total_ends_it(bench: Open) -> None:
    async with bench(box=capable(timeouts=Timeouts(idle=1, call=3.5))) as b:
        assert (await b.call("box.steps", count=4, pause=0.6)).parts[0].text == "done"
        assert [e.note for e in b.seen if isinstance(e, ToolProgress)] == [f"step {n}" for n in range(1, 5)]
        with pytest.raises(ServerError, match=r"box did not answer within 3\.5 s"):
            await b.call("box.steps", count=20, pause=0.6)
        with pytest.raises(ServerError, match="box was silent for 1 s"):
            await b.call("box.steps", count=1, pause=2)


@pytest.mark.parametrize(("limit", "most"), [(2, 2), (8, 5)])
async def test_calls_run_at_once_up_to_the_servers_limit(bench: Open, limit: int, most: int) -> None:
    async with bench(box=capable(max_parallel=limit)) as b:
        spec = await b.spec("box.busy")
        calls = (b.hub.call(spec, f"c{n}", {"seconds": 0.6}, b.seen.append) for n in range(5))
        results = await asyncio.gather(*calls)
        assert max(result.structured["result"] for result in results) == most


async def test_a_crash_under_parallel_calls_is_one_failure(bench: Open) -> None:
    async with bench(box=odd("dies")) as b:
        spec = await b.spec("box.write")
        calls = (b.hub.call(spec, f"c{n}", {"text": "x"}, b.seen.append) for n in range(5))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all("before it answered" in str(outcome) for outcome in outcomes)
        assert b.states("box") == ["starting", "ready", "stopped"]


# --- changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS[:2])
@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_a_list_that_changes_is_fetched_again_for_the_next_turn(
    bench: Open, remote: Remote, era: Any, kind: str
) -> None:
    config = (
        capable(protocol=era)
        if kind == "stdio"
        else ServerConfig(url=remote("http", script="full_featured.py"), protocol=era)
    )
    async with bench(watch=True, box=config) as b:
        before = await b.hub.list_tools()
        await b.hub.start_all()
        await asyncio.sleep(0.3)  # until the subscription stands
        await b.call("box.grow")
        async with asyncio.timeout(20):
            while "grown" not in {spec.name for spec in await b.hub.list_tools()}:
                await asyncio.sleep(0.05)
        assert [spec.name for spec in await b.hub.list_tools()] == sorted([*(spec.name for spec in before), "grown"])
        assert (await b.call("box.grown")).parts[0].text == "grown"


async def test_what_is_known_serves_at_once_and_is_refreshed_behind(bench: Open, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.write_text("")
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {SERVERS / 'quirky.py'} adds {more}"))
    async with bench(box=config) as b:
        await b.hub.list_tools()
    more.write_text("fresh")
    async with bench(watch=True, box=config) as b:
        first = await b.hub.list_tools()
        assert (len(first), b.states("box")) == (3, [])
        b.hub.refresh_in_background()
        async with asyncio.timeout(20):
            while len(await b.hub.list_tools()) == 3:
                await asyncio.sleep(0.05)
        assert "fresh" in {spec.name for spec in await b.hub.list_tools()}


# --- remote -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "json", "sse"])
@pytest.mark.parametrize("era", ["auto", "2025-06-18"])
async def test_each_remote_transport_carries_all_of_it(bench: Open, remote: Remote, kind: Any, era: Any) -> None:
    url = remote(kind, script="full_featured.py")
    if kind == "sse":
        config = ServerConfig(url=url.replace("/mcp", "/sse"), transport="sse", protocol=era)
    else:
        config = ServerConfig(url=url, protocol=era)
    asker = ScriptedDialog(ElicitationResult(action="accept", content={"size": 7}))
    async with bench(asker=asker, box=config, most_bytes=1_000_000) as b:
        if kind != "json" or era == "auto":  # a plain answer has no room for the older way to ask
            assert (await b.call("box.order")).parts[0].text == "size 7"
        assert (await b.call("box.steps", count=2, pause=0.05)).parts[0].text == "done"
        assert await b.hub.read_resource("box", "note://today") == [Text(text="buy milk")]
        for _ in range(2):  # and the connection outlives it
            large = b.call("box.big", size=2_000_000)
            if kind == "sse":
                with pytest.raises(ServerError):
                    await large
            else:
                assert (await large).is_error
        assert (await b.call("box.big", size=100_000)).parts == (Text(text="x" * 100_000),)
        assert b.hub.status()[0].transport == ("sse" if kind == "sse" else "http")


async def test_a_lost_session_is_opened_anew_and_the_call_made(bench: Open, remote: Remote) -> None:
    async with bench(far=ServerConfig(url=remote("forgetful", script="old_remote.py"))) as b:
        for _ in range(3):
            assert (await b.call("far.go")).parts == (Text(text="gone"),)


async def test_a_packed_answer_is_refused_and_the_next_one_heard(bench: Open, remote: Remote) -> None:
    async with bench(far=ServerConfig(url=remote("packed", script="old_remote.py"))) as b:
        with pytest.raises(ServerError, match="compressed response, which was not requested"):
            await b.call("far.go")
        assert len(await b.hub.refresh()) == 1


@pytest.mark.parametrize(("mode", "told"), [("moved", ""), ("moved-away", "not followed")])
async def test_redirects_are_followed_within_the_origin_alone(
    bench: Open, remote: Remote, mode: str, told: str
) -> None:
    async with bench(far=ServerConfig(url=remote(mode, script="old_remote.py"))) as b:
        await b.hub.list_tools()
        if told:
            assert told in b.failure("far")
        else:
            assert (await b.call("far.go")).parts == (Text(text="gone"),)


async def test_a_remote_server_that_goes_and_comes_back_is_reached_again(bench: Open, tmp_path: Path) -> None:
    port = tmp_path / "port"
    command = [sys.executable, str(SERVERS / "old_remote.py"), "good", str(port)]
    first = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert first.stdout is not None
    number = int(await first.stdout.readline())
    port.write_text(str(number))
    async with bench(far=ServerConfig(url=f"http://127.0.0.1:{number}/mcp")) as b:
        assert (await b.call("far.go")).parts == (Text(text="gone"),)
        first.terminate()
        await first.wait()
        for _ in range(4):
            with pytest.raises(ServerError, match="far cannot be reached"):
                await b.call("far.go")
        second = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert second.stdout is not None
        assert int(await second.stdout.readline()) == number
        assert (await b.call("far.go")).parts == (Text(text="gone"),)
        second.terminate()
        await second.wait()


async def test_a_resource_that_was_read_and_changes_is_told(bench: Open) -> None:
    async with bench(watch=True, box=odd("updates")) as b:
        await b.hub.list_tools()
        assert await b.hub.read_resource("box", "note://a") == [Text(text="hello")]
        await b.call("box.echo", text="hi")
        assert Notice(level="info", text="box: note://a has changed") in b.seen


# --- what once went wrong ---------------------------------------------------------------------------------------


async def test_a_server_that_is_silent_to_the_end_is_given_up_in_time(bench: Open, remote: Remote) -> None:
    url = remote("silent", script="old_remote.py")
    config = ServerConfig(url=url, protocol="2025-06-18", timeouts=Timeouts(start=1))
    async with asyncio.timeout(20), bench(far=config) as b:
        assert await b.hub.list_tools() == ()
        assert b.failure("far").startswith("it did not answer within 1 s\n")


async def test_a_start_that_was_cancelled_leaves_nothing_half_known(bench: Open) -> None:
    async with bench(box=odd("slow-list")) as b:
        task = asyncio.create_task(b.hub.list_tools())
        async with asyncio.timeout(20):
            while b.hub._servers["box"].connection is None:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(await b.hub.list_tools()) == 3
        assert b.hub.status()[0].state == "ready"


async def test_all_calls_on_a_stale_discovery_are_made_anew(bench: Open, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script}"))
    newer = CAPABLE.read_text().replace("def big(size: int)", "def write(text: str, size: int = 0)")
    script.write_text(newer.replace('return "x" * size', "return text"))
    async with bench(box=config) as b:
        await b.hub.list_tools()
    script.write_text((SERVERS / "quirky.py").read_text())
    async with bench(box=config) as b:
        spec = await b.spec("box.write")
        calls = (b.hub.call(spec, f"c{n}", {"text": "x"}, b.seen.append) for n in range(4))
        refused = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(one) for one in refused] == ["box.write was changed by its server, and did not run"] * 4
        spec = await b.spec("box.write")
        calls = (b.hub.call(spec, f"c{n}", {"text": "x"}, b.seen.append) for n in range(4))
        assert [result.parts[0].text for result in await asyncio.gather(*calls)] == ["echo: x"] * 4


async def test_a_required_server_is_started_though_it_is_known(bench: Open, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script}"), required=True)
    script.write_text(CAPABLE.read_text())
    async with bench(box=config) as b:
        await b.hub.list_tools()
    script.write_text("raise SystemExit(3)")
    async with bench(box=config) as b:
        with pytest.raises(ServerError, match="exit code 3"):
            await b.hub.list_tools()


@pytest.mark.parametrize(("mode", "revision"), [("auto", ERAS[0]), ("legacy", ERAS[1])])
async def test_any_transport_carries_a_connection(mode: Any, revision: str) -> None:
    server = MCPServer("inside", log_level="ERROR")

    @server.tool(structured_output=False)
    async def size(context: Context[Any, Any]) -> str:
        """Ask for a size."""
        answer = await context.elicit("Which size?", Size) if mode == "legacy" else None
        return f"size {answer.data.size}" if isinstance(answer, AcceptedElicitation) else "any size"

    changes: list[str] = []
    asker = ScriptedDialog(ElicitationResult(action="accept", content={"size": 42}))
    spec = ServerSpec(
        name="box",
        config=ServerConfig(command="unused"),
        timeout=10,
        request_handler=ServerRequestHandler(asker, emit=lambda event: None, check=find_error),
        sign_in_hint=str,
        on_log=changes.append,
        on_change=lambda change, uri: changes.append(change),
    )
    opened = await connection.connect(spec, MemoryTransport(server), mode=mode)
    try:
        timeout = RequestTimeout(idle=10, total=10)
        tools = (await opened.list_all(timeout)).catalog.tools
        assert (opened.info.revision, [tool.qualified_name for tool in tools]) == (revision, ["box.size"])
        result = await opened.call(tools[0], "c", {}, lambda event: None, RequestTimeout(idle=10, total=10))
        assert result.parts == (Text(text="size 42" if mode == "legacy" else "any size"),)
        assert opened.is_alive
    finally:
        await opened.close()
    assert not opened.is_alive


def test_what_changes_a_server_changes_its_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ServerConfig(command="git", args=(".",))
    environ = {"PATH": "/usr/bin", "A": "1", "B": "1"}
    first = cache_key(here, environ)
    monkeypatch.chdir(tmp_path)
    others: list[dict[str, Any]] = [
        {"env_pass": ("A",)}, {"env_pass": ("B",)}, {"sampling": True}, {"elicitation": False}, {"roots": ("/",)},
    ]  # fmt: skip
    keys = [cache_key(ServerConfig(command="git", args=(".",), **more), environ) for more in ({}, *others)]
    assert len({first, *keys}) == len(keys) + 1
