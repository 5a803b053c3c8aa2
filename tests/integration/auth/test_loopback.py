"""The sign-in callback under attack: only the right answer counts, and any other leaves it waiting."""

import asyncio
import contextlib
import os
import re
import sys
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
from mcpchat.auth.sign_in_page import not_signed_in, render_page, signed_in

STATE = "the-state-of-this-sign-in"
EXPECTED = ExpectedCallback(state=STATE, issuer="https://as.example")
VALID_ANSWER = {"code": "the-code", "state": STATE, "iss": "https://as.example"}


async def send_raw(listener: CallbackListener, raw: bytes) -> bytes:
    """Send the bytes and return the complete response."""
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


def request(listener: CallbackListener, query: str = "", **options: str) -> bytes:
    request_line = (
        f"{options.get('method', 'GET')} {options.get('path', listener.path)}{'?' * bool(query)}{query} HTTP/1.1"
    )
    return f"{request_line}\r\nHost: {options.get('host', f'{HOST}:{listener.port}')}\r\n{options.get('more', '')}\r\n".encode()


async def status(listener: CallbackListener, query: str = "", **options: str) -> int:
    return int((await send_raw(listener, request(listener, query, **options))).split()[1])


@contextlib.asynccontextmanager
async def waiting_listener(
    expected: ExpectedCallback = EXPECTED,
) -> AsyncIterator[tuple[CallbackListener, "asyncio.Task[CallbackResult]"]]:
    async with listening("/callback/abc") as listener:
        task = asyncio.create_task(listener.wait_for_callback(expected))
        await asyncio.sleep(0)
        listener.report(signed_in("Notes", "ann@example.com", ["read", "write"]))
        try:
            yield listener, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


INVALID_REQUESTS = [
    ("wrong state", {**VALID_ANSWER, "state": "guessed"}, {}, 400),
    ("no state", {"code": "c"}, {}, 400),
    ("empty state", {**VALID_ANSWER, "state": ""}, {}, 400),
    ("state beyond ASCII", {**VALID_ANSWER, "state": "ünïcode"}, {}, 400),
    ("state twice", [*VALID_ANSWER.items(), ("state", STATE)], {}, 400),
    ("code twice", [*VALID_ANSWER.items(), ("code", "other")], {}, 400),
    ("a forged error without state", {"error": "access_denied"}, {}, 400),
    ("a forged error with a wrong state", {"error": "access_denied", "state": "x"}, {}, 400),
    ("code and error", {**VALID_ANSWER, "error": "access_denied"}, {}, 400),
    ("neither code nor error", {"state": STATE}, {}, 400),
    ("an empty code", {**VALID_ANSWER, "code": ""}, {}, 400),
    ("no parameters", {}, {}, 400),
    ("another path", VALID_ANSWER, {"path": "/"}, 404),
    ("a longer path", VALID_ANSWER, {"path": "/callback/abc/"}, 404),
    ("a path of another server's sign-in", VALID_ANSWER, {"path": "/callback/xyz"}, 404),
    ("a favicon", {}, {"path": "/favicon.ico"}, 404),
    ("an absolute target", VALID_ANSWER, {"path": "http://evil.example/callback/abc"}, 404),
    ("POST", VALID_ANSWER, {"method": "POST"}, 405),
    ("HEAD", VALID_ANSWER, {"method": "HEAD"}, 405),
    ("OPTIONS", VALID_ANSWER, {"method": "OPTIONS"}, 405),
    ("a rebound name", VALID_ANSWER, {"host": "evil.example"}, 421),
    ("localhost", VALID_ANSWER, {"host": "localhost:1"}, 421),
    ("another port", VALID_ANSWER, {"host": "127.0.0.1:1"}, 421),
    ("two hosts", VALID_ANSWER, {"more": "Host: evil.example\r\n"}, 400),
    ("60 parameters", [(f"a{n}", "1") for n in range(60)], {}, 400),
]


