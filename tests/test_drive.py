"""The Drive server as a process, against the stand-in of Drive."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.google import FakeGoogle, run_fake_google
from tests.google.client import ServerProcess, run_server
from tests.google.drive import GOOGLE_APPS
from tests.google.example import PNG, fill_account, make_pdf
from tests.google.http import Fault


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def api() -> Iterator[FakeGoogle]:
    with run_fake_google() as service:
        yield service


@pytest.fixture(scope="module")
def process(api: FakeGoogle, folder: Path) -> Iterator[ServerProcess]:
    with run_server("drive", "--folder", str(folder), google=api) as server:
        yield server


@pytest.fixture
def drive(process: ServerProcess, api: FakeGoogle) -> ServerProcess:
    """The server, with the account as it was at first."""
    api.drive.__init__(api)  # type: ignore[misc]
    fill_account(api)
    api.faults.clear()
    api.journal.clear()
    process.progress.clear()
    return process


def names(drive: ServerProcess, **arguments: object) -> list[str]:
    return [one["name"] for one in drive.call("search_files", **arguments)["files"]]


def test_files_are_found_by_words_name_kind_folder_and_date(drive: ServerProcess) -> None:
    assert names(drive, words="dance eight") == ["Plan's notes"]
    assert names(drive, name="Plan's") == ["Plan's notes"]
    assert names(drive, kind="spreadsheet") == ["Party budget"]
    assert names(drive, kind="image") == ["Dot.png"]
    assert names(drive, folder_id="https://drive.google.com/drive/folders/folder-1") == ["Plan's notes", "Party budget"]
    assert names(drive, modified_after="2026-11-01T00:13:00") == ["Shortcut to the plan"]
    assert names(drive, query="mimeType = 'text/plain' or name contains 'stuff'") == ["stuff.zip", "todo.txt"]


def test_a_query_cannot_be_left_by_a_quote(drive: ServerProcess, api: FakeGoogle) -> None:
    assert names(drive, words="x' or trashed = true or name contains '") == []
    assert names(drive, name="\\") == []
    assert "fullText contains 'x\\' or" in api.journal[0][2]["q"][0]


@pytest.mark.parametrize("query", ["name = 'x') or (trashed = true", "(", "name = 'x", "')' = name)"])
def test_a_query_cannot_leave_its_parentheses(drive: ServerProcess, api: FakeGoogle, query: str) -> None:
    told = drive.call("search_files", folder_id="folder-1", query=query)
    assert told.text == "query: its quotes or parentheses do not match"
    assert not api.journal


def test_words_are_sorted_by_relevance_and_everything_else_by_date(drive: ServerProcess, api: FakeGoogle) -> None:
    drive.call("search_files", words="plan")
    drive.call("search_files", query="fullText contains 'plan'")
    drive.call("search_files")
    assert [query.get("orderBy") for _, _, query in api.journal] == [None, None, ["modifiedTime desc"]]


def test_pages_follow_each_other_by_their_cursor(drive: ServerProcess) -> None:
    seen, cursor = [], {}
    while True:
        page = drive.call("search_files", page_size=3, **cursor)
        seen += [one["id"] for one in page["files"]]
        if "next_cursor" not in page.structured:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen)) == 12


def test_a_cursor_of_another_search_is_refused_by_google_in_words(drive: ServerProcess) -> None:
    cursor = drive.call("search_files", page_size=1)["next_cursor"]
    told = drive.call("search_files", words="plan", cursor=cursor)
    assert told.is_error
    assert told.text == "the search: Google refused it (400): The page token does not belong to this query."


def test_shared_drives_are_listed_searched_and_read(drive: ServerProcess) -> None:
    assert drive.call("list_shared_drives")["drives"] == [{"id": "0ATeamDrive", "name": "Team"}]
    assert names(drive, shared_drive_id="0ATeamDrive") == ["Team plan.md"]
    found = drive.call("search_files", name="Team", all_drives=True)
    assert found["incomplete"] is True
    assert drive.call("list_folder", folder_id="0ATeamDrive")["files"][0]["shared_drive"] == "0ATeamDrive"
    assert drive.call("read_file", file_id="shared-1")["text"] == "# Team\n"


def test_who_may_see_a_file_of_a_shared_drive_is_asked_for(drive: ServerProcess, api: FakeGoogle) -> None:
    api.drive.files["shared-1"]["permissions"] = [
        {"id": str(number), "type": "user", "role": "reader", "emailAddress": f"u{number}@example.com"}
        for number in range(150)
    ]
    told = drive.call("get_file", file_id="shared-1")
    assert len(told["permissions"]) == 150
    drive.call("unshare_file", file_id="shared-1", name="Team plan.md", whom="u7@example.com")
    left = drive.call("get_file", file_id="shared-1")["permissions"]
    assert "u7@example.com" not in [one["email"] for one in left]
    api.faults = [Fault("GET /drive/v3/files/shared-1/permissions", "insufficientFilePermissions", times=2)]
    assert "permissions" not in drive.call("get_file", file_id="shared-1").structured
    told = drive.call("unshare_file", file_id="shared-1", name="Team plan.md", whom="u8@example.com")
    assert "may neither see nor change whom it is shared with" in told.text


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("list_folder", {"folder_id": "nope"}, "the folder nope: not found."),
        ("list_folder", {"folder_id": "text-1"}, "'todo.txt' is not a folder, but text/plain"),
        ("search_files", {"folder_id": "nope"}, "the folder nope: not found"),
        (
            "search_files",
            {"query": "party"},
            "the search: Google refused it (400): Invalid Value. query takes Drive's query language",
        ),
        ("create_file", {"name": "x", "text": "", "folder_id": "nope"}, "the folder nope: not found."),
        ("create_folder", {"name": "x", "folder_id": "nope"}, "the folder nope: not found."),
        ("copy_file", {"file_id": "text-1", "folder_id": "nope"}, "the folder nope: not found."),
        (
            "update_file",
            {"file_id": "folder-1", "name": "Party", "text": "x"},
            "'Party' is a folder and has no content",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(
    drive: ServerProcess, tool: str, arguments: dict[str, str], told: str
) -> None:
    got = drive.call(tool, **arguments)
    assert got.is_error
    assert got.text.startswith(told)


def test_a_list_is_read_a_line_a_file(drive: ServerProcess) -> None:
    assert drive.call("search_files", kind="pdf").text == (
        '"Invitation.pdf" (id pdf-1, application/pdf, 588 bytes, 2026-11-01T00:07, owner ada@example.com)'
    )
    assert drive.call("search_files", name="nothing").text == "nothing found"
    assert drive.call("search_files", page_size=1).text.splitlines()[1].startswith("[more: cursor=")
    assert drive.call("read_file", file_id="gdrive:///text-1")["text"] == "Buy tea\nBuy cake: café\n"


def test_a_folder_is_listed_folders_first(drive: ServerProcess) -> None:
    found = drive.call("list_folder")
    assert [one["name"] for one in found["files"]][:2] == ["Party", "Dot.png"]


def test_a_files_details_say_who_may_see_it(drive: ServerProcess) -> None:
    told = drive.call("get_file", file_id="todo")
    assert told.is_error
    assert told.text.startswith("the file todo: not found. It does not exist, or this account may not see it")
    told = drive.call("get_file", file_id="https://docs.google.com/document/d/text-1/edit?usp=sharing")
    assert told["permissions"] == [{"id": "1", "type": "user", "role": "owner", "email": "ada@example.com"}]
    assert told["can"] == ["edit", "share", "download", "trash"]
    assert told["md5"] == hashlib.md5("Buy tea\nBuy cake: café\n".encode()).hexdigest()
    assert drive.call("get_file", file_id="short-1")["shortcut_to"] == "doc-1"


@pytest.mark.parametrize(
    ("file", "written", "text"),
    [
        ("doc-1", "markdown", "# Plan\n\nWe dance at **eight**.\n"),
        ("short-1", "markdown", "# Plan\n\nWe dance at **eight**.\n"),
        ("budget-1", "csv", "Item,Price,Bought\nTea,3.5,TRUE\nCake,12,FALSE\nTotal,15.5,\n"),
        ("slides-1", "text", "One\nTwo\n"),
        ("script-1", "json", '{"files": []}'),
        ("text-1", "text", "Buy tea\nBuy cake: café\n"),
        ("pdf-1", "text", "[page 1]\nCome at eight\n\n"),
    ],
)
def test_files_are_read_as_text(drive: ServerProcess, file: str, written: str, text: str) -> None:
    got = drive.call("read_file", file_id=file)
    assert (got["format"], got["text"]) == (written, text)
    assert got.text.startswith(text)


def test_an_image_is_read_as_an_image(drive: ServerProcess) -> None:
    assert drive.call("read_file", file_id="sketch-1")["format"] == "image"
    got = drive.call("read_file", file_id="png-1")
    assert got["format"] == "image"
    assert got.raw["content"][1] == {"type": "image", "mimeType": "image/png", "data": base64.b64encode(PNG).decode()}


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("folder-1", "'Party' is a folder: list_folder shows what is in it"),
        ("zip-1", "'stuff.zip' (application/zip) is not text: download_file saves it on the user's machine."),
        ("../../etc", "'../../etc' is not a file id: search for the file, or give its link"),
    ],
)
def test_what_cannot_be_read_says_what_can_be_done(drive: ServerProcess, file: str, told: str) -> None:
    got = drive.call("read_file", file_id=file)
    assert got.is_error
    assert got.text == told


def test_an_office_file_can_be_copied_as_one_that_can_be_read(drive: ServerProcess, api: FakeGoogle) -> None:
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    api.drive.add("word-1", "Old.docx", kind, b"PK\x03\x04\x00")
    assert "copy_file with convert" in drive.call("read_file", file_id="word-1").text
    copy = drive.call("copy_file", file_id="word-1", new_name="New", convert=True)
    assert copy["media_type"] == f"{GOOGLE_APPS}document"


def test_a_long_text_comes_in_pieces_and_is_fetched_once(drive: ServerProcess, api: FakeGoogle) -> None:
    text = "".join(f"line {number}\n" for number in range(5000))
    api.drive.add("long-1", "long.txt", "text/plain", text.encode())
    pieces, offset = [], 0
    while offset is not None:
        got = drive.call("read_file", file_id="long-1", offset=offset, limit=10_000)
        assert got["total"] == len(text)
        pieces.append(got["text"])
        offset = got.structured.get("next_offset")
    assert "".join(pieces) == text
    assert all(piece.endswith("\n") for piece in pieces)
    assert len([one for one in api.journal if one[2].get("alt") == ["media"]]) == 1
    beyond = drive.call("read_file", file_id="long-1", offset=10**6)
    assert beyond.is_error


def test_a_text_in_utf_16_is_decoded(drive: ServerProcess, api: FakeGoogle) -> None:
    api.drive.add("wide-1", "wide.txt", "text/plain", "Grüße".encode("utf-16"))
    assert drive.call("read_file", file_id="wide-1")["text"] == "Grüße"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"%PDF-1.4 nonsense", "'x.pdf': its text cannot be read, the PDF is damaged or too large: download it"),
        (make_pdf(""), "'x.pdf': it has no text, only images (a scan?): download it"),
    ],
    ids=["damaged", "scanned"],
)
def test_a_pdf_without_readable_text_says_so(drive: ServerProcess, api: FakeGoogle, data: bytes, told: str) -> None:
    api.drive.add("bad-pdf", "x.pdf", "application/pdf", data)
    got = drive.call("read_file", file_id="bad-pdf")
    assert (got.is_error, got.text) == (True, told)


def test_a_file_is_downloaded_into_the_allowed_folder(drive: ServerProcess, folder: Path) -> None:
    assert drive.call("download_file", file_id="zip-1", path="other/")["path"].endswith("/other/stuff.zip")
    got = drive.call("download_file", file_id="zip-1", path="sub/stuff.zip")
    assert got["path"] == str(folder.resolve() / "sub/stuff.zip")
    assert (folder / "sub/stuff.zip").read_bytes() == b"PK\x03\x04\x00\x00"
    again = drive.call("download_file", file_id="zip-1", path="sub/stuff.zip")
    assert again.is_error
    assert "exists already: choose another name" in again.text
    assert not list(folder.rglob(".part-*"))


def test_googles_own_documents_are_exported(drive: ServerProcess, folder: Path) -> None:
    got = drive.call("download_file", file_id="doc-1")
    assert Path(got["path"]).name == "Plan's notes.docx"
    assert drive.progress[-1]["progress"] == got["size"]
    assert "total" not in drive.progress[-1]
    got = drive.call("download_file", file_id="doc-1", export_as="md", path="plan.md")
    assert (folder / "plan.md").read_text() == "# Plan\n\nWe dance at **eight**.\n"
    assert drive.call("download_file", file_id="doc-1", export_as="xlsx").text == (
        '"Plan\'s notes": Drive exports it as docx, pdf, md, txt, html, odt, rtf, epub, not as xlsx'
    )
    assert drive.call("download_file", file_id="zip-1", export_as="pdf").is_error


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../out.txt", "outside the folders that the user allowed"),
        ("/etc/out.txt", "outside the folders that the user allowed"),
        ("link/out.txt", "outside the folders that the user allowed"),
        (".hidden", "hidden files and folders are not written"),
        (".ssh/authorized_keys", "hidden files and folders are not written"),
        ("x" * 300, "File name too long"),
    ],
)
def test_nothing_is_written_outside_the_allowed_folder(
    drive: ServerProcess, folder: Path, tmp_path: Path, api: FakeGoogle, path: str, told: str
) -> None:
    (folder / "link").unlink(missing_ok=True)
    (folder / "link").symlink_to(tmp_path)
    got = drive.call("download_file", file_id="text-1", path=path)
    assert got.is_error
    assert told in got.text
    assert not list(tmp_path.iterdir())


def test_a_name_that_drive_gives_cannot_lead_out_of_the_folder(
    drive: ServerProcess, api: FakeGoogle, folder: Path
) -> None:
    api.drive.add("evil-1", "../../.ssh/authorized_keys", "text/plain", b"x")
    api.drive.add("evil-2", ".bashrc", "text/plain", b"x")
    assert Path(drive.call("download_file", file_id="evil-1")["path"]).parent == folder.resolve()
    assert Path(drive.call("download_file", file_id="evil-2")["path"]).name == "bashrc"


def test_a_broken_download_goes_on_where_it_ended(drive: ServerProcess, api: FakeGoogle, folder: Path) -> None:
    data = bytes(range(256)) * 4000
    api.drive.add("big-1", "big.bin", "application/octet-stream", data)
    # The metadata is asked for first, then the content: broken off, refused for a while, and gone on with.
    api.faults = [Fault("alt=media", "half"), Fault("alt=media", 503), Fault("alt=media", "limit")]
    got = drive.call("download_file", file_id="big-1", path="big.bin")
    assert (folder / "big.bin").read_bytes() == data
    assert got["size"] == len(data)
    assert drive.progress[-1]["progress"] == len(data) == drive.progress[-1]["total"]
    assert not any(fault.times for fault in api.faults)


def test_what_arrives_damaged_is_not_kept(drive: ServerProcess, api: FakeGoogle, folder: Path) -> None:
    api.drive.add("changed-1", "changed.bin", "application/octet-stream", b"one")["md5Checksum"] = "0" * 32
    got = drive.call("download_file", file_id="changed-1")
    assert got.is_error
    assert "nothing was saved" in got.text
    assert not (folder / "changed.bin").exists()


def test_a_text_becomes_a_file_or_a_document(drive: ServerProcess, api: FakeGoogle) -> None:
    made = drive.call("create_file", name="note.txt", text="Grüße", folder_id="folder-1")
    assert api.drive.files[made["id"]]["_content"] == "Grüße".encode()
    assert api.drive.files[made["id"]]["parents"] == ["folder-1"]
    assert made["media_type"] == "text/plain"
    document = drive.call("create_file", name="Plan", text="# Hi", convert=True)
    assert document["media_type"] == f"{GOOGLE_APPS}document"
    sheet = drive.call("create_file", name="t.csv", text="a,b\n", convert=True)
    assert sheet["media_type"] == f"{GOOGLE_APPS}spreadsheet"
    assert drive.call("create_file", name="x.zip", text="", convert=True).is_error
    assert drive.call("create_file", name="t.csv.gz", text="", convert=True).is_error
    data = drive.call("create_file", name="x.json", text='{"a": [1, null]}')
    assert api.drive.files[data["id"]]["_content"] == b'{"a": [1, null]}'
    assert drive.call("create_file", name="x", text="a", path="b").text == "expected exactly one of text and path"
    assert drive.call("create_file", text="a").text.startswith("name: expected")
    assert drive.call("create_file", name="x", text="a", media_type=f"{GOOGLE_APPS}document").is_error
    empty = drive.call("create_file", name="empty.txt", text="")
    assert api.drive.files[empty["id"]]["_content"] == b""


def test_a_file_is_sent_in_chunks_and_a_lost_answer_makes_no_second_file(
    drive: ServerProcess, api: FakeGoogle, folder: Path
) -> None:
    data = bytes(range(256)) * 2**16  # 16 MiB: two chunks
    (folder / "large.bin").write_bytes(data + b"!")
    api.faults = [
        Fault("PUT /upload", 503),  # refused before anything was taken
        Fault("PUT /upload", "drop", after=True),  # taken, and the answer is lost
        Fault("PUT /upload", 500, after=True),
    ]
    before = set(api.drive.files)
    made = drive.call("create_file", path="large.bin")
    assert set(api.drive.files) - before == {made["id"]}
    assert api.drive.files[made["id"]]["_content"] == data + b"!"
    assert made["name"] == "large.bin"
    assert drive.progress[-1]["progress"] == len(data) + 1


def test_an_upload_that_google_forgets_is_told_as_what_it_is(drive: ServerProcess, api: FakeGoogle) -> None:
    api.faults = [Fault("PUT /upload", 404)]
    told = drive.call("create_file", name="x.txt", text="x")
    assert told.text == "the file 'x.txt': Google no longer knows this upload session; nothing was created. Try again."
    api.faults = [Fault("PUT /upload", "drop", after=True), Fault("PUT /upload", 404, skip=1)]
    assert "it is not known whether it was done" in drive.call("create_file", name="x.txt", text="x").text
    api.faults = [Fault("PUT /upload", "drop", after=True), Fault("PUT /upload", 401, skip=1)]
    told = drive.call("create_file", name="x.txt", text="x")
    assert "it is not known whether it was done" in told.text
    assert "_meta" not in told.raw  # else the client would make it once more
    api.faults = [Fault("PUT /upload", "storageQuotaExceeded")]
    assert "the account's storage is full" in drive.call("create_file", name="x.txt", text="x").text


def test_only_files_in_the_folder_are_sent(drive: ServerProcess, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "out").unlink(missing_ok=True)
    (folder / "out").symlink_to(tmp_path / "secret")
    for path in ("out", str(tmp_path / "secret"), "../secret", "."):
        assert drive.call("create_file", path=path).is_error, path
    assert "cannot read 'nothing': No such file" in drive.call("create_file", path="nothing").text


def test_a_files_content_is_replaced(drive: ServerProcess, api: FakeGoogle) -> None:
    drive.call("update_file", file_id="text-1", name="todo.txt", text="new")
    assert api.drive.files["text-1"]["_content"] == b"new"
    drive.call("update_file", file_id="doc-1", name="Plan's notes", text="# New")
    assert drive.call("read_file", file_id="doc-1")["text"] == "# New"
    drive.call("update_file", file_id="text-1", name="todo.txt", text="<p>", media_type="text/html")
    assert drive.call("get_file", file_id="text-1")["media_type"] == "text/html"
    told = drive.call("update_file", file_id="doc-1", name="Plan's notes", text="a,b", media_type="text/csv")
    assert told.text == '"Plan\'s notes": a file of type text/csv cannot replace it'


def test_folders_are_made_and_files_moved_renamed_and_copied(drive: ServerProcess, api: FakeGoogle) -> None:
    made = drive.call("create_folder", name="New", folder_id="folder-1")
    assert made["media_type"] == f"{GOOGLE_APPS}folder"
    moved = drive.call("move_file", file_id="text-1", name="todo.txt", folder_id=made["id"])
    assert moved["parents"] == [made["id"]]
    assert drive.call("move_file", file_id="text-1", name="todo.txt", folder_id=made["id"])["parents"] == [made["id"]]
    drive.call("move_file", file_id="text-1", name="todo.txt", folder_id="root")
    assert drive.call("move_file", file_id="text-1", name="todo.txt", folder_id="root")["parents"] == ["root-id"]
    api.drive.add("theirs-1", "theirs.txt", "text/plain", b"x", parents=[])
    told = drive.call("move_file", file_id="theirs-1", name="theirs.txt", folder_id="folder-1")
    assert told.text.endswith("cannot be moved into a folder here: copy_file makes a copy")
    for _ in range(2):  # the second time it is done already
        assert drive.call("rename_file", file_id="text-1", name="todo.txt", new_name="done.txt")["name"] == "done.txt"
    assert drive.call("rename_file", file_id="text-1", name="todo.txt", new_name="more.txt").is_error
    copy = drive.call("copy_file", file_id="text-1")
    assert copy["name"] == "Copy of done.txt"
    assert copy["id"] != "text-1"
    assert drive.call("copy_file", file_id="folder-1").text == "'Party' is a folder: only files are copied"


def test_a_file_is_shared_with_one_and_with_nobody_else(drive: ServerProcess, api: FakeGoogle) -> None:
    shared = drive.call(
        "share_file", file_id="text-1", name="todo.txt", role="reader", email="grace@example.com", message="Look"
    )
    assert shared["permission"] == {"id": "2", "type": "user", "role": "reader", "email": "grace@example.com"}
    assert api.journal[-1][2]["emailMessage"] == ["Look"]
    told = drive.call(
        "share_file", file_id="text-1", name="todo.txt", role="reader", email="a@b.example", anyone_with_link=True
    )
    assert told.text == "expected exactly one of email, domain and anyone_with_link"
    assert drive.call("share_file", file_id="text-1", name="todo.txt", role="owner", email="a@b.example").is_error
    assert drive.call(
        "share_file", file_id="text-1", name="todo.txt", role="reader", email="a@b.example, c@d.example"
    ).is_error
    told = drive.call("share_file", file_id="text-1", name="Plan's notes", role="reader", email="grace@example.com")
    assert told.text == "name: the file text-1 is called 'todo.txt', not \"Plan's notes\"; nothing was changed"
    told = drive.call(
        "share_file", file_id="text-1", name="todo.txt", role="reader", email="b@example.com", notify=False, message="x"
    )
    assert told.text.startswith("message: only an email to an address can contain one")
    api.faults = [Fault("DELETE", "drop", after=True)]  # done, and the answer is lost
    gone = {"file_id": "text-1", "whom": "Grace@example.com"}
    assert drive.call("unshare_file", name="todo.txt", **gone).structured == gone
    assert [one["role"] for one in drive.call("get_file", file_id="text-1")["permissions"]] == ["owner"]
    told = drive.call("unshare_file", name="todo.txt", **gone)
    assert told.text == "'todo.txt' is not shared with 'Grace@example.com'; it is shared with nobody"
    drive.call("share_file", file_id="text-1", name="todo.txt", role="reader", anyone_with_link=True)
    assert not drive.call("unshare_file", file_id="text-1", name="todo.txt", whom="anyone").is_error
    assert drive.call("unshare_file", file_id="text-1", name="todo.txt", whom="ada@example.com").is_error


def test_the_trash_is_the_end_and_not_for_good(drive: ServerProcess, api: FakeGoogle) -> None:
    assert drive.call("trash_file", file_id="text-1", name="todo.txt")["trashed"] is True
    assert names(drive, name="todo") == []
    assert names(drive, name="todo", trashed=True) == ["todo.txt"]
    assert "trashed" not in drive.call("restore_file", file_id="text-1", name="todo.txt").structured
    assert not [one for one in api.request_lines("DELETE") if "permissions" not in one]
    assert not [name for name in drive.tools if "delete" in name]


def test_files_are_resources(drive: ServerProcess) -> None:
    listed = drive.request("resources/list")["resources"]
    assert {
        "uri": "gdrive:///doc-1",
        "name": "Plan's notes",
        "title": "Plan's notes",
        "mimeType": "text/markdown",
    } in listed
    assert not [one for one in listed if one["name"] == "Party"]
    template = drive.request("resources/templates/list")["resourceTemplates"]
    assert [one["uriTemplate"] for one in template] == ["gdrive:///{file_id}"]
    read = drive.request("resources/read", uri="gdrive:///doc-1")["contents"][0]
    assert (read["mimeType"], read["text"]) == ("text/markdown", "# Plan\n\nWe dance at **eight**.\n")
    read = drive.request("resources/read", uri="gdrive:///png-1")["contents"][0]
    assert (read["mimeType"], base64.b64decode(read["blob"])) == ("image/png", PNG)
    read = drive.request("resources/read", uri="gdrive:///sketch-1")["contents"][0]
    assert (read["mimeType"], base64.b64decode(read["blob"])) == ("image/png", PNG)
    read = drive.request("resources/read", uri="gdrive:///script-1")["contents"][0]
    assert read["text"] == '{"files": []}'
    assert "not found" in drive.request("resources/read", uri="gdrive:///nothing")["error"]["message"]
    assert "error" in drive.request("resources/read", uri="file:///etc/passwd")


def test_a_failure_to_list_resources_is_no_empty_list(drive: ServerProcess, api: FakeGoogle) -> None:
    api.faults = [Fault("GET /drive/v3/files", "domainPolicy")]
    assert "the administrator of this Google account" in drive.request("resources/list")["error"]["message"]


def test_without_an_allowed_folder_files_stay_where_they_are(api: FakeGoogle) -> None:
    with run_server("drive", google=api) as server:
        told = server.call("download_file", file_id="text-1")
        assert told.is_error
        assert 'the user adds folders = ["~/Downloads"]' in told.text
        assert server.call("create_file", path="/etc/passwd").is_error


def test_the_reading_variant_has_no_tool_that_changes_anything_there(api: FakeGoogle) -> None:
    with run_server("drive", "--read-only", google=api) as server:
        assert sorted(server.tools) == ["get_file", "list_folder", "list_shared_drives", "read_file", "search_files"]
    with run_server("drive", "--read-only", "--folder", "/nowhere", google=api) as server:
        told = server.call("download_file", file_id="text-1")
        assert told.text == "the folder '/nowhere', which the user allowed, does not exist: create it first"
        assert sorted(server.tools) == [
            "download_file", "get_file", "list_folder", "list_shared_drives", "read_file", "search_files",
        ]  # fmt: skip
        assert "changed_by" in json.dumps(server.tools["get_file"]["outputSchema"])
