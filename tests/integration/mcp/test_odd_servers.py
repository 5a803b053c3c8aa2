"""Servers as users have them: words before messages, lost sessions, other services, slow lists, old transports."""

import codecs
import json
import sys
import threading
from typing import Any

import pytest

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.core.events import Notice
from mcpchat.core.messages import result_text
from mcpchat.errors import Denied, ServerError
from tests.support.fakes import NoCredentials
from tests.support.hub import OpenHub, StartRemote
from tests.support.paths import QUIRKY
from tests.support.scripted_http import TOOL, Answer, ScriptedHttpServer, error, result


def remote(server: ScriptedHttpServer, **options: Any) -> ServerConfig:
    return ServerConfig(url=server.url, auth="none", protocol="2025-06-18", **options)


# --- words on stdout --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [r"\xef\xbb\xbf", "Loading ... ", r"Loading ...\nready\n", r"\xef\xbb\xbfLoading 50%%\n"]
)
async def test_words_before_the_first_message_go_to_the_log(open_test_hub: OpenHub, words: str) -> None:
    script = f"printf '{words}'; exec {sys.executable} {QUIRKY} good"
    async with open_test_hub(box=ServerConfig(command="bash", args=("-c", script))) as fixture:
        assert result_text(await fixture.call("box.echo", text="hi")) == "echo: hi"
        assert ("Loading" in words) == ("Loading" in fixture.hub.log("box"))


async def test_words_instead_of_messages_are_shown_with_the_failure(open_test_hub: OpenHub) -> None:
    config = ServerConfig(command="bash", args=("-c", "echo 'no licence found'; cat"), timeouts=Timeouts(start=0.7))
    async with open_test_hub(box=config) as fixture:
        assert await fixture.hub.list_tools() == ()
        assert "no licence found" in fixture.failure("box")
        assert "no licence found" in fixture.hub.log("box")


# --- sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "Server not initialized"), (404, "gone"), (410, "gone"), (503, "starting"), (400, "no valid token here")],
)
async def test_a_restarted_server_is_greeted_anew_once(open_test_hub: OpenHub, status: int, words: str) -> None:
    sessions = ["one"]

    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] == "initialize":
            info = {"name": "s", "version": "1"}
            value = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            return result(message, value, **{"Mcp-Session-Id": sessions[-1]})
        if headers.get("mcp-session-id") != sessions[-1]:
            return error(message, status, -32000, words)
        return None

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(box=remote(server)) as fixture:
            assert result_text(await fixture.call("box.echo", text="1")) == "done"
            for name in ("two", "three"):
                sessions.append(name)
                server.methods.clear()
                if status == 503:  # the call may have run: it is not repeated, but the next one is in a new session
                    with pytest.raises(ServerError, match="has ended the session"):
                        await fixture.call("box.echo", text=name)
                assert result_text(await fixture.call("box.echo", text=name)) == "done"
                assert server.methods.count("initialize") == 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, -32602, "the text is too rude"),
        (422, -32602, "bad argument"),
        (400, -32000, "the text is too rude"),
        (409, -32000, "conflict"),
        (503, -32000, "upstream reset"),
        (500, -32603, "database session rollback failed after commit"),
        (429, -32000, "too many sessions"),
    ],
)
async def test_an_error_in_a_session_that_lives_is_the_answer(
    open_test_hub: OpenHub, status: int, code: int, words: str
) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] == "initialize":
            info = {"name": "s", "version": "1"}
            value = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            return result(message, value, **{"Mcp-Session-Id": "one"})
        return error(message, status, code, words) if message["method"] == "tools/call" else None

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(box=remote(server)) as fixture:
            try:
                text = result_text(await fixture.call("box.echo", text="x"))
            except ServerError as failure:
                text = failure.message
            assert words in text
            assert (server.methods.count("tools/call"), server.methods.count("initialize")) == (1, 1)


