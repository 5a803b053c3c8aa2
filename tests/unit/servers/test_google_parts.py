"""Unit tests of the Google servers: A1 notation, mail headers, file names, text decoding."""

import contextlib
import email
import email.policy
import re
import string
from email.header import Header, decode_header, make_header
from email.message import EmailMessage
from email.utils import formataddr, getaddresses
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.drive.files import quote_value
from mcpchat_servers.gmail.html_body import build_html
from mcpchat_servers.gmail.message_parser import parse_addresses
from mcpchat_servers.gmail.mime_builder import (
    OriginalMessage,
    build_message,
    check_reply_subject,
    format_reply_subject,
    parse_recipient,
)
from mcpchat_servers.google.api import check_base_url
from mcpchat_servers.google.display_names import is_same_name, is_unsafe_char, to_one_line
from mcpchat_servers.google.folders import AllowedFolders, sanitize_file_name
from mcpchat_servers.google.ids import parse_file_id
from mcpchat_servers.google.text_extraction import decode_text, take_excerpt
from mcpchat_servers.sheets.a1 import CellRange, Sheet, format_column, parse_column, parse_range
from tests.support.google.drive import _unquote

SHEETS = [Sheet("Costs", 1000, 26), Sheet("It's 1!", 50, 3), Sheet("A1", 5, 5), Sheet("Q1", 7, 7)]
NAMES = {"Total": CellRange("Costs", 4, 2, 4, 2)}


@given(st.integers(1, 18_278))
def test_column_letters_round_trip(column: int) -> None:
    assert parse_column(format_column(column)) == column


@given(st.integers(1, 50), st.integers(1, 3), st.integers(1, 50), st.integers(1, 3))
def test_cell_ranges_round_trip(top: int, left: int, bottom: int, right: int) -> None:
    cells = CellRange("It's 1!", min(top, bottom), min(left, right), max(top, bottom), max(left, right))
    assert parse_range(str(cells), SHEETS, NAMES) == cells


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$B$2:C3", "'Costs'!B2:C3"),
        ("C3:B2", "'Costs'!B2:C3"),
        ("A:C", "'Costs'!A1:C1000"),
        ("2:5", "'Costs'!A2:Z5"),
        ("A5:A", "'Costs'!A5:A1000"),
        ("A5:5", "'Costs'!A5:Z5"),
        ("B1", "'Costs'!B1"),
        ("'A1'", "'A1'!A1:E5"),
        ("'A1'!B2", "'A1'!B2"),
        ("costs", "'Costs'!A1:Z1000"),
        ("total", "'Costs'!B4"),
        ("It's 1!!A:A", "'It''s 1!'!A1:A50"),
        ("it's 1!", "'It''s 1!'!A1:C50"),
        ("'It''s 1!'!B2:B", "'It''s 1!'!B2:B50"),
        ("Costs!A1:ZZ2000", "'Costs'!A1:Z1000"),
        (" B1 ", "'Costs'!B1"),
        ("Costs!Q1", "'Costs'!Q1"),
        ("'Q1'", "'Q1'!A1:G7"),
    ],
)
def test_every_form_of_a_range_is_parsed(text: str, expected: str) -> None:
    assert str(parse_range(text, SHEETS, NAMES)) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Q1", "'Q1' is ambiguous: write 'Q1' for the sheet, or 'Costs'!Q1"),
        ("a1", "'a1' is ambiguous: write 'A1' for the sheet, or 'Costs'!a1"),
        ("Both", "'Both' is ambiguous: write 'Both' for the sheet, or 'Costs'!B4"),
    ],
)
def test_an_ambiguous_range_is_an_error(text: str, error: str) -> None:
    with pytest.raises(ToolError) as raised:
        parse_range(text, [*SHEETS, Sheet("Both", 3, 3)], {"Both": NAMES["Total"]})
    assert str(raised.value) == error


@pytest.mark.parametrize("text", ["AB2:5", "ZZ2:5", "Costs!", "'Costs'!", "AB:AC"])
def test_a_range_outside_the_sheet_is_an_error(text: str) -> None:
    with pytest.raises(ToolError, match=r"outside|expected cells"):
        parse_range(text, SHEETS, NAMES)


@given(st.text(max_size=40))
def test_any_other_text_is_a_tool_error(text: str) -> None:
    with contextlib.suppress(ToolError):
        assert isinstance(parse_range(text, SHEETS, NAMES), CellRange)


@given(st.text())
def test_a_quoted_query_value_is_one(text: str) -> None:
    literal = quote_value(text)
    assert re.fullmatch(r"'(?:[^'\\]|\\.)*'", literal, re.DOTALL)
    assert _unquote(literal) == text or "\n" in text


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=60)
_LOCALS = st.text(string.ascii_letters + string.digits + "+_-", min_size=1, max_size=20)


