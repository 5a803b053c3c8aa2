"""The branches of a thread as a tree of its questions."""

from collections.abc import Sequence

from mcpchat.core.threads import Thread, ThreadMessage, branch
from mcpchat.ui.render.transcripts import format_time
from mcpchat.util.sanitize import one_line

_MAX_LINES = 400
_MAX_RUN = 8  # questions in a row without a branch that are all shown
_SHOWN_OF_RUN = 3  # questions at the beginning and at the end of a longer run
_MAX_QUESTION_LENGTH = 60
_CURRENT, _OTHER = "*", " "


def format_tree(thread: Thread, nodes: Sequence[ThreadMessage]) -> list[str]:
    """One line for each question: the number of the last message of its answer, its first words, and its time.

    A question that was asked after an answer is below it. Where the thread branches, each branch is indented. ``*``
    marks where the thread goes on; its last line says "here". Of long runs without a branch the middle is left out.
    """
    turns = find_turns(nodes, thread.head)
    current = {node.number for node in branch(nodes, thread.head)}
    children: dict[int, list[int]] = {}
    for number, turn in turns.items():
        children.setdefault(turn.parent, []).append(number)
    lines: list[str] = []
    pending = [(number, "", "") for number in reversed(children.get(0, []))]
    if len(pending) > 1:  # the thread branches at its very beginning
        pending = _indent_branches(children[0], "")
    while pending and len(lines) < _MAX_LINES:
        number, head, tail = pending.pop()
        run = [number]
        while len(following := children.get(run[-1], [])) == 1:
            run.append(following[0])
        for index, item in enumerate(run):
            prefix = head if index == 0 else tail
            if len(run) > _MAX_RUN and _SHOWN_OF_RUN <= index < len(run) - _SHOWN_OF_RUN:
                if index == _SHOWN_OF_RUN:
                    lines.append(f"  {prefix}      … {len(run) - 2 * _SHOWN_OF_RUN:,} more questions")
                continue
            turn = turns[item]
            mark = _CURRENT if item in current else _OTHER
            here = "  here" if item == thread.head else ""
            lines.append(f"{mark} {prefix}{item:>4}  {turn.question}  {turn.time}{here}".rstrip())
        pending += _indent_branches(children.get(run[-1], []), tail)
    return [*lines, "  … and more"] if pending else lines


def _indent_branches(numbers: Sequence[int], tail: str) -> list[tuple[int, str, str]]:
    """Each branch with the prefix of its first line and that of its others, the first branch last."""
    last = len(numbers) - 1
    return [
        (number, tail + ("└─" if index == last else "├─"), tail + ("  " if index == last else "│ "))
        for index, number in reversed(list(enumerate(numbers)))
    ]


class QuestionTurn:
    """A question with its answer. ``parent`` is the turn that it continues, ``asked`` the user's message; or 0."""

    def __init__(self, parent: int, asked: int, question: str, time: str) -> None:
        self.parent = parent
        self.asked = asked
        self.question = question
        self.time = time


def find_turns(nodes: Sequence[ThreadMessage], head: int) -> dict[int, QuestionTurn]:
    """The turns, by the number of their last message; one ends at ``head``. Two answers to a question are two turns."""
    following: dict[int, list[ThreadMessage]] = {}
    for node in nodes:
        following.setdefault(node.parent, []).append(node)
    turns: dict[int, QuestionTurn] = {}
    questions, last_turns = {0: (0, "")}, {0: 0}
    for node in nodes:  # parents come before their children
        asked, question = questions.get(node.parent, (0, ""))
        if node.message.role == "user":
            asked, question = node.number, one_line(node.message.user_text.strip(), _MAX_QUESTION_LENGTH)
        questions[node.number] = asked, question
        last_turns[node.number] = last_turns.get(node.parent, 0)
        after = following.get(node.number, [])
        if not after or node.number == head or any(child.message.role == "user" for child in after):
            turns[node.number] = QuestionTurn(last_turns[node.number], asked, question, format_time(node.record.at))
            last_turns[node.number] = node.number
    return turns