async def test_a_list_that_is_refused_does_not_keep_the_tools_away(open_test_hub: OpenHub) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] == "initialize":
            status, fields, body = server.answer(message)
            return status, fields | {"Mcp-Session-Id": "one"}, body
        return error(message, 400, -32000, "not today") if message["method"] == "prompts/list" else None

    with ScriptedHttpServer(respond) as server:
        server.capabilities = {"tools": {}, "prompts": {}}
        async with open_test_hub(box=remote(server)) as fixture:
            assert result_text(await fixture.call("box.echo", text="x")) == "done"


# --- no MCP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["auto", "2025-06-18"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"status":"ok"}'),
        ("application/json", b'{"error":"Not found"}'),
        ("application/json", b"[]"),
        ("application/json", b'"hi"'),
        ("application/json", b"not json"),
        ("text/html", b"<html>Hello</html>"),
        ("text/plain", b"Hello"),
    ],
)
async def test_another_service_is_told_in_one_sentence(
    open_test_hub: OpenHub, kind: str, body: bytes, protocol: Any
) -> None:
    with ScriptedHttpServer(lambda message, headers: (200, {"Content-Type": kind}, body)) as server:
        config = ServerConfig(url=server.url, auth="none", protocol=protocol)
        async with open_test_hub(box=config) as fixture:
            assert await fixture.hub.list_tools() == ()
            assert fixture.failure("box") == ("it answers, but not MCP\ncheck its url; the address often ends in /mcp")


async def test_a_call_that_is_answered_by_another_service_names_no_library(open_test_hub: OpenHub) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        return (200, {"Content-Type": "application/json"}, b'{"ok":1}') if message["method"] == "tools/call" else None

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(box=remote(server)) as fixture:
            with pytest.raises(ServerError) as raised:
                await fixture.call("box.echo", text="x")
            assert raised.value.message == "box sent an answer that is not valid MCP"


@pytest.mark.parametrize("protocol", ["auto", "2026-07-28"])
async def test_a_server_of_other_revisions_names_them(open_test_hub: OpenHub, protocol: Any) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        status, fields, body = error(message, 400, -32022, "unsupported protocol version")
        document = json.loads(body)
        document["error"]["data"] = {"supported": ["2030-01-01", "2031-01-01"]}
        return status, fields, json.dumps(document).encode()

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(box=ServerConfig(url=server.url, auth="none", protocol=protocol)) as fixture:
            assert await fixture.hub.list_tools() == ()
            expected = "it does not speak our protocol versions; it speaks 2030-01-01, 2031-01-01"
            assert fixture.failure("box") == expected


async def test_a_second_sign_in_follows_if_the_first_is_not_enough(open_test_hub: OpenHub) -> None:
    class Credentials(NoCredentials):
        sign_ins = 0

        async def sign_in(self, server: str) -> bool:
            self.sign_ins += 1
            return self.sign_ins <= 5

    credentials = Credentials()

    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        return (401, {}, b"") if credentials.sign_ins < 2 else None

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(credentials=credentials, box=remote(server)) as fixture:
            assert [spec.name for spec in await fixture.hub.list_tools()] == ["echo"]
            assert credentials.sign_ins == 2


async def test_a_batch_of_the_older_revision_is_read(open_test_hub: OpenHub) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        status, fields, body = server.answer(message)
        if message["method"] != "tools/call":
            return None
        log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "working"}}
        return status, fields, codecs.BOM_UTF8 + json.dumps([json.loads(body), log]).encode()

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(box=ServerConfig(url=server.url, auth="none", protocol="2025-03-26")) as fixture:
            assert result_text(await fixture.call("box.echo", text="x")) == "done"
            assert "working" in fixture.hub.log("box")


async def test_a_server_of_the_older_transport_is_found_out(open_test_hub: OpenHub, start_remote: StartRemote) -> None:
    url = start_remote("sse", script="full_featured.py").replace("/mcp", "/sse")
    async with open_test_hub(box=ServerConfig(url=url, auth="none")) as fixture:
        assert "box.big" in {spec.qualified_name for spec in await fixture.hub.list_tools()}, fixture.failure("box")
        assert result_text(await fixture.call("box.big", size=2)) == "xx"


