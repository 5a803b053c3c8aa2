"""The tree of a thread's questions."""

import re

from mcpchat.core.messages import Message, Text
from mcpchat.core.threads import MessageMetadata, Thread, ThreadMessage
from mcpchat.ui.render.thread_tree import format_tree


def make_nodes(*parents: int) -> list[ThreadMessage]:
    """Turns of a question and an answer; each begins after the message with the number in ``parents``."""
    nodes = []
    for index, parent in enumerate(parents):
        question, answer = 2 * index + 1, 2 * index + 2
        for number, before, role in ((question, parent, "user"), (answer, question, "assistant")):
            message = Message(role=role, parts=(Text(text=f"question {index + 1}"),))  # type: ignore[arg-type]
            nodes.append(ThreadMessage(number=number, parent=before, message=message, record=MessageMetadata(at=1.0)))
    return nodes


def draw(head: int, nodes: list[ThreadMessage]) -> list[str]:
    lines = format_tree(Thread(id="x", head=head), nodes)
    return [re.sub(r"  \d{4}-\S+ \S+", "", line) for line in lines]


def test_branches_are_drawn_below_the_question_where_they_begin() -> None:
    assert draw(8, make_nodes(0, 2, 2, 6, 4, 4)) == [
        "*    2  question 1",
        "  ├─   4  question 2",
        "  │ ├─  10  question 5",
        "  │ └─  12  question 6",
        "* └─   6  question 3",
        "*      8  question 4  here",
    ]


def test_a_thread_may_branch_at_its_beginning() -> None:
    assert draw(4, make_nodes(0, 0)) == ["  ├─   2  question 1", "* └─   4  question 2  here"]


def test_the_middle_of_a_long_run_is_left_out() -> None:
    lines = draw(40, make_nodes(*range(0, 40, 2)))
    assert lines[2:5] == ["*    6  question 3", "        … 14 more questions", "*   36  question 18"]
    assert lines[-1] == "*   40  question 20  here"


def test_an_undone_question_goes_on_below_here() -> None:
    assert draw(2, make_nodes(0, 2)) == ["*    2  question 1  here", "     4  question 2"]


def test_a_very_long_thread_is_drawn_without_recursion() -> None:
    assert len(draw(20_000, make_nodes(*range(0, 20_000, 2)))) == 7


def test_a_message_within_an_answer_can_be_the_end() -> None:
    assert draw(1, make_nodes(0)) == ["*    1  question 1  here", "     2  question 1"]