@given(st.lists(st.tuples(_WORDS, _LOCALS), min_size=1, max_size=6))
@example([("Hopper, Grace (Rear Admiral, United States Navy, Computer Science Department)", "grace")])
@example([("Grace Hopper of the summer party committee and of all its friends here, eve@evil.example, x", "grace")])
@example(
    [("García, Éva (HR)", "va0"), ("Ünal, François - Verkauf, Süd", "franois1"), ("Ünal, Ada - Verkauf, Süd", "ada2")]
)
def test_exactly_the_named_recipients_get_the_mail(people: list[tuple[str, str]]) -> None:
    recipients = []
    for name, local in people:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        recipients.append(f'"{escaped}" <{local}@example.com>' if name.strip() else f"{local}@example.com")
    try:
        for recipient in recipients:
            parse_recipient(recipient)
    except ToolError:
        return
    message = build_and_parse(recipients)
    assert [address.addr_spec for address in message["To"].addresses] == [f"{local}@example.com" for _, local in people]
    raw = getaddresses([str(message["To"])])
    assert [address for _, address in raw] == [f"{local}@example.com" for _, local in people]


@given(_WORDS, _LOCALS)
def test_a_displayed_address_can_be_parsed_again(name: str, local: str) -> None:
    header = Header(name, "utf-8").encode() if not name.isascii() else formataddr((name, f"{local}@example.com"))
    addresses = parse_addresses(header if name.isascii() else f"{header} <{local}@example.com>")
    for address in addresses:
        try:
            assert parse_recipient(address).addr_spec.endswith("@example.com")
        except ToolError:
            assert not name.isascii() or not address.isprintable() or "=?" in address


def build_and_parse(
    to: list[str], subject: str = "x", body: str = "x", original: OriginalMessage | None = None
) -> EmailMessage:
    raw = build_message(to=to, subject=subject, body=body, original=original)
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


_INJECTED = "hi =?utf-8?q?=0D=0ATo:_evil=40x=2Eexample=0D=0ABcc:_evil=40x=2Eexample=0D=0A=0D=0Abody?= x"


@given(st.text(max_size=200), st.text(max_size=300))
@example(_INJECTED, "x")
@example("=?utf-8?q?hello?= x", "x")
@example("=?utf-8?b?!!?=", "x")
@example("👩\u200d💻 News", "x")
@example("a" * 900, "x")
@example("ü" * 900, "x")
def test_subject_and_body_inject_no_header(subject: str, body: str) -> None:
    try:
        message = build_and_parse(["a@example.com"], subject, body)
    except ToolError:
        assert (
            any(map(is_unsafe_char, subject))
            or "\0" in body
            or not subject.isprintable()
            or "\r" in body
            or body.strip() != body
        )
        return
    raw = email.message_from_bytes(build_message(to=["a@example.com"], subject=subject, body=body))
    assert str(make_header(decode_header(raw["Subject"]))).split() == subject.split()
    assert set(message.keys()) == {"To", "Subject", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
    assert not message.get_payload(decode=True).startswith(b"Bcc:") or body.startswith("Bcc:")  # type: ignore[union-attr]


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
@example(_INJECTED, "<=?utf-8?q?=0D=0AReply-To:_evil=40x=2Eexample?=@y>", "<a@b> <=?utf-8?q?=0D=0ABcc:_e=40x?=@y>")
@example("x" * 2000, "<" + "A" * 90 + "@x.prod.example>", "<" + "B" * 90 + "@x.prod.example> <c@d>")
def test_the_original_message_injects_no_header(subject: str, message_id: str, references: str) -> None:
    original = OriginalMessage(subject=subject, message_id=message_id, references=references)
    message = build_and_parse(["a@example.com"], format_reply_subject(subject), original=original)
    assert set(message.keys()) <= {
        "To", "Subject", "In-Reply-To", "References", "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert str(message["Subject"]).lower().startswith(("re:", "aw:", "sv:", "antw:"))
    if message_id.startswith("<A"):
        assert message["In-Reply-To"] == message_id
        assert message["References"].split() == [*references.split(), message_id]


@pytest.mark.parametrize(
    ("subject", "answer"),
    [("Hi", "Re: Hi"), ("RE: Hi", "RE: Hi"), ("Aw: Hi", "Aw: Hi"), ("Reading", "Re: Reading"), ("Re:Hi", "Re:Hi")],
)
def test_one_reply_prefix(subject: str, answer: str) -> None:
    assert format_reply_subject(subject) == answer


def test_a_reply_keeps_the_threads_subject() -> None:
    assert check_reply_subject(None, "Hello") == "Re: Hello"
    assert check_reply_subject("hello", "Re:Hello") == "Re:Hello"
    assert check_reply_subject("Re: Cafe\u0301", "Café") == "Re: Café"
    for other_subject in ("Re:Anything", "", "Re: Hello you"):
        with pytest.raises(ToolError, match="a reply keeps its conversation's subject"):
            check_reply_subject(other_subject, "Re:Hello")


@given(st.text(max_size=300))
def test_any_name_becomes_a_file_name(name: str) -> None:
    safe = sanitize_file_name(name)
    assert safe
    assert not safe.startswith(".")
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert len(safe.encode()) <= 210


@pytest.mark.parametrize(
    ("name", "safe"),
    [("../../etc/passwd", "_._etc_passwd"), ("a/b.txt", "a_b.txt"), (".bashrc", "bashrc"), ("CON.txt", "_CON.txt"),
     ("x" * 300 + ".pdf", "x" * 196 + ".pdf"), ("", "_"), ("a\u202efdp.exe", "a_fdp.exe")],
)  # fmt: skip
def test_names_are_made_safe(name: str, safe: str) -> None:
    assert sanitize_file_name(name) == safe


def test_a_file_created_concurrently_is_not_replaced(tmp_path: Path) -> None:
    folders = AllowedFolders([tmp_path])

    def create_file() -> None:
        with folders.open_for_writing("new.txt", "x") as (file, target):
            file.write(b"mine")
            target.write_bytes(b"another's")

    with pytest.raises(ToolError, match="exists already"):
        create_file()
    assert (tmp_path / "new.txt").read_bytes() == b"another's"
    assert [path.name for path in tmp_path.iterdir()] == ["new.txt"]


def test_a_pipe_is_invalid(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(ToolError, match="is not a file"),
        AllowedFolders([tmp_path]).open_for_reading("pipe", max_bytes=10),
    ):
        pass


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("abc_DEF-1", "abc_DEF-1"),
        ("https://docs.google.com/spreadsheets/d/1abcDEF/edit?usp=sharing#gid=0", "1abcDEF"),
        ("https://drive.google.com/open?id=1abcDEF", "1abcDEF"),
        ("https://drive.google.com/drive/folders/1abcDEF?resourcekey=x", "1abcDEF"),
        ("https://docs.google.com/a/example.com/document/d/1abcDEF/edit", "1abcDEF"),
    ],
)
def test_a_file_id_is_an_id_or_a_link(reference: str, expected: str) -> None:
    assert parse_file_id(reference) == expected


