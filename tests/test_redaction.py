"""Secrets in every form that they could show up in, and cut in two by a stream."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.core import events as ev
from mcpchat.core.messages import Message, Text, ToolCall
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.util.redaction import REDACTED, SecretRegistry, StreamRedactor

OURS = 'pa/ss+"wörd"-1234'
TOKENS = [
    "sk-proj-abcDEF123456ghiJKL7890",
    "ya29.a0AfH6SMBx1234567890abcdef",
    "1//0gabcdefghijklmnopqrstu",
    "GOCSPX-abcdefghijkl",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghij_klmnop",
    "glpat-abcdefghijklmnopqrst",
    "xoxb-1234567890-abcdefghij",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
]
HARMLESS = "task-list, risk-free, disk-usage-of-all-the-folders; eyJ is how JSON begins; see sk- and ghp_ in the docs."


@pytest.fixture
def secrets() -> SecretRegistry:
    made = SecretRegistry()
    made.add(OURS)
    return made


@pytest.mark.parametrize(
    "form",
    [
        OURS,
        quote(OURS, safe=""),
        quote(OURS, safe="").lower(),
        json.dumps(OURS)[1:-1],
        json.dumps(OURS, ensure_ascii=False)[1:-1],
        base64.b64encode(OURS.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(OURS.encode()).decode().rstrip("="),
        OURS.encode().hex(),
    ],
    ids=range(8),
)
def test_a_secret_of_ours_goes_in_every_form(secrets: SecretRegistry, form: str) -> None:
    assert secrets.redact(f"<{form}>") == f"<{REDACTED}>"


@pytest.mark.parametrize("token", TOKENS)
def test_what_can_only_be_a_secret_goes_whoever_it_belongs_to(token: str) -> None:
    assert SecretRegistry().redact(f"it is {token}, keep it") == f"it is {REDACTED}, keep it"


def test_words_that_begin_like_a_secret_stay() -> None:
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
def test_names_that_begin_like_a_secret_stay(name: str) -> None:
    assert SecretRegistry().redact(name) == name


def test_arguments_that_hold_the_beginning_of_a_key_stay_json() -> None:
    arguments = json.dumps({"content": 'explain -----BEGIN RSA PRIVATE KEY-----\nMII"x', "x": 1})
    assert json.loads(SecretRegistry().redact(arguments)) == {"content": f'explain {REDACTED}"x', "x": 1}


def test_each_line_of_a_key_is_a_secret() -> None:
    secrets = SecretRegistry()
    secrets.add("-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END PRIVATE KEY-----")
    assert secrets.redact("line: MIIEowIBAAKCAQEA") == f"line: {REDACTED}"


def test_a_secret_that_is_a_word_of_ours_breaks_no_event() -> None:
    secrets = SecretRegistry()
    secrets.add("arguments")
    event = ev.ToolStarted(call=ToolCall(id="c", name="a__b", arguments="{}"), tool="arguments")
    assert secrets.redact_value(event) == ev.ToolStarted(call=event.call, tool=REDACTED)


def test_a_log_loses_what_only_looks_like_a_secret_too() -> None:
    line = "GET /callback?code=abc123def&state=xyz789 Authorization: Bearer abcdefgh12345"
    assert SecretRegistry().redact_log(line) == (
        f"GET /callback?code={REDACTED}&state={REDACTED} Authorization: Bearer {REDACTED}"
    )


def test_all_texts_of_an_event_lose_it_and_the_event_stays_what_it_was(secrets: SecretRegistry) -> None:
    call = ToolCall(id="c", name="a__b", arguments=json.dumps({"key": [OURS, {"in": OURS}]}))
    event = ev.MessageAdded(message=Message(role="assistant", parts=(Text(text=f"a {OURS}"), call), raw={"x": OURS}))
    shown = secrets.redact_value(event)
    assert isinstance(shown, ev.MessageAdded)
    assert "1234" not in ev.to_json(shown).decode()
    assert json.loads(shown.message.calls[0].arguments) == {"key": [REDACTED, {"in": REDACTED}]}


TEXTS = st.lists(
    st.sampled_from([OURS, *TOKENS, HARMLESS, " ", "\n", "x", "sk-", "eyJ", "-----BEGIN ", OURS[:7], "pa"]), max_size=9
)


@given(TEXTS, st.lists(st.integers(1, 12), min_size=1))
def test_a_stream_cut_anywhere_shows_what_the_whole_text_would(pieces: list[str], cuts: list[int]) -> None:
    secrets = SecretRegistry()
    secrets.add(OURS)
    whole = "".join(f"{piece} " for piece in pieces)
    stream, shown, left = StreamRedactor(secrets), "", whole
    for turn in range(len(whole)):
        cut = cuts[turn % len(cuts)]
        shown += stream.feed(left[:cut])
        left = left[cut:]
        assert OURS not in shown
    assert shown + stream.flush() == secrets.redact(whole)


def test_what_is_no_secret_is_not_held_back() -> None:
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("Hello, ") == "Hello, "
    assert stream.feed("a sk") == "a "
    assert stream.feed("ate") == "skate"


def test_events_are_passed_on_without_secrets_and_what_is_held_comes_before_the_message(
    secrets: SecretRegistry,
) -> None:
    seen: list[ev.Event] = []
    emit = RedactingEmitter(seen.append, secrets)
    for piece in ("It is ", OURS[:5], OURS[5:], " and s"):
        emit(ev.TextDelta(text=piece))
    emit(ev.ReasoningDelta(text=f"hm {OURS}"))
    said = Message(role="assistant", parts=(Text(text=f"It is {OURS} and s"),))
    emit(ev.MessageAdded(message=said))
    text = "".join(event.text for event in seen if isinstance(event, ev.TextDelta))
    assert text == f"It is {REDACTED} and s"
    assert seen[-1] == ev.MessageAdded(message=Message(role="assistant", parts=(Text(text=text),)))
    assert "".join(e.text for e in seen if isinstance(e, ev.ReasoningDelta)) == f"hm {REDACTED}"
