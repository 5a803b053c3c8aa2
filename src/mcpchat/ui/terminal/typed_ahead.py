"""Text that the user types while no prompt is active."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding.key_processor import KeyPress


@dataclass
class TypedAhead:
    """Text typed while no prompt was active, and the parts of it that were pasted."""

    text: str = ""
    pastes: list[str] = field(default_factory=list)

    def add(self, key: str, data: str) -> None:
        """Apply a key press; keys without text are ignored."""
        match key:
            case "<bracketed-paste>":
                text = data.replace("\r\n", "\n").replace("\r", "\n")
                self.pastes.append(text)
                self.text += text
            case "c-h":
                self.text = self.text[:-1]
            case "c-u" | "c-c":
                self.text = ""
            case "c-m" | "c-j":
                self.text += "\n"
            case _ if len(key) == 1 and key.isprintable():
                self.text += key

    def feed(self, raw: str) -> bool:
        """Apply the key presses in what a terminal sent. Returns whether there were any."""
        from prompt_toolkit.input.vt100_parser import Vt100Parser

        presses: list[KeyPress] = []
        if raw:
            parser = Vt100Parser(presses.append)
            parser.feed(raw)
            parser.flush()
        for press in presses:
            self.add(press.key, press.data)
        return bool(presses)
