"""Redaction of secrets in every form in which they can appear, also if a stream splits them."""

import base64
import html
import itertools
import json
import textwrap
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.core import events as ev
from mcpchat.core.messages import Message, Text, ToolCall
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.util.redaction import REDACTED, SecretRegistry, StreamRedactor

OWN_SECRET = 'pa/ss+"wörd"-1234'
TOKENS = [
    "sk-proj-abcDEF123456ghiJKL7890",
    "ya29.a0AfH6SMBx1234567890abcdef",
    "1//0gabcdefghijklmnopqrstu",
    "GOCSPX-abcdefghijkl",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghij_klmnop",
    "glpat-abcdefghijklmnopq1st",
    "xoxb-1234567890-abcdefghij",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
]
HARMLESS = "task-list, risk-free, disk-usage-of-all-the-folders; eyJ is how JSON begins; see sk- and ghp_ in the docs."


@pytest.fixture
def secrets() -> SecretRegistry:
    registry = SecretRegistry()
    registry.add(OWN_SECRET)
    return registry


@pytest.mark.parametrize(
    "form",
    [
        OWN_SECRET,
        quote(OWN_SECRET, safe=""),
        quote(OWN_SECRET, safe="").lower(),
        json.dumps(OWN_SECRET)[1:-1],
        json.dumps(OWN_SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(OWN_SECRET.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(OWN_SECRET.encode()).decode().rstrip("="),
        OWN_SECRET.encode().hex(),
    ],
    ids=range(8),
)
def test_a_known_secret_is_redacted_in_every_form(secrets: SecretRegistry, form: str) -> None:
    assert secrets.redact(f"<{form}>") == f"<{REDACTED}>"


def _escape_all(text: str, template: str) -> str:
    return "".join(template.format(ord(character)) for character in text)


ENCODINGS = {
    "Go's JSON": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].translate(
        {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
    ),
    ".NET's JSON": lambda text: "".join(
        character if character.isascii() and character.isalnum() else f"\\u{ord(character):04X}" for character in text
    ),
    "PHP's JSON": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "encodeURIComponent": lambda text: quote(text, safe="!'()*-_.~"),
    "lower-case percent encoding of everything": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "UTF-16": lambda text: "\0".join(text) + "\0",
    "hex with blanks": lambda text: text.encode().hex(" "),
    "hex with colons": lambda text: text.encode().hex(":").upper(),
    "C escapes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "JSON escapes of everything": lambda text: _escape_all(text, "\\u{:04x}"),
    "decimal entities": lambda text: _escape_all(text, "&#{};"),
    "hexadecimal entities": lambda text: _escape_all(text, "&#X{:x};"),
    "HTML": html.escape,
    "base64 of UTF-16": lambda text: base64.b64encode(f"a{text}b".encode("utf-16-le")).decode(),
    "percent encoding within JSON": lambda text: json.dumps(quote(text))[1:-1],
}
ENCODINGS |= {
    "base64 in lines": lambda text: "\n".join(textwrap.wrap(base64.b64encode(f"user:{text}".encode()).decode(), 8)),
    "base64 in lines of JSON": lambda text: json.dumps(
        "\n".join(textwrap.wrap(base64.b64encode(text.encode()).decode(), 7))
    )[1:-1],
    "hex in pairs of bytes": lambda text: text.encode().hex(" ", 2),
    "hex in lines": lambda text: "\n".join(textwrap.wrap(text.encode().hex(" "), 12)),
    "an array of bytes": lambda text: "{" + ", ".join(f"0x{byte:02X}" for byte in text.encode()) + "}",
    "hex of UTF-16": lambda text: text.encode("utf-16-be").hex(),
    "octal escapes": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "braced escapes": lambda text: _escape_all(text, "\\u{{{:x}}}"),
    "doubled escapes": lambda text: _escape_all(text, "\\\\u{:04x}"),
    "JSON within JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "JSON within JSON within JSON": lambda text: json.dumps(json.dumps(json.dumps(text)))[7:-7],
    "percent encoding, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "a colour for each letter": lambda text: "\x1b[1m".join(text),
    "another character set": lambda text: "\x1b(B".join(text),
    "a link in it": lambda text: f"{text[:4]}\x1b]8;;http://x.example\x1b\\{text[4:]}",
    "a hidden cursor": lambda text: "\x1b[?25l".join((text[:4], text[4:])),
    "8-bit controls": lambda text: "\x9b31m".join((text[:4], text[4:])),
    "bold by overstriking": lambda text: "".join(f"{character}\b{character}" for character in text),
    "underlined by overstriking": lambda text: "".join(f"_\b{character}" for character in text),
}
AWKWARD_SECRETS = [OWN_SECRET, "a<b>&c='d'/e+f", "plain-secret-12", "!'()*~ab cd", "naïve/ß€uro"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", AWKWARD_SECRETS)
def test_a_known_secret_is_redacted_in_every_encoding(encoding: str, secret: str) -> None:
    secrets = SecretRegistry()
    secrets.add(secret)
    encoded = ENCODINGS[encoding](secret)
    redacted = secrets.redact(f"<{encoded}>")
    assert REDACTED in redacted
    assert len(redacted) <= len(REDACTED) + 12  # of base64, the letters that also depend on what is beside it
    stream, shown = StreamRedactor(secrets), ""
    for character in f"<{encoded}>":
        shown += stream.feed(character)
    assert (shown + stream.flush()).replace("\0", "") == redacted.replace("\0", "")


@given(
    st.sampled_from(AWKWARD_SECRETS),
    st.sampled_from(sorted(ENCODINGS)),
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
)
def test_an_encoded_secret_is_redacted_wherever_a_stream_is_cut(secret: str, encoding: str, cuts: list[int]) -> None:
    secrets = SecretRegistry()
    secrets.add(secret)
    text = remaining = f"50% off & more \\ {ENCODINGS[encoding](secret)} \\u00 &am %4 {HARMLESS}"
    stream, shown = StreamRedactor(secrets), ""
    for length in itertools.cycle(cuts):
        shown += stream.feed(remaining[:length])
        remaining = remaining[length:]
        if not remaining:
            break
    assert (shown + stream.flush()).replace("\0", "") == secrets.redact(text).replace("\0", "")


@pytest.mark.parametrize(
    "text", ["100% of \\n \\u004 &amp; &#99999999; &#x110000; \\\\u0041 \0 %zz", "%" * 3000, "\\" * 3001]
)
def test_escapes_that_are_no_secret_are_kept(secrets: SecretRegistry, text: str) -> None:
    assert secrets.redact(text) == text
    stream = StreamRedactor(secrets)
    assert "".join(map(stream.feed, text)) + stream.flush() == text


@pytest.mark.parametrize("token", TOKENS)
def test_unknown_tokens_are_redacted_by_their_format(token: str) -> None:
    assert SecretRegistry().redact(f"it is {token}, keep it") == f"it is {REDACTED}, keep it"


def test_words_that_begin_like_a_secret_are_kept() -> None:
    assert SecretRegistry().redact(HARMLESS) == HARMLESS


@pytest.mark.parametrize(
    "name",
    [
        "https://example.com/news/sk-hynix-reports-record-q3-2024-results",
        "sk-learn-tutorial-for-beginners-2024.ipynb",
        "npm_config_and_other_environment_variables_test.py",
        "hf_transformers_text_generation_inference_test",
    ],
)
def test_names_that_begin_like_a_secret_are_kept(name: str) -> None:
    assert SecretRegistry().redact(name) == name


def test_redacted_arguments_stay_json() -> None:
    arguments = json.dumps({"content": 'explain -----BEGIN RSA PRIVATE KEY-----\nMII"x', "x": 1})
    assert json.loads(SecretRegistry().redact(arguments)) == {"content": f'explain {REDACTED}"x', "x": 1}


def test_each_line_of_a_key_is_a_secret() -> None:
    secrets = SecretRegistry()
    secrets.add("-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END PRIVATE KEY-----")
    assert secrets.redact("line: MIIEowIBAAKCAQEA") == f"line: {REDACTED}"


def test_a_secret_that_equals_a_field_name_breaks_no_event() -> None:
    secrets = SecretRegistry()
    secrets.add("arguments")
    event = ev.ToolStarted(call=ToolCall(id="c", name="a__b", arguments="{}"), tool="arguments")
    assert secrets.redact_value(event) == ev.ToolStarted(call=event.call, tool=REDACTED)


def test_a_log_has_no_password_of_a_url() -> None:
    secrets = SecretRegistry()
    assert secrets.redact_log("to postgres://ann:hunter2@db.example/x failed") == (
        f"to postgres://ann:{REDACTED}@db.example/x failed"
    )
    assert secrets.redact_log("see http://[::1]:80/a, a@b.example") == "see http://[::1]:80/a, a@b.example"


def test_a_log_also_redacts_likely_secrets() -> None:
    line = "GET /callback?code=abc123def&state=xyz789 Authorization: Bearer abcdefgh12345"
    assert SecretRegistry().redact_log(line) == (
        f"GET /callback?code={REDACTED}&state={REDACTED} Authorization: Bearer {REDACTED}"
    )


def test_all_texts_of_an_event_are_redacted(secrets: SecretRegistry) -> None:
    call = ToolCall(id="c", name="a__b", arguments=json.dumps({"key": [OWN_SECRET, {"in": OWN_SECRET}]}))
    event = ev.MessageAdded(
        message=Message(role="assistant", parts=(Text(text=f"a {OWN_SECRET}"), call), raw={"x": OWN_SECRET})
    )
    redacted = secrets.redact_value(event)
    assert isinstance(redacted, ev.MessageAdded)
    assert "1234" not in ev.to_json(redacted).decode()
    assert json.loads(redacted.message.calls[0].arguments) == {"key": [REDACTED, {"in": REDACTED}]}


TEXTS = st.lists(
    st.sampled_from([OWN_SECRET, *TOKENS, HARMLESS, " ", "\n", "x", "sk-", "eyJ", "-----BEGIN ", OWN_SECRET[:7], "pa"]),
    max_size=9,
)


@given(TEXTS, st.lists(st.integers(1, 12), min_size=1))
def test_a_split_stream_is_redacted_like_the_whole(words: list[str], cuts: list[int]) -> None:
    secrets = SecretRegistry()
    secrets.add(OWN_SECRET)
    text = "".join(f"{word} " for word in words)
    stream, redacted, remaining = StreamRedactor(secrets), "", text
    for start in range(len(text)):
        length = cuts[start % len(cuts)]
        redacted += stream.feed(remaining[:length])
        remaining = remaining[length:]
        assert OWN_SECRET not in redacted
    assert redacted + stream.flush() == secrets.redact(text)


def test_other_text_is_not_held_back() -> None:
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("Hello, ") == "Hello, "
    assert stream.feed("a sk") == "a "
    assert stream.feed("ate") == "skate"


def test_events_are_redacted_and_held_text_precedes_the_message(
    secrets: SecretRegistry,
) -> None:
    seen_events: list[ev.Event] = []
    emit = RedactingEmitter(seen_events.append, secrets)
    for piece in ("It is ", OWN_SECRET[:5], OWN_SECRET[5:], " and s"):
        emit(ev.TextDelta(text=piece))
    emit(ev.ReasoningDelta(text=f"hm {OWN_SECRET}"))
    message = Message(role="assistant", parts=(Text(text=f"It is {OWN_SECRET} and s"),))
    emit(ev.MessageAdded(message=message))
    text = "".join(event.text for event in seen_events if isinstance(event, ev.TextDelta))
    assert text == f"It is {REDACTED} and s"
    assert seen_events[-1] == ev.MessageAdded(message=Message(role="assistant", parts=(Text(text=text),)))
    assert "".join(e.text for e in seen_events if isinstance(e, ev.ReasoningDelta)) == f"hm {REDACTED}"
