"""The formats and encodings of secrets at their limits, and streams that end at every character."""

import base64
import html
import itertools
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.util.redaction import REDACTED, SecretRegistry, StreamRedactor
from mcpchat.util.sanitize import strip_invisible

WORD = "_aAmMzZ059"  # the characters of a token: word characters, with or without a dash or an underscore
DASHED = "-" + WORD
PLAIN = WORD[1:]
FORMATS = [
    ("ya29.", 20, DASHED), ("1//0", 20, DASHED), ("GOCSPX-", 10, DASHED), ("AIza", 30, DASHED), ("glpat-", 16, DASHED),
    ("github_pat_", 20, WORD), ("sk_live_", 16, WORD), ("rk_live_", 16, WORD), ("whsec_", 16, WORD),
    ("npm_", 30, PLAIN), ("hf_", 30, PLAIN), ("sk_test_", 16, WORD), ("rk_test_", 16, WORD), ("pypi-", 50, DASHED),
    ("ATATT3", 20, DASHED), ("ATCTT3", 20, DASHED), ("dckr_pat_", 20, DASHED), ("dckr_oat_", 20, DASHED),
    ("dop_v1_", 60, PLAIN), ("doo_v1_", 60, PLAIN), ("lin_api_", 30, PLAIN), ("gsk_", 40, PLAIN), ("xai-", 60, PLAIN),
    *((f"shp{kind}_", 30, PLAIN) for kind in ("at", "ss", "ca", "pa")),
    ("ntn_", 30, PLAIN), ("secret_", 40, PLAIN), ("hvs.", 20, DASHED), ("hvb.", 20, DASHED), ("hvr.", 20, DASHED),
    ("AGE-SECRET-KEY-1", 50, "AMZ059"),
    ("xapp-", 10, DASHED), ("tskey-", 20, DASHED), ("sq0atp-", 20, DASHED), ("sb_secret_", 20, DASHED),
    ("figd_", 30, DASHED), ("PMAK-", 30, DASHED), ("pscale_pw_", 30, DASHED), ("lin_oauth_", 30, PLAIN),
    ("r8_", 30, PLAIN), ("pplx-", 30, PLAIN), ("dp.pt.", 30, WORD), ("glsa_", 30, WORD), ("sntrys_", 30, "+/=" + WORD),
    ("key-", 32, "0a1f"), ("dapi", 32, "0a1f"), ("pul-", 40, PLAIN), ("rubygems_", 40, PLAIN), ("sbp_", 40, PLAIN),
    ("nvapi-", 40, DASHED), *((f"gl{kind}-", 16, DASHED) for kind in ("dt", "rt", "ptt", "oas")),
    *((f"gh{kind}_", 20, WORD) for kind in "pousr"),
    *((f"xox{kind}-", 10, DASHED) for kind in "abeoprs"),
]  # fmt: skip


def body(length: int, characters: str) -> str:
    return (characters * length)[:length]


SHORTEST_TOKENS = [
    *(prefix + body(length, characters) for prefix, length, characters in FORMATS),
    f"sk-{body(16, PLAIN)}-_-_",
    f"sk--_-_{body(16, PLAIN)}",
    "eyJ-_aZ0129.eyJ-_a9.-_aZ09",
    "eyJ-_aZ0129.eyJ-_a9.",  # a token without a signature
    "SG.-_aZ0123456789-_.-_aZ0123456789-_",
    "-----BEGIN PRIVATE KEY-----\nMII+/=\n-----END PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: me <a@b.c> (x)\n\nMII\n-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED.\r\n\r\nA----B\r\n-----END RSA PRIVATE KEY-----",
    r"-----BEGIN PRIVATE KEY-----\r\nMII\r\n-----END PRIVATE KEY-----",
]
TOO_SHORT = [
    *(prefix + body(length - 1, characters) for prefix, length, characters in FORMATS),
    f"sk-{body(16, PLAIN)}-_-",
    f"sk-{body(15, PLAIN)}-_-_{body(15, PLAIN)}",
    "eyJ-_aZ019.eyJ-_a9.-_aZ09",
    "eyJ-_aZ0129.eyJ-_a.-_aZ09",
]


