"""Both protocol eras and all transports, against servers of the official SDK and misbehaving ones."""

import asyncio
import json
import sys
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
from tests.support.fakes import ScriptedDialog
from tests.support.hub import IN_MEMORY, OpenHub, StartRemote, quirky_server
from tests.support.memory_transport import MemoryTransport
from tests.support.paths import FULL_FEATURED, SERVERS
from tests.support.servers.full_featured import build_server
from tests.support.waiting import async_wait_until

# Servers within this process use what the latest revision deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
ERAS = ["2026-07-28", "2025-11-25", "2024-11-05"]


class Size(BaseModel):
    size: int


@pytest.fixture
def open_capable_hub(open_test_hub: OpenHub) -> OpenHub:
    """Open a hub whose server "box" has every feature and runs within the test's process; takes options of its config."""

    def open_hub(watch: bool = False, asker: Any = None, **options: Any) -> Any:
        config = ServerConfig(url=IN_MEMORY, **options)
        return open_test_hub(watch=watch, asker=asker, in_memory={"box": build_server()}, box=config)

    return open_hub


def journaled_config(journal: Path, script: str = f"{sys.executable} {FULL_FEATURED}") -> ServerConfig:
    """Configure a server whose input is logged to the journal."""
    return ServerConfig(command="bash", args=("-c", f"tee -a {journal} | {script}"))


def take_methods(journal: Path) -> list[str]:
    """Return the requested methods and clear the journal."""
    requested = [json.loads(line).get("method", "") for line in journal.read_text().splitlines()]
    journal.write_text("")
    return requested


@pytest.mark.parametrize("era", ERAS)
async def test_each_era_lists_everything_of_a_server(open_test_hub: OpenHub, era: Any) -> None:
    config = ServerConfig(command=sys.executable, args=(str(FULL_FEATURED),), protocol=era)
    async with open_test_hub(box=config) as harness:
        await harness.hub.list_tools()
        catalog = harness.hub.catalogs()["box"]
        assert (catalog.info.revision, catalog.info.title, catalog.info.version) == (era, "All of it", "7")
        assert harness.hub.instructions() == {"box": "Count slowly."}
        assert {"tools", "resources", "prompts", "completions"} <= set(catalog.info.capabilities)
        assert [resource.label for resource in catalog.resources] == ["box:note://today"]
        assert [template.uri for template in catalog.templates] == ["note://{day}/all"]
        assert [(a.name, a.required) for a in catalog.prompts[0].arguments] == [("name", True), ("style", False)]
        assert await harness.hub.read_resource("box", "note://monday/all") == [Text(text="notes of monday")]
        prompt = await harness.hub.get_prompt("box", "greet", {"name": "Ann"})
        assert [(message.role, message.text) for message in prompt] == [("user", "Greet Ann in a kind way.")]
        assert await harness.hub.complete("box", catalog.prompts[0], "style", "k", {"name": "Ann"}) == ("kind", "kurt")
        with pytest.raises(ToolFailed, match="box did not read note://nowhere"):
            await harness.hub.read_resource("box", "note://nowhere")


