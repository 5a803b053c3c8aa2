"""Tests of the hub with real server processes: a bundled one, misbehaving ones, and remote ones over HTTP."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.core.events import Notice, ToolProgress
from mcpchat.core.messages import Audio, Image, Link, Text, ToolResult
from mcpchat.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.mcp.catalog_cache import cache_key
from mcpchat.mcp.protocols import ServerAuth
from tests.support.fakes import NoCredentials
from tests.support.hub import OpenHub, StartRemote, quirky_server
from tests.support.keyring import Keyring
from tests.support.paths import SERVERS
from tests.support.waiting import async_wait_until


async def test_the_calculator_answers_over_real_stdio(open_test_hub: OpenHub) -> None:
    async with open_test_hub(calc=ServerConfig(builtin="calculator")) as fixture:
        assert [spec.name for spec in await fixture.hub.list_tools()] == ["calculate", "convert", "statistics"]
        assert all(spec.read_only for spec in await fixture.hub.list_tools())
        result = await fixture.call("calc.calculate", expression="2 ** 100")
        assert result.structured == {"expression": "2 ** 100", "result": 2**100}
        assert (await fixture.call("calc.statistics", values=[1, 2, 6])).structured["mean"] == 3
        converted = await fixture.call("calc.convert", value=10, from_unit="km", to_unit="mile")
        assert converted.structured["result"] == pytest.approx(6.2137119)
        for arguments, error in [
            ({"value": 1, "from_unit": "km", "to_unit": "kg"}, "measure different things"),
            ({"value": 1, "from_unit": "9**9**9", "to_unit": "kg"}, "unknown unit '9**9**9'"),
            ({"value": 1, "from_unit": "blorp", "to_unit": "kg"}, "unknown unit 'blorp'"),
        ]:
            error_result = await fixture.call("calc.convert", **arguments)
            assert error_result.is_error
            assert error in error_result.parts[0].text
        assert (await fixture.call("calc.calculate", expression="1/0")).is_error


async def test_a_failed_server_is_skipped_with_its_reason_and_stderr(open_test_hub: OpenHub) -> None:
    bad = ServerConfig(command="bash", args=("-c", "echo no such disk >&2; exit 3"))
    missing = ServerConfig(command="no-such-program")
    no_folder = ServerConfig(command="true", cwd="/no/such/folder")
    async with open_test_hub(good=quirky_server(), bad=bad, missing=missing, nowhere=no_folder) as fixture:
        assert [spec.qualified_name for spec in await fixture.hub.list_tools()] == [
            "good.echo",
            "good.wipe",
            "good.write",
        ]
        assert fixture.failure("bad") == "it exited at once with exit code 3: no such disk"
        assert fixture.failure("missing") == "no program named 'no-such-program' on PATH\ncheck its command"
        assert fixture.failure("nowhere") == "its folder does not exist: /no/such/folder\ncheck cwd in the config"
        assert fixture.states("bad") == ["starting", "failed"]
        assert fixture.states("good") == ["starting", "ready"]


async def test_a_required_server_that_is_down_is_an_error(open_test_hub: OpenHub) -> None:
    async with open_test_hub(bad=ServerConfig(command="no-such-program", required=True)) as fixture:
        with pytest.raises(ServerError, match="bad: no program named"):
            await fixture.hub.list_tools()


async def test_servers_initialize_in_parallel(open_test_hub: OpenHub, tmp_path: Path) -> None:
    # Each server answers after all four have started, so sequential starts would hang.
    wait = f"touch {tmp_path}/$0; until [ $(ls {tmp_path}/s? | wc -l) = 4 ]; do sleep 0.05; done"
    script = f'read first; {wait}; (echo "$first"; cat) | {sys.executable} {SERVERS / "quirky.py"}'
    servers = {name: ServerConfig(command="bash", args=("-c", script, name)) for name in ("s1", "s2", "s3", "s4")}
    async with open_test_hub(**servers) as fixture:
        assert len(await fixture.hub.list_tools()) == 12


async def test_a_cached_server_is_listed_without_a_start(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server()) as fixture:
        first = await fixture.hub.list_tools()
    async with open_test_hub(box=quirky_server()) as fixture:
        assert await fixture.hub.list_tools() == first
        assert fixture.states("box") == []
        assert (await fixture.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)
        assert fixture.states("box") == ["starting", "ready"]
    async with open_test_hub(refresh=True, box=quirky_server()) as fixture:
        await fixture.hub.list_tools()
        assert fixture.states("box") == ["starting", "ready"]


async def test_a_damaged_cache_is_rebuilt(open_test_hub: OpenHub, tmp_path: Path) -> None:
    async with open_test_hub(box=quirky_server()) as fixture:
        await fixture.hub.list_tools()
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b'{"format": 1, "expi')
    async with open_test_hub(box=quirky_server()) as fixture:
        assert len(await fixture.hub.list_tools()) == 3
        assert fixture.states("box") == ["starting", "ready"]


def test_the_cache_key_has_the_environment() -> None:
    config = quirky_server(env={"TOKEN": "env:T"}, env_pass=("P",))
    keys = {cache_key(config, {"T": token, "P": path}) for token in "12" for path in "12"}
    assert len(keys) == 4
    assert cache_key(config, {"T": "1", "X": "1"}) == cache_key(config, {"T": "1", "X": "2"})


def test_the_cache_key_depends_on_the_folder_and_on_the_content_of_the_script(
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


async def test_prestart_starts_the_server_at_once(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server()) as fixture:
        await fixture.hub.list_tools()
    async with open_test_hub(box=quirky_server()) as fixture:
        fixture.hub.prestart(await fixture.spec("box.echo"))
        await async_wait_until(lambda: fixture.states("box") == ["starting", "ready"])


async def test_a_crash_in_a_call_is_reported_and_the_next_call_restarts_the_server(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("dies")) as fixture:
        for _ in range(2):
            with pytest.raises(ServerError, match="box exited with exit code 7 before it answered: out of cheese"):
                await fixture.call("box.write", text="hi")
        assert fixture.states("box") == ["starting", "ready", "stopped"] * 2


async def test_a_server_that_crashes_three_times_stays_down_until_a_refresh(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("dies")) as fixture:
        for _ in range(3):
            with pytest.raises(ServerError, match="box exited with exit code 7"):
                await fixture.call("box.write", text="hi")
        assert fixture.states("box") == ["starting", "ready", "stopped"] * 3 + ["failed"]
        with pytest.raises(ServerError, match="box is paused after 3 failures in a row: box exited"):
            await fixture.call("box.write", text="hi")
        assert len(fixture.states("box")) == 10
        assert "out of cheese" in fixture.failure("box")
        await fixture.hub.refresh()
        assert fixture.states("box")[10:] == ["starting", "ready"]


async def test_only_an_idempotent_tool_is_called_again_after_a_crash(open_test_hub: OpenHub, tmp_path: Path) -> None:
    def config(tool: str) -> ServerConfig:
        return ServerConfig(
            command=sys.executable, args=(str(SERVERS / "quirky.py"), "dies-once", str(tmp_path / tool))
        )

    async with open_test_hub(box=config("echo")) as fixture:  # claims to be idempotent
        assert (await fixture.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)
        assert (tmp_path / "echo").read_text() == "run\nrun\n"
    async with open_test_hub(box=config("write")) as fixture:
        with pytest.raises(ServerError, match="box exited"):
            await fixture.call("box.write", text="hi")
        assert (tmp_path / "write").read_text() == "run\n"


async def test_a_cached_server_that_does_not_start_fails_once_for_all_calls(
    open_test_hub: OpenHub, tmp_path: Path
) -> None:
    script = tmp_path / "server.py"
    script.write_text((SERVERS / "quirky.py").read_text())
    # A shell runs it, so that the command line names no file whose change mcpchat would detect.
    config = ServerConfig(command="bash", args=("-c", f"exec {sys.executable} {script}"))
    async with open_test_hub(box=config) as fixture:
        await fixture.hub.list_tools()
    script.write_text("raise SystemExit(5)")
    async with open_test_hub(box=config) as fixture:
        spec = await fixture.spec("box.echo")
        fixture.hub.prestart(spec)
        calls = (fixture.hub.call(spec, "c", {"text": "x"}, fixture.events.append) for _ in range(3))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["box: it exited at once with exit code 5"] * 3
        assert fixture.states("box") == ["starting", "failed"]


async def test_another_secret_behind_a_request_is_another_users_list(
    open_test_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import os\nfrom mcp.server import CacheHint, MCPServer\n"
        "server = MCPServer('v', cache_hints={'tools/list': CacheHint(ttl_ms=60_000, scope='private')})\n"
        "server.tool(name=f\"of_{os.environ['TOKEN']}\")(lambda: 'x')\nserver.run()\n"
    )
    tokens = ["ann"]
    monkeypatch.setattr("keyring.core._keyring_backend", Keyring(lambda service, name: tokens[-1]))
    config = ServerConfig(command=sys.executable, args=(str(script),), env={"TOKEN": "keyring:TOKEN"})
    seen = []
    for token in ("ann", "bob", "ann"):
        tokens.append(token)
        async with open_test_hub(box=config) as fixture:
            names = [spec.name for spec in await fixture.hub.list_tools()]
            seen.append((names, fixture.states("box")[:1]))
    assert seen == [(["of_ann"], ["starting"]), (["of_bob"], ["starting"]), (["of_ann"], [])]  # the last from disk


async def test_a_call_that_is_too_long_ends(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("slow", timeouts=Timeouts(call=0.2))) as fixture:
        with pytest.raises(ServerError, match=r"box did not answer within 0\.2 s"):
            await fixture.call("box.echo", text="hi")


async def test_a_server_that_never_initializes_fails(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("silent", timeouts=Timeouts(start=0.5))) as fixture:
        assert await fixture.hub.list_tools() == ()
        assert fixture.failure("box").startswith("it did not answer within 0.5 s")


async def test_a_server_that_does_not_list_tools_is_skipped(open_test_hub: OpenHub) -> None:
    silent = quirky_server("silent-list", timeouts=Timeouts(start=1))
    async with open_test_hub(no=quirky_server("no-list"), silent=silent, good=quirky_server()) as fixture:
        assert {spec.server for spec in await fixture.hub.list_tools()} == {"good"}
        assert fixture.failure("no") == "it did not list its tools: no list today (code -32602)"
        assert fixture.failure("silent").startswith("silent was silent for 1 s\n")


async def test_a_server_that_exits_at_the_modern_probe_gets_the_old_one(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("strict")) as fixture:
        assert (await fixture.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)
    async with open_test_hub(box=quirky_server("strict")) as fixture:  # remembered, so there is no second process
        assert (await fixture.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)


async def test_noise_on_stdout_is_no_harm(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("noisy")) as fixture:
        assert (await fixture.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)


async def test_all_pages_of_tools_are_read(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("paged")) as fixture:
        assert [spec.name for spec in await fixture.hub.list_tools()] == [f"t{n:03}" for n in range(100)]


async def test_all_content_types_become_parts_and_progress_is_reported(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server("rich")) as fixture:
        result = await fixture.call("box.echo", text="hi")
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
        assert ToolProgress(call_id="c", done=1, total=2) in fixture.events


async def test_a_tools_own_error_and_a_protocol_error_are_both_results(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server(), other=quirky_server("protocol-error")) as fixture:
        assert (await fixture.call("box.wipe")).is_error
        refused = await fixture.call("other.echo", text="x")
        assert refused.is_error
        assert "unknown tool: echo (code -32602)" in refused.parts[0].text


async def test_a_server_has_only_its_environment(open_test_hub: OpenHub) -> None:
    environ = {"OPENAI_API_KEY": "k", "SSH_AUTH_SOCK": "/s", "DBUS_SESSION_BUS_ADDRESS": "d", "MINE": "m", "REF": "r"}
    config = quirky_server("environment", env={"A": "1", "B": "env:REF"}, env_pass=("MINE",))
    async with open_test_hub(environ=environ, box=config) as fixture:
        import json

        received = json.loads((await fixture.call("box.echo", text="x")).parts[0].text)
    assert {name: received.get(name) for name in (*environ, "A", "B")} == {
        "OPENAI_API_KEY": None,
        "SSH_AUTH_SOCK": None,
        "DBUS_SESSION_BUS_ADDRESS": None,
        "REF": None,
        "MINE": "m",
        "A": "1",
        "B": "r",
    }


async def test_an_unset_reference_fails_only_that_server(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server(env={"A": "env:NOT_SET"}), good=quirky_server()) as fixture:
        assert len(await fixture.hub.list_tools()) == 3
        assert fixture.failure("box") == (
            "servers.box.env.A: the environment variable NOT_SET is not set\nexport NOT_SET=..."
        )


async def test_only_selected_tools_are_offered(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server(tools=("e*",))) as fixture:
        assert [spec.qualified_name for spec in await fixture.hub.list_tools()] == ["box.echo"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("mode", ["stubborn", "leaves-child"])
async def test_the_whole_process_group_is_ended(open_test_hub: OpenHub, mode: str) -> None:
    async with open_test_hub(box=quirky_server(mode)) as fixture:
        await fixture.call("box.echo", text="hi")
        process = fixture.hub._servers["box"].connection._transport.process
        leader = process.pid
        child = int(process.log[0].split()[1])
        assert is_alive(leader)
        assert is_alive(child)
    async with asyncio.timeout(5):
        while is_alive(leader) or is_alive(child):
            await asyncio.sleep(0.01)


async def test_a_cancelled_call_leaves_the_connection_usable(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server(), slow=quirky_server("slow")) as fixture:
        spec = await fixture.spec("slow.echo")
        task = asyncio.create_task(fixture.hub.call(spec, "c", {"text": "x"}, fixture.events.append))
        await async_wait_until(lambda: fixture.active_calls("slow"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await fixture.call("box.echo", text="hi")).parts == (Text(text="echo: hi"),)


class Expiring(NoCredentials):
    """Credentials and their only token, whose renewal state is set by the test; each new token resets it."""

    http_auth = None
    error = None

    def __init__(self) -> None:
        self.now: Literal["no", "soon", "now"] = "no"
        self.fails: McpChatError | None = None
        self.starts = 0

    async def authenticate(self, server: str) -> ServerAuth:
        if self.fails is not None:
            raise self.fails
        self.starts += 1
        self.now = "no"
        return self

    @property
    def environment(self) -> dict[str, str]:
        return {"THE_TOKEN": f"token number {self.starts}"}

    @property
    def renewal(self) -> Literal["no", "soon", "now"]:
        return self.now

    def reject(self) -> None:
        self.now = "now"


@pytest.mark.parametrize("due", ["soon", "now"])
async def test_a_server_with_an_expiring_token_restarts_between_calls(open_test_hub: OpenHub, due: Any) -> None:
    login = Expiring()
    async with open_test_hub(credentials=login, box=quirky_server()) as fixture:
        await fixture.call("box.echo", text="one")
        login.now = due
        assert (await fixture.call("box.echo", text="two")).parts == (Text(text="echo: two"),)
        assert login.starts == 2
        assert fixture.states("box") == ["starting", "ready", "starting", "ready"]
        assert [event.text for event in fixture.events if isinstance(event, Notice)] == [
            "renewed the None login of box"
        ]


async def test_a_running_call_is_not_ended_if_its_token_is_still_valid(open_test_hub: OpenHub) -> None:
    login = Expiring()
    async with open_test_hub(credentials=login, box=quirky_server(max_parallel=2)) as fixture:
        await fixture.call("box.echo", text="one")
        slow = asyncio.create_task(fixture.call("box.echo", text="slowly"))
        await async_wait_until(lambda: fixture.active_calls("box"))
        login.now = "soon"
        await fixture.call("box.echo", text="quick")
        assert (await slow).parts == (Text(text="echo: slowly"),)
        assert login.starts == 1
        await fixture.call("box.echo", text="later")
        assert login.starts == 2


async def test_an_expired_token_waits_for_running_calls(open_test_hub: OpenHub) -> None:
    login = Expiring()
    async with open_test_hub(credentials=login, box=quirky_server(max_parallel=2)) as fixture:
        await fixture.call("box.echo", text="one")
        slow = asyncio.create_task(fixture.call("box.echo", text="slowly"))
        await async_wait_until(lambda: fixture.active_calls("box"))
        login.now = "now"
        await fixture.call("box.echo", text="quick")
        assert slow.done()
        assert (await slow).parts == (Text(text="echo: slowly"),)
        assert login.starts == 2


async def test_a_valid_token_is_used_while_the_provider_is_down(open_test_hub: OpenHub) -> None:
    login = Expiring()
    async with open_test_hub(credentials=login, box=quirky_server()) as fixture:
        await fixture.call("box.echo", text="one")
        login.now, login.fails = "soon", ServerError("the provider is down")
        await fixture.call("box.echo", text="two")
        login.now = "now"
        with pytest.raises(ServerError, match="box: the provider is down"):
            await fixture.call("box.echo", text="three")
        login.fails = SignInNeeded("the login is over", hint="sign in")
        with pytest.raises(SignInNeeded):
            await fixture.call("box.echo", text="four")
        login.fails = None
        await fixture.call("box.echo", text="five")
        assert login.starts == 2


async def test_a_remote_server_works_by_url(open_test_hub: OpenHub, start_remote: StartRemote) -> None:
    async with open_test_hub(far=ServerConfig(url=start_remote())) as fixture:
        assert (await fixture.call("far.echo", text="hi")).parts == (Text(text="far echo: hi"),)
        assert fixture.hub.status()[0].transport == "http"


async def test_a_token_is_sent_by_reference_or_sign_in_is_needed(
    open_test_hub: OpenHub, start_remote: StartRemote
) -> None:
    url = start_remote("s3cret")
    headers = {"Authorization": "Bearer env:TOKEN"}
    async with open_test_hub(environ={"TOKEN": "s3cret"}, far=ServerConfig(url=url, headers=headers)) as fixture:
        assert not (await fixture.call("far.echo", text="hi")).is_error
    async with open_test_hub(far=ServerConfig(url=url, required=True)) as fixture:
        with pytest.raises(SignInNeeded):
            await fixture.hub.list_tools()
        status = fixture.hub.status()[0]
        assert (status.state, status.auth) == ("login", "sign-in needed")


async def test_http_errors_of_a_call_are_shown(open_test_hub: OpenHub, start_remote: StartRemote) -> None:
    async with open_test_hub(far=ServerConfig(url=start_remote("401", script="old_remote.py"))) as fixture:
        with pytest.raises(SignInNeeded, match="far wants a sign-in"):
            await fixture.call("far.go")
    async with open_test_hub(far=ServerConfig(url=start_remote("500", script="old_remote.py"))) as fixture:
        with pytest.raises(ServerError, match="far answered HTTP 500"):
            await fixture.call("far.go")


async def test_a_remote_server_that_hangs_at_close_is_left(open_test_hub: OpenHub, start_remote: StartRemote) -> None:
    async with (
        asyncio.timeout(30),
        open_test_hub(far=ServerConfig(url=start_remote("hang-at-goodbye", script="old_remote.py"))) as fixture,
    ):
        assert (await fixture.call("far.go")).parts == (Text(text="gone"),)


@pytest.mark.parametrize("value", ["tok-SECRET\n ", "tok-SECRET\nX: y", "tok-SECRETé"])
async def test_an_invalid_header_value_is_never_shown(
    open_test_hub: OpenHub, start_remote: StartRemote, value: str
) -> None:
    headers = {"Authorization": "Bearer env:TOKEN"}
    async with open_test_hub(
        environ={"TOKEN": value}, far=ServerConfig(url=start_remote("tok-SECRET"), headers=headers)
    ) as fixture:
        await fixture.hub.list_tools()
        status = fixture.hub.status()[0]
        if value.strip() == "tok-SECRET":
            assert status.state == "ready"
        else:
            assert status.detail.startswith("servers.far.headers.Authorization: the value has characters")
        assert "SECRET" not in repr(fixture.events)


async def test_a_refused_connection_is_reported(open_test_hub: OpenHub) -> None:
    async with open_test_hub(far=ServerConfig(url="http://127.0.0.1:9/mcp")) as fixture:
        assert await fixture.hub.list_tools() == ()
        assert fixture.failure("far").startswith("cannot be reached: ")
