"""The callback under attack: only the one right answer is taken, and the wait for it goes on whatever else comes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from mcpchat.auth.loopback import (
    HOST,
    CallbackListener,
    CallbackResult,
    ExpectedCallback,
    IgnoredCallback,
    PortInUse,
    listening,
    parse_callback,
)

STATE = "the-state-of-this-sign-in"
EXPECTED = ExpectedCallback(state=STATE, issuer="https://as.example")
RIGHT = {"code": "the-code", "state": STATE, "iss": "https://as.example"}


async def answered(listener: CallbackListener, raw: bytes) -> bytes:
    """What the listener says to these bytes, to its end."""
    reader, writer = await asyncio.open_connection(HOST, listener.port)
    try:
        writer.write(raw)
        await writer.drain()
        async with asyncio.timeout(8):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request(listener: CallbackListener, query: str = "", **how: str) -> bytes:
    line = f"{how.get('method', 'GET')} {how.get('path', listener.path)}{'?' * bool(query)}{query} HTTP/1.1"
    return f"{line}\r\nHost: {how.get('host', f'{HOST}:{listener.port}')}\r\n{how.get('more', '')}\r\n".encode()


async def status(listener: CallbackListener, query: str = "", **how: str) -> int:
    return int((await answered(listener, request(listener, query, **how))).split()[1])


@contextlib.asynccontextmanager
async def waiting(
    expected: ExpectedCallback = EXPECTED,
) -> AsyncIterator[tuple[CallbackListener, "asyncio.Task[CallbackResult]"]]:
    async with listening("/callback/abc") as listener:
        task = asyncio.create_task(listener.wait_for_callback(expected))
        await asyncio.sleep(0)
        try:
            yield listener, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


WRONG = [
    ("wrong state", {**RIGHT, "state": "guessed"}, {}, 400),
    ("no state", {"code": "c"}, {}, 400),
    ("empty state", {**RIGHT, "state": ""}, {}, 400),
    ("state beyond ASCII", {**RIGHT, "state": "ünïcode"}, {}, 400),
    ("state twice", [*RIGHT.items(), ("state", STATE)], {}, 400),
    ("code twice", [*RIGHT.items(), ("code", "other")], {}, 400),
    ("a forged error without state", {"error": "access_denied"}, {}, 400),
    ("a forged error with a wrong state", {"error": "access_denied", "state": "x"}, {}, 400),
    ("code and error", {**RIGHT, "error": "access_denied"}, {}, 400),
    ("neither code nor error", {"state": STATE}, {}, 400),
    ("an empty code", {**RIGHT, "code": ""}, {}, 400),
    ("no parameters", {}, {}, 400),
    ("another path", RIGHT, {"path": "/"}, 404),
    ("a longer path", RIGHT, {"path": "/callback/abc/"}, 404),
    ("a path of another server's sign-in", RIGHT, {"path": "/callback/xyz"}, 404),
    ("a favicon", {}, {"path": "/favicon.ico"}, 404),
    ("an absolute target", RIGHT, {"path": "http://evil.example/callback/abc"}, 404),
    ("POST", RIGHT, {"method": "POST"}, 405),
    ("HEAD", RIGHT, {"method": "HEAD"}, 405),
    ("OPTIONS", RIGHT, {"method": "OPTIONS"}, 405),
    ("a rebound name", RIGHT, {"host": "evil.example"}, 421),
    ("localhost", RIGHT, {"host": "localhost:1"}, 421),
    ("another port", RIGHT, {"host": "127.0.0.1:1"}, 421),
    ("two hosts", RIGHT, {"more": "Host: evil.example\r\n"}, 400),
    ("60 parameters", [(f"a{n}", "1") for n in range(60)], {}, 400),
]


@pytest.mark.parametrize(("query", "how", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_a_wrong_request_is_refused_and_the_right_one_still_counts(
    query: dict[str, str], how: dict[str, str], expected: int
) -> None:
    async with waiting() as (listener, task):
        assert await status(listener, urlencode(query), **how) == expected
        assert not task.done()
        assert await status(listener, urlencode(RIGHT)) == 200
        assert await task == CallbackResult(code="the-code")


NONSENSE = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /callback/abc HTTP/2.0\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
]


@pytest.mark.parametrize("raw", [*NONSENSE, b"GET /c\xff\xfe HTTP/1.1\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\n\r\n"])
async def test_nonsense_is_refused(raw: bytes) -> None:
    async with waiting() as (listener, task):
        assert (await answered(listener, raw)).startswith(b"HTTP/1.1 400")
        assert not task.done()


async def test_a_request_larger_than_any_browsers_is_cut_off() -> None:
    async with waiting() as (listener, task):
        raw = request(listener, urlencode(RIGHT), more=f"X: {'a' * 20_000}\r\n")
        assert (await answered(listener, raw)).startswith(b"HTTP/1.1 431")
        assert not task.done()


async def test_a_connection_that_says_nothing_is_let_go_and_holds_nobody_up() -> None:
    async with waiting() as (listener, task):
        _, silent = await asyncio.open_connection(HOST, listener.port)
        slow_reader, slow = await asyncio.open_connection(HOST, listener.port)
        slow.write(b"GET /callback")
        assert await status(listener, urlencode(RIGHT)) == 200
        assert (await task).code == "the-code"
        began = time.monotonic()
        assert b" 408 " in await slow_reader.read()
        assert time.monotonic() - began < 30
        for writer in (silent, slow):
            writer.close()


async def test_a_flood_of_connections_does_not_keep_the_right_answer_out() -> None:
    async with waiting() as (listener, task):
        flood = [await asyncio.open_connection(HOST, listener.port) for _ in range(200)]
        assert await status(listener, urlencode(RIGHT)) == 200
        assert (await task).code == "the-code"
        for _, writer in flood:
            writer.close()


async def test_the_first_right_answer_wins_and_later_ones_are_told() -> None:
    async with waiting() as (listener, task):
        assert await status(listener, urlencode(RIGHT)) == 200
        assert await status(listener, urlencode({**RIGHT, "code": "later"})) == 409
        assert (await task).code == "the-code"


async def test_an_answer_before_the_sign_in_began_is_refused() -> None:
    async with listening("/callback") as listener:
        assert await status(listener, urlencode(RIGHT)) == 400


async def test_an_error_counts_with_the_right_state() -> None:
    async with waiting() as (listener, task):
        said = {"error": "access_denied", "error_description": "no <b>way</b>", "state": STATE}
        page = await answered(listener, request(listener, urlencode(said)))
        assert page.startswith(b"HTTP/1.1 200")
        assert b"no <b>way" not in page
        assert await task == CallbackResult(error="access_denied", description="no <b>way</b>")


async def test_an_answer_of_another_issuer_ends_the_sign_in_without_its_words() -> None:
    async with waiting() as (listener, task):
        said = {"error": "x", "error_description": "evil words", "state": STATE, "iss": "https://evil.example"}
        assert await status(listener, urlencode(said)) == 200
        assert await task == CallbackResult(
            error="mix-up", issuer_mismatch=True, description="the answer comes from another authorization server"
        )


def test_a_missing_issuer_counts_only_where_the_server_names_itself() -> None:
    query = urlencode({"code": "c", "state": STATE})
    assert parse_callback(query, EXPECTED) == CallbackResult(code="c")
    strict = ExpectedCallback(state=STATE, issuer="https://as.example", issuer_required=True)
    assert parse_callback(query, strict).issuer_mismatch
    assert parse_callback(urlencode(RIGHT), strict) == CallbackResult(code="the-code")


def test_an_issuer_is_compared_as_it_is_written() -> None:
    query = urlencode({**RIGHT, "iss": "https://as.example/"})
    assert parse_callback(query, EXPECTED).issuer_mismatch


def test_what_is_no_query_is_no_answer() -> None:
    with pytest.raises(IgnoredCallback):
        parse_callback("hello there", EXPECTED)


async def test_the_page_is_honest_and_harmless() -> None:
    async with waiting() as (listener, _):
        page = (await answered(listener, request(listener, urlencode(RIGHT)))).decode()
    head, _, body = page.partition("\r\n\r\n")
    assert "Answer received" in body
    assert "the terminal" in body
    for secret in ("the-code", STATE):
        assert secret not in page
    for header in ("no-store", "no-referrer", "nosniff", "default-src 'none'"):
        assert header in head
    assert "<script" not in body


async def test_it_listens_on_this_machine_alone_and_only_while_the_sign_in_runs() -> None:
    async with listening("/callback") as listener:
        port = listener.port
        assert listener.redirect_uri == f"http://127.0.0.1:{port}/callback"
        with pytest.raises(PortInUse, match=f"port {port} .*: Address already in use") as taken:
            async with listening("/callback", port):
                pass
        assert taken.value.exit_code == 2
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    async with listening("/callback", port) as again:
        assert again.port == port