async def test_a_known_modern_server_costs_no_extra_round_trip(open_test_hub: OpenHub, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with open_test_hub(box=journaled_config(journal)) as harness:
        await harness.hub.list_tools()
    assert take_methods(journal)[:2] == ["server/discover", "tools/list"]
    async with open_test_hub(box=journaled_config(journal)) as harness:
        assert (await harness.call("box.big", size=3)).parts == (Text(text="xxx"),)
    assert take_methods(journal) == ["tools/list", "tools/call"]  # the list: to check that it has not changed


async def test_a_known_handshake_server_is_initialized_at_once(open_test_hub: OpenHub, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    script = f"{sys.executable} {SERVERS / 'quirky.py'}"
    async with open_test_hub(box=journaled_config(journal, script)) as harness:
        await harness.hub.list_tools()
    assert take_methods(journal) == ["server/discover", "initialize", "notifications/initialized", "tools/list"]
    async with open_test_hub(box=journaled_config(journal, script)) as harness:
        await harness.call("box.echo", text="hi")
    assert take_methods(journal) == ["initialize", "notifications/initialized", "tools/list", "tools/call"]


@pytest.mark.parametrize("mode", ["good", "strict"])
async def test_a_server_that_changed_its_era_is_discovered_again(
    open_test_hub: OpenHub, tmp_path: Path, mode: str
) -> None:
    script = tmp_path / "server.py"  # the script is no separate argument: the identity stays the same
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script} {mode}"))
    older = (SERVERS / "quirky.py").read_text()
    newer = (
        FULL_FEATURED.read_text()
        .replace("(structured_output=False)", "(annotations=types.ToolAnnotations(idempotent_hint=True))")
        .replace("def big(size: int)", "def echo(text: str, size: int = 0)")
        .replace('return "x" * size', "return text")
        .replace("if len(sys.argv) < 2", "if len(sys.argv) < 3")
    )
    for old_script, new_script in ((newer, older), (older, newer)):
        script.write_text(old_script)
        async with open_test_hub(refresh=True, box=config) as harness:
            await harness.call("box.echo", text="hi")
        script.write_text(new_script)
        async with open_test_hub(box=config) as harness:
            with pytest.raises(Denied, match=r"box\.echo was changed by its server, and did not run"):
                await harness.call("box.echo", text="hi")
            assert not (await harness.call("box.echo", text="hi")).is_error


async def test_a_configured_era_is_used(open_test_hub: OpenHub) -> None:
    async with open_test_hub(
        box=quirky_server(protocol="2026-07-28"), old=quirky_server(protocol="2025-03-26")
    ) as harness:
        assert {spec.server for spec in await harness.hub.list_tools()} == {"old"}
        assert harness.failure("box") == "it does not support 2026-07-28, only the older 2025-06-18"


# --- requests from servers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS[:2])
async def test_elicitation_reaches_the_user_and_the_server(open_capable_hub: OpenHub, era: Any) -> None:
    class SlowDialog(ScriptedDialog):
        async def elicit(self, request: Any, problem: str) -> ElicitationResult:
            await asyncio.sleep(1.5)  # longer than the idle timeout: the user may take this long
            assert isinstance(request, Form)
            assert (request.server, request.message, request.fields[0].kind) == ("box", "Which size?", "integer")
            return await super().elicit(request, problem)

    asker = SlowDialog(
        ElicitationResult(action="accept", content={"size": 42}),
        ElicitationResult(action="decline"),
        ElicitationResult(action="cancel"),
    )
    short = Timeouts(idle=1, call=5)
    async with open_capable_hub(asker=asker, protocol=era, timeouts=short) as harness:
        for expected in ("size 42", "no order: decline", "no order: cancel"):
            assert (await harness.call("box.order")).parts[0].text == expected


@pytest.mark.parametrize("era", ERAS[:2])
async def test_disabled_capabilities_are_not_offered(open_capable_hub: OpenHub, era: Any) -> None:
    async with open_capable_hub(asker=ScriptedDialog(), protocol=era, elicitation=False) as harness:
        for tool in ("order", "think", "folders"):
            assert (await harness.call(f"box.{tool}")).is_error


async def test_sampling_and_roots_need_approval(open_capable_hub: OpenHub, tmp_path: Path) -> None:
    asker = ScriptedDialog(False, True)
    options: dict[str, Any] = {"protocol": "2025-11-25", "sampling": True, "roots": (str(tmp_path),)}
    async with open_capable_hub(asker=asker, **options) as harness:
        assert (await harness.call("box.think")).is_error  # no model is configured
        assert (await harness.call("box.folders")).parts[0].text == "none"
        assert asker.prompts == [("box", "know of these folders", str(tmp_path))]
    async with open_capable_hub(asker=ScriptedDialog(True), **options) as harness:
        assert (await harness.call("box.folders")).parts[0].text == tmp_path.as_uri()


# --- time -------------------------------------------------------------------------------------------------------


async def test_progress_extends_a_call_up_to_the_total_timeout(open_capable_hub: OpenHub) -> None:
    async with open_capable_hub(timeouts=Timeouts(idle=1, call=3.5)) as harness:
        assert (await harness.call("box.steps", count=4, pause=0.6)).parts[0].text == "done"
        assert [e.note for e in harness.events if isinstance(e, ToolProgress)] == [f"step {n}" for n in range(1, 5)]
        with pytest.raises(ServerError, match=r"box did not answer within 3\.5 s"):
            await harness.call("box.steps", count=20, pause=0.6)
        with pytest.raises(ServerError, match="box was silent for 1 s"):
            await harness.call("box.steps", count=1, pause=2)


@pytest.mark.parametrize(("limit", "max_running"), [(2, 2), (8, 5)])
async def test_calls_run_in_parallel_up_to_the_limit(open_capable_hub: OpenHub, limit: int, max_running: int) -> None:
    async with open_capable_hub(max_parallel=limit) as harness:
        spec = await harness.spec("box.busy")
        calls = (harness.hub.call(spec, f"c{n}", {"seconds": 0.6}, harness.events.append) for n in range(5))
        results = await asyncio.gather(*calls)
        assert max(result.structured["result"] for result in results) == max_running


async def test_a_crash_under_parallel_calls_is_one_failure(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("dies")) as harness:
        spec = await harness.spec("box.write")
        calls = (harness.hub.call(spec, f"c{n}", {"text": "x"}, harness.events.append) for n in range(5))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all("before it answered" in str(outcome) for outcome in outcomes)
        assert harness.states("box") == ["starting", "ready", "stopped"]


# --- changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS[:2])
@pytest.mark.parametrize("transport", ["memory", "http"])
async def test_a_changed_list_is_fetched_for_the_next_turn(
    open_test_hub: OpenHub, start_remote: StartRemote, era: Any, transport: str
) -> None:
    in_memory: dict[str, Any] = {}
    if transport == "memory":
        in_memory["box"] = build_server()
        config = ServerConfig(url=IN_MEMORY, protocol=era)
    else:
        config = ServerConfig(url=start_remote("http", script="full_featured.py"), protocol=era)
    async with open_test_hub(watch=True, in_memory=in_memory, box=config) as harness:
        old_tools = await harness.hub.list_tools()
        await harness.hub.start_all()
        async with asyncio.timeout(20):
            while "grown" not in {spec.name for spec in await harness.hub.list_tools()}:
                await harness.call("box.grow")  # also again, if the subscription was not active yet
                await asyncio.sleep(0.05)
        assert [spec.name for spec in await harness.hub.list_tools()] == sorted(
            [*(spec.name for spec in old_tools), "grown"]
        )
        assert (await harness.call("box.grown")).parts[0].text == "grown"


async def test_cached_tools_are_used_and_refreshed_in_background(open_test_hub: OpenHub, tmp_path: Path) -> None:
    marker = tmp_path / "more"
    marker.write_text("")
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {SERVERS / 'quirky.py'} adds {marker}"))
    async with open_test_hub(box=config) as harness:
        await harness.hub.list_tools()
    marker.write_text("fresh")
    async with open_test_hub(watch=True, box=config) as harness:
        first_tools = await harness.hub.list_tools()
        assert (len(first_tools), harness.states("box")) == (3, [])
        harness.hub.refresh_in_background()
        async with asyncio.timeout(20):
            while len(await harness.hub.list_tools()) == 3:
                await asyncio.sleep(0.05)
        assert "fresh" in {spec.name for spec in await harness.hub.list_tools()}


# --- remote -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http", "json", "sse"])
@pytest.mark.parametrize("era", ["auto", "2025-06-18"])
async def test_each_remote_transport_supports_everything(
    open_test_hub: OpenHub, start_remote: StartRemote, transport: Any, era: Any
) -> None:
    url = start_remote(transport, script="full_featured.py")
    if transport == "sse":
        config = ServerConfig(url=url.replace("/mcp", "/sse"), transport="sse", protocol=era)
    else:
        config = ServerConfig(url=url, protocol=era)
    asker = ScriptedDialog(ElicitationResult(action="accept", content={"size": 7}))
    async with open_test_hub(asker=asker, box=config, most_bytes=1_000_000) as harness:
        if transport != "json" or era == "auto":  # a plain JSON response cannot carry requests of the older era
            assert (await harness.call("box.order")).parts[0].text == "size 7"
        assert (await harness.call("box.steps", count=2, pause=0.05)).parts[0].text == "done"
        assert await harness.hub.read_resource("box", "note://today") == [Text(text="buy milk")]
        for _ in range(2):  # and the connection stays open
            large = harness.call("box.big", size=2_000_000)
            if transport == "sse":
                with pytest.raises(ServerError):
                    await large
            else:
                assert (await large).is_error
        assert (await harness.call("box.big", size=100_000)).parts == (Text(text="x" * 100_000),)
        assert harness.hub.status()[0].transport == ("sse" if transport == "sse" else "http")


async def test_a_lost_session_is_reopened_for_the_call(open_test_hub: OpenHub, start_remote: StartRemote) -> None:
    async with open_test_hub(far=ServerConfig(url=start_remote("forgetful", script="old_remote.py"))) as harness:
        for _ in range(3):
            assert (await harness.call("far.go")).parts == (Text(text="gone"),)


async def test_a_compressed_response_is_refused_but_not_the_next(
    open_test_hub: OpenHub, start_remote: StartRemote
) -> None:
    async with open_test_hub(far=ServerConfig(url=start_remote("packed", script="old_remote.py"))) as harness:
        with pytest.raises(ServerError, match="compressed response, which was not requested"):
            await harness.call("far.go")
        assert len(await harness.hub.refresh()) == 1


@pytest.mark.parametrize(("mode", "message"), [("moved", ""), ("moved-away", "it redirects to http://")])
async def test_redirects_are_followed_only_within_the_origin(
    open_test_hub: OpenHub, start_remote: StartRemote, mode: str, message: str
) -> None:
    async with open_test_hub(far=ServerConfig(url=start_remote(mode, script="old_remote.py"))) as harness:
        await harness.hub.list_tools()
        if message:
            assert message in harness.failure("far")
        else:
            assert (await harness.call("far.go")).parts == (Text(text="gone"),)


async def test_a_restarted_remote_server_is_reconnected(open_test_hub: OpenHub, tmp_path: Path) -> None:
    port = tmp_path / "port"
    command = [sys.executable, str(SERVERS / "old_remote.py"), "good", str(port)]
    first_process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert first_process.stdout is not None
    number = int(await first_process.stdout.readline())
    port.write_text(str(number))
    async with open_test_hub(far=ServerConfig(url=f"http://127.0.0.1:{number}/mcp")) as harness:
        assert (await harness.call("far.go")).parts == (Text(text="gone"),)
        first_process.terminate()
        await first_process.wait()
        for _ in range(4):
            with pytest.raises(ServerError, match="far cannot be reached"):
                await harness.call("far.go")
        second_process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert second_process.stdout is not None
        assert int(await second_process.stdout.readline()) == number
        assert (await harness.call("far.go")).parts == (Text(text="gone"),)
        second_process.terminate()
        await second_process.wait()


async def test_a_change_of_a_read_resource_is_reported(open_test_hub: OpenHub) -> None:
    async with open_test_hub(watch=True, box=quirky_server("updates")) as harness:
        await harness.hub.list_tools()
        assert await harness.hub.read_resource("box", "note://a") == [Text(text="hello")]
        await harness.call("box.echo", text="hi")
        assert Notice(level="info", text="box: note://a has changed") in harness.events


# --- regressions ------------------------------------------------------------------------------------------------


async def test_a_silent_server_times_out(open_test_hub: OpenHub, start_remote: StartRemote) -> None:
    url = start_remote("silent", script="old_remote.py")
    config = ServerConfig(url=url, protocol="2025-06-18", timeouts=Timeouts(start=1))
    async with asyncio.timeout(20), open_test_hub(far=config) as harness:
        assert await harness.hub.list_tools() == ()
        assert harness.failure("far").startswith("it did not answer within 1 s\n")


async def test_a_cancelled_start_leaves_no_partial_state(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("slow-list")) as harness:
        task = asyncio.create_task(harness.hub.list_tools())
        await async_wait_until(lambda: harness.hub._servers["box"].connection)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(await harness.hub.list_tools()) == 3
        assert harness.hub.status()[0].state == "ready"


async def test_all_calls_on_a_stale_discovery_are_refused_once(open_test_hub: OpenHub, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script}"))
    newer = FULL_FEATURED.read_text().replace("def big(size: int)", "def write(text: str, size: int = 0)")
    script.write_text(newer.replace('return "x" * size', "return text"))
    async with open_test_hub(box=config) as harness:
        await harness.hub.list_tools()
    script.write_text((SERVERS / "quirky.py").read_text())
    async with open_test_hub(box=config) as harness:
        spec = await harness.spec("box.write")
        calls = (harness.hub.call(spec, f"c{n}", {"text": "x"}, harness.events.append) for n in range(4))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(error) for error in errors] == ["box.write was changed by its server, and did not run"] * 4
        spec = await harness.spec("box.write")
        calls = (harness.hub.call(spec, f"c{n}", {"text": "x"}, harness.events.append) for n in range(4))
        assert [result.parts[0].text for result in await asyncio.gather(*calls)] == ["echo: x"] * 4


