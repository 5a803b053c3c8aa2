"""Builds MIME messages to send. No argument can add a header or a recipient."""

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

MAX_ATTACHMENT_BYTES = 25 * 10**6  # Gmail's limit
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
_FORWARD_PREFIX = re.compile(r"(?i)(fwd?|wg|tr)\s*:\s*")
_ALLOWED_HEADERS = {
    "from", "to", "cc", "bcc", "subject", "in-reply-to", "references", "mime-version", "content-type",
    "content-transfer-encoding",
}  # fmt: skip
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,400}>")


@dataclass(frozen=True)
class OutgoingFile:
    """A file to attach: name, media type such as ``application/pdf``, bytes."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class OriginalMessage:
    """The message that is replied to: its Subject, Message-ID and References headers, unchanged."""

    subject: str
    message_id: str
    references: str


def parse_recipient(text: str) -> Address:
    """Parse ``ada@example.com`` or ``Ada Lovelace <ada@example.com>``. Raises ToolError if the address is invalid."""
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
            f"{value[:100]!r} is not an address: expected ada@example.com or Ada Lovelace <ada@example.com>"
        )
    return Address(display_name=name, username=local, domain=host)


def build_message(
    *,
    to: Sequence[str],
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    subject: str,
    body: str,
    html: str = "",
    sender: Address | None = None,
    files: Sequence[OutgoingFile] = (),
    original: OriginalMessage | None = None,
) -> bytes:
    """Build the message to send as bytes. Raises ToolError if an argument is invalid or too large.

    ``html`` is the same text as HTML, if it is sent too. Without a ``sender``, Gmail adds the account's own address.
    """
    recipients = {
        name: [parse_recipient(item) for item in addresses]
        for name, addresses in (("To", to), ("Cc", cc), ("Bcc", bcc))
    }
    if sum(map(len, recipients.values())) > MAX_RECIPIENTS:
        raise ToolError(f"more than {MAX_RECIPIENTS} recipients")
    header_lines = [_format_address_header("From", [sender])] if sender is not None else []
    header_lines += [_format_address_header(name, addresses) for name, addresses in recipients.items() if addresses]
    header_lines.append(f"Subject: {_encode_header(_check_subject(subject))}\r\n")
    if original is not None and (original_ids := _find_message_ids(original.message_id)[:1]):
        ids = [*_find_message_ids(original.references)[-20:], original_ids[0]]
        header_lines += [f"In-Reply-To: {original_ids[0]}\r\n", "References: " + "\r\n ".join(ids) + "\r\n"]
    message = EmailMessage(policy=_POLICY)
    if "\0" in body:
        raise ToolError("body: a NUL character cannot be sent")
    message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
    if sum(len(file.data) for file in files) > MAX_ATTACHMENT_BYTES:
        raise ToolError(
            f"Gmail sends attachments of at most {MAX_ATTACHMENT_BYTES:,} bytes in total: share them with Drive"
        )
    for file in files:
        maintype, _, subtype = file.media_type.partition("/")
        if maintype in {"message", "multipart"}:  # these types must not be encoded
            maintype, subtype = "application", "octet-stream"
        message.add_attachment(file.data, maintype=maintype, subtype=subtype, filename=sanitize_file_name(file.name))
    # The headers with user input are written here: the email package decodes and folds header values and loses quotes.
    data = "".join(header_lines).encode("ascii") + message.as_bytes()
    _verify_message(data, {"From": [sender] if sender is not None else [], **recipients}, subject, body, html)
    return data


def _format_address_header(name: str, recipients: Sequence[Address]) -> str:
    """Format an address header, one address per line.

    The email package's folding loses quotes, which can change the recipients.
    """
    return f"{name}: " + ",\r\n ".join(map(_format_mailbox, recipients)) + "\r\n"


def _format_mailbox(address: Address) -> str:
    if not address.display_name:
        return address.addr_spec
    if address.display_name.isascii() and "=?" not in address.display_name:
        escaped = re.sub(r'([\\"])', r"\\\1", address.display_name)
        return f'"{escaped}" <{address.addr_spec}>'
    return f"{_encode_header(address.display_name)} <{address.addr_spec}>"


def _encode_header(text: str) -> str:
    """Encode a text for a header: unchanged, or as encoded words if it is not ASCII or looks like an encoded word."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8").encode(linesep="\r\n", maxlinelen=70)