# --- lists ------------------------------------------------------------------------------------------------------


async def test_tools_serve_while_other_lists_hang(open_test_hub: OpenHub) -> None:
    release = threading.Event()

    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] in {"resources/list", "prompts/list"}:
            release.wait(20)
            name = message["method"].partition("/")[0]
            return result(message, {name: [{"name": "late", "uri": "x:late"}]})
        return None

    with ScriptedHttpServer(respond) as server:
        server.capabilities = {"tools": {}, "resources": {}, "prompts": {}}
        async with open_test_hub(box=remote(server, timeouts=Timeouts(start=20))) as fixture:
            assert result_text(await fixture.call("box.echo", text="x")) == "done"
            assert fixture.hub.catalogs()["box"].prompts == ()
            release.set()
            await fixture.hub.wait_for_lists()
            catalog = fixture.hub.catalogs()["box"]
            assert ([p.name for p in catalog.prompts], [r.name for r in catalog.resources]) == (["late"], ["late"])
            assert [tool.name for tool in catalog.tools] == ["echo"]


async def test_slow_lists_do_not_bring_old_tools_back(open_test_hub: OpenHub) -> None:
    release = threading.Event()

    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] == "prompts/list":
            release.wait(20)
            return result(message, {"prompts": [{"name": "late"}]})
        return None

    with ScriptedHttpServer(respond) as server:
        server.capabilities = {"tools": {}, "prompts": {}}
        async with open_test_hub(box=remote(server, timeouts=Timeouts(start=20))) as fixture:
            old = await fixture.spec("box.echo")
            server.tools = [{**TOOL, "description": "new"}]
            fixture.hub._servers["box"]._on_change("tools", "")
            with pytest.raises(Denied):
                await fixture.hub.call(old, "c", {"text": "x"}, fixture.events.append)
            release.set()
            await fixture.hub.wait_for_lists()
            assert (await fixture.spec("box.echo")).description == "new"
            assert [prompt.name for prompt in fixture.hub.catalogs()["box"].prompts] == ["late"]
            with pytest.raises(Denied):
                await fixture.hub.call(old, "c", {"text": "x"}, fixture.events.append)
            assert "tools/call" not in server.methods


async def test_many_slow_pages_are_signs_of_life(open_test_hub: OpenHub) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] != "tools/list":
            return None
        threading.Event().wait(0.3)
        page = int((message.get("params") or {}).get("cursor") or 0)
        more = {"nextCursor": str(page + 1)} if page < 5 else {}
        return result(message, {"tools": [{**TOOL, "name": f"t{page}"}], **more})

    with ScriptedHttpServer(respond) as server:
        async with open_test_hub(box=remote(server, timeouts=Timeouts(start=1.2))) as fixture:
            assert len(await fixture.hub.list_tools()) == 6


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_that_arrives_slowly_is_not_silence(open_test_hub: OpenHub, is_stream: bool) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] != "tools/call" or not is_stream:
            return None
        status, _, body = result(message, {"content": [{"type": "text", "text": "done"}]})
        return status, {"Content-Type": "text/event-stream"}, b"event: message\ndata: " + body + b"\n\n"

    with ScriptedHttpServer(respond) as server:
        server.byte_interval = 0.02
        async with open_test_hub(box=remote(server, timeouts=Timeouts(idle=1.0))) as fixture:
            assert result_text(await fixture.call("box.echo", text="x")) == "done"


