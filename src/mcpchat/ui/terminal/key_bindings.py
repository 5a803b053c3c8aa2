"""The key bindings of the chat's input line."""

from collections.abc import Sequence
from typing import Protocol

from prompt_toolkit import search
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import (
    Condition,
    Filter,
    emacs_insert_mode,
    emacs_mode,
    has_focus,
    vi_insert_mode,
    vi_navigation_mode,
)
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.vi_state import InputMode
from prompt_toolkit.keys import Keys

from mcpchat.ui.terminal.folded_pastes import FoldedPastes

_MAX_REPORT_LENGTH = 40  # characters of a terminal's answer


class InputActions(Protocol):
    """The input line and the actions that its keys start."""

    buffer: Buffer
    folded: FoldedPastes
    shell_mode: bool

    @property
    def queued_lines(self) -> Sequence[str]: ...

    def mark_activity(self) -> None: ...

    def insert_paste(self, text: str) -> None: ...

    def open_pastes(self) -> None: ...

    def submit(self) -> None: ...

    def cancel_or_leave(self) -> None: ...

    def request_exit(self) -> None: ...

    def recall_queued(self) -> None: ...

    def open_editor(self) -> None: ...

    def suspend(self) -> None: ...

    def toggle_reasoning(self) -> None: ...

    @property
    def has_tasks(self) -> bool: ...

    def put_tasks_aside(self) -> None: ...

    @property
    def expects_background_report(self) -> bool: ...

    def take_background_report(self, report: str) -> None: ...


def build_key_bindings(actions: InputActions) -> KeyBindings:
    buffer = actions.buffer
    at_prompt = has_focus(buffer)
    at_empty_prompt = at_prompt & Condition(lambda: not buffer.text)
    has_queue = Condition(lambda: bool(actions.queued_lines))
    completing = Condition(lambda: buffer.complete_state is not None)
    bindings = KeyBindings()

    @bindings.add("enter", filter=at_prompt)
    def enter(event: KeyPressEvent) -> None:
        """Send the line, or continue on a new line after a backslash."""
        actions.mark_activity()
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            actions.submit()

    @bindings.add("escape", "enter", filter=at_prompt & emacs_mode)
    @bindings.add("c-j", filter=at_prompt)
    def new_line(event: KeyPressEvent) -> None:
        buffer.insert_text("\n")

    @bindings.add("c-c")
    def interrupt(event: KeyPressEvent) -> None:
        """Leave the history search, else cancel, clear or leave."""
        actions.mark_activity()
        if event.current_buffer is not buffer:
            search.stop_search()
        else:
            actions.cancel_or_leave()

    @bindings.add("escape", filter=completing & ~Condition(lambda: actions.expects_background_report), eager=True)
    def close_menu(event: KeyPressEvent) -> None:
        """Close the suggestions; with vi keys also leave insert mode."""
        buffer.cancel_completion()
        if event.app.editing_mode == EditingMode.VI:
            event.app.vi_state.input_mode = InputMode.NAVIGATION
            buffer.cursor_left()

    _bind_pastes(bindings, actions, at_prompt)
    _bind_shell_mode(bindings, actions, at_empty_prompt)
    bindings.add("c-d", filter=at_empty_prompt)(lambda event: actions.request_exit())
    bindings.add("up", filter=at_empty_prompt & has_queue)(lambda event: actions.recall_queued())
    bindings.add("c-x", "c-e", filter=at_prompt)(lambda event: actions.open_editor())
    bindings.add("v", filter=at_prompt & vi_navigation_mode)(lambda event: actions.open_editor())
    bindings.add("c-z")(lambda event: actions.suspend())
    bindings.add("c-l")(lambda event: event.app.renderer.clear())
    bindings.add("c-t")(lambda event: actions.toggle_reasoning())
    has_tasks = Condition(lambda: actions.has_tasks)  # without tasks, the key moves the cursor
    bindings.add("c-b", filter=has_tasks, eager=True)(lambda event: actions.put_tasks_aside())
    _bind_background_report(bindings, actions)
    return bindings


def _bind_shell_mode(bindings: KeyBindings, actions: InputActions, at_empty_prompt: Filter) -> None:
    """An exclamation mark that is typed first makes the line a shell command. One that is pasted is only text."""
    in_shell_mode = Condition(lambda: actions.shell_mode)
    inserts = emacs_insert_mode | vi_insert_mode

    @bindings.add("!", filter=at_empty_prompt & inserts & ~in_shell_mode)
    def begin(event: KeyPressEvent) -> None:
        actions.mark_activity()
        actions.shell_mode = True

    @bindings.add("backspace", filter=at_empty_prompt & in_shell_mode)
    def end(event: KeyPressEvent) -> None:
        actions.shell_mode = False


def _bind_pastes(bindings: KeyBindings, actions: InputActions, at_prompt: Filter) -> None:
    """Insert pastes; delete a folded one as a whole; open them."""
    buffer = actions.buffer

    @bindings.add(Keys.BracketedPaste, filter=at_prompt)
    def paste(event: KeyPressEvent) -> None:
        actions.insert_paste(event.data.replace("\r\n", "\n").replace("\r", "\n"))

    @Condition
    def after_label() -> bool:
        return bool(actions.folded.find_label(buffer.document.text_before_cursor, at_end=True))

    @Condition
    def before_label() -> bool:
        return bool(actions.folded.find_label(buffer.document.text_after_cursor, at_end=False))

    @bindings.add("backspace", filter=at_prompt & after_label)
    def delete_label_before(event: KeyPressEvent) -> None:
        buffer.delete_before_cursor(len(actions.folded.find_label(buffer.document.text_before_cursor, at_end=True)))

    @bindings.add("delete", filter=at_prompt & before_label)
    def delete_label_after(event: KeyPressEvent) -> None:
        buffer.delete(len(actions.folded.find_label(buffer.document.text_after_cursor, at_end=False)))

    bindings.add("c-w", filter=at_prompt & after_label)(delete_label_before)
    bindings.add("escape", "backspace", filter=at_prompt & after_label)(delete_label_before)
    bindings.add("c-o", filter=at_prompt)(lambda event: actions.open_pastes())


def _bind_background_report(bindings: KeyBindings, actions: InputActions) -> None:
    """Take the terminal's answer to a question for its background colour out of the keys: ``ESC ] ... ESC \\``."""
    report: list[str] | None = None  # the characters so far; None outside of an answer

    def begin(event: KeyPressEvent) -> None:
        nonlocal report
        report = []

    def collect(event: KeyPressEvent) -> None:
        nonlocal report
        assert report is not None
        key = event.key_sequence[0].key
        is_text = len(event.data) == 1 and event.data.isprintable() and key != "\\"
        is_end = not (is_text or key == Keys.Escape) or len(report) > _MAX_REPORT_LENGTH
        if is_text:
            report.append(event.data)
        if is_end:
            actions.take_background_report("".join(report))
            report = None

    in_report = Condition(lambda: report is not None)
    # Only while an answer can come: the binding makes Escape wait for another key.
    expects_report = Condition(lambda: actions.expects_background_report)
    bindings.add("escape", "]", filter=~in_report & expects_report)(begin)
    bindings.add("escape", filter=in_report, eager=True)(collect)
    bindings.add("<any>", filter=in_report, eager=True)(collect)
    bindings.add("c-g", filter=in_report, eager=True)(collect)
