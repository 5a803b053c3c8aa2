"""Tests of what all Google servers share: tool schemas, tokens, errors, retries, files."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mcpchat.config.builtin_servers import BUILTIN_SERVERS
from mcpchat_servers.calendar.server import server as calendar_server
from mcpchat_servers.drive.server import server as drive_server
from mcpchat_servers.gmail.server import server as gmail_server
from mcpchat_servers.google.server import GoogleServer
from mcpchat_servers.sheets.server import server as sheets_server
from tests.support.google import FakeGoogle, discovery, run_fake_google
from tests.support.google.client import ServerProcess, run_server
from tests.support.google.example import fill_account
from tests.support.google.http import AUTH, DEFAULT_SCOPES, TOKEN, Fault
from tests.support.published import needs_published
from tests.support.waiting import wait_until

NAMES = ("calendar", "drive", "gmail", "sheets")
READ: dict[str, tuple[str, dict[str, Any]]] = {
    "calendar": ("get_event", {"event_id": "ev1", "time_zone": "UTC"}),
    "drive": ("get_file", {"file_id": "text-1"}),
    "gmail": ("list_labels", {}),
    "sheets": ("get_spreadsheet", {"spreadsheet_id": "budget-1"}),
}
WRITE: dict[str, tuple[str, dict[str, Any]]] = {
    "calendar": ("create_event", {"title": "x", "start": "2026-12-01", "end": "2026-12-01", "time_zone": "UTC"}),
    "drive": ("create_folder", {"name": "x"}),
    "gmail": ("send_message", {"to": ["b@example.com"], "subject": "x", "body": "x"}),
    "sheets": ("append_rows", {"spreadsheet_id": "budget-1", "title": "Party budget", "range": "Costs", "rows": [[1]]}),
}


@pytest.fixture(scope="module")
def api() -> Iterator[FakeGoogle]:
    with run_fake_google() as service:
        yield service


@pytest.fixture(scope="module")
def processes(api: FakeGoogle) -> Iterator[dict[str, ServerProcess]]:
    with (
        run_server("calendar", google=api) as calendar,
        run_server("drive", google=api) as drive,
        run_server("gmail", google=api) as gmail,
        run_server("sheets", google=api) as sheets,
    ):
        yield {"calendar": calendar, "drive": drive, "gmail": gmail, "sheets": sheets}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def reset_account(api: FakeGoogle) -> None:
    """Restore the account and the token for each test."""
    for service in (api.calendar, api.drive, api.gmail, api.sheets):
        service.__init__(api)  # type: ignore[misc]
    fill_account(api)
    api.faults.clear()
    api.journal.clear()
    api.disabled_services.clear()
    api.tokens = {TOKEN: {f"{AUTH}{scope}" for scope in DEFAULT_SCOPES}}


@pytest.fixture
def server(processes: dict[str, ServerProcess], name: str) -> ServerProcess:
    return processes[name]


def test_every_tool_has_a_description(server: ServerProcess, name: str) -> None:
    for tool in server.tools.values():
        assert tool["title"]
        assert 15 < len(tool["description"]) < 300
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["outputSchema"]["type"] == "object"
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert "title" not in schema
        assert tool["annotations"].keys() == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}


def test_tool_annotations(processes: dict[str, ServerProcess]) -> None:
    hints = {
        f"{name}.{tool['name']}": tool["annotations"]
        for name, server in processes.items()
        for tool in server.tools.values()
    }
    assert sorted(name for name, hint in hints.items() if hint["destructiveHint"]) == [
        "calendar.answer_event", "calendar.create_event", "calendar.delete_event", "calendar.update_event",
        "drive.add_comment", "drive.change_access", "drive.decide_suggestion", "drive.move_file",
        "drive.replace_in_document",
        "drive.reply_to_comment", "drive.share_file", "drive.trash_file", "drive.unshare_file", "drive.update_file", "gmail.create_filter",
        "gmail.delete_filter", "gmail.delete_label", "gmail.discard_draft", "gmail.forward", "gmail.reply", "gmail.send_draft",
        "gmail.send_message", "gmail.trash", "gmail.update_draft", "sheets.clear_range", "sheets.delete_rows_or_columns",
        "sheets.delete_sheet", "sheets.find_and_replace", "sheets.sort_range", "sheets.write_range", "sheets.write_ranges",
    ]  # fmt: skip
    assert sorted(name for name, hint in hints.items() if not hint["readOnlyHint"] and not hint["idempotentHint"]) == [
        "calendar.create_event", "drive.add_comment", "drive.append_to_document", "drive.copy_file",
        "drive.create_file", "drive.create_folder", "drive.decide_suggestion", "drive.download_file",
        "drive.replace_in_document", "drive.reply_to_comment", "drive.share_file", "drive.unshare_file",
        "gmail.create_draft", "gmail.create_filter", "gmail.create_label", "gmail.forward", "gmail.reply",
        "gmail.save_attachment", "gmail.send_draft", "gmail.send_message", "sheets.add_sheet", "sheets.append_rows",
        "sheets.copy_sheet", "sheets.create_spreadsheet", "sheets.delete_rows_or_columns", "sheets.delete_sheet",
        "sheets.find_and_replace", "sheets.insert_rows_or_columns",
    ]  # fmt: skip


def test_builtin_scopes_match_the_scopes_of_the_servers(name: str) -> None:
    servers: dict[str, GoogleServer] = {
        "calendar": calendar_server, "drive": drive_server, "gmail": gmail_server, "sheets": sheets_server,
    }  # fmt: skip
    builtin, server = BUILTIN_SERVERS[name], servers[name]
    assert (server.scopes, server.read_only_scopes) == (builtin.scopes, builtin.read_only_scopes)
    assert server.accepts_folders is builtin.takes_folders


def test_an_unknown_argument_is_named(server: ServerProcess, name: str) -> None:
    tool, arguments = READ[name]
    result = server.call(tool, **arguments, colour="red")
    assert result.is_error
    assert result.text.startswith(f"{tool} takes no argument 'colour'; it takes ")


def test_null_means_that_an_argument_is_missing(server: ServerProcess, name: str) -> None:
    calls: dict[str, dict[str, Any]] = {
        "calendar": {"tool": "list_events", "words": None, "page_size": None},
        "drive": {"tool": "list_folder", "page_size": None, "folder_id": None, "cursor": None},
        "gmail": {"tool": "search_mail", "query": None, "page_size": None},
        "sheets": {"tool": "read_range", "spreadsheet_id": "budget-1", "range": "Costs", "values": None},
    }
    tool = calls[name].pop("tool")
    answer = server.request("tools/call", name=tool, arguments=calls[name])
    assert not answer.get("isError"), answer


def test_an_argument_error_omits_the_value(server: ServerProcess, name: str) -> None:
    invalid_calls: dict[str, dict[str, Any]] = {
        "calendar": {"tool": "list_events", "page_size": 10**6},
        "drive": {"tool": "list_folder", "page_size": 10**6},
        "gmail": {"tool": "search_mail", "page_size": 10**6},
        "sheets": {"tool": "read_range", "spreadsheet_id": "x", "range": "A1", "max_rows": 10**6},
    }
    result = server.call(**invalid_calls[name])
    assert result.is_error
    assert re.fullmatch(r"invalid arguments for \w+: \w+: Input should be less than or equal to \d+", result.text)


def test_a_token_that_google_rejects_has_the_standard_error(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.tokens.clear()
    tool, arguments = READ[name]
    result = server.call(tool, **arguments)
    assert result.is_error
    assert result.raw["_meta"] == {"mcpchat/auth": "expired"}
    assert len(api.journal) == 1


@pytest.mark.parametrize("name", ["gmail"])
def test_an_expired_token_is_not_sent(name: str, api: FakeGoogle) -> None:
    api.journal.clear()
    with run_server(name, google=api, GOOGLE_ACCESS_TOKEN_EXPIRES_AT=str(time.time() - 1)) as server:
        tool, arguments = READ[name]
        result = server.call(tool, **arguments)
    assert result.raw["_meta"] == {"mcpchat/auth": "expired"}
    assert not api.journal


@pytest.mark.parametrize("name", ["sheets"])
def test_without_a_token_the_tools_say_what_to_do(name: str) -> None:
    with run_server(name) as server:
        tool, arguments = READ[name]
        result = server.call(tool, **arguments)
    assert result.text.startswith("no Google account is signed in: run mcpchat auth login google.")


def test_a_missing_scope_is_named(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.tokens[TOKEN] = {f"{AUTH}userinfo.email"}
    tool, arguments = READ[name]
    result = server.call(tool, **arguments)
    assert result.text.startswith(
        f"not granted: this needs the scope {' and '.join(BUILTIN_SERVERS[name].scopes)}. Run mcpchat auth login google"
    )
    assert "_meta" not in result.raw


def test_a_disabled_api_says_where_to_enable_it(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    service = {"calendar": "calendar-json"}.get(name, name)
    api.disabled_services.add(f"{service}.googleapis.com")
    tool, arguments = READ[name]
    result = server.call(tool, **arguments)
    assert f"https://console.cloud.google.com/apis/library/{service}.googleapis.com" in result.text


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("drive", 500),
        ("gmail", 503),
        ("sheets", "limit"),
        ("drive", "user limit"),
        ("gmail", "drop"),
        ("sheets", "half"),
    ],
)
def test_reads_are_retried(server: ServerProcess, name: str, api: FakeGoogle, fault: Any) -> None:
    api.faults = [Fault("GET", fault, times=2)]
    tool, arguments = READ[name]
    assert not server.call(tool, **arguments).is_error
    assert len(api.journal) == 3


@pytest.mark.parametrize(("name", "fault"), [("drive", "limit"), ("gmail", "user limit"), ("sheets", "limit")])
def test_a_write_that_was_refused_is_retried(server: ServerProcess, name: str, api: FakeGoogle, fault: Any) -> None:
    api.faults = [Fault("POST", fault, times=2)]
    tool, arguments = WRITE[name]
    assert not server.call(tool, **arguments).is_error
    assert len(api.request_lines("POST")) == 3


@pytest.mark.parametrize("fault", [500, 503, "drop"])
def test_a_write_that_may_be_done_is_not(server: ServerProcess, name: str, api: FakeGoogle, fault: Any) -> None:
    api.faults = [Fault("POST", fault, times=9)]
    tool, arguments = WRITE[name]
    result = server.call(tool, **arguments)
    assert "it is not known whether it was done: look before you do it again" in result.text
    assert len(api.request_lines("POST")) == 1


@pytest.mark.parametrize("name", ["gmail"])
def test_retries_are_limited(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.faults = [Fault("GET", 503, times=9)]
    tool, arguments = READ[name]
    assert server.call(tool, **arguments).text.endswith("Google's server failed (503), several times: try again later")
    assert len(api.journal) == 5


def test_long_retry_delay_fails(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.faults = [Fault("GET", "long limit", times=9)]
    tool, arguments = READ[name]
    result = server.call(tool, **arguments)
    assert "Google's rate limit was reached" in result.text
    assert len(api.journal) == 1


def test_an_invalid_answer_is_reported(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.faults = [Fault("GET", "junk")]
    tool, arguments = READ[name]
    assert server.call(tool, **arguments).text.endswith("the response is not from Google. Is a proxy in between?")


@pytest.mark.parametrize("name", ["sheets"])
def test_a_slow_answer_arrives(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.faults = [Fault("GET", "slow")]
    tool, arguments = READ[name]
    assert not server.call(tool, **arguments).is_error


@pytest.mark.parametrize(
    ("reason", "explanation"),
    [
        ("insufficientFilePermissions", "this account may not do that with this file: ask its owner"),
        ("storageQuotaExceeded", "the account's storage is full"),
        ("dailyLimitExceeded", "try again tomorrow"),
        ("domainPolicy", "the administrator of this Google account does not allow"),
        ("somethingNew", "Google refused it (403): Google says somethingNew."),
    ],
)
def test_googles_reasons_are_explained(
    server: ServerProcess, name: str, api: FakeGoogle, reason: str, explanation: str
) -> None:
    api.faults = [Fault("POST", reason, times=9)]
    tool, arguments = WRITE[name]
    assert explanation in server.call(tool, **arguments).text
    assert len(api.request_lines("POST")) == 1


@pytest.mark.parametrize("name", ["drive"])
def test_a_huge_answer_fails(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.drive.add("huge-1", "huge.txt", "text/plain", b"x" * (26 * 2**20))
    result = server.call("read_file", file_id="huge-1")
    assert result.text == "'huge.txt' has 27,262,976 bytes, too many to read here: download_file saves it"
    api.drive.files["huge-1"]["size"] = "10"
    result = server.call("read_file", file_id="huge-1")
    assert result.text == "'huge.txt': larger than 26,214,400 bytes"


@pytest.mark.parametrize("url", ["http://mail.example.com"])
def test_the_token_is_not_sent_to_an_unsafe_url(url: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "mcpchat_servers.drive"], env={"GOOGLE_API_URL": url}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert "GOOGLE_API_URL: expected" in process.stderr
    assert "Traceback" not in process.stderr


def test_google_credentials_files_are_supported(tmp_path: Path, api: FakeGoogle) -> None:
    path = tmp_path / "adc.json"
    with run_server("drive", google=api, GOOGLE_ACCESS_TOKEN="", GOOGLE_APPLICATION_CREDENTIALS=str(path)) as server:
        result = server.call("get_file", file_id="text-1")
        assert result.text == "cannot read adc.json, named in GOOGLE_APPLICATION_CREDENTIALS: No such file or directory"
        path.write_text(json.dumps({"type": "external_account", "client_secret": "hush"}))
        result = server.call("get_file", file_id="text-1")
        assert result.text == 'adc.json: expected "type" to be "authorized_user" or "service_account"'
        path.write_text('{"type": "authorized_user", "client_secret": "hush"}')
        result = server.call("get_file", file_id="text-1")
        assert result.text.startswith("cannot get an access token with adc.json")
        assert "hush" not in result.text


def test_a_service_accounts_token_is_fetched_and_renewed(tmp_path: Path, api: FakeGoogle) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "robot.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "robot@example.com",
                "private_key": key.private_bytes(*form).decode(),
                "token_uri": f"{api.url}/token",
            }
        )
    )
    api.faults.clear()
    api.journal.clear()
    api.next_tokens = ["ya29.an-old-one-that-is-over", TOKEN]
    with run_server("drive", google=api, GOOGLE_ACCESS_TOKEN="", GOOGLE_APPLICATION_CREDENTIALS=str(path)) as server:
        assert not server.call("list_folder").is_error
        assert not server.call("list_folder").is_error
        assert len(api.request_lines("POST /token")) == 2
        api.next_tokens = ["ya29.another-that-is-over"] * 2
        api.tokens.pop(TOKEN)
        result = server.call("list_folder")
        assert result.raw["_meta"] == {"mcpchat/auth": "expired"}
    assert "".join(server.log) == ""


def test_the_token_is_never_in_the_output(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.faults = [Fault("GET", "somethingNew", times=9)]
    tool, arguments = READ[name]
    assert TOKEN not in json.dumps(server.call(tool, **arguments).raw)
    assert TOKEN not in "".join(server.log)


@pytest.mark.parametrize("name", ["sheets"])
def test_a_server_error_hides_the_traceback_from_the_model(server: ServerProcess, name: str, api: FakeGoogle) -> None:
    api.sheets.books["budget-1"]["properties"] = {"title": ["no text"]}
    result = server.call("get_spreadsheet", spreadsheet_id="budget-1")
    assert result.text == "get_spreadsheet failed with an internal error of this server: see its log"
    wait_until(lambda: server.log)
    assert "ValidationError" in "".join(server.log)
    assert api.mismatches or not discovery.FOLDER.is_dir()
    api.mismatches.clear()  # the double's answer was wrong on purpose


@needs_published
@pytest.mark.parametrize(
    ("verb", "target", "body", "problems"),
    [
        ("GET", "/calendar/v3/calendars/x/events?maxResults=5&singleEvents=true&fields=items(id,start)", b"", []),
        ("GET", "/calendar/v3/calendars/x/events?maxResults=a&nope=1", b"", ["maxResults is not a number: 'a'", "no parameter nope"]),
        ("GET", "/calendar/v3/calendars/x/events?fields=items(idd)", b"", ["fields.items has no idd"]),
        ("POST", "/v4/spreadsheets/x/values/A1%3AB2:append?valueInputOption=RAW", b'{"values": [[1]]}', []),
        ("POST", "/v4/spreadsheets/x/values/A1:append?valueInputOption=raw", b'{"valuez": 1}', ["valueInputOption is none of", "body has no valuez"]),
        ("POST", "/drive/v3/files", b'{"name": 1, "size": "3", "kind": "x"}', ["body.name is not of type string: 1"]),
    ],
)  # fmt: skip
def test_requests_are_checked_against_googles_documents(
    verb: str, target: str, body: bytes, problems: list[str]
) -> None:
    method = discovery.find_method(verb, target.partition("?")[0])
    assert isinstance(method, discovery.Method)
    found = list(method.check_request(target, body))
    assert len(found) >= len(problems)
    assert bool(found) == bool(problems)
    assert all(any(item.startswith(problem) for item in found) for problem in problems)
    assert discovery.find_method("PUT", "/drive/v3/nothing") == "drive.v3 has no method for PUT /drive/v3/nothing"