@pytest.mark.parametrize(
    ("ttls", "is_kept"),
    [((0,), False), ((-5,), False), ((60_000, 0), False), ((60_000,), True), ((None,), True), ((10**400,), True)],
)
async def test_a_list_is_kept_as_long_as_its_shortest_page_says(
    open_test_hub: OpenHub, ttls: tuple[int | None, ...], is_kept: bool
) -> None:
    def respond(message: dict[str, Any], headers: dict[str, str]) -> Answer | None:
        if message["method"] != "tools/list":
            return None
        page = int((message.get("params") or {}).get("cursor") or 0)
        more = {"nextCursor": str(page + 1)} if page + 1 < len(ttls) else {}
        ttl = {} if ttls[page] is None else {"ttlMs": ttls[page]}
        return result(message, {"tools": [{**TOOL, "name": f"t{page}"}], **ttl, **more})

    with ScriptedHttpServer(respond) as server:
        for _ in range(2):
            server.methods.clear()
            async with open_test_hub(box=remote(server)) as fixture:
                assert len(await fixture.hub.list_tools()) == len(ttls)
        assert ("tools/list" not in server.methods) is is_kept


async def test_an_announced_change_is_looked_at_before_the_next_call(open_test_hub: OpenHub) -> None:
    with ScriptedHttpServer() as server:
        async with open_test_hub(box=remote(server)) as fixture:
            await fixture.call("box.echo", text="x")
            spec = await fixture.spec("box.echo")
            server.tools = [{**TOOL, "description": "now it does something else"}]
            server.respond = lambda message, headers: error(message, 200, -32000, "not now")
            fixture.hub._servers["box"]._on_change("tools", "")
            with pytest.raises(ServerError, match="it did not list its tools"):
                await fixture.hub.call(spec, "c", {"text": "x"}, fixture.events.append)
            server.respond = lambda message, headers: None
            with pytest.raises(Denied, match="was changed by its server"):  # the failed look is repeated
                await fixture.hub.call(spec, "c", {"text": "x"}, fixture.events.append)
            server.tools = [{**TOOL, "name": "other"}]
            fixture.hub._servers["box"]._on_change("tools", "")
            with pytest.raises(Denied, match="is no longer offered by its server, and did not run"):
                await fixture.hub.call(spec, "c", {"text": "x"}, fixture.events.append)
            assert server.methods.count("tools/call") == 1


async def test_a_tool_with_an_invalid_header_annotation_is_named(open_test_hub: OpenHub) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "x-mcp-header": "no valid name\n"}}}
    script = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    m = json.loads(line)\n"
        "    if 'id' not in m: continue\n"
        "    r = {'resultType': 'complete'}\n"
        "    if m['method'] == 'server/discover':\n"
        "        r |= {'supportedVersions': ['2026-07-28'], 'capabilities': {'tools': {}}, 'ttlMs': 0, 'cacheScope': 'private'}\n"
        f"    elif m['method'] == 'tools/list': r |= {{'tools': [{{'name': 'bad', 'inputSchema': {schema!r}}}], 'ttlMs': 0, 'cacheScope': 'private'}}\n"
        "    print(json.dumps({'jsonrpc': '2.0', 'id': m['id'], 'result': r}), flush=True)\n"
    )
    async with open_test_hub(box=ServerConfig(command=sys.executable, args=("-c", script))) as fixture:
        assert await fixture.hub.list_tools() == ()
        notices = [event.text for event in fixture.events if isinstance(event, Notice)]
        assert notices == ["box: 1 tools cannot be used: bad (invalid x-mcp-header)"], fixture.failure("box")


async def test_a_proxy_with_a_password_is_withheld_and_the_failure_names_it(open_test_hub: OpenHub) -> None:
    script = "import os; print(sorted(n for n in os.environ if 'PROXY' in n), file=__import__('sys').stderr); exit(1)"
    environ = {"HTTPS_PROXY": "http://me:secret@proxy:1", "HTTP_PROXY": "http://proxy:1", "NO_PROXY": "localhost"}
    async with open_test_hub(environ, box=ServerConfig(command=sys.executable, args=("-c", script))) as fixture:
        await fixture.hub.list_tools()
        failure = fixture.failure("box")
        assert "['HTTP_PROXY', 'NO_PROXY']" in failure
        assert 'env_pass = ["HTTPS_PROXY"] in its table passes your proxy' in failure
