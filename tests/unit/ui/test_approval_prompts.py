"""The text of an approval prompt."""

from mcpchat.core.policy import ApprovalRequest
from mcpchat.ui.prompts.approval_view import format_request
from tests.support.fakes import make_tool


def test_letters_that_imitate_others_are_marked() -> None:
    def prompt(**arguments: object) -> str:
        request = ApprovalRequest(tool=make_tool("send"), arguments=arguments, rule="default: ask")
        return format_request(request, width=80, lines=20)[0].plain

    assert "letters that may imitate others: a@аррle.com" in prompt(to=["bob@apple.com", "a@аррle.com"])
    assert "imitate" not in prompt(to="bob@apple.com", body="Привет")
