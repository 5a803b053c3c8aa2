"""Text that the user types while no prompt is active."""

from dataclasses import dataclass, field


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
