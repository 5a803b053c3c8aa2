"""The result of one check."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from mcpchat.errors import McpChatError, SignInNeeded

CheckStatus = Literal["ok", "warning", "wrong"]
# Exit codes, the worst first: config, model, server, sign-in.
_WORST_FIRST = (2, 8, 4, 3)


class Check(Struct, frozen=True, kw_only=True):
    """What was found about one thing.

    ``subject`` is what the check belongs to, as in ``server notes``. ``fix`` is what to type or change. ``exit_code``
    is the one of the error behind a check that is wrong, else 0.
    """

    subject: str
    name: str
    status: CheckStatus
    detail: str = ""
    fix: str = ""
    exit_code: int = 0


class Subject:
    """Makes the checks of one subject."""

    def __init__(self, subject: str) -> None:
        self.subject = subject

    def ok(self, name: str, detail: str = "") -> Check:
        return Check(subject=self.subject, name=name, status="ok", detail=detail)

    def warning(self, name: str, detail: str, fix: str = "") -> Check:
        return Check(subject=self.subject, name=name, status="warning", detail=detail, fix=fix)

    def wrong(self, name: str, detail: str, fix: str = "", exit_code: int = 1) -> Check:
        return Check(subject=self.subject, name=name, status="wrong", detail=detail, fix=fix, exit_code=exit_code)

    def error(self, name: str, error: McpChatError) -> Check:
        """A check that failed with this error."""
        detail = "a sign-in is needed" if isinstance(error, SignInNeeded) and not error.message else error.message
        return self.wrong(name, detail, error.hint, error.exit_code)


def worst_exit_code(checks: Iterable[Check]) -> int:
    """The exit code for all of the checks: 0 if none is wrong."""
    codes = {check.exit_code for check in checks if check.status == "wrong"}
    return next((code for code in _WORST_FIRST if code in codes), 1 if codes else 0)
