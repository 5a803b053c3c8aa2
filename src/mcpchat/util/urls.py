"""Addresses that others wrote, before a person opens one."""

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

_LONGEST = 8192


class BadAddress(ValueError):
    """The text is no address that may be opened; the message says why."""


class Address(Struct, frozen=True, kw_only=True):
    """An address in its plain ASCII form. ``warning`` is what a person should know of its host, else empty."""

    url: str
    host: str
    warning: str = ""


def web_address(text: str) -> Address:
    """The address, if a browser may be sent there: https, or http on this machine. Raises BadAddress."""
    if len(text) > _LONGEST:
        raise BadAddress(f"it is longer than {_LONGEST:,} characters")
    if any(char.isspace() or not char.isprintable() for char in text) or "\\" in text:
        raise BadAddress("it holds blanks or control characters")
    if "%action" in text:  # which Python's webbrowser expands
        raise BadAddress("it holds %action")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadAddress(f"it is malformed: {error}") from error
    if not host:
        raise BadAddress("it names no host")
    if parts.username is not None or parts.password is not None:
        raise BadAddress("it holds a user name")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise BadAddress(f"only https is opened, not {parts.scheme or 'nothing'}")
    warning = ""
    if not host.isascii() or "xn--" in host:
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise BadAddress("its host is no valid name") from error
        warning = "the host's name has letters beyond ASCII, which can imitate another's"
    place = f"[{host}]" if ":" in host else host
    netloc = place if port is None else f"{place}:{port}"
    return Address(url=urlunsplit(parts._replace(netloc=netloc)), host=host, warning=warning)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
