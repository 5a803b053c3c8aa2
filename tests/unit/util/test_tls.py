"""The TLS contexts of HTTP clients."""

import ssl
from pathlib import Path

import pytest

from mcpchat.util.tls import tls_context


def trusted_count(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_certificates_are_loaded_once() -> None:
    context = tls_context("https://example.com/mcp")
    assert tls_context("https://example.org") is context
    assert trusted_count(context) > 0


def test_plain_addresses_trust_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    context = tls_context("http://127.0.0.1:8000/v1")
    assert (trusted_count(context), context.verify_mode, context.check_hostname) == (0, ssl.CERT_REQUIRED, True)
    monkeypatch.setenv("HTTP_PROXY", "https://proxy.example.com")
    assert trusted_count(tls_context("http://127.0.0.1:8000/v1")) > 0


@pytest.mark.parametrize("url", ["http://example.com/mcp", "http://example.com:80/mcp", "http://example.com:x/", ""])
def test_an_address_that_may_lead_to_https_has_certificates(url: str) -> None:
    assert trusted_count(tls_context(url)) > 0


def test_another_certificate_file_is_another_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = tls_context("https://example.com")
    path = tmp_path / "one.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(before.get_ca_certs(binary_form=True)[0]))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert trusted_count(tls_context("https://example.com")) == 1