@pytest.mark.parametrize("token", SHORTEST_TOKENS)
def test_the_shortest_token_of_a_format_is_redacted(token: str) -> None:
    assert SecretRegistry().redact(f"it is ({token}) now") == f"it is ({REDACTED}) now"


@pytest.mark.parametrize("text", TOO_SHORT)
def test_a_text_that_is_too_short_for_a_token_is_kept(text: str) -> None:
    assert SecretRegistry().redact(f"it is ({text}) now") == f"it is ({text}) now"


@pytest.mark.parametrize("before", ["x", "-"])
def test_a_token_does_not_begin_inside_a_word(before: str) -> None:
    texts = [before + token for token in SHORTEST_TOKENS if not token.startswith("-")]
    assert [SecretRegistry().redact(text) for text in texts] == texts


def test_the_header_of_a_key_alone_is_redacted() -> None:
    assert SecretRegistry().redact('"-----BEGIN EC PRIVATE KEY-----" begins') == f'"{REDACTED}" begins'


@pytest.mark.parametrize("token", SHORTEST_TOKENS)
def test_a_stream_shows_no_part_of_a_token_and_all_text_around_it(token: str) -> None:
    """Character by character: nothing is shown while the token may go on, everything as soon as it has ended."""
    stream = StreamRedactor(SecretRegistry())
    assert "".join(map(stream.feed, "see (")) == "see ("
    assert "".join(map(stream.feed, token)) in {"", REDACTED}
    rest = "".join(map(stream.feed, ") and more"))
    assert rest.removeprefix(REDACTED) == ") and more"
    assert stream.flush() == ""


@pytest.mark.parametrize("token", SHORTEST_TOKENS)
def test_a_token_that_is_split_in_two_is_not_shown(token: str) -> None:
    for length in range(1, len(token)):
        stream = StreamRedactor(SecretRegistry())
        assert stream.feed(f"see ({token[:length]}") == "see ("
        assert stream.feed(f"{token[length:]}) now") + stream.flush() == f"{REDACTED}) now"


@pytest.mark.parametrize(
    "text",
    [
        "a task", "a task-list", "well-s", "x-eyJ", "ygh", "see sk-abc and ", "see ghp_ for", "-----BEGIN of",
        "-----BEGIN it all ", "sk-abc?", "eyJ is", "a -x",
    ],
)  # fmt: skip
def test_text_that_cannot_become_a_token_is_shown_at_once(text: str) -> None:
    assert StreamRedactor(SecretRegistry()).feed(text) == text


def test_a_stream_begins_anew_after_its_end() -> None:
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("see sk-abc") == "see "
    assert stream.flush() == "sk-abc"
    assert stream.feed("word") == "word"


def test_text_is_shown_after_10_000_characters_of_a_possible_token() -> None:
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("sk-" + "a1" * 4_998 + "b") == ""
    assert stream.feed("a") == REDACTED
    assert stream.feed(" end") == " end"
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("sk-" + "a1" * 4_999) == REDACTED
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("sk-" + "a" * 9_998) == "sk-" + "a" * 9_998  # not chosen by chance
    stream = StreamRedactor(SecretRegistry())
    assert stream.feed("long " * 9_998 + "sk-a") == "long " * 9_998


# --- known secrets -----------------------------------------------------------------------------------------------

