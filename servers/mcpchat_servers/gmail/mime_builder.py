"""A message to send, made of what was asked for: nothing given can become a header or a recipient of its own."""

import email
import email.policy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.header import Header, decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.google.display_names import is_same_name, is_unsafe_char
from mcpchat_servers.google.folders import sanitize_file_name

MAX_ATTACHMENT_BYTES = 25 * 10**6  # bytes: what Gmail sends
MAX_RECIPIENTS = 100
MAX_SUBJECT_LENGTH = 900  # characters
MAX_NAME_LENGTH = 200  # characters of a recipient's name
_POLICY = EmailPolicy(linesep="\r\n", cte_type="7bit", raise_on_defect=True)
_NAMED_ADDRESS = re.compile(
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[^<>"@,;:\\()\[\]]*?))\s*<(?P<address>[^<>\s]+)>'
)
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_REPLY_PREFIX = re.compile(r"(?i)(re|aw|sv|antw)\s*:\s*")
_ALLOWED_HEADERS = {
    "to", "cc", "bcc", "subject", "in-reply-to", "references", "mime-version", "content-type",
    "content-transfer-encoding",
}  # fmt: skip
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,400}>")


@dataclass(frozen=True)
class OutgoingFile:
    """What is attached: a name, a media type such as ``application/pdf``, the bytes."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class OriginalMessage:
    """The message that is replied to: its subject, its Message-ID and its References, as they came."""

    subject: str
    message_id: str
    references: str


def parse_recipient(text: str) -> Address:
    """One address, ``ada@example.com`` or ``Ada Lovelace <ada@example.com>``. Raises ToolError for anything else."""
    value = text.strip()
    match = _NAMED_ADDRESS.fullmatch(value)
    name = (re.sub(r"\\(.)", r"\1", match["quoted"] or "") or match["name"] or "").strip() if match else ""
    address = match["address"] if match else value
    local, separator, domain = address.rpartition("@")
    try:
        host = domain.encode("idna").decode() if domain and not domain.isascii() else domain
    except UnicodeError:
        host = ""
    is_valid = (
        separator
        and _LOCAL_PART.fullmatch(local)
        and _DOMAIN.fullmatch(host)
        and len(address) <= 254
        and len(local) <= 64
    )
    if not is_valid or any(map(is_unsafe_char, name)) or "=?" in name or len(name) > MAX_NAME_LENGTH:
        raise ToolError(
            f"{value[:100]!r} is no address: expected ada@example.com or Ada Lovelace <ada@example.com>, one a string"
        )
    return Address(display_name=name, username=local, domain=host)


def build_message(
    *,
    to: Sequence[str],
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    subject: str,
    body: str,
    files: Sequence[OutgoingFile] = (),
    original: OriginalMessage | None = None,
) -> bytes:
    """The message as it is sent. Raises ToolError for what cannot stand in one."""
    recipients = {
        name: [parse_recipient(item) for item in addresses]
        for name, addresses in (("To", to), ("Cc", cc), ("Bcc", bcc))
    }
    if sum(map(len, recipients.values())) > MAX_RECIPIENTS:
        raise ToolError(f"more than {MAX_RECIPIENTS} recipients")
    header_lines = [_format_address_header(name, addresses) for name, addresses in recipients.items() if addresses]
    header_lines.append(f"Subject: {_encode_header(_check_subject(subject))}\r\n")
    if original is not None and (original_ids := _find_message_ids(original.message_id)[:1]):
        ids = [*_find_message_ids(original.references)[-20:], original_ids[0]]
        header_lines += [f"In-Reply-To: {original_ids[0]}\r\n", "References: " + "\r\n ".join(ids) + "\r\n"]
    message = EmailMessage(policy=_POLICY)
    if "\0" in body:
        raise ToolError("body: a NUL cannot be sent")
    message.set_content(body)
    if sum(len(file.data) for file in files) > MAX_ATTACHMENT_BYTES:
        raise ToolError(
            f"Gmail sends attachments of at most {MAX_ATTACHMENT_BYTES:,} bytes in all: share them by Drive"
        )
    for file in files:
        maintype, _, subtype = file.media_type.partition("/")
        if maintype in {"message", "multipart"}:  # which may not be encoded
            maintype, subtype = "application", "octet-stream"
        message.add_attachment(file.data, maintype=maintype, subtype=subtype, filename=sanitize_file_name(file.name))
    # The email package decodes what is set as a header, folds it, and loses quotes: it writes none that anybody gave.
    data = "".join(header_lines).encode("ascii") + message.as_bytes()
    _verify_message(data, recipients, subject, body)
    return data


def _format_address_header(name: str, recipients: Sequence[Address]) -> str:
    """A header of addresses, one a line. The email package's own folding loses quotes, and with them who gets it."""
    return f"{name}: " + ",\r\n ".join(map(_format_mailbox, recipients)) + "\r\n"


