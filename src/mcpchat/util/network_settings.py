"""Checks the environment variables that HTTP clients read: proxies and certificates."""

import os
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from mcpchat.errors import ConfigError

_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
_SCHEMES = {"http", "https", "socks5", "socks5h"}


def check_network_variables(environ: MutableMapping[str, str] = os.environ) -> None:
    """Make the variables usable for the HTTP library, as far as possible.

    ``socks://``, which desktops set, becomes ``socks5://``, and what is sent to this machine goes through no proxy.
    Raises ConfigError for a proxy or a certificate file that cannot be used.
    """
    for name in (variant for upper in _PROXY_NAMES for variant in (upper, upper.lower())):
        value = environ.get(name, "")
        if value.lower().startswith("socks://"):
            value = environ[name] = f"socks5://{value[len('socks://') :]}"
        scheme, separator, _ = value.partition("://")
        if separator and (scheme.lower() not in _SCHEMES or not _has_host(value)):
            raise ConfigError(
                f"{name} is no proxy that can be used: {scheme.lower()[:20]}://…",
                hint="its address begins with http://, https:// or socks5://; unset it, or correct it",
            )
    if any(environ.get(variant) for upper in _PROXY_NAMES for variant in (upper, upper.lower())):
        name = "no_proxy" if "no_proxy" in environ else "NO_PROXY"
        known = [host.strip() for host in environ.get(name, "").split(",") if host.strip()]
        environ[name] = ",".join(dict.fromkeys((*known, *_LOOPBACK)))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = environ.get(name)
        if path and not Path(path).exists():
            raise ConfigError(
                f"{name} names a file or folder that does not exist: {path}", hint=f"unset {name}, or correct it"
            )


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