SECRET = 'Pä/ss wörd+<"q>?~ÿ!'  # its forms all differ
BASE64 = base64.b64encode(SECRET.encode()).decode()
URL_BASE64 = base64.urlsafe_b64encode(SECRET.encode()).decode()
FORMS = {
    "itself": SECRET,
    "in a URL": quote(SECRET, safe=""),
    "in a URL with lower-case digits": re.sub("%..", lambda match: match[0].lower(), quote(SECRET, safe="")),
    "in a path": quote(SECRET),
    "in a form": quote_plus(SECRET),
    "in HTML": html.escape(SECRET),
    "in JSON": json.dumps(SECRET)[1:-1],
    "in JSON with escaped slashes": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    "in JSON as UTF-8": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "in hexadecimal digits": SECRET.encode().hex(),
    "in upper-case hexadecimal digits": SECRET.encode().hex().upper(),
    "in Base64": BASE64.rstrip("="),
    "in Base64 for URLs": URL_BASE64.rstrip("="),
}


def registry(*secrets: str) -> SecretRegistry:
    secret_registry = SecretRegistry()
    secret_registry.add(*secrets)
    return secret_registry


def test_the_forms_differ() -> None:
    assert len(set(FORMS.values())) == len(FORMS)
    assert BASE64.endswith("=")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_form_of_a_secret_is_redacted_as_a_whole_and_in_a_stream(form: str) -> None:
    secrets = registry(SECRET)
    assert secrets.redact(f"<{form}>") == f"<{REDACTED}>"
    stream = StreamRedactor(secrets)
    assert "".join(map(stream.feed, form[:-1])) == ""
    assert stream.feed(form[-1]) + stream.feed(">") + stream.flush() == f"{REDACTED}>"


@pytest.mark.parametrize(("secret", "is_redacted"), [("1234567", False), ("12345678", True)])
def test_a_secret_has_at_least_8_characters(secret: str, is_redacted: bool) -> None:
    assert registry(secret).redact(f"it is {secret}") == f"it is {REDACTED if is_redacted else secret}"


def test_each_long_line_of_a_secret_is_redacted_unless_it_is_a_header() -> None:
    secret = "-----BEGIN <É/>-----\n1234567\n12345678\n-----END-----"
    secrets = registry(secret)
    assert secrets.redact(f"({secret})") == f"({REDACTED})"
    parts = secret.replace("\n", " ")
    assert secrets.redact(parts) == parts.replace("12345678", REDACTED)


@pytest.mark.parametrize(
    ("secret", "padding"),
    [("12345678W", ""), ("???45678W", ""), ("12345678Wx", "=="), ("12345678Wxy", "=")],
)
def test_a_secret_in_base64_may_have_padding(secret: str, padding: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert registry(secret).redact(encode(secret.encode()).decode()) == REDACTED + padding


def test_a_secret_that_is_added_later_is_redacted_and_the_longest_is_preferred() -> None:
    secrets = registry("first-secret")
    assert secrets.redact("first-secret") == REDACTED
    longest = "first-secret-with-more"
    secrets.add(None, "", *(longest[:length] for length in range(8, len(longest) + 1)))
    assert secrets.redact(f"{longest} first-secret-w") == f"{REDACTED} {REDACTED}"


def test_a_complete_secret_is_redacted_at_once() -> None:
    assert StreamRedactor(registry("12345678")).feed("x12345678") == f"x{REDACTED}"


KEY = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("known", "text", "redacted"),
    [
        (["secret/1"], "xsecret/1 end", f"x{REDACTED} end"),
        (["zz-secret"], "x zzz-secret end", f"x z{REDACTED} end"),
        (["alpha-secret-pa", "pass-the-salt"], "alpha-secret-pa end", f"{REDACTED} end"),
        (["-----BEGIN OTHER-----\nMIIMIIMII"], f"{KEY} end", f"{REDACTED} end"),
        (["my secret -----BEGIN", "-----BEGIN OTHER"], f"my secret {KEY} end", None),
        (["----- and then pa", "pass-the-salt"], f"{KEY} and then pa end", None),
    ],
)  # fmt: skip
def test_a_stream_of_secrets_that_overlap_is_redacted_like_the_whole(
    known: list[str], text: str, redacted: str | None
) -> None:
    secrets = registry(*known)
    stream = StreamRedactor(secrets)
    assert "".join(map(stream.feed, text)) + stream.flush() == secrets.redact(text)
    for cut in range(len(text)):
        assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == secrets.redact(text)
    if redacted is not None:
        assert secrets.redact(text) == redacted


