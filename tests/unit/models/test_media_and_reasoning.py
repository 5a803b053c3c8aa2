"""What models send and get in odd forms: mislabelled or refused images, and reasoning within the answer's text."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import Image, Message, Reasoning, Text, user_message
from mcpchat.core.protocols import ModelRequest, ResponseDone
from mcpchat.models.openai.media import image_type
from mcpchat.models.openai.think_tags import ThinkTags, split_unopened
from tests.support.fake_openai import DONE, chunk, message_item, response
from tests.support.recorded_streams import RecordedTransport, collect_events, error_response, stream

OK = (chunk({"content": "ok"}, "stop"), DONE)
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0JFIF"


def picture(media_type: str, data: bytes) -> Message:
    return Message(role="user", parts=(Text(text="see"), Image(media_type=media_type, data=data)))


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF1234WEBPVP8", "image/webp"),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_an_images_type_is_told_by_its_content(data: bytes, media_type: str) -> None:
    assert image_type(data) == media_type


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_mislabelled_image_gets_its_type_and_what_is_no_image_is_named(api: str) -> None:
    wire = RecordedTransport(stream(*OK) if api == "chat" else stream(*response(message_item("ok"))))
    model = wire.chat_model() if api == "chat" else wire.responses_model()
    messages = (picture("image/png", JPEG), picture("image/png", b"<html>not found</html>"))
    await collect_events(model, ModelRequest(model="m", messages=messages))
    sent = str(wire.bodies[0])
    assert f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}" in sent
    assert "[image/png, 22 bytes, whose content is no image that models accept]" in sent


@pytest.mark.parametrize(
    "text",
    [
        "Could not process image",
        "messages.1.content.1.image: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes",
        "At least one of the image dimensions exceed max allowed size: 8000 pixels",
        "Image was specified using the image/png media type, but the image appears to be a image/jpeg image",
        "Invalid image data",
        "cannot identify image file",
    ],
)
@pytest.mark.parametrize("status", [400, 500])
async def test_a_refused_image_is_named_from_then_on_and_a_new_one_is_sent(text: str, status: int) -> None:
    wire = RecordedTransport(error_response(status, text), stream(*OK), stream(*OK))
    model = wire.chat_model()
    first = picture("image/png", PNG)
    events = await collect_events(model, ModelRequest(model="m", messages=(first,)))
    assert [event.text.partition(":")[0] for event in events if isinstance(event, Notice)] == [
        "m refused an image or file of the conversation"
    ]
    await collect_events(
        model, ModelRequest(model="m", messages=(first, user_message("x"), picture("image/jpeg", JPEG)))
    )
    before, retried, later = map(str, wire.bodies)
    assert ("image/png;base64" in before, "image/png;base64" in retried, "image/png;base64" in later) == (
        True,
        False,
        False,
    )
    assert "[image/png, 8 bytes, which this model does not accept]" in later
    assert "image/jpeg;base64" in later


# --- reasoning within the text ------------------------------------------------------------------------------------


def split(*fragments: str) -> tuple[str, str]:
    tags = ThinkTags()
    pieces = [piece for fragment in fragments for piece in tags.feed(fragment)] + [*tags.flush()]
    return tuple("".join(piece.text for piece in pieces if piece.is_reasoning == wanted) for wanted in (True, False))  # type: ignore[return-value]


@pytest.mark.parametrize("beginning", ["", "<think>", "<think>a"])
@pytest.mark.parametrize("unit", [" ", "\n", "</thin", " <", "<think "])
def test_many_blanks_and_beginnings_of_tags_take_no_longer_than_other_text(beginning: str, unit: str) -> None:
    text = beginning + unit * 200_000
    assert split(text) == split(beginning, *[unit] * 200_000)
    assert split_unopened(text) == ("", text)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>hm, 2+2</think>\n\n4", "hm, 2+2", "4"),
        ("\n<think>\n\n</think>\n\nHello", "", "Hello"),
        ("<THINKING>a < b and </b></thinking>yes", "a < b and </b>", "yes"),
        ("<think>cut off", "cut off", ""),
        ("<thin is no tag", "", "<thin is no tag"),
        ("<", "", "<"),
        ("", "", ""),
        ("Use <think> in HTML</think>", "", "Use <think> in HTML</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("  \n ", "", "  \n "),
        (" <thin", "", " <thin"),
        ("<think>  a  \n</thin  </think>  b  ", "a  \n</thin", "b  "),
        ("<think>a  ", "a  ", ""),
    ],
)
def test_a_leading_block_is_reasoning_however_it_is_cut(text: str, reasoning: str, answer: str) -> None:
    for size in range(1, len(text) + 2):
        fragments = [text[start : start + size] for start in range(0, len(text), size)]
        assert split(*fragments) == (reasoning, answer)


@given(st.text("<>/think a\n", max_size=40))
def test_no_text_is_lost(text: str) -> None:
    assert sorted("".join(split(*text)).split()) == sorted("".join(split(text)).split())
    assert split(*text) == split(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so it is 4</think>\n\n4", ("so it is 4", "4")),
        ("plain", ("", "plain")),
        ("a <think>b</think> c", ("", "a <think>b</think> c")),
    ],
)
def test_a_block_without_its_opening_tag_is_reasoning(text: str, expected: tuple[str, str]) -> None:
    assert split_unopened(text) == expected


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_reasoning_in_the_text_is_shown_as_such_and_not_sent_back(api: str) -> None:
    if api == "chat":
        fragments = ("<th", "ink>hm", "</think>", "\n\n4")
        answer = stream(*(chunk({"content": fragment}) for fragment in fragments), chunk({}, "stop"), DONE)
        wire = RecordedTransport(answer, stream(*OK))
        model = wire.chat_model()
    else:
        ok = stream(*response(message_item("ok")))
        wire = RecordedTransport(stream(*response(message_item("<think>hm</think>\n\n4"))), ok)
        model = wire.responses_model()
    asked = user_message("2+2?")
    events = await collect_events(model, ModelRequest(model="m", messages=(asked,)))
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "hm"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "4"
    (done,) = [event for event in events if isinstance(event, ResponseDone)]
    assert done.message.parts == (Reasoning(text="hm"), Text(text="4"))
    await collect_events(model, ModelRequest(model="m", messages=(asked, done.message, user_message("more"))))
    if api == "chat":
        assert "hm" not in str(wire.bodies[1])
