"""The hub against real server processes: the bundled one, odd ones, and one over HTTP."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.core.events import Event, Notice, ServerChanged, ToolProgress
from mcpchat.core.messages import Audio, Image, Link, Text, ToolResult
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.mcp import connection
from mcpchat.mcp.catalog_cache import CatalogCache, cache_key
from mcpchat.mcp.connector import ServerConnector
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.limits import ToolLimits
from mcpchat.mcp.managed_server import HubContext
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.util.json_schema import find_error
from mcpchat.util.redaction import SecretRegistry
from tests.fakes import NoCredentials

MEASURED = tuple(
    name for name in os.environ if name.startswith("COVERAGE")
)  # the process's coverage, where it is taken
SERVERS = Path(__file__).with_name("servers")


def odd(mode: str = "good", **more: Any) -> ServerConfig:
    return ServerConfig(command=sys.executable, args=(str(SERVERS / "quirky.py"), mode), **more)


class Bench:
    """A hub, what it emitted, and shorthands."""

    def __init__(self, hub: McpHub, seen: list[Event]) -> None:
        self.hub = hub
        self.seen = seen

    async def spec(self, label: str) -> ToolSpec:
        return {spec.qualified_name: spec for spec in await self.hub.list_tools()}[label]

    async def call(self, label: str, **arguments: Any) -> ToolResult:
        return await self.hub.call(await self.spec(label), "c", arguments, self.seen.append)

    def states(self, server: str) -> list[str]:
        return [e.state for e in self.seen if isinstance(e, ServerChanged) and e.server == server]

    def failure(self, server: str) -> str:
        return next(status.detail for status in self.hub.status() if status.name == server)


Open = Callable[..., Any]


@pytest.fixture
def bench(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_hub(
        environ: dict[str, str] | None = None,
        refresh: bool = False,
        watch: bool = False,
        asker: Any = None,
        credentials: Any = None,
        most_bytes: int = 16 * 2**20,
        **servers: ServerConfig,
    ) -> AsyncIterator[Bench]:
        seen: list[Event] = []
        secrets = SecretRegistry()
        hub = McpHub(
            servers,
            HubContext(
                connector=ServerConnector(
                    environ=os.environ | (environ or {}),
                    request_handler=ServerRequestHandler(
                        asker or NonInteractiveDialog(), emit=seen.append, check=find_error
                    ),
                    load_sdk=lambda: connection,
                    max_message_bytes=most_bytes,
                    credentials=credentials or NoCredentials(),
                    secrets=secrets,
                ),
                timeouts=Timeouts(),
                tool_limits=ToolLimits(),
                cache=CatalogCache(tmp_path / "cache"),
                log_directory=tmp_path / "logs",
                watch=watch,
                emit=seen.append,
            ),
            ignore_cache=refresh,
        )
        await hub.prestart_uncached()
        try:
            yield Bench(hub, seen)
        finally:
            await hub.aclose()

    return open_hub


async def test_the_calculator_answers_over_real_stdio(bench: Open) -> None:
    async with bench(calc=ServerConfig(builtin="calculator", env_pass=MEASURED)) as b:
        assert [spec.name for spec in await b.hub.list_tools()] == ["calculate", "convert", "statistics"]
        assert all(spec.read_only for spec in await b.hub.list_tools())
        result = await b.call("calc.calculate", expression="2 ** 100")
        assert result.structured == {"expression": "2 ** 100", "result": 2**100}
        assert (await b.call("calc.statistics", values=[1, 2, 6])).structured["mean"] == 3
        converted = await b.call("calc.convert", value=10, from_unit="km", to_unit="mile")
        assert converted.structured["result"] == pytest.approx(6.2137119)
        for arguments, told in [
            ({"value": 1, "from_unit": "km", "to_unit": "kg"}, "measure different things"),
            ({"value": 1, "from_unit": "9**9**9", "to_unit": "kg"}, "unknown unit '9**9**9'"),
            ({"value": 1, "from_unit": "blorp", "to_unit": "kg"}, "unknown unit 'blorp'"),
        ]:
            failed = await b.call("calc.convert", **arguments)
            assert failed.is_error
            assert told in failed.parts[0].text
        assert (await b.call("calc.calculate", expression="1/0")).is_error


async def test_a_failing_server_is_left_out_with_its_reason_and_last_words(bench: Open) -> None:
    bad = ServerConfig(command="bash", args=("-c", "echo no such disk >&2; exit 3"))
    missing = ServerConfig(command="no-such-program")
    nowhere = ServerConfig(command="true", cwd="/no/such/folder")
    async with bench(good=odd(), bad=bad, missing=missing, nowhere=nowhere) as b:
        assert [spec.qualified_name for spec in await b.hub.list_tools()] == ["good.echo", "good.wipe", "good.write"]
        assert b.failure("bad") == "it exited at once with exit code 3\nno such disk"
        assert b.failure("missing") == "no program named 'no-such-program' on PATH\ncheck command in the config"
        assert b.failure("nowhere") == "its folder does not exist: /no/such/folder\ncheck cwd in the config"
        assert b.states("bad") == ["starting", "failed"]
        assert b.states("good") == ["starting", "ready"]


async def test_a_required_server_that_is_down_is_an_error(bench: Open) -> None:
    async with bench(bad=ServerConfig(command="no-such-program", required=True)) as b:
        with pytest.raises(ServerError, match="bad: no program named"):
            await b.hub.list_tools()


async def test_servers_shake_hands_in_parallel(bench: Open, tmp_path: Path) -> None:
    # Each answers only once all four have begun: one after the other, none ever would.
    wait = f"touch {tmp_path}/$0; until [ $(ls {tmp_path}/s? | wc -l) = 4 ]; do sleep 0.05; done"
    script = f'read first; {wait}; (echo "$first"; cat) | {sys.executable} {SERVERS / "quirky.py"}'
    servers = {name: ServerConfig(command="bash", args=("-c", script, name)) for name in ("s1", "s2", "s3", "s4")}
    async with bench(**servers) as b:
        assert len(await b.hub.list_tools()) == 12


async def test_a_known_server_is_listed_without_being_started(bench: Open) -> None:
    async with bench(box=odd()) as b:
        first = await b.hub.list_tools()
    async with bench(box=odd()) as b:
        assert await b.hub.list_tools() == first
        assert b.states("box") == []
        assert (await b.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)
        assert b.states("box") == ["starting", "ready"]
    async with bench(refresh=True, box=odd()) as b:
        await b.hub.list_tools()
        assert b.states("box") == ["starting", "ready"]


async def test_a_damaged_cache_is_rebuilt(bench: Open, tmp_path: Path) -> None:
    async with bench(box=odd()) as b:
        await b.hub.list_tools()
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b'{"format": 1, "expi')
    async with bench(box=odd()) as b:
        assert len(await b.hub.list_tools()) == 3
        assert b.states("box") == ["starting", "ready"]


def test_another_environment_is_another_server() -> None:
    config = odd(env={"TOKEN": "env:T"}, env_pass=("P",))
    keys = {cache_key(config, {"T": t, "P": p}) for t in "12" for p in "12"}
    assert len(keys) == 4
    assert cache_key(config, {"T": "1", "X": "1"}) == cache_key(config, {"T": "1", "X": "2"})


def test_the_same_words_in_another_folder_or_a_changed_script_are_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServerConfig(command="python3", args=("s.py",))
    keys = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.py").write_text("")
        monkeypatch.chdir(tmp_path / folder)
        keys.add(cache_key(config, {}))
    os.utime(tmp_path / "b" / "s.py", (1, 1))
    keys.add(cache_key(config, {}))
    assert len(keys) == 3


async def test_a_call_expected_starts_the_server_at_once(bench: Open) -> None:
    async with bench(box=odd()) as b:
        await b.hub.list_tools()
    async with bench(box=odd()) as b:
        b.hub.prestart(await b.spec("box.echo"))
        async with asyncio.timeout(20):
            while b.states("box") != ["starting", "ready"]:
                await asyncio.sleep(0.01)


async def test_a_server_that_dies_in_a_call_is_told_and_started_again_for_the_next(bench: Open) -> None:
    async with bench(box=odd("dies")) as b:
        for _ in range(2):
            with pytest.raises(ServerError, match="box exited with exit code 7 before it answered:\n  out of cheese"):
                await b.call("box.write", text="hi")
        assert b.states("box") == ["starting", "ready", "stopped"] * 2


async def test_a_server_that_crashes_three_times_is_left_alone_until_a_refresh(bench: Open) -> None:
    async with bench(box=odd("dies")) as b:
        for _ in range(3):
            with pytest.raises(ServerError, match="box exited with exit code 7"):
                await b.call("box.write", text="hi")
        assert b.states("box") == ["starting", "ready", "stopped"] * 3 + ["failed"]
        with pytest.raises(ServerError, match="box is paused after 3 failures in a row: box exited"):
            await b.call("box.write", text="hi")
        assert len(b.states("box")) == 10
        assert "out of cheese" in b.failure("box")
        await b.hub.refresh()
        assert b.states("box")[10:] == ["starting", "ready"]


async def test_only_a_tool_that_may_run_twice_is_called_again_after_a_crash(bench: Open, tmp_path: Path) -> None:
    def config(tool: str) -> ServerConfig:
        return ServerConfig(
            command=sys.executable, args=(str(SERVERS / "quirky.py"), "dies-once", str(tmp_path / tool))
        )

    async with bench(box=config("echo")) as b:  # which calls itself idempotent
        assert (await b.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)
        assert (tmp_path / "echo").read_text() == "run\nrun\n"
    async with bench(box=config("write")) as b:
        with pytest.raises(ServerError, match="box exited"):
            await b.call("box.write", text="hi")
        assert (tmp_path / "write").read_text() == "run\n"


async def test_a_known_server_that_no_longer_starts_fails_once_for_all_that_wait(bench: Open, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text((SERVERS / "quirky.py").read_text())
    # Through a shell, so that the command line names no file whose change would be seen.
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script}"))
    async with bench(box=config) as b:
        await b.hub.list_tools()
    script.write_text("raise SystemExit(5)")
    async with bench(box=config) as b:
        spec = await b.spec("box.echo")
        b.hub.prestart(spec)
        calls = (b.hub.call(spec, "c", {"text": "x"}, b.seen.append) for _ in range(3))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["box: it exited at once with exit code 5"] * 3
        assert b.states("box") == ["starting", "failed"]


async def test_a_call_that_takes_too_long_ends(bench: Open) -> None:
    async with bench(box=odd("slow", timeouts=Timeouts(call=0.2))) as b:
        with pytest.raises(ServerError, match=r"box did not answer within 0\.2 s"):
            await b.call("box.echo", text="hi")


async def test_a_server_that_never_shakes_hands_is_given_up(bench: Open) -> None:
    async with bench(box=odd("silent", timeouts=Timeouts(start=0.5))) as b:
        assert await b.hub.list_tools() == ()
        assert b.failure("box").startswith("it did not answer within 0.5 s")


async def test_a_server_that_does_not_list_its_tools_is_left_out(bench: Open) -> None:
    silent = odd("silent-list", timeouts=Timeouts(start=1))
    async with bench(no=odd("no-list"), silent=silent, good=odd()) as b:
        assert {spec.server for spec in await b.hub.list_tools()} == {"good"}
        assert b.failure("no") == "it did not list its tools: no list today (code -32602)"
        assert b.failure("silent").startswith("silent did not answer within 1 s\n")


async def test_a_server_that_leaves_at_the_modern_probe_is_asked_the_old_way(bench: Open) -> None:
    async with bench(box=odd("strict")) as b:
        assert (await b.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)
    async with bench(box=odd("strict")) as b:  # and remembered: no second process this time
        assert (await b.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)


async def test_noise_on_stdout_is_no_harm(bench: Open) -> None:
    async with bench(box=odd("noisy")) as b:
        assert (await b.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)


async def test_all_pages_of_tools_are_read(bench: Open) -> None:
    async with bench(box=odd("paged")) as b:
        assert [spec.name for spec in await b.hub.list_tools()] == [f"t{n:03}" for n in range(100)]


async def test_every_kind_of_content_becomes_a_part_and_progress_is_told(bench: Open) -> None:
    async with bench(box=odd("rich")) as b:
        result = await b.call("box.echo", text="hi")
        assert result == ToolResult(
            call_id="c",
            parts=(
                Text(text="a text"),
                Image(media_type="image/png", data=b"\x89PNG"),
                Audio(media_type="audio/wav", data=b"RIFF"),
                Link(uri="file:///a", title="a"),
                Text(text="file:///b:\ninside"),
                Link(uri="file:///c", title="application/zip, 1 bytes", media_type="application/zip"),
            ),
            structured={"n": 1},
        )
        assert ToolProgress(call_id="c", done=1, total=2) in b.seen


async def test_a_tools_own_error_and_a_protocol_error_are_both_results(bench: Open) -> None:
    async with bench(box=odd(), other=odd("protocol-error")) as b:
        assert (await b.call("box.wipe")).is_error
        refused = await b.call("other.echo", text="x")
        assert refused.is_error
        assert "unknown tool: echo (code -32602)" in refused.parts[0].text


async def test_a_server_sees_only_what_it_was_given(bench: Open) -> None:
    environ = {"OPENAI_API_KEY": "k", "SSH_AUTH_SOCK": "/s", "DBUS_SESSION_BUS_ADDRESS": "d", "MINE": "m", "REF": "r"}
    config = odd("environment", env={"A": "1", "B": "env:REF"}, env_pass=("MINE",))
    async with bench(environ=environ, box=config) as b:
        import json

        seen = json.loads((await b.call("box.echo", text="x")).parts[0].text)
    assert {name: seen.get(name) for name in (*environ, "A", "B")} == {
        "OPENAI_API_KEY": None,
        "SSH_AUTH_SOCK": None,
        "DBUS_SESSION_BUS_ADDRESS": None,
        "REF": None,
        "MINE": "m",
        "A": "1",
        "B": "r",
    }


async def test_a_reference_that_leads_nowhere_is_that_servers_failure(bench: Open) -> None:
    async with bench(box=odd(env={"A": "env:NOT_SET"}), good=odd()) as b:
        assert len(await b.hub.list_tools()) == 3
        assert b.failure("box") == (
            "servers.box.env.A: the environment variable NOT_SET is not set\nexport NOT_SET=..."
        )


async def test_only_the_chosen_tools_are_offered(bench: Open) -> None:
    async with bench(box=odd(tools=("e*",))) as b:
        assert [spec.qualified_name for spec in await b.hub.list_tools()] == ["box.echo"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("mode", ["stubborn", "leaves-child"])
async def test_nothing_of_a_servers_group_is_left_behind(bench: Open, mode: str) -> None:
    async with bench(box=odd(mode)) as b:
        await b.call("box.echo", text="hi")
        process = b.hub._servers["box"].connection._transport.process
        leader = process.pid
        child = int(process.log[0].split()[1])
        assert alive(leader)
        assert alive(child)
    async with asyncio.timeout(5):
        while alive(leader) or alive(child):
            await asyncio.sleep(0.01)


async def test_a_cancelled_call_leaves_the_connection_usable(bench: Open) -> None:
    async with bench(box=odd(), slow=odd("slow")) as b:
        spec = await b.spec("slow.echo")
        task = asyncio.create_task(b.hub.call(spec, "c", {"text": "x"}, b.seen.append))
        async with asyncio.timeout(20):
            while "ready" not in b.states("slow"):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await b.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)


class Expiring(NoCredentials):
    """Credentials whose token is as it is said to be; each start of the server makes it good again."""

    def __init__(self) -> None:
        self.now: Literal["no", "soon", "now"] = "no"
        self.fails: McpChatError | None = None
        self.starts = 0

    def renewal_state(self, server: str) -> Literal["no", "soon", "now"]:
        return self.now

    async def prefetch_token(self, server: str) -> None:
        if self.fails is not None:
            raise self.fails

    async def token_environment(self, server: str) -> dict[str, str]:
        self.starts += 1
        self.now = "no"
        return {"THE_TOKEN": f"token number {self.starts}"}


@pytest.mark.parametrize("due", ["soon", "now"])
async def test_a_server_whose_token_ends_is_started_anew_between_two_calls(bench: Open, due: Any) -> None:
    login = Expiring()
    async with bench(credentials=login, box=odd()) as b:
        await b.call("box.echo", text="one")
        login.now = due
        assert (await b.call("box.echo", text="two")).parts == (Text(text="echo: two"),)
        assert login.starts == 2
        assert b.states("box") == ["starting", "ready", "starting", "ready"]
        assert [e.text for e in b.seen if isinstance(e, Notice)] == ["renewed the None login of box"]


async def test_a_call_that_goes_on_is_not_ended_for_a_token_that_is_still_good(bench: Open) -> None:
    login = Expiring()
    async with bench(credentials=login, box=odd(max_parallel=2)) as b:
        await b.call("box.echo", text="one")
        slow = asyncio.create_task(b.call("box.echo", text="slowly"))
        await asyncio.sleep(0.3)
        login.now = "soon"
        await b.call("box.echo", text="quick")
        assert (await slow).parts == (Text(text="echo: slowly"),)
        assert login.starts == 1
        await b.call("box.echo", text="later")
        assert login.starts == 2


async def test_a_token_that_is_over_waits_for_the_calls_that_go_on(bench: Open) -> None:
    login = Expiring()
    async with bench(credentials=login, box=odd(max_parallel=2)) as b:
        await b.call("box.echo", text="one")
        slow = asyncio.create_task(b.call("box.echo", text="slowly"))
        await asyncio.sleep(0.3)
        login.now = "now"
        await b.call("box.echo", text="quick")
        assert slow.done()
        assert (await slow).parts == (Text(text="echo: slowly"),)
        assert login.starts == 2


async def test_while_the_provider_is_down_a_token_that_is_still_good_is_used(bench: Open) -> None:
    login = Expiring()
    async with bench(credentials=login, box=odd()) as b:
        await b.call("box.echo", text="one")
        login.now, login.fails = "soon", ServerError("the provider is down")
        await b.call("box.echo", text="two")
        login.now = "now"
        with pytest.raises(ServerError, match="box: the provider is down"):
            await b.call("box.echo", text="three")
        login.fails = SignInNeeded("the login is over", hint="sign in")
        with pytest.raises(SignInNeeded):
            await b.call("box.echo", text="four")
        login.fails = None
        await b.call("box.echo", text="five")
        assert login.starts == 2


@pytest.fixture
def remote() -> Iterator[Callable[..., str]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, script: str = "remote.py") -> str:
        command = [sys.executable, str(SERVERS / script), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


async def test_a_remote_server_is_reached_by_its_url(bench: Open, remote: Callable[..., str]) -> None:
    async with bench(far=ServerConfig(url=remote())) as b:
        assert (await b.call("far.echo", text="hi")).parts == (Text(text="far echo: hi"),)
        assert b.hub.status()[0].transport == "http"


async def test_a_token_goes_by_reference_and_without_it_a_sign_in_is_needed(
    bench: Open, remote: Callable[..., str]
) -> None:
    url = remote("s3cret")
    headers = {"Authorization": "Bearer env:TOKEN"}
    async with bench(environ={"TOKEN": "s3cret"}, far=ServerConfig(url=url, headers=headers)) as b:
        assert not (await b.call("far.echo", text="hi")).is_error
    async with bench(far=ServerConfig(url=url, required=True)) as b:
        with pytest.raises(SignInNeeded):
            await b.hub.list_tools()
        status = b.hub.status()[0]
        assert (status.state, status.auth) == ("login", "sign-in needed")


async def test_what_http_says_of_a_call_is_told(bench: Open, remote: Callable[..., str]) -> None:
    async with bench(far=ServerConfig(url=remote("401", script="old_remote.py"))) as b:
        with pytest.raises(SignInNeeded, match="far wants a sign-in"):
            await b.call("far.go")
    async with bench(far=ServerConfig(url=remote("500", script="old_remote.py"))) as b:
        with pytest.raises(ServerError, match="far answered HTTP 500"):
            await b.call("far.go")


async def test_a_remote_server_that_answers_no_goodbye_is_left(bench: Open, remote: Callable[..., str]) -> None:
    async with asyncio.timeout(30), bench(far=ServerConfig(url=remote("hang-at-goodbye", script="old_remote.py"))) as b:
        assert (await b.call("far.go")).parts == (Text(text="gone"),)


@pytest.mark.parametrize("value", ["tok-SECRET\n ", "tok-SECRET\nX: y", "tok-SECRETé"])
async def test_a_header_value_that_was_pasted_carelessly_is_never_shown(
    bench: Open, remote: Callable[..., str], value: str
) -> None:
    headers = {"Authorization": "Bearer env:TOKEN"}
    async with bench(environ={"TOKEN": value}, far=ServerConfig(url=remote("tok-SECRET"), headers=headers)) as b:
        await b.hub.list_tools()
        status = b.hub.status()[0]
        if value.strip() == "tok-SECRET":
            assert status.state == "ready"
        else:
            assert status.detail.startswith("servers.far.headers.Authorization: the value has characters")
        assert "SECRET" not in repr(b.seen)


async def test_an_address_where_nobody_listens_is_told(bench: Open) -> None:
    async with bench(far=ServerConfig(url="http://127.0.0.1:9/mcp")) as b:
        assert await b.hub.list_tools() == ()
        assert b.failure("far").startswith("cannot be reached: ")
