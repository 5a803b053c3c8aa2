"""Why a connection failed, in words: real sockets on loopback, no outside name is looked up."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from mcpchat.util.connection_problems import ConnectionProblem, explain_connection_error


async def fail(url: str) -> ConnectionProblem:
    async with httpx2.AsyncClient(timeout=5) as client:
        try:
            await client.get(url)
        except httpx2.TransportError as error:
            return explain_connection_error(error, url)
    raise AssertionError("the request succeeded")


def behind(cause: BaseException) -> httpx2.ConnectError:
    error = httpx2.ConnectError("words of a library")
    error.__cause__ = cause
    return error


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_nothing_listens_may_change() -> None:
    with listening() as server:
        port = server.getsockname()[1]
    problem = await fail(f"http://127.0.0.1:{port}/v1")
    assert problem == ConnectionProblem("nothing accepts connections there", "", False)


async def test_tls_to_a_plain_port_is_final() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        problem = await fail(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    assert (problem.cause, problem.is_final) == ("it does not speak TLS, which https:// asks for", True)
    assert problem.hint.startswith("write http://")


async def test_a_dead_proxy_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as server:
        port = server.getsockname()[1]
    for variable, scheme in (("HTTP_PROXY", "http"), ("ALL_PROXY", "socks5")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, f"{scheme}://user:secret@127.0.0.1:{port}")
            problem = await fail("http://far.invalid/v1")
            assert problem.cause == f"the proxy {scheme}://127.0.0.1:{port} of {variable} refuses connections"
            assert problem.hint == f"correct or unset {variable}, or name the host in NO_PROXY"
            assert problem.is_final


@pytest.mark.parametrize(
    ("cause", "words", "is_final"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "there is no host far.invalid", True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "the name far.invalid could not be looked up", False),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "the network does not reach far.invalid", False),
        (ssl.SSLError(1, "tlsv1 alert"), "the TLS connection failed", True),
        (ValueError("unknown"), "the connection to far.invalid broke off", False),
    ],
)
def test_no_words_of_a_library_are_shown(cause: BaseException, words: str, is_final: bool) -> None:
    problem = explain_connection_error(behind(cause), "https://far.invalid/v1")
    assert (problem.cause, problem.is_final) == (words, is_final)


def test_the_variable_with_the_certificates_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    problem = explain_connection_error(behind(error), "https://far.invalid/v1")
    assert problem.cause == "its certificate is not accepted (self-signed certificate)"
    assert problem.hint.startswith("SSL_CERT_FILE names a file")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/own.pem")
    problem = explain_connection_error(behind(error), "https://far.invalid/v1")
    assert problem.cause.endswith("; SSL_CERT_FILE=/etc/own.pem says which are trusted")
    assert problem.hint == "correct or unset SSL_CERT_FILE"
