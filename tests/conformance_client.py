"""The installed mcpchat as the client under test of the official conformance suite.

The suite appends the address of its server. What a person would do with that server is done here: the lists are
looked at, each tool is called by a (scripted) model in one answer, resources are read, prompts are run; questions at
the terminal are answered with what stands there.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.double import DONE, ModelDouble, Reply, chunk, text
from tests.terminal import Terminal

MCPCHAT = str(Path(sys.executable).with_name("mcpchat"))
FOCAL, ECHO = "json_schema_2020_12_tool", "json_schema_echo"


def main() -> int:
    url = sys.argv[-1]
    revision = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with tempfile.TemporaryDirectory() as home, ModelDouble() as model:
        config = Path(home, "config.toml")
        era = "" if revision.startswith("2026") else f'protocol = "{revision}"\n'
        config.write_text(f'[servers.s]\nurl = "{url}"\n{era}[approvals]\ndefault = "allow"\n')
        environ = {**os.environ, "HOME": home, "MCPCHAT_CONFIG": str(config), "XDG_STATE_HOME": home}
        environ |= {"OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}

        def run(*words: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run([MCPCHAT, *words], env=environ, capture_output=True, text=True, check=False)

        listed = run("tools", "--format", "json")
        sys.stderr.write(listed.stderr)
        tools = {tool["name"]: tool for tool in json.loads(listed.stdout or "[]")}
        model.replies = [calls(planned(tools, context)), text("Done.")]
        with Terminal([MCPCHAT, "ask", "Go"], environ=environ) as terminal:
            code = answered(terminal)
            sys.stderr.write(terminal.text + "\n")
        for resource in json.loads(run("read", "-o", "json").stdout or "[]"):
            run("read", f"s:{resource['uri']}")
        for prompt in json.loads(run("prompt", "-o", "json").stdout or "[]"):
            run("prompt", f"s:{prompt['name']}", *(f"{one['name']}=x" for one in prompt["arguments"]))
    return code


def planned(tools: dict[str, Any], context: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The calls to make: those that the scenario asks for, else one of each tool."""
    if wanted := context.get("toolCalls"):
        return [(tools[call["name"]]["exposed"], call["arguments"]) for call in wanted if call["name"] in tools]
    made = {name: sample(tool["schema"]) for name, tool in tools.items()}
    if ECHO in made:
        made[ECHO] = {"schema": tools[FOCAL]["schema"]}
    return [(tools[name]["exposed"], arguments) for name, arguments in made.items()]


def sample(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments that fit a simple schema."""
    by_type = {"string": "x", "number": 5, "integer": 5, "boolean": True, "array": [], "object": {}}
    return {name: by_type.get(said.get("type"), "x") for name, said in schema.get("properties", {}).items()}


def calls(made: list[tuple[str, dict[str, Any]]]) -> Reply:
    pieces = [
        {
            "index": number,
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(made)
    ]
    return Reply([chunk({"tool_calls": pieces}), chunk({}, "tool_calls"), DONE])


def answered(terminal: Terminal) -> int:
    """Wait for the end, and agree to whatever is asked meanwhile."""
    seen = 0
    while terminal.process.poll() is None:
        terminal.read(0.2)
        asked = terminal.text.count("[s]end to") + terminal.text.count("\n    :")
        if asked > seen:
            seen = asked
            terminal.send("s" if terminal.text.rstrip().endswith("[d]ecline") else "\r")
    return int(terminal.process.returncode)


if __name__ == "__main__":
    sys.exit(main())
