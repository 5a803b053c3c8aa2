"""Addresses that others wrote, before a person opens one."""

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

_MAX_LENGTH = 8192


class InvalidUrl(ValueError):
    """The text is no address that may be opened; the message says why."""


class SafeUrl(Struct, frozen=True, kw_only=True):
    """An address in its plain ASCII form. ``warning`` is what a person should know of its host, else empty."""

    url: str
    host: str
    warning: str = ""


def parse_web_url(text: str) -> SafeUrl:
    """The address, if a browser may be sent there: https, or http on this machine. Raises BadAddress."""
    if len(text) > _MAX_LENGTH:
        raise InvalidUrl(f"it is longer than {_MAX_LENGTH:,} characters")
    if any(char.isspace() or not char.isprintable() for char in text) or "\\" in text:
        raise InvalidUrl("it holds blanks or control characters")
    if "%action" in text:  # which Python's webbrowser expands
        raise InvalidUrl("it holds %action")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidUrl(f"it is malformed: {error}") from error
    if not host:
        raise InvalidUrl("it names no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidUrl("it holds a user name")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise InvalidUrl(f"only https is opened, not {parts.scheme or 'nothing'}")
    warning = ""
    if not host.isascii() or "xn--" in host:
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise InvalidUrl("its host is no valid name") from error
        warning = "the host's name has letters beyond ASCII, which can imitate another's"
    bracketed_host = f"[{host}]" if ":" in host else host
    netloc = bracketed_host if port is None else f"{bracketed_host}:{port}"
    return SafeUrl(url=urlunsplit(parts._replace(netloc=netloc)), host=host, warning=warning)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
