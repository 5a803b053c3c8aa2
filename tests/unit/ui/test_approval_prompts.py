"""The text of an approval prompt."""

from mcpchat.core.policy import ApprovalRequest, WaitingCall
from mcpchat.ui.prompts.approval_view import decision_choices, format_request
from mcpchat.ui.prompts.keys import _bind_keys
from tests.support.fakes import make_tool


def test_letters_that_imitate_others_are_marked() -> None:
    def prompt(**arguments: object) -> str:
        request = ApprovalRequest(tool=make_tool("send"), arguments=arguments, rule="default: ask")
        return format_request(request, width=80, lines=20)[0].plain

    assert "letters that may imitate others: a@аррle.com" in prompt(to=["bob@apple.com", "a@аррle.com"])
    assert "imitate" not in prompt(to="bob@apple.com", body="Привет")
    assert "letters that may imitate others: аttachments" in prompt(аttachments="x")
    decoys = " ".join(f"x{number}@bücher.example" for number in range(9))
    assert "x4@bücher.example and 5 more" in prompt(body=decoys, to="a@аррle.com").replace("\n", " ")


def test_a_change_shows_every_line_of_a_text() -> None:
    request = ApprovalRequest(
        tool=make_tool("send"),
        arguments={"body": "Dear Ann\n++ send it\nBye"},
        original_arguments={"body": "Dear Ann\n-- keep it\nBye"},
        rule="default: ask",
    )
    text = format_request(request, width=80, lines=20)[0].plain
    assert "+++ send it" in text
    assert "--- keep it" in text


def make_request(*others: dict[str, object], **fields: object) -> ApprovalRequest:
    waiting = tuple(WaitingCall(tool=make_tool("send"), arguments=arguments) for arguments in others)
    return ApprovalRequest(
        tool=make_tool("send"), arguments={"to": "ann"}, rule="default: ask", pending=len(others), others=waiting,
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def offered_keys(request: ApprovalRequest) -> str:
    _, truncated = format_request(request, width=80, lines=20)
    return "".join(choice.key for choice in decision_choices(request, truncated=truncated))


def test_calls_are_allowed_together_only_if_all_of_them_is_shown() -> None:
    assert "A" in offered_keys(make_request({"to": "bob"}))
    assert "A" not in offered_keys(make_request())
    assert "A" not in offered_keys(make_request({"body": "x" * 300}))
    assert "A" not in offered_keys(make_request(*({"to": str(number)} for number in range(9))))


def test_waiting_calls_are_shown_as_carefully_as_the_one_that_is_asked_about() -> None:
    text = format_request(make_request({"body": "hello " * 50, "to": "mallory@x"}), width=80, lines=20)[0].plain
    assert text.index('to="mallory@x"') < text.index("body=")
    one, two = (
        format_request(make_request(arguments), width=80, lines=20)[0].plain
        for arguments in ({"body": "hi cc=eve@x", "to": "bob"}, {"body": "hi", "cc": "eve@x", "to": "bob"})
    )
    assert one != two
    text = format_request(make_request({"to": "bob@pаypal.com"}), width=80, lines=20)[0].plain
    assert "letters that may imitate others" in text


def test_always_and_all_are_never_taken_for_each_other() -> None:
    for keys, other in (("ysaen", "A"), ("yAsen", "a")):
        pressed = {binding.keys[0] for binding in _bind_keys(keys).bindings}
        assert other not in pressed
        assert {"Y", "N"} <= pressed
