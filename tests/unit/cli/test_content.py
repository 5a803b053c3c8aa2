"""How results are printed: safe for a terminal, and as they are for a program."""

import io

import pytest

from mcpchat.cli.content import print_result
from mcpchat.core.messages import Text, ToolResult


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "is_error", "shown"),
    [
        (Screen(), True, "  no\u241b[2J\n  error: your key is gone\n"),
        (Screen(), False, "no\u241b[2J\nerror: your key is gone\n"),
        (io.StringIO(), True, "no\x1b[2J\nerror: your key is gone\n"),
    ],
)
def test_the_error_of_a_tool_looks_like_no_message_of_ours(stream: io.StringIO, is_error: bool, shown: str) -> None:
    result = ToolResult(call_id="", parts=(Text(text="no\x1b[2J\nerror: your key is gone\n"),), is_error=is_error)
    print_result(result, stream)
    assert stream.getvalue() == shown
