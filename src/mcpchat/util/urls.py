"""Check untrusted URLs before the user opens them in a browser, and show URLs without secrets."""

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

_MAX_LENGTH = 8192
_NUMERIC_HOST = re.compile(r"(?i)(?:0x[0-9a-f]{1,20}|\d{1,20})(?:\.(?:0x[0-9a-f]{1,20}|\d{1,20})){0,3}")
_MAX_BYTE = 255
# IPv4-compatible, IPv4-translated, and the two prefixes of NAT64: the last 32 bits are an IPv4 address.
_IPV4_NETWORKS = [
    ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]


def iter_parameters(url: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a URL's parameters, as they are written in it."""
    query = url.partition("#")[0].partition("?")[2]
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        yield name, value


def get_parameter(url: str, name: str) -> str:
    """Return the first value of a parameter, as it is written. Raises KeyError."""
    return dict(reversed(list(iter_parameters(url))))[name]


def set_parameter(url: str, name: str, value: str) -> str:
    """Return the URL with another value of a parameter, as it is to be written; what is not about it stays."""
    address, mark, fragment = url.partition("#")
    base, _, query = address.partition("?")
    pairs = [f"{name}={value}" if pair.partition("=")[0] == name else pair for pair in query.split("&")]
    return f"{base}?{'&'.join(pairs)}{mark}{fragment}"


def find_url_problem(url: str) -> str:
    """Why nothing can be reached at the URL; empty if something may be."""
    if not re.match(r"https?://", url):
        return "expected a URL that begins with https:// or http://"
    if not url.isprintable() or " " in url:
        return "the URL has a blank or an invisible character; write it percent-encoded, such as %20, or remove it"
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not re.fullmatch(r"[^\[\]\s\\]+|[0-9A-Fa-f:.]+", host):
        return "the URL has no valid host; expected one like https://mcp.example.com/mcp"
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    return "the URL has no valid port; expected 1 to 65535" if port == 0 else ""


class InvalidUrl(ValueError):
    """The URL must not be opened; the message says why."""


class SafeUrl(Struct, frozen=True, kw_only=True):
    """A URL in its ASCII form. ``warning`` tells the user if the host name is suspicious; else it is empty."""

    url: str
    host: str
    warning: str = ""


def parse_web_url(text: str) -> SafeUrl:
    """Check that a browser may open the URL: https, or http on this machine. Raises InvalidUrl if not."""
    if len(text) > _MAX_LENGTH:
        raise InvalidUrl(f"it is longer than {_MAX_LENGTH:,} characters")
    if any(char.isspace() or not char.isprintable() for char in text) or "\\" in text:
        raise InvalidUrl("it contains blanks or control characters")
    if "%action" in text:  # Python's webbrowser module expands it
        raise InvalidUrl("it contains %action")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidUrl(f"it is malformed: {error}") from error
    if not host:
        raise InvalidUrl("it has no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidUrl("it contains a user name")
    if parts.scheme != "https" and not (parts.scheme == "http" and stays_here(host)):
        raise InvalidUrl(f"only https can be opened, not {parts.scheme or 'a URL without a scheme'}")
    warning = ""
    if not host.isascii() or "xn--" in host:
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise InvalidUrl("its host name is invalid") from error
        warning = "the host name has letters beyond ASCII, which can imitate another host"
    bracketed_host = f"[{host}]" if ":" in host else host
    netloc = bracketed_host if port is None else f"{bracketed_host}:{port}"
    return SafeUrl(url=urlunsplit(parts._replace(netloc=netloc)), host=host, warning=warning)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine: ``localhost``, or a loopback address in any notation."""
    address = _parse_address(host)
    return stays_here(host) or (
        address is not None and (inner := embedded_ipv4(address)) is not None and inner.is_loopback
    )


def stays_here(host: str) -> bool:
    """Whether what is sent to the host stays on this machine.

    Packets to an IPv6 address that stands for a loopback one behind a gateway (NAT64, 6to4) leave the machine.
    """
    address = _parse_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return host == "localhost" or (address is not None and (mapped or address).is_loopback)


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def plain_host(host: str) -> str:
    """The host, a numeric one in its usual form: 127.0.0.1 for 0x7f000001, 127.1 and ::ffff:7f00:1."""
    try:
        address = _read_ipv4(host) if _NUMERIC_HOST.fullmatch(host) else ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _read_ipv4(name: str) -> ipaddress.IPv4Address:
    """The address of one to four numbers, in base 8, 10 or 16, as inet_aton(3) reads it. Raises ValueError."""
    *first, last = (
        int(part, 16) if part[:2] in ("0x", "0X") else int(part, 8 if part.startswith("0") else 10)
        for part in name.split(".")
    )
    value = last
    for position, part in enumerate(first):
        if part > _MAX_BYTE:
            raise ValueError(name)
        value += part << 8 * (3 - position)
    return ipaddress.IPv4Address(value)


def embedded_ipv4(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is embedded in an IPv6 address, in any standard notation; None without one."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if any(address in network for network in _IPV4_NETWORKS) and int(address) > 1:  # not :: and ::1
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_unencrypted(url: str) -> bool:
    """Whether what is sent to the URL can be read on its way: http to another machine."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and not stays_here(parts.hostname or "")
    except ValueError:
        return True


def redact_url(url: str) -> str:
    """The address without user name, password and query, which may contain a secret."""
    return re.sub(r"//[^/@]*@", "//…@", url.partition("?")[0])
