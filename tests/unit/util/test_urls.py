"""Addresses of this machine in every notation, and URLs whose content can be read on the way."""

import pytest

from mcpchat.util.urls import is_loopback, is_unencrypted

LOOPBACK = [
    "localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::",
]  # fmt: skip
OTHERS = [
    "10.0.0.1",
    "::",
    "::2",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2001:db8::1",
    "example.com",
    "127.0.0.1.evil.test",
    "",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_every_notation_of_a_loopback_address_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", LOOPBACK)
def test_what_leaves_the_machine_through_a_gateway_is_not_unreadable(host: str) -> None:
    stays = host in {"localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}
    assert is_unencrypted(f"http://[{host}]:80/" if ":" in host else f"http://{host}/") is not stays


@pytest.mark.parametrize("host", OTHERS)
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
    assert is_unencrypted(f"http://[{host}]:80/" if ":" in host else f"http://{host}/")
    assert not is_unencrypted(f"https://{host}/" if ":" not in host else "https://[::2]/")