def _find_message_ids(text: str) -> list[str]:
    return [message_id for message_id in _MESSAGE_ID.findall(text) if "=?" not in message_id]


def _verify_message(
    data: bytes, mailboxes: Mapping[str, Sequence[Address]], subject: str, body: str, html: str
) -> None:
    """Parse the built message and compare it with the arguments. Raises ToolError if anything was added or lost."""
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    names = [name.lower() for name in parsed]
    if len(names) != len(set(names)) or not set(names) <= _ALLOWED_HEADERS:
        raise ToolError("this message cannot be encoded without additional headers")
    for name, expected in mailboxes.items():
        header = parsed[name]
        actual = [address.addr_spec for address in header.addresses] if header is not None else []
        if actual != [address.addr_spec for address in expected]:
            raise ToolError(f"{name}: these names and addresses cannot be encoded in an email; omit the names")
    raw = email.message_from_bytes(data, policy=email.policy.compat32)
    if str(make_header(decode_header(raw["Subject"]))).split() != subject.split():
        raise ToolError("subject: this text cannot be encoded in an email")
    text = parsed.get_body(("plain",))
    if text is None or str(text.get_content()).split() != body.split():
        raise ToolError("body: this text cannot be encoded in an email")
    alternative = parsed.get_body(("html",))
    if (str(alternative.get_content()).split() if alternative is not None else []) != html.split():
        raise ToolError("body: this text cannot be encoded as HTML in an email")


def format_reply_subject(subject: str) -> str:
    """Return the subject of a reply: with "Re:", on one line, at most MAX_SUBJECT_LENGTH characters."""
    cleaned = _clean_subject(subject)
    return cleaned if _REPLY_PREFIX.match(cleaned) else f"Re: {cleaned}"


def _clean_subject(subject: str) -> str:
    """Return a received subject on one line, short enough for a prefix."""
    cleaned = "".join(" " if is_unsafe_char(char) else char for char in subject)
    return " ".join(cleaned.split())[: MAX_SUBJECT_LENGTH - 5]


def check_forward_subject(requested: str, original: str) -> str:
    """Return the subject of a forwarded message. Raises ToolError if it does not have the original's subject."""
    expected = _clean_subject(original)
    if not is_same_name(_FORWARD_PREFIX.sub("", requested.strip()).lower(), _FORWARD_PREFIX.sub("", expected).lower()):
        raise ToolError(f"subject: the message's subject is {expected!r}; expected the same")
    return expected if _FORWARD_PREFIX.match(expected) else f"Fwd: {expected}"


def check_reply_subject(requested: str | None, original: str) -> str:
    """Return the subject of a reply. Raises ToolError if the ``requested`` one differs from the original's.

    With a different subject Gmail would start a new conversation.
    """
    expected = format_reply_subject(original)
    if requested is not None and not is_same_name(
        _REPLY_PREFIX.sub("", requested.strip()).lower(), _REPLY_PREFIX.sub("", expected).lower()
    ):
        raise ToolError(
            f"subject: a reply keeps its conversation's subject, {expected!r}: give this, or write a new message"
        )
    return expected


def _check_subject(text: str) -> str:
    if any(map(is_unsafe_char, text)):
        raise ToolError("subject: expected one line, without control characters")
    if len(text) > MAX_SUBJECT_LENGTH:
        raise ToolError(f"subject: longer than {MAX_SUBJECT_LENGTH} characters")
    return text