@pytest.mark.parametrize(
    ("query", "options", "expected"),
    [case[1:] for case in INVALID_REQUESTS],
    ids=[case[0] for case in INVALID_REQUESTS],
)
async def test_an_invalid_request_is_refused_and_a_valid_one_counts(
    query: dict[str, str], options: dict[str, str], expected: int
) -> None:
    async with waiting_listener() as (listener, task):
        assert await status(listener, urlencode(query), **options) == expected
        assert not task.done()
        assert await status(listener, urlencode(VALID_ANSWER)) == 200
        assert await task == CallbackResult(code="the-code")


MALFORMED_REQUESTS = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /callback/abc HTTP/2.0\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
]


@pytest.mark.parametrize(
    "raw", [*MALFORMED_REQUESTS, b"GET /c\xff\xfe HTTP/1.1\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\n\r\n"]
)
async def test_a_malformed_request_is_refused(raw: bytes) -> None:
    async with waiting_listener() as (listener, task):
        assert (await send_raw(listener, raw)).startswith(b"HTTP/1.1 400")
        assert not task.done()


async def test_an_oversized_request_is_refused() -> None:
    async with waiting_listener() as (listener, task):
        raw = request(listener, urlencode(VALID_ANSWER), more=f"X: {'a' * 20_000}\r\n")
        assert (await send_raw(listener, raw)).startswith(b"HTTP/1.1 431")
        assert not task.done()


async def test_a_silent_connection_is_closed_and_blocks_no_other() -> None:
    async with waiting_listener() as (listener, task):
        _, silent = await asyncio.open_connection(HOST, listener.port)
        slow_reader, slow_writer = await asyncio.open_connection(HOST, listener.port)
        slow_writer.write(b"GET /callback")
        assert await status(listener, urlencode(VALID_ANSWER)) == 200
        assert (await task).code == "the-code"
        start_time = time.monotonic()
        assert b" 408 " in await slow_reader.read()
        assert time.monotonic() - start_time < 30
        for writer in (silent, slow_writer):
            writer.close()


async def test_many_connections_do_not_block_the_valid_answer() -> None:
    async with waiting_listener() as (listener, task):
        flood = [await asyncio.open_connection(HOST, listener.port) for _ in range(200)]
        assert await status(listener, urlencode(VALID_ANSWER)) == 200
        assert (await task).code == "the-code"
        for _, writer in flood:
            writer.close()


async def test_the_first_valid_answer_wins_and_later_get_409() -> None:
    async with waiting_listener() as (listener, task):
        assert await status(listener, urlencode(VALID_ANSWER)) == 200
        assert await status(listener, urlencode({**VALID_ANSWER, "code": "later"})) == 409
        assert (await task).code == "the-code"


async def test_the_start_page_redirects_to_the_sign_in() -> None:
    async with listening("/callback") as listener:
        assert await status(listener, path="/start/") == 404
        start = listener.redirect_to("https://as.example/authorize?state=abc&prompt=ü")
        path = start.removeprefix(f"http://{HOST}:{listener.port}")
        assert re.fullmatch(r"/start/[\w-]{22}", path)
        for _ in range(5):  # a desktop may look at a page before it opens a browser
            page = (await send_raw(listener, request(listener, path=path))).decode()
            assert page.startswith("HTTP/1.1 302")
            assert "\r\nLocation: https://as.example/authorize?state=abc&prompt=%C3%BC\r\n" in page
        for wrong in (f"{path}x", path[:-1], "/start/", "/start"):
            assert await status(listener, path=wrong) == 404
        assert await status(listener, path=path, host="evil.example") == 421


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="starts a program as another user")
async def test_the_start_page_is_not_for_other_users() -> None:
    script = "import os, sys, urllib.request; 'x'.encode('idna'); os.setuid(65534); urllib.request.urlopen(sys.argv[1])"
    async with listening("/callback") as listener:
        start = listener.redirect_to("https://as.example/authorize?state=abc")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, start, stderr=asyncio.subprocess.PIPE
        )
        _, error = await process.communicate()
    assert b"HTTP Error 404" in error
    assert b"abc" not in error


async def test_an_answer_before_the_sign_in_is_refused() -> None:
    async with listening("/callback") as listener:
        assert await status(listener, urlencode(VALID_ANSWER)) == 400