def _format_mailbox(address: Address) -> str:
    if not address.display_name:
        return address.addr_spec
    if address.display_name.isascii() and "=?" not in address.display_name:
        escaped = re.sub(r'([\\"])', r"\\\1", address.display_name)
        return f'"{escaped}" <{address.addr_spec}>'
    return f"{_encode_header(address.display_name)} <{address.addr_spec}>"


def _encode_header(text: str) -> str:
    """A text as a header holds it: as it is, or in encoded words where it would be taken for something else."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8").encode(linesep="\r\n", maxlinelen=70)


def _find_message_ids(text: str) -> list[str]:
    return [message_id for message_id in _MESSAGE_ID.findall(text) if "=?" not in message_id]


def _verify_message(data: bytes, recipients: Mapping[str, Sequence[Address]], subject: str, body: str) -> None:
    """Hold what is sent against what was asked for. Raises ToolError where anything would be added or lost."""
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    names = [name.lower() for name in parsed]
    if len(names) != len(set(names)) or not set(names) <= _ALLOWED_HEADERS:
        raise ToolError("this cannot be written into a mail without headers of its own")
    for name, expected in recipients.items():
        header = parsed[name]
        actual = [address.addr_spec for address in header.addresses] if header is not None else []
        if actual != [address.addr_spec for address in expected]:
            raise ToolError(f"{name}: these names and addresses cannot be written into a mail; leave the names out")
    raw = email.message_from_bytes(data, policy=email.policy.compat32)
    if str(make_header(decode_header(raw["Subject"]))).split() != subject.split():
        raise ToolError("subject: this cannot be written into a mail as it is")
    text = parsed.get_body(("plain",))
    if text is None or str(text.get_content()).split() != body.split():
        raise ToolError("body: this cannot be written into a mail as it is")


def format_reply_subject(subject: str) -> str:
    """The subject of a reply."""
    cleaned = " ".join("".join(" " if is_unsafe_char(char) else char for char in subject).split())[
        : MAX_SUBJECT_LENGTH - 4
    ]
    return cleaned if _REPLY_PREFIX.match(cleaned) else f"Re: {cleaned}"


def check_reply_subject(requested: str | None, original: str) -> str:
    """The subject of a reply. Gmail begins another conversation where it is another's. Raises ToolError there."""
    expected = format_reply_subject(original)
    if requested is not None and not is_same_name(
        _REPLY_PREFIX.sub("", requested.strip()).lower(), _REPLY_PREFIX.sub("", expected).lower()
    ):
        raise ToolError(
            f"subject: a reply keeps its conversation's, {expected!r}: leave it out, or write a new message"
        )
    return expected


def _check_subject(text: str) -> str:
    if any(map(is_unsafe_char, text)):
        raise ToolError("subject: expected one line, without control characters")
    if len(text) > MAX_SUBJECT_LENGTH:
        raise ToolError(f"subject: longer than {MAX_SUBJECT_LENGTH} characters")
    return text