async def test_a_cached_required_server_is_started(open_test_hub: OpenHub, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script}"), required=True)
    script.write_text(FULL_FEATURED.read_text())
    async with open_test_hub(box=config) as harness:
        await harness.hub.list_tools()
    script.write_text("raise SystemExit(3)")
    async with open_test_hub(box=config) as harness:
        with pytest.raises(ServerError, match="exit code 3"):
            await harness.hub.list_tools()


@pytest.mark.parametrize(("mode", "revision"), [("auto", ERAS[0]), ("legacy", ERAS[1])])
async def test_any_transport_works(mode: Any, revision: str) -> None:
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
    client = await connection.connect(spec, MemoryTransport(server), mode=mode)
    try:
        tools = (await client.list_all()).catalog.tools
        assert (client.info.revision, [tool.qualified_name for tool in tools]) == (revision, ["box.size"])
        result = await client.call(tools[0], "c", {}, lambda event: None, RequestTimeout(idle=10, total=10))
        assert result.parts == (Text(text="size 42" if mode == "legacy" else "any size"),)
        assert client.is_alive
    finally:
        await client.close()
    assert not client.is_alive


LOGINS: list[dict[str, Any]] = [
    {"login_version": 1.0}, {"identity": ("client",)}, {"identity": ("", "client")}, {"secrets": {"keyring:A": "1"}},
    {"secrets": {"keyring:A": "2"}},
]  # fmt: skip


def test_each_server_option_changes_the_cache_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ServerConfig(command="git", args=(".",))
    environ = {"PATH": "/usr/bin", "A": "1", "B": "1"}
    first_key = cache_key(config, environ)
    monkeypatch.chdir(tmp_path)
    other_options: list[dict[str, Any]] = [
        {"env_pass": ("A",)}, {"env_pass": ("B",)}, {"sampling": True}, {"elicitation": False}, {"roots": ("/",)},
    ]  # fmt: skip
    keys = [cache_key(ServerConfig(command="git", args=(".",), **options), environ) for options in ({}, *other_options)]
    keys += [cache_key(config, environ, **login) for login in LOGINS]
    assert len({first_key, *keys}) == len(keys) + 1
