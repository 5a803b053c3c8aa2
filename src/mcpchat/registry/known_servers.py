"""Remote servers that many people use, for a search without a network."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct, field


class KnownServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server of the list. ``sign_in`` is what it needs: nothing, a sign-in with the browser, or a token."""

    url: str
    description: str
    sign_in: Literal["none", "browser", "token"] = field(name="sign-in")
    headers: dict[str, str] = {}

    @property
    def settings(self) -> dict[str, Any]:
        return {"url": self.url, **({"headers": self.headers} if self.headers else {})}


@cache
def known_servers() -> dict[str, KnownServer]:
    """The list, by name."""
    text = files("mcpchat").joinpath("data/known_servers.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, KnownServer])


def search_known(words: str) -> dict[str, KnownServer]:
    """Those that all words are about."""
    return {
        name: server
        for name, server in known_servers().items()
        if all(word in f"{name} {server.description} {server.url}".lower() for word in words.lower().split())
    }
