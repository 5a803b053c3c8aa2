"""The installed mcpchat as the client under test of the official conformance suite.

The suite appends the URL of its server. This script does what a user would do with that server: it lists everything,
lets a (scripted) model call each tool in one response, reads the resources and runs the prompts. Questions at the
terminal are answered with their default.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.fake_openai import DONE, CannedResponse, FakeOpenAI, chunk, text
from tests.support.paths import HEADLESS_BROWSER, MCPCHAT
from tests.support.processes import run_process, script_command
from tests.support.terminal import Terminal

FOCAL, ECHO = "json_schema_2020_12_tool", "json_schema_echo"


def main() -> int:
    url = sys.argv[-1]
    scenario = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
    revision = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with tempfile.TemporaryDirectory() as home, FakeOpenAI() as model:
        config = Path(home, "config.toml")
        protocol_line = "" if revision.startswith("2026") else f'protocol = "{revision}"\n'
        login_lines = "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in server_config(scenario, context, url).items()
        )
        config.write_text(
            f'[servers.s]\nurl = "{url}"\n{protocol_line}{login_lines}[approvals]\ndefault = "allow"\n[auth]\nstore = "file"\n'
        )
        environ = {**os.environ, "HOME": home, "MCPCHAT_CONFIG": str(config), "XDG_STATE_HOME": home}
        environ |= {"OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m", "BROWSER": browser_command(Path(home))}
        environ |= {"SECRET": context.get("client_secret", ""), "KEY": context.get("private_key_pem", "")}

        def run(*args: str) -> "subprocess.CompletedProcess[str]":
            return run_process([MCPCHAT, *args], env=environ)

        if scenario.startswith("auth/"):  # these servers have one tool; mcpchat offers the sign-in if it needs one
            model.replies = [calls_response([("s__test-tool", {})]), text("Done.")]
            if scenario == "auth/authorization-server-migration":  # a first login, before the server migrates
                run("auth", "login", "s", "--timeout", "20")
            return run_ask(environ)
        result = run("tools", "--format", "json")
        sys.stderr.write(result.stderr)
        tools = {tool["name"]: tool for tool in json.loads(result.stdout or "[]")}
        model.replies = [calls_response(plan_calls(tools, context)), text("Done.")]
        code = run_ask(environ)
        for resource in json.loads(run("read", "-o", "json").stdout or "[]"):
            run("read", f"s:{resource['uri']}")
        for prompt in json.loads(run("prompt", "-o", "json").stdout or "[]"):
            run("prompt", f"s:{prompt['name']}", *(f"{argument['name']}=x" for argument in prompt["arguments"]))
    return code


def run_ask(environ: dict[str, str]) -> int:
    with Terminal([MCPCHAT, "ask", "Go"], environ=environ) as terminal:
        code = answer_prompts(terminal)
        sys.stderr.write(terminal.text + "\n")
    return code


def server_config(scenario: str, context: dict[str, Any], url: str) -> dict[str, str]:
    """Return what a user would write into the server's config table."""
    if scenario == "auth/basic-cimd":
        return {"client_id": "https://conformance-test.local/client-metadata.json"}
    if scenario == "auth/client-credentials-jwt":
        auth = {"auth": "client_credentials", "private_key": "env:KEY", "key_algorithm": context["signing_algorithm"]}
        return {**auth, "client_id": context["client_id"]}
    if "client_id" not in context:
        return {}
    # A user who registered a client knows its issuer; here it is read from the metadata.
    metadata_url = f"{url.removesuffix('/mcp')}/.well-known/oauth-protected-resource/mcp"
    with urllib.request.urlopen(metadata_url) as response:
        issuer = json.load(response)["authorization_servers"][0]
    auth = {"auth": "client_credentials"} if scenario == "auth/client-credentials-basic" else {}
    return {**auth, "client_id": context["client_id"], "client_secret": "env:SECRET", "issuer": issuer}


def browser_command(home: Path) -> str:
    plan = home / "plan.json"
    plan.write_text("{}")
    return " ".join(script_command(HEADLESS_BROWSER, str(plan), "%s"))


def plan_calls(tools: dict[str, Any], context: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls to make: those that the scenario requests, otherwise one for each tool."""
    if requested := context.get("toolCalls"):
        return [(tools[call["name"]]["exposed"], call["arguments"]) for call in requested if call["name"] in tools]
    arguments_by_tool = {name: sample_arguments(tool["schema"]) for name, tool in tools.items()}
    if ECHO in arguments_by_tool:
        arguments_by_tool[ECHO] = {"schema": tools[FOCAL]["schema"]}
    return [(tools[name]["exposed"], arguments) for name, arguments in arguments_by_tool.items()]


def sample_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return arguments that match a simple schema."""
    by_type = {"string": "x", "number": 5, "integer": 5, "boolean": True, "array": [], "object": {}}
    return {name: by_type.get(subschema.get("type"), "x") for name, subschema in schema.get("properties", {}).items()}


def calls_response(planned_calls: list[tuple[str, dict[str, Any]]]) -> CannedResponse:
    tool_calls = [
        {
            "index": number,
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(planned_calls)
    ]
    return CannedResponse([chunk({"tool_calls": tool_calls}), chunk({}, "tool_calls"), DONE])


def answer_prompts(terminal: Terminal) -> int:
    """Wait for the exit code and accept every prompt meanwhile; form fields keep their default."""
    screen = answered_screen = ""
    while terminal.process.poll() is None:
        terminal.read(0.2)
        previous, screen = screen, terminal.text
        if screen != previous or screen == answered_screen:
            continue  # the screen is still changing, or this prompt was answered already
        line = screen.rpartition("\n")[2]
        if line.endswith("[d]ecline"):
            terminal.send("s")
        elif line.startswith(("    [y]es", "    its number", "    :")):
            terminal.send("\r")
        elif line.endswith("[n]o"):
            terminal.send("y")
        else:
            continue
        answered_screen = screen
    return int(terminal.process.returncode)


if __name__ == "__main__":
    sys.exit(main())