# --- logs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", ["=", ": ", '": "', "': '", " = ", "' :'"])
def test_a_log_hides_the_value_after_a_name(join: str) -> None:
    for name in ("access_token", "refresh_token", "id_token", "client_secret", "code_verifier", "client_assertion"):
        for written in (name, name.upper()):
            assert SecretRegistry().redact_log(f"({written}{join}abc.de)") == f"({written}{join}{REDACTED}"
        assert SecretRegistry().redact_log(f"({name}{join}abc.d") == f"({name}{join}abc.d"


@pytest.mark.parametrize("name", ["?code", "&code", "?state", "&state"])
def test_a_log_hides_the_parameters_of_a_redirect(name: str) -> None:
    assert SecretRegistry().redact_log(f"GET /{name}=abcdef&x=1") == f"GET /{name}={REDACTED}&x=1"


@pytest.mark.parametrize("end", [*" \n&\"',}"], ids=ascii)
def test_a_value_in_a_log_ends_at(end: str) -> None:
    assert SecretRegistry().redact_log(f"id_token=abcdef{end}rest-of-it") == f"id_token={REDACTED}{end}rest-of-it"


@pytest.mark.parametrize("scheme", ["Bearer", "Basic", "bearer"])
def test_a_log_hides_the_value_of_an_authorization_header(scheme: str) -> None:
    assert SecretRegistry().redact_log(f"({scheme}  a.~+/=-_)") == f"({scheme} {REDACTED})"
    assert SecretRegistry().redact_log(f"({scheme} a.~+/=-)") == f"({scheme} a.~+/=-)"


@pytest.mark.parametrize("text", ["the standardbearer certificates", "with basic-authentication", "bearer: tokens"])
def test_a_log_keeps_words_that_look_like_a_header(text: str) -> None:
    assert SecretRegistry().redact_log(text) == text


@pytest.mark.parametrize(
    ("text", "is_redacted"),
    [
        ("eyJ-_aZ0129.-.-_aZ09", True),  # an encrypted token has other parts than a signed one
        ("eyJ-_aZ0129.-.", True),
        ("eyJ-_aZ019.-.-_aZ09", False),
        ("eyJ-_aZ0129..-_aZ09", False),
        ("eyJ-_aZ0129.-", False),
        ("eyJ-_aZ0129 -.-_aZ09", False),
        ("eyJ-_aZ0129.- -_aZ09", False),
        ("xeyJ-_aZ0129.-.-_aZ09", False),
        ("-eyJ-_aZ0129.-.-_aZ09", False),
        (f"eyJ{'a' * 2000}.{'b' * 9000}.c", True),
        (f"eyJ{'a' * 2001}.{'b' * 9000}.c", False),
        (f"eyJ{'a' * 2000}.{'b' * 9001}.c", False),
    ],
)  # fmt: skip
def test_a_log_hides_text_that_looks_like_an_encoded_token(text: str, is_redacted: bool) -> None:
    assert SecretRegistry().redact_log(f"({text})") == f"({REDACTED if is_redacted else text})"


def test_a_secret_with_bytes_that_are_no_utf8_is_redacted() -> None:
    secret = b"abcdefgh\xffijkl".decode(errors="surrogateescape")
    registry = SecretRegistry()
    registry.add(secret)
    assert registry.redact(f"key {secret}!") == f"key {REDACTED}!"


# --- invisible characters ---------------------------------------------------------------------------------------------

INVISIBLE = "\u200b\u00ad\u2060\ufeff\u200d\ufe0f\U000e0041"
KNOWN = "the-known-secret-of-a-user"


