"""Check untrusted URLs before the user opens them in a browser."""

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

_MAX_LENGTH = 8192


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
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
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
    """Whether the host is this machine: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