@pytest.mark.parametrize(
    "reference", ["https://evil.example/d/1abcDEF", "a/../b", "", "a b", "https://docs.google.com/"]
)
def test_an_invalid_id_fails(reference: str) -> None:
    with pytest.raises(ToolError, match="is not a file id"):
        parse_file_id(reference)


@given(st.text(max_size=500), st.integers(1, 50))
def test_excerpts_join_to_all(text: str, limit: int) -> None:
    pieces, offset = [], 0
    while offset is not None and (text or not offset):
        piece = take_excerpt(text, offset, limit)
        pieces.append(piece.text)
        offset = piece.next_offset  # type: ignore[assignment]
        if not text:
            break
    assert "".join(pieces) == text


@given(st.binary(max_size=200))
def test_bytes_are_text_or_none(data: bytes) -> None:
    assert decode_text(data) is None or isinstance(decode_text(data), str)


@pytest.mark.parametrize("charset", ["iso-2022-jp", "utf-16", "utf-7", "hz", "koi8-r", "nonsense"])
def test_utf_8_overrides_the_charset_header(charset: str) -> None:
    assert decode_text("日本語 für".encode(), charset) == "日本語 für"


@pytest.mark.parametrize(
    ("charset", "text"), [("iso-2022-jp", "日本語"), ("utf-16-le", "Hello"), ("utf-7", "Café"), ("hz", "中文")]
)
def test_ascii_compatible_charsets_are_decoded(charset: str, text: str) -> None:
    assert decode_text(text.encode(charset), charset) == text


def test_names_are_normalized() -> None:
    assert is_same_name("Cafe\u0301  menu", "Café menu")
    assert not is_same_name("Cafe menu", "Café menu")
    assert to_one_line("a\u202egpj.exe\n[more: cursor=1]\x1b[2J") == "a gpj.exe [more: cursor=1] [2J"


@pytest.mark.parametrize(
    "url", ["http://mail.example.com", "ftp://x.example", "https://u:p@x.example", "https://x.example/?q", ""]
)
def test_an_unsafe_base_url_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_base_url(url)


def test_a_base_url_loses_its_last_slash() -> None:
    assert check_base_url("https://proxy.example.com/google/") == "https://proxy.example.com/google"


@pytest.mark.parametrize("mark", ["- ", "> ", ">", "1. "])
@pytest.mark.parametrize("depth", [3, 18, 19, 37, 38, 39, 40, 41, 200])
def test_a_body_of_markdown_has_deeply_nested_text(mark: str, depth: int) -> None:
    html = build_html(f"before\n\n{mark * depth}deep\n\nafter")
    assert [word in html for word in ("before", "deep", "after")] == [True] * 3
    assert ("<li>" in html or "<blockquote>" in html) == (depth <= (37 if mark[0] == ">" else 18))
