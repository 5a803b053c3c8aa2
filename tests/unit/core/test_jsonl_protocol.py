"""Input lines of the JSON lines protocol: what each becomes, and the error for a line that is none."""

import re

import pytest

from mcpchat.core.jsonl_protocol import Approve, Cancel, Elicit, SendMessage, SwitchAgent, parse_line


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"type": "message", "text": "hi", "id": "7"}', SendMessage(text="hi", id="7")),
        (b'{"type": "cancel"}', Cancel()),
        (b'{"type": "approval", "id": "a", "allow": true}', Approve(id="a", allow=True)),
        (
            b'{"type": "elicitation", "id": "a", "action": "accept", "content": {"n": 1}}',
            Elicit(id="a", action="accept", content={"n": 1}),
        ),
        (b'{"type": "agent", "name": "mail"}', SwitchAgent(name="mail")),
    ],
)
def test_a_line_becomes_a_value(line: bytes, value: object) -> None:
    assert parse_line(line) == value


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (rb"half \ud83d of a pair", "half \ufffd of a pair"),
        (rb"a whole \ud83d\ude42 pair", "a whole 🙂 pair"),
        (rb"no escape \\ud83d at all", r"no escape \ud83d at all"),
    ],
)
def test_half_of_a_surrogate_pair_is_replaced(text: bytes, sent: str) -> None:
    assert parse_line(b'{"type": "message", "text": "' + text + b'"}') == SendMessage(text=sent)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"type": "message", "text": "\\ud83d \xff"}', "not UTF-8 text"),
        (b'{"type": "message", "text": "\xff"}', "not UTF-8 text"),
        (
            b'{"type": "elicitation", "id": "a", "action": "accept", "content": {"a": '
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}}",
            "nested too deeply",
        ),
        (b'{"type": "mesage", "text": "hi"}', "Invalid value 'mesage' - at `$.type`"),
        (b'{"type": "message"}', "Object missing required field `text`"),
        (b'{"type": "cancel", "all": true}', "Object contains unknown field `all`"),
    ],
)
def test_an_invalid_line_is_an_error_that_says_why(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_line(line)
