"""Write the files that are made from the code: stored help texts, the example config, the schemas and the command page.

``--check`` writes nothing, and fails when one of them is out of date.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def help_texts() -> Iterator[tuple[str, str]]:
    """Each command's path ("", "ask", "config init") and its help as typer prints it, 80 columns wide."""
    os.environ["COLUMNS"] = "80"
    import typer.main

    from mcpchat.cli.commands import app

    def walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*path, name))

    for path in walk(typer.main.get_command(app), ()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            app([*path, "--help"], prog_name="mcpchat", standalone_mode=False)
        yield " ".join(path), out.getvalue()


def generated() -> Iterator[tuple[Path, str]]:
    from mcpchat.core import config, dialogue

    texts = dict(help_texts())
    lines = ["    %s: (\n%s    )," % (json.dumps(name), _literal(text)) for name, text in texts.items()]
    yield (
        ROOT / "src/mcpchat/help_texts.py",
        '"""What --help prints, stored so that it needs no parser. Written by scripts/generate.py."""\n\n'
        "# fmt: off\nTEXTS: dict[str, str] = {\n" + "\n".join(lines) + "\n}\n",
    )
    starter = (ROOT / "src/mcpchat/starter.toml").read_text(encoding="utf-8")
    yield ROOT / "config.example.toml", starter
    yield ROOT / "docs/config.schema.json", json.dumps(config.json_schema(), indent=2) + "\n"
    yield ROOT / "docs/events.schema.json", json.dumps(dialogue.written_schema(), indent=2) + "\n"
    pages = "\n".join(
        f"## {('mcpchat ' + name).strip()}\n\n```text\n{text.rstrip()}\n```\n" for name, text in texts.items()
    )
    yield ROOT / "docs/commands.md", f"# Commands\n\nWhat `--help` prints, for every command.\n\n{pages}"


def _literal(text: str) -> str:
    return "".join(f"        {json.dumps(line, ensure_ascii=False)}\n" for line in text.splitlines(keepends=True))


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = [
        (path, text) for path, text in generated() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(("out of date: " if check else "wrote ") + str(path.relative_to(ROOT)))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
