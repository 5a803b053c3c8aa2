"""A sign-in server that behaves like Google, and its user."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import server_table
from tests.support.sign_in import (
    CLIENT,
    DRIVE,
    MAIL,
    SEND,
    SERVERS,
    SHEETS,
    AuthorizationServer,
    SignInUser,
    authorization_server,
    issue_certificates,
)

REGISTERED = {
    **CLIENT,
    "redirect_uris": ["http://127.0.0.1/callback"],
    "application_type": "native",
    "grant_types": ["authorization_code", "refresh_token"],
}
PUBLIC = {**REGISTERED, "client_id": "public", "token_endpoint_auth_method": "none"}
PUBLIC.pop("client_secret")
SCOPES = ["email", MAIL, SEND, DRIVE, SHEETS]


@contextlib.contextmanager
def google(tmp_path: Path, **options: Any) -> Iterator[tuple[AuthorizationServer, SignInUser]]:
    """Start a server that behaves like Google; yield it and a user whose logins are stored in a file."""
    paths = issue_certificates(tmp_path)
    certificates = {"ca": paths["ca"], "key": str(paths["key"]), "cert": str(paths["cert"])}
    with authorization_server(
        "google", **certificates, clients=[REGISTERED, PUBLIC], scopes=SCOPES, **options
    ) as server:
        trusted = {"SSL_CERT_FILE": str(paths["ca"]), "REQUESTS_CA_BUNDLE": str(paths["ca"])}
        user = SignInUser(tmp_path, SECRET=CLIENT["client_secret"], EXPIRED=str(tmp_path / "expired"), **trusted)
        user.config.write_text(config(server))
        yield server, user


def config(server: AuthorizationServer, *, store: str = "file", extra: str = "", mail: str = MAIL) -> str:
    return f"""
[auth]
store = "{store}"
[auth.google]
client_id = "{CLIENT["client_id"]}"
client_secret = "env:SECRET"
authorization_url = "{server.url}/auth"
token_url = "{server.url}/token"
revocation_url = "{server.url}/revoke"
userinfo_url = "{server.url}/me"
issuer = "{server.url}"
{server_section("mail", mail)}
{server_section("sheets", SHEETS)}
[approvals]
default = "allow"
{extra}
"""


def server_section(
    name: str, *scopes: str, settings: str = 'auth = "google"', script_arguments: Sequence[str] = ()
) -> str:
    return f"""
{server_table(name, SERVERS / "token_user.py", *script_arguments)}
env_pass = ["EXPIRED"]
{settings}
scopes = {json.dumps(scopes)}
"""


def login(user: SignInUser, *arguments: str, **plan: Any) -> str:
    user.plan_browser(**plan)
    return user.run_ok("auth", "login", "google", *arguments)


def environment(user: SignInUser, server: str) -> dict[str, str]:
    variables: dict[str, str] = json.loads(user.run("call", f"{server}.environment").stdout)
    return variables