async def test_an_error_counts_with_the_right_state() -> None:
    async with waiting_listener() as (listener, task):
        query = {"error": "access_denied", "error_description": "no <b>way</b>", "state": STATE}
        page = await send_raw(listener, request(listener, urlencode(query)))
        assert page.startswith(b"HTTP/1.1 200")
        assert b"no <b>way" not in page
        assert await task == CallbackResult(error="access_denied", description="no <b>way</b>")


async def test_another_issuers_answer_ends_the_sign_in_unquoted() -> None:
    async with waiting_listener() as (listener, task):
        query = {"error": "x", "error_description": "evil words", "state": STATE, "iss": "https://evil.example"}
        assert await status(listener, urlencode(query)) == 200
        assert await task == CallbackResult(
            error="mix-up", issuer_mismatch=True, description="the answer comes from another authorization server"
        )


def test_a_missing_issuer_is_refused_if_it_is_required() -> None:
    query = urlencode({"code": "c", "state": STATE})
    assert parse_callback(query, EXPECTED) == CallbackResult(code="c")
    strict = ExpectedCallback(state=STATE, issuer="https://as.example", issuer_required=True)
    assert parse_callback(query, strict).issuer_mismatch
    assert parse_callback(urlencode(VALID_ANSWER), strict) == CallbackResult(code="the-code")


def test_an_issuer_is_compared_exactly() -> None:
    query = urlencode({**VALID_ANSWER, "iss": "https://as.example/"})
    assert parse_callback(query, EXPECTED).issuer_mismatch


def test_an_invalid_query_is_ignored() -> None:
    with pytest.raises(IgnoredCallback):
        parse_callback("hello there", EXPECTED)


async def test_the_page_is_safe_and_has_no_secrets() -> None:
    async with waiting_listener() as (listener, _):
        page = (await send_raw(listener, request(listener, urlencode(VALID_ANSWER)))).decode()
    head, _, body = page.partition("\r\n\r\n")
    assert "Signed in" in body
    assert "Notes accepted the sign-in as ann@example.com." in body
    assert "<li>write</li>" in body
    assert "the terminal" in body
    for secret in ("the-code", STATE):
        assert secret not in page
    for header in ("no-store", "no-referrer", "nosniff", "default-src 'none'"):
        assert header in head
    assert "<script" not in body


async def test_it_listens_on_loopback_only_during_the_sign_in() -> None:
    async with listening("/callback") as listener:
        port = listener.port
        assert listener.redirect_uri == f"http://127.0.0.1:{port}/callback"
        with pytest.raises(PortInUse, match=f"port {port} .*: Address already in use") as error_info:
            async with listening("/callback", port):
                pass
        assert error_info.value.exit_code == 2
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    async with listening("/callback", port) as reopened:
        assert reopened.port == port


async def open_answered_page(listener: CallbackListener) -> "asyncio.Task[bytes]":
    """The response to a valid callback, which the listener has taken."""
    task = asyncio.create_task(listener.wait_for_callback(EXPECTED))
    await asyncio.sleep(0)
    page = asyncio.create_task(send_raw(listener, request(listener, urlencode(VALID_ANSWER))))
    await task
    return page


async def test_the_page_waits_until_the_sign_in_is_done() -> None:
    async with listening("/callback") as listener:
        page = await open_answered_page(listener)
        await asyncio.sleep(0.05)
        assert not page.done()
        listener.report(not_signed_in("Notes", "Access was denied."))
        listener.report(signed_in("Notes", "", []))  # the first report counts
        assert b"Access was denied. Nothing was saved for Notes." in await page


async def test_a_page_that_nobody_reports_to_points_to_the_terminal() -> None:
    async with listening("/callback") as listener:
        page = await open_answered_page(listener)
    assert b"Back to the terminal" in await page


def test_names_in_the_page_are_text() -> None:
    page = render_page(signed_in("<b>Notes</b>", "a&b@example.com", ["<script>", *map(str, range(50))]))
    for part in ("&lt;b&gt;Notes&lt;/b&gt;", "a&amp;b@example.com", "<li>&lt;script&gt;</li>", "and 21 more"):
        assert part in page
    for outside in ("<script", "http:", "https:", "src=", "url("):
        assert outside not in page
