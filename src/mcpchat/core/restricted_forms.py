"""Every form and piece of a text that a rule which asks or denies has to look at."""

import re
from collections.abc import Iterator

from mcpchat.core.destinations import path_forms, url_forms
from mcpchat.core.mail_addresses import address_forms, close_addresses
from mcpchat.core.shell_commands import command_forms
from mcpchat.core.text_forms import decoded_forms

_SPACES = re.compile(r"[\s,;<>()\"']+")
_PUNCTUATION = re.compile(r"(?:[\s,;|<>()\[{}\"'`=&?#$:]|\](?!/))+")  # "[id]/etc" is one path
_AROUND = "!?*\u2026\u3001\u201c\u201d\u2018\u2019\u00ab\u00bb"  # punctuation around an address


def restricted_forms(text: str) -> Iterator[str]:
    """Yield every form and every piece of the text that a restricting rule has to look at.

    These are the decoded forms, the commands and URLs in them, the pieces between punctuation, and each of them as a
    path.
    """
    for form in decoded_forms(text):
        yield from command_forms(form)
        yield from url_forms(form)
        closed = [piece for spelling in address_forms(form) for piece in _PUNCTUATION.split(close_addresses(spelling))]
        for part in dict.fromkeys((form, *_SPACES.split(form), *_PUNCTUATION.split(form), *closed)):
            yield part
            yield part.lstrip(_AROUND).rstrip(f"{_AROUND}.")
            if "xn--" in part.lower():
                yield _decode_host(part)
            yield from path_forms(part)


def _decode_host(text: str) -> str:
    """Return the text with its encoded international host names decoded, where they are valid."""

    def decode(match: re.Match[str]) -> str:
        try:
            return match[0].lower().encode().decode("idna")
        except UnicodeError:
            return match[0]

    return re.sub(r"xn--[A-Za-z0-9-]+", decode, text, flags=re.IGNORECASE)
