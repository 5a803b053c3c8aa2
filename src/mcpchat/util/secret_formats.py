"""Texts that can only be a secret: tokens of well-known formats, and private keys. Whole, or begun at a text's end."""

import re
import string
from collections.abc import Iterator

# Well-known token formats: how they begin, and what follows.
_FORMATS: tuple[tuple[str, str], ...] = (
    ("GOCSPX- xapp- xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"[\w-]{10,}"),
    ("AKIA ASIA", r"[A-Z0-9]{16}(?![A-Z0-9])"),
    ("glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat-", r"[\w-]{16,}"),
    ("sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"\w{16,}"),
    ("ya29. 1//0 dckr_pat_ dckr_oat_ hvs. hvb. hvr. tskey- sq0atp- sq0csp- sb_secret_", r"[\w-]{20,}"),
    ("lsv2_pt_ lsv2_sk_ tvly- NRAK- dt0c01. CFPAT- HRKU- apify_api_ bb_live_ fm2_ fo1_", r"[\w.+/=-]{20,}"),
    ("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\w{20,}"),
    ("ATATT3 ATCTT3", r"[\w=-]{20,}"),
    ("AIza figd_ PMAK- pscale_tkn_ pscale_pw_ pscale_oauth_ jina_", r"[\w-]{30,}"),
    ("npm_ hf_ ntn_ shpat_ shpss_ shpca_ shppa_ lin_api_ lin_oauth_ r8_ pplx- nfp_ rnd_ napi_", r"[A-Za-z0-9]{30,}"),
    ("dp.pt. dp.st. dp.sa. dp.ct.", r"[\w.]{30,}"),
    ("glsa_ glc_ sntrys_ sntryu_", r"[\w=+/-]{30,}"),
    ("key- dapi fc-", r"[0-9a-f]{32,}"),
    ("secret_ gsk_ pul- rubygems_ sbp_ pcsk_", r"[A-Za-z0-9_]{40,}"),
    ("e2b_ sk_", r"[0-9a-f]{40,}"),
    ("nvapi-", r"[\w-]{40,}"),
    ("pypi-", r"[\w-]{50,}"),
    ("AGE-SECRET-KEY-1", r"[A-Z0-9]{50,}"),
    ("dop_v1_ doo_v1_ xai-", r"[A-Za-z0-9]{60,}"),
    ("AccountKey=", r"[\w+/]{60,}={0,2}"),
    ("SG.", r"[\w-]{16,}\.[\w-]{16,}"),
    ("sk-", r"(?=[\w-]*[A-Za-z0-9]{16})[\w-]{20,}"),
    ("eyJ", r"[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*"),
)
# Formats that begin with a number, for bots of Telegram and, in base64, of Discord; and how that looks at a text's end.
_SHAPES = r"\d{8,10}:AA[\w-]{32,}|[MNO][DTjz][A-Za-z0-9]{22,26}\.[\w-]{6}\.[\w-]{27,}"
_MAX_PARTIAL_SHAPE = 40  # characters
PREFIXES = tuple(prefix for prefixes, _ in _FORMATS for prefix in prefixes.split())
# A token begins where no ASCII word goes on. An escape (\n, %20, =0A, \u0022) ends a word too, and an option (-p).
_BEGINNING = (
    r"(?:(?<![A-Za-z0-9-])|(?<=\\[abefnrtv0])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2})|(?<==[0-9A-F]{2})"
    r"|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\[0-3][0-7]{2})|(?<=\s-[A-Za-z]))"
)
_PARTIAL_SHAPE = re.compile(
    rf"{_BEGINNING}(?<![.,])(?:\d{{1,10}}(?::A?)?|[MNO](?:[DTjz][A-Za-z0-9]{{0,26}}(?:\.[\w-]{{0,6}})?)?)\Z", re.ASCII
)
MAX_CONTEXT = 8  # characters before a token that say whether it begins there
_ALTERNATIVES = "|".join(f"(?:{'|'.join(map(re.escape, prefixes.split()))}){rest}" for prefixes, rest in _FORMATS)
_TOKEN = re.compile(rf"{_BEGINNING}(?a:{_ALTERNATIVES}|{_SHAPES})")
_TOKEN_START = re.compile(
    rf"{_BEGINNING}(?:{'|'.join(map(re.escape, PREFIXES))}|\d{{8,10}}:AA|[MNO][DTjz][A-Za-z0-9]{{22,26}}\.[\w-]{{6}}\.)"
)
_CAN_BEGIN = re.compile(_BEGINNING)
_SHAPE_HINT = re.compile(r":AA|[MNO][DTjz][A-Za-z0-9]{22}")
_TOKEN_CHARACTERS = f"{string.ascii_letters}{string.digits}_./=+:-"
CONTINUATION = re.compile(rf"[{re.escape(_TOKEN_CHARACTERS)}]*")  # the further characters of a token

_KEY_BEGIN = "-----BEGIN"
_PERCENT = r"%(?:25){0,3}"  # encoded once, or several times
_BLANK = rf"(?:[ +]|{_PERCENT}20)"
_KEY_LABEL = rf"(?:{_BLANK}[A-Z0-9]{{1,20}}){{0,4}}{_BLANK}PRIVATE{_BLANK}KEY(?:{_BLANK}BLOCK)?-----"
_KEY_HEADER = re.compile(rf"{_KEY_BEGIN}{_KEY_LABEL}")
_OPEN_HEADER = re.compile(rf"{_KEY_BEGIN}(?:{_BLANK}[A-Z0-9]{{1,20}}){{0,7}}(?:[ +]|%[25]{{0,6}}0?)?-{{0,4}}\Z")
_MAX_HEADER = 120  # characters
_LINE_BREAK = rf"\n|\\n|\r|\\r|{_PERCENT}0[AaDd]"
# The parts of a key after its header: base64 (a long piece, or a whole line), the footer, and other text between them.
_KEY_ITEM = re.compile(
    rf"(?P<footer>-----END{_KEY_LABEL})|(?P<header>{_KEY_BEGIN})"
    r"|(?P<open>-{1,5}\Z|-----E(?:N(?:D[A-Z0-9 +%-]{0,60})?)?\Z)"
    rf"|(?P<base64>(?:[A-Za-z0-9+/=]|{_PERCENT}(?:2[BbFf]|3[Dd])){{32,}}"
    r"|(?:(?<=\n)|(?<=\r)|(?<=\\n)|(?<=\\r)|(?<=[%5]0[AaDd]))(?:[A-Za-z0-9+/=]|%(?:25){0,3}(?:2[BbFf]|3[Dd])){1,31}"
    rf"(?=[ \t]*(?:{_LINE_BREAK}|[\"'`]|\\+[\"'nr]|\Z)))"
    rf"|(?P<between>{_LINE_BREAK}|[A-Za-z0-9+/=_\s:,.()<>@\\]{{1,31}}?(?=[^A-Za-z0-9+/=]|\Z)|-)"
    rf"|(?P<other>[A-Za-z0-9+/=]{{1,31}}|.)",
    re.DOTALL,
)
_MAX_GAP = 120  # characters within a key that are no base64, such as "Comment: ..."


def find_tokens(text: str) -> list[tuple[int, int]]:
    """The places of tokens and private keys in the text, in order of their kind."""
    found = []
    if any(prefix in text for prefix in PREFIXES) or _SHAPE_HINT.search(text):
        found = [match.span() for match in _TOKEN.finditer(text) if is_random(match[0])]
    return [*found, *_find_keys(text)] if _KEY_BEGIN in text else found


def is_random(token: str) -> bool:
    """Whether the characters of a token look chosen by chance: names of ours are words, and placeholders are xxx."""
    return any(map(str.isdigit, token)) or (any(map(str.islower, token[4:])) and any(map(str.isupper, token[4:])))


def find_open_end(text: str, first: int = 0) -> int | None:
    """Where a token or a private key begins, not before ``first``, that is not finished at the end of the text.

    None if none is.

    Takes time in proportion to the length of the text, whatever it contains.
    """
    starts = []
    if _KEY_BEGIN in text:
        header = _OPEN_HEADER.search(text, max(0, len(text) - _MAX_HEADER))
        starts += [start for start in (find_open_key(text), header and header.start()) if start is not None]
        starts = [start for start in starts if start >= first]
    tail = max(first, len(text.rstrip(_TOKEN_CHARACTERS)))
    if (token := _TOKEN_START.search(text, tail)) is not None:
        starts.append(token.start())
    if (shape := _PARTIAL_SHAPE.search(text, max(tail, len(text) - _MAX_PARTIAL_SHAPE))) is not None:
        starts.append(shape.start())
    for prefix in (*PREFIXES, _KEY_BEGIN):
        start = max(first, len(text) - len(prefix) + 1)
        while (start := text.find(prefix[0], start)) != -1:
            if prefix.startswith(text[start:]) and (prefix == _KEY_BEGIN or _CAN_BEGIN.match(text, start)):
                starts.append(start)
                break
            start += 1
    return min(starts, default=None)


def begins_token(text: str) -> bool:
    """Whether the text begins with the prefix of a token."""
    return _TOKEN_START.match(text) is not None


def begins_key(text: str) -> bool:
    """Whether the text begins with the header of a private key, or a part of one."""
    return text.startswith(_KEY_BEGIN)


def find_open_key(text: str) -> int | None:
    """Where a private key begins that may go on after the end of the text; None without one."""
    return next((start for start, _, is_open in _iter_keys(text) if is_open), None)


def skip_key(text: str) -> int | None:
    """Where the private key ends that began before the text; None if it may go on."""
    header = f"{_KEY_BEGIN} PRIVATE KEY-----"
    end, is_open = _find_key_end(header + text, len(header))
    return None if is_open else max(0, end - len(header))


def _find_keys(text: str) -> Iterator[tuple[int, int]]:
    yield from ((start, end) for start, end, _ in _iter_keys(text))


def _iter_keys(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the beginning and the end of each private key, and whether it may go on after the end of the text."""
    position = 0
    while header := _KEY_HEADER.search(text, position):
        position, is_open = _find_key_end(text, header.end())
        yield header.start(), position, is_open


def _find_key_end(text: str, position: int) -> tuple[int, bool]:
    """The end of the key whose header ends at the position, and whether it may go on after the end of the text.

    It goes on as long as base64 or its footer follows soon. A footer without base64 before it ends a key only if
    nothing stands between that a key cannot have.
    """
    end = header_end = position
    has_other = False
    while item := _KEY_ITEM.match(text, position):
        if position - end > _MAX_GAP:
            return end, False
        position = item.end()
        if item["footer"]:
            return (position if not has_other or end > header_end else end), False
        if item["header"]:
            return end, False
        if item["open"]:
            return end, True
        if item["base64"]:
            end = position
        has_other = has_other or item["other"] is not None
    return end, True
