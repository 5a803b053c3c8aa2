"""Variables of proxies and certificates: usable for the HTTP library, or one clear error."""

from pathlib import Path

import pytest

from mcpchat.errors import ConfigError
from mcpchat.util.connection_problems import find_proxy
from mcpchat.util.network_settings import check_network_variables


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("socks://127.0.0.1:9/", "socks5://127.0.0.1:9/"),
        ("SOCKS://host:1", "socks5://host:1"),
        ("socks5h://host:1", "socks5h://host:1"),
        ("http://user:word@host:8080", "http://user:word@host:8080"),
        ("host:8080", "host:8080"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_proxies_become_usable(name: str, value: str, expected: str) -> None:
    environ = {name: value}
    check_network_variables(environ)
    assert environ[name] == expected


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/x", "http://[::1]:9/", "http://u:p@localhost:3/"])
@pytest.mark.parametrize("no_proxy", [{}, {"no_proxy": "a.example, b.example"}, {"NO_PROXY": "a.example"}])
def test_what_is_sent_to_this_machine_goes_through_no_proxy(
    url: str, no_proxy: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"http_proxy": "http://proxy.example:3128", **no_proxy}.items():
        monkeypatch.setenv(name, value)
    check_network_variables()
    assert find_proxy(url) == ("", "")
    assert find_proxy("http://c.example") == ("http://proxy.example:3128", "http_proxy")
    assert bool(find_proxy("http://a.example")[0]) is not bool(no_proxy)


@pytest.mark.parametrize("value", ["gopher://host:1", "socks4://host:1", "http://", "http://host:port", "://x"])
def test_a_proxy_that_cannot_be_used_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match="ALL_PROXY is no proxy that can be used") as error_info:
        check_network_variables({"ALL_PROXY": value})
    assert "socks5://" in error_info.value.hint


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_missing_certificates_are_named(name: str, tmp_path: Path) -> None:
    check_network_variables({name: str(tmp_path)})
    with pytest.raises(ConfigError, match=f"{name} names a file or folder that does not exist: /nowhere"):
        check_network_variables({name: "/nowhere"})
