"""A server that does what it is told to, and the installed command that meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.double import ModelDouble
from tests.terminal import Terminal

STRANGER = Path(__file__).with_name("servers") / "stranger.py"
ODD = Path(__file__).with_name("servers") / "odd.py"
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
READS = {"readOnlyHint": True, "destructiveHint": False}
SAY = {"name": "say", "description": "Says a text", "inputSchema": TEXT, "annotations": READS}
TURN = {"name": "turn", "description": "Turns around", "inputSchema": TEXT, "annotations": READS}
Done = subprocess.CompletedProcess[str]


class StrangeBox:
    """One server, box, that does what ``says`` told it; and the command, before it or in a terminal."""

    def __init__(self, installed: str, folder: Path, double: ModelDouble) -> None:
        self._installed = installed
        self._file = folder / "said.json"
        self._config = folder / "c.toml"
        self.folder = folder
        self.double = double
        self.environ = {
            "OPENAI_BASE_URL": double.base_url,
            "MCPCHAT_MODEL": "m",
            "MCPCHAT_CONFIG": str(self._config),
            "PAGER": "cat",
        }
        self.configure()
        self.says(tools=[SAY])

    def configure(self, box: str = "", more: str = "", *, through_a_shell: bool = False) -> None:
        """``through_a_shell`` no file that changes is named in the arguments, so that what was kept is used."""
        command = f'command = "{sys.executable}"\nargs = ["{STRANGER}", "{self._file}"]\n'
        if through_a_shell:
            command = f'command = "sh"\nargs = ["-c", "exec {sys.executable} {STRANGER} {self._file}"]\n'
        self._config.write_text(f"[servers.box]\n{command}{box}\n{more}")

    def says(self, **said: Any) -> None:
        self._file.write_text(json.dumps({"tools": [SAY], **said}))

    def run(self, *words: str, cwd: Path | None = None, **environ: str) -> Done:
        done = subprocess.run(
            [self._installed, *words],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environ, **environ},
            stdin=subprocess.DEVNULL,
            cwd=cwd or self.folder,
            timeout=50,
        )
        assert "Traceback" not in done.stderr
        return done

    def terminal(self, *words: str, **options: Any) -> Terminal:
        return Terminal([self._installed, *words], environ=self.environ | options.pop("environ", {}), **options)

    @property
    def offered(self) -> dict[str, str]:
        """The tools of the latest request to the model, by name, with their descriptions."""
        tools = self.double.requests[-1].get("tools") or []
        return {tool["function"]["name"]: tool["function"]["description"] for tool in tools}


def changed(**fields: Any) -> dict[str, Any]:
    """The usual tool, otherwise in these fields."""
    return {**SAY, **fields}
