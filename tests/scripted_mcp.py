"""A server that does what it is told to, and the installed command that meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fake_openai import FakeOpenAI
from tests.terminal import Terminal

SCRIPTED = Path(__file__).with_name("servers") / "scripted.py"
QUIRKY = Path(__file__).with_name("servers") / "quirky.py"
TEXT_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
READ_ONLY = {"readOnlyHint": True, "destructiveHint": False}
SAY = {"name": "say", "description": "Says a text", "inputSchema": TEXT_SCHEMA, "annotations": READ_ONLY}
TURN = {"name": "turn", "description": "Turns around", "inputSchema": TEXT_SCHEMA, "annotations": READ_ONLY}
Completed = subprocess.CompletedProcess[str]


class ScriptedServer:
    """One server, box, that does what ``says`` told it; and the command, before it or in a terminal."""

    def __init__(self, mcpchat_command: str, folder: Path, fake_openai: FakeOpenAI) -> None:
        self._mcpchat_command = mcpchat_command
        self._script_file = folder / "said.json"
        self._config = folder / "c.toml"
        self.folder = folder
        self.fake_openai = fake_openai
        self.environ = {
            "OPENAI_BASE_URL": fake_openai.base_url,
            "MCPCHAT_MODEL": "m",
            "MCPCHAT_CONFIG": str(self._config),
            "PAGER": "cat",
        }
        self.configure()
        self.set_script(tools=[SAY])

    def configure(self, server_config: str = "", extra_config: str = "", *, via_shell: bool = False) -> None:
        """``through_a_shell`` no file that changes is named in the arguments, so that what was kept is used."""
        command = f'command = "{sys.executable}"\nargs = ["{SCRIPTED}", "{self._script_file}"]\n'
        if via_shell:
            command = f'command = "sh"\nargs = ["-c", "exec {sys.executable} {SCRIPTED} {self._script_file}"]\n'
        self._config.write_text(f"[servers.box]\n{command}{server_config}\n{extra_config}")

    def set_script(self, **script: Any) -> None:
        self._script_file.write_text(json.dumps({"tools": [SAY], **script}))

    def run(self, *args: str, cwd: Path | None = None, **environ: str) -> Completed:
        result = subprocess.run(
            [self._mcpchat_command, *args],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environ, **environ},
            stdin=subprocess.DEVNULL,
            cwd=cwd or self.folder,
            timeout=50,
        )
        assert "Traceback" not in result.stderr
        return result

    def terminal(self, *args: str, **options: Any) -> Terminal:
        return Terminal([self._mcpchat_command, *args], environ=self.environ | options.pop("environ", {}), **options)

    @property
    def offered_tools(self) -> dict[str, str]:
        """The tools of the latest request to the model, by name, with their descriptions."""
        tools = self.fake_openai.requests[-1].get("tools") or []
        return {tool["function"]["name"]: tool["function"]["description"] for tool in tools}


def modified_tool(**fields: Any) -> dict[str, Any]:
    """The usual tool, otherwise in these fields."""
    return {**SAY, **fields}
