"""An installed mcpchat with one scripted MCP server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.command_line import run_mcpchat
from tests.support.fake_openai import FakeOpenAI
from tests.support.paths import MCPCHAT, SCRIPTED
from tests.support.terminal import Terminal

TEXT_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
READ_ONLY = {"readOnlyHint": True, "destructiveHint": False}
SAY = {"name": "say", "description": "Says a text", "inputSchema": TEXT_SCHEMA, "annotations": READ_ONLY}
TURN = {"name": "turn", "description": "Turns around", "inputSchema": TEXT_SCHEMA, "annotations": READ_ONLY}
Completed = subprocess.CompletedProcess[str]


class ScriptedServer:
    """An mcpchat whose only server, "box", follows a script; runs commands directly or in a terminal."""

    def __init__(self, folder: Path, fake_openai: FakeOpenAI) -> None:
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
        """Write the config.

        With ``via_shell`` no argument is the path of the script file, so a changed script keeps the cached catalog.
        """
        command = f'command = "{sys.executable}"\nargs = ["{SCRIPTED}", "{self._script_file}"]\n'
        if via_shell:
            command = f'command = "sh"\nargs = ["-c", "exec {sys.executable} {SCRIPTED} {self._script_file}"]\n'
        self._config.write_text(f"[servers.box]\n{command}{server_config}\n{extra_config}")

    def set_script(self, **script: Any) -> None:
        """Replace the script; see tests/support/servers/scripted.py for its keys."""
        self._script_file.write_text(json.dumps({"tools": [SAY], **script}))

    def run(self, *args: str, cwd: Path | None = None, **environ: str) -> Completed:
        env = {**os.environ, **self.environ, **environ}
        result = run_mcpchat(*args, env=env, cwd=cwd or self.folder, text=True)
        assert "Traceback" not in result.stderr
        return result

    def terminal(self, *args: str, **options: Any) -> Terminal:
        return Terminal([MCPCHAT, *args], environ=self.environ | options.pop("environ", {}), **options)

    @property
    def offered_tools(self) -> dict[str, str]:
        """The descriptions of the tools in the latest model request, by name."""
        tools = self.fake_openai.requests[-1].get("tools") or []
        return {tool["function"]["name"]: tool["function"]["description"] for tool in tools}


def modified_tool(**fields: Any) -> dict[str, Any]:
    """Return the tool SAY with other values for these fields."""
    return {**SAY, **fields}
