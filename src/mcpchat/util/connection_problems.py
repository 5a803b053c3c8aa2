"""Why a connection over the network failed, in words, and what to do."""

import errno
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

_TLS_TO_PLAIN_PORT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
_IS_LINUX = sys.platform == "linux"  # elsewhere a machine without network gets the same error as for a wrong name
_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


@dataclass(frozen=True)
class ConnectionProblem:
    """``cause`` completes "cannot reach URL: ". ``is_final`` tells that another try would fail in the same way."""

    cause: str
    hint: str = ""
    is_final: bool = False


def explain_connection_error(error: BaseException, url: str) -> ConnectionProblem:
    """Explain an error of the HTTP library by the system's errors behind it, and the proxy that is used for ``url``."""
    proxy, variable = find_proxy(url)
    host = urlsplit(proxy or url).hostname or ""
    place = f"the proxy {_address(proxy)} of {variable}" if proxy else host
    proxy_hint = f"correct or unset {variable}, or name the host in NO_PROXY" if proxy else ""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return _explain_certificate(cause)
            case ssl.SSLError() if any(reason in str(cause) for reason in _TLS_TO_PLAIN_PORT):
                target = place if proxy else "it"
                hint = proxy_hint or "write http:// if that is what it speaks, or check the port"
                return ConnectionProblem(f"{target} does not speak TLS, which https:// asks for", hint, True)
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ssl.SSLSyscallError():
                return ConnectionProblem("the TLS connection broke off", proxy_hint)
            case ssl.SSLError():
                return ConnectionProblem("the TLS connection failed", proxy_hint, True)
            case socket.gaierror() if cause.errno == socket.EAI_AGAIN:
                return ConnectionProblem(f"the name {host} could not be looked up", proxy_hint or "check the network")
            case socket.gaierror():
                hint = proxy_hint or "check the address and the network"
                return ConnectionProblem(f"there is no host {host}" + (f" ({place})" if proxy else ""), hint, _IS_LINUX)
            case ConnectionRefusedError():
                text = f"{place} refuses connections" if proxy else "nothing accepts connections there"
                return ConnectionProblem(text, proxy_hint, bool(proxy))
            case OSError() if cause.errno in _UNREACHABLE:
                return ConnectionProblem(f"the network does not reach {place}", proxy_hint)
            case _:
                pass
    name = type(error).__name__
    if "Proxy" in name:
        return ConnectionProblem(f"{place or 'the proxy'} did not let the request through: {error}", proxy_hint, True)
    if "Timeout" in name:
        return ConnectionProblem(f"{place} did not answer in time", proxy_hint)
    return ConnectionProblem(f"the connection to {place} broke off", proxy_hint)


def find_proxy(url: str) -> tuple[str, str]:
    """The proxy for an address, and the environment variable that names it. Empty without a proxy."""
    parts = urlsplit(url)
    proxies = getproxies_environment()
    if proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return "", ""
    for kind in (parts.scheme, "all"):
        if proxy := proxies.get(kind, ""):
            name = f"{kind}_proxy"
            return proxy, next((item for item in (name.upper(), name) if os.environ.get(item)), name.upper())
    return "", ""


def _explain_certificate(error: ssl.SSLCertVerificationError) -> ConnectionProblem:
    variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "")
    trusted = f"; {variable}={os.environ[variable]} says which are trusted" if variable else ""
    return ConnectionProblem(
        f"its certificate is not accepted ({error.verify_message}){trusted}",
        f"correct or unset {variable}" if variable else "SSL_CERT_FILE names a file with your network's certificates",
        True,
    )


def _address(proxy: str) -> str:
    """The proxy's address without its user and password."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it, from the outermost to the innermost."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            # A machine without IPv6 does not reach the IPv6 address of a host: the other address tells more.
            for member in sorted(error.exceptions, key=lambda item: getattr(item, "errno", None) in _UNREACHABLE):
                yield from _causes(member)
        yield error
        error = error.__cause__ or error.__context__