@given(
    st.sampled_from([KNOWN, f"ghp_{'a1B2' * 6}", "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----"]),
    st.lists(st.tuples(st.integers(0, 90), st.text(INVISIBLE, min_size=1, max_size=3)), max_size=6),
    st.integers(1, 9),
)
def test_invisible_characters_hide_no_secret(secret: str, insertions: list[tuple[int, str]], size: int) -> None:
    hidden = secret
    for position, characters in insertions:
        hidden = hidden[: position % (len(hidden) + 1)] + characters + hidden[position % (len(hidden) + 1) :]
    registry = SecretRegistry()
    registry.add(KNOWN)
    text = f"caf\u00e9 ({hidden}) now"
    assert strip_invisible(registry.redact(text)) == f"caf\u00e9 ({REDACTED}) now"
    stream = StreamRedactor(registry)
    pieces = [stream.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert strip_invisible("".join((*pieces, stream.flush()))) == f"caf\u00e9 ({REDACTED}) now"


CONTROLS = ["\x1b[01;31m\x1b[K", "\x1b[m", "\x1b[38:5:1m", "\x1b", "\x07", "\x9b", "\u241b[0m", r"\u001b[1m", r"\033[m"]


@given(
    st.sampled_from([KNOWN, f"ghp_{'a1B2' * 6}", "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----"]),
    st.lists(st.tuples(st.integers(1, 70), st.sampled_from(CONTROLS)), max_size=4),
    st.integers(1, 9),
)
def test_colours_of_a_terminal_hide_no_secret(secret: str, insertions: list[tuple[int, str]], size: int) -> None:
    parts = list(secret)
    for position, control in insertions:
        parts[position % (len(parts) - 1)] += control
    registry = SecretRegistry()
    registry.add(KNOWN)
    text = f"see\x1b[1m {''.join(parts)}) \x1b[0mnow"
    assert registry.redact(text) == f"see\x1b[1m {REDACTED}) \x1b[0mnow"
    stream = StreamRedactor(registry)
    pieces = [stream.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join((*pieces, stream.flush())) == f"see\x1b[1m {REDACTED}) \x1b[0mnow"


def test_valid_invisible_characters_stay() -> None:
    registry = SecretRegistry()
    registry.add(KNOWN)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert registry.redact(f"{family} {KNOWN} {family}") == f"{family} {REDACTED} {family}"
    assert registry.redact(family) == family


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_secret_within_base64_is_redacted(before: bytes, after: bytes) -> None:
    registry = SecretRegistry()
    registry.add(KNOWN)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before + KNOWN.encode() + after).decode()
        shown = registry.redact(f"Authorization: {encoded}")
        assert REDACTED in shown
        assert len(shown) <= len("Authorization: ") + len(REDACTED) + (len(before) + len(after) + 4) * 4 // 3 + 6


# --- texts that are made to be slow -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit",
    ["-----BEGIN ", "-----BEGIN x", "-----BEGIN RSA PRIVATE KEY-----", "-----END ", "PRIVATE KEY ", "sk-a.", "ghp_a/",
     "s\u200bk\u200b-\u200b", "eyJaaaaaaaa.eyJaaaa.", "access_token  ", "sk-漢"],
)  # fmt: skip
@pytest.mark.no_cover
def test_a_long_hostile_text_is_streamed_in_time(unit: str) -> None:
    """In time in proportion to its length, else the test's time limit is exceeded: see benchmarks/adversarial.py."""
    text = unit * (200_000 // len(unit)) + "!"
    stream = StreamRedactor(SecretRegistry())
    shown = "".join(stream.feed(text[start : start + 4]) for start in range(0, len(text), 4)) + stream.flush()
    assert shown == SecretRegistry().redact(text) or REDACTED in shown


@pytest.mark.parametrize("before", ["-", "x", "a: -----", "k.pem-"])
@pytest.mark.parametrize("size", [1, 4, 7, 40])
def test_a_private_key_is_hidden_in_a_stream_whatever_is_before_it(before: str, size: int) -> None:
    text = f"{before}-----BEGIN RSA PRIVATE KEY-----\n{'MIIE' * 60}\n-----END RSA PRIVATE KEY----- now"
    stream = StreamRedactor(SecretRegistry())
    pieces = [stream.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join((*pieces, stream.flush())) == f"{before}{REDACTED} now"


@pytest.mark.parametrize("size", [7, 1000])
@pytest.mark.parametrize(
    ("secret", "known"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE+/aB\n" * 2000 + "-----END RSA PRIVATE KEY-----", False),
        ("eyJhbGciOiJub25lIn0.eyJ" + "aB3-" * 4000 + ".c2ln", False),
        ("K3y!" * 4000, True),
    ],
    ids=["a private key", "a JWT", "a known secret"],
)
@pytest.mark.no_cover
def test_a_very_long_secret_is_hidden_in_a_stream(secret: str, known: bool, size: int) -> None:
    registry = SecretRegistry()
    if known:
        registry.add(secret)
    stream = StreamRedactor(registry)
    text = f"see ({secret}) and more"
    pieces = [stream.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join((*pieces, stream.flush())) == f"see ({REDACTED}) and more"


@pytest.mark.parametrize(
    "before",
    [r"\n", r"\t", r"\b", "token%3D", "%20", "%250A", "=0A", r"\u003d", r"\x22", r"\042", "\x1b[32m", "\x1b[1;32m", "word\x1b[K", "word\x1b(B",
     "\x1b]8;;http://x\x07word\x1b\\", "\x1b[?25h", "x\x1b[0m", "\u4ee4\u724c", "\u00e9", "(", "GITHUB_", "mysql -p", r"a\\n"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["ghp_", "npm_", "eyJhbGciOiJ.eyJ"])
def test_a_token_begins_after_an_escape_or_a_letter_beyond_ascii(before: str, kind: str) -> None:
    token = f"{kind}{'a1B2' * 9}{'.' if '.' in kind else ''}"
    assert SecretRegistry().redact(f"{before}{token} now") == f"{before}{REDACTED} now"
    for size in (1, 3, 7):
        text, stream = f"{before}{token} now", StreamRedactor(SecretRegistry())
        pieces = [stream.feed(text[start : start + size]) for start in range(0, len(text), size)]
        assert "".join((*pieces, stream.flush())) == f"{before}{REDACTED} now"


@pytest.mark.parametrize(
    "text",
    [
        "sk-telecommunications-report-of-the-year", "ghp_token_validation_regex_pattern", "sk-XXXXXXXXXXXXXXXXXXXXXXXXXXXX",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "hf_" + "a" * 34, "AKIAXXXXXXXXXXXXXXXX", "xoxb-your-token-goes-here",
    ],
)  # fmt: skip
def test_names_and_placeholders_are_no_tokens(text: str) -> None:
    assert SecretRegistry().redact(f"see {text}.") == f"see {text}."
    stream = StreamRedactor(SecretRegistry())
    assert "".join(map(stream.feed, f"see {text}.")) + stream.flush() == f"see {text}."


@pytest.mark.parametrize(
    "token",
    [
        "AKIAIOSFODNN7EXAMPLE", "ASIA1234567890ABCDEF", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1", "pcsk_" + body(45, "aB3_"),
        "MTIzNDU2Nzg5MDEyMzQ1Njc4.Gabc12.abcdefghijklmnopqrstuvwxyz-AB", "tvly-dev-" + body(20, "aB3"), "fc-" + body(32, "0a1f"),
        "lsv2_pt_" + body(30, "0a1f"), "AccountKey=" + body(86, "aB3+/") + "==", "NRAK-" + body(27, "AB3"), "e2b_" + body(40, "0a1f"),
    ],
)  # fmt: skip
def test_more_formats_are_redacted_as_a_whole_and_in_a_stream(token: str) -> None:
    for text in (f"it is {token} now", f'"{token}"', f"a={token}", f"{token}"):
        expected = text.replace(token, REDACTED)
        assert SecretRegistry().redact(text) == expected
        stream = StreamRedactor(SecretRegistry())
        assert "".join(map(stream.feed, text)) + stream.flush() == expected


# --- private keys -----------------------------------------------------------------------------------------------------

PEM_LINES = [*("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8c" for _ in range(4)), "aB3+/w=="]
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *PEM_LINES, "-----END PRIVATE KEY-----"])


def is_hidden(text: str) -> bool:
    return "MIIEvQ" not in text and "aB3+" not in text and "8c" not in text


@pytest.mark.parametrize(
    "text",
    [
        PEM, quote(PEM), quote_plus(PEM), quote(quote(PEM)), json.dumps(PEM), json.dumps(json.dumps(PEM)),
        json.dumps(json.dumps(json.dumps(PEM))), PEM.replace("\n", "\r\n"), PEM.replace("\n", " "), PEM.replace("\n", "\n  "),
        "\n".join(f"{number:5}  {line}" for number, line in enumerate(PEM.splitlines(), 1)),
        "\n".join(f"> {line}" for line in PEM.splitlines()), "\n".join(f"{n}: {line}" for n, line in enumerate(PEM.splitlines(), 1)),
        " + \n".join(f'"{line}\\n"' for line in PEM.splitlines()), PEM.replace("PRIVATE", "RSA PRIVATE"),
        PEM.removesuffix("-----END PRIVATE KEY-----"), PEM[:-35],
        PEM.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123456789ABCDEF0123456789ABCDEF\n\n", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 5, 64, 10_000])
def test_a_private_key_is_hidden_however_it_is_written(text: str, size: int) -> None:
    whole = SecretRegistry().redact(f"see {text} now")
    assert is_hidden(whole)
    assert whole.startswith("see ")
    stream, shown = StreamRedactor(SecretRegistry()), ""
    for start in range(0, len(text), size):
        shown += stream.feed(text[start : start + size])
    assert is_hidden(shown + stream.flush())


@pytest.mark.parametrize(
    "text",
    [
        "The file begins with `-----BEGIN PRIVATE KEY-----`, and then " + "there are many words that explain it. " * 400,
        "The file begins with -----BEGIN PRIVATE KEY----- and then " + "there are many words that explain it. " * 400,
        "Use '-----BEGIN RSA PRIVATE KEY-----' or \"-----BEGIN EC PRIVATE KEY-----\". " + "More. " * 3000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 6, 500])
def test_a_text_about_private_keys_is_not_lost(text: str, size: int) -> None:
    expected = re.sub("-----BEGIN [A-Z ]*-----", REDACTED, text)
    assert SecretRegistry().redact(text) == expected
    stream = StreamRedactor(SecretRegistry())
    shown = "".join(stream.feed(text[start : start + size]) for start in range(0, len(text), size))
    assert shown + stream.flush() == expected
    assert len(shown) > len(expected) - 200  # nothing much was held back


PIECES = st.sampled_from([
    "The quick brown ", "-----BEGIN PRIVATE KEY-----", "\n", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "ghp_a1B2a1B2a1B2a1B2a1B2", KNOWN, "746865",
    "0x74, 0x68", "dGhlLWtub3du", "\\u0074", "\\n", "_", "%74", "&amp;", "{", "}", "\\", "12345678:AA",
    "MT", "sk-", "eyJ", "-", "-----END PRIVATE KEY-----", "\u00e9", "\u200b", "a b, c. ", " ", "\r", "> ", "0", "x", "=", "\ud800",
])  # fmt: skip


@given(st.lists(PIECES, max_size=25), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_a_stream_of_any_pieces_is_redacted_like_the_whole(pieces: list[str], cuts: list[int]) -> None:
    registry = SecretRegistry()
    registry.add(KNOWN)
    text = rest = "".join(pieces)
    stream, shown = StreamRedactor(registry), ""
    for size in itertools.cycle(cuts):
        shown += stream.feed(rest[:size])
        rest = rest[size:]
        if not rest:
            break
    assert shown + stream.flush() == registry.redact(text)
