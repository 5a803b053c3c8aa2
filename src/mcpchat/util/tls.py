"""The TLS contexts of HTTP clients. Loading the machine's certificates takes tens of milliseconds: it is done once."""

import functools
import os
import ssl
from urllib.parse import urlsplit

import httpx2

from mcpchat.util.connection_problems import find_proxy

_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def tls_context(url: str) -> ssl.SSLContext:
    """The TLS context for a client of this address.

    An ``http://`` address that names a port needs no certificates, unless there is a proxy: its context trusts
    none. With the default port, a redirect may lead to ``https://``.
    """
    if urlsplit(url).scheme == "http" and _has_own_port(url) and not find_proxy(url)[0]:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _load_context(tuple(os.environ.get(name, "") for name in _CERTIFICATE_VARIABLES))


def _has_own_port(url: str) -> bool:
    try:
        return urlsplit(url).port not in {None, 80}
    except ValueError:
        return False


@functools.cache
def _load_context(variables: tuple[str, ...]) -> ssl.SSLContext:
    """The context with the machine's certificates; ``variables`` say where they are."""
    return httpx2.create_ssl_context()
