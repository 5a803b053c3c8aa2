"""Third-party MCP servers and the official conformance suite, against the installed command.

scripts/published.py installs them; no test connects beyond loopback.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import MCPCHAT, NODE, NODE_MODULES, PYTHON_PROGRAMS, ROOT
from tests.support.processes import run_process, script_command
from tests.support.published import needs_published
from tests.support.terminal import Terminal

pytestmark = needs_published
AUTH = [
    "metadata-default",
    "metadata-var1",
    "metadata-var2",
    "metadata-var3",
    "basic-cimd",
    "scope-from-www-authenticate",
    "scope-from-scopes-supported",
    "scope-omitted-when-undefined",
    "scope-step-up",
    "scope-retry-limit",
    "token-endpoint-auth-basic",
    "token-endpoint-auth-post",
    "token-endpoint-auth-none",
    "pre-registration",
]
AUTH_OF_2026 = [
    "resource-mismatch",
    "offline-access-scope",
    "offline-access-not-supported",
    "authorization-server-migration",
    "iss-supported",
    "iss-not-advertised",
    "iss-supported-missing",
    "iss-wrong-issuer",
    "iss-unexpected",
    "iss-normalized",
    "metadata-issuer-mismatch",
]
CORE = [
    ("initialize", "2025-06-18"),
    ("initialize", "2025-11-25"),
    ("tools_call", "2025-06-18"),
    ("tools_call", "2025-11-25"),
    ("tools_call", "2026-07-28"),
    ("elicitation-sep1034-client-defaults", "2025-11-25"),
    ("sse-retry", "2025-11-25"),
    ("request-metadata", "2026-07-28"),
    ("sep-2322-client-request-state", "2026-07-28"),
    ("http-standard-headers", "2026-07-28"),
    ("http-custom-headers", "2026-07-28"),
    ("http-invalid-tool-headers", "2026-07-28"),
    ("json-schema-ref-no-deref", "2026-07-28"),
    ("json-schema-2020-12-preservation", "2025-11-25"),
    ("json-schema-2020-12-preservation", "2026-07-28"),
    ("auth/2025-03-26-oauth-metadata-backcompat", "2025-03-26"),
    ("auth/2025-03-26-oauth-endpoint-fallback", "2025-03-26"),
    *((f"auth/token-endpoint-auth-{method}", "2025-06-18") for method in ("basic", "post", "none")),
    *((f"auth/{name}", revision) for name in AUTH for revision in ("2025-11-25", "2026-07-28")),
    *((f"auth/{name}", "2026-07-28") for name in AUTH_OF_2026),
]
EXTENSIONS = [("auth/client-credentials-basic", ""), ("auth/client-credentials-jwt", "")]
SUITE = NODE_MODULES / "@modelcontextprotocol/conformance/dist/index.js"


@pytest.mark.parametrize(("scenario", "revision"), [*CORE, *EXTENSIONS])
def test_the_conformance_suite_passes(scenario: str, revision: str, tmp_path: Path) -> None:
    client = " ".join(script_command(ROOT / "tests/support/conformance_client.py"))
    completed = subprocess.run(
        [
            *(str(NODE), str(SUITE), "client", "--command", client, "--scenario", scenario),
            *(("--spec-version", revision) if revision else ()),
            *("-o", str(tmp_path), "--verbose"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OVERALL: PASSED" in completed.stdout + completed.stderr, completed.stdout + completed.stderr
    assert completed.returncode == 0


def test_every_core_scenario_of_the_suite_is_run() -> None:
    scenario_list = subprocess.run(
        [str(NODE), str(SUITE), "list", "--client"], capture_output=True, text=True, check=True
    )
    pairs = {
        (line.split()[1], revision)
        for line in scenario_list.stdout.splitlines()
        if line.startswith("  - ") and "[extension]" not in line
        for revision in line.partition("[")[2].rstrip("]").split(",")
    }
    assert set(CORE) == pairs


# --- servers ----------------------------------------------------------------------------------------------------

Mcpchat = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    notes_folder = tmp_path / "notes"
    notes_folder.mkdir()
    (notes_folder / "todo.md").write_text("buy milk\n")
    git = ["git", "-C", str(notes_folder), "-c", "user.name=T", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "the first note"], check=True)
    (notes_folder / "todo.md").write_text("buy milk\nbuy bread\n")
    servers = {
        "everything": [str(NODE), str(NODE_MODULES / "@modelcontextprotocol/server-everything/dist/index.js")],
        "files": [
            str(NODE),
            str(NODE_MODULES / "@modelcontextprotocol/server-filesystem/dist/index.js"),
            str(notes_folder),
        ],
        "memory": [str(NODE), str(NODE_MODULES / "@modelcontextprotocol/server-memory/dist/index.js")],
        "time": [str(PYTHON_PROGRAMS / "mcp-server-time")],
        "git": [str(PYTHON_PROGRAMS / "mcp-server-git"), "--repository", str(notes_folder)],
        "fetch": [str(PYTHON_PROGRAMS / "mcp-server-fetch"), "--ignore-robots-txt", "--allow-private-ips"],
    }
    path = tmp_path / "c.toml"
    path.write_text(
        "".join(f"[servers.{name}]\ncommand = {argv[0]!r}\nargs = {argv[1:]}\n" for name, argv in servers.items())
        + f'[servers.memory.env]\nMEMORY_FILE_PATH = "{tmp_path}/memory.jsonl"\n[approvals]\ndefault = "allow"\n'
    )
    return path


@pytest.fixture
def mcpchat(config: Path) -> Mcpchat:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_process([MCPCHAT, *arguments, "--config", str(config)])

    return run


def test_all_servers_start_together_and_list_their_tools(mcpchat: Mcpchat) -> None:
    statuses = json.loads(mcpchat("servers", "-o", "json").stdout)
    assert {status["name"]: status["state"] for status in statuses} == dict.fromkeys(
        ("everything", "files", "memory", "time", "git", "fetch"), "ready"
    )
    tools = {tool["tool"] for tool in json.loads(mcpchat("tools", "--format", "json").stdout)}
    assert {"files.read_text_file", "memory.create_entities", "time.get_current_time", "git.git_log"} <= tools


def test_files_are_read_only_in_the_allowed_folder(mcpchat: Mcpchat, tmp_path: Path) -> None:
    assert mcpchat("call", "files.read_text_file", f"path={tmp_path}/notes/todo.md").stdout == "buy milk\nbuy bread\n"
    refusal = mcpchat("call", "files.read_text_file", "path=/etc/hostname")
    assert (refusal.returncode, refusal.stdout) == (5, "")
    assert "denied" in refusal.stderr


def test_memory_stores_entities(mcpchat: Mcpchat) -> None:
    entity = '{"entities": [{"name": "Ann", "entityType": "person", "observations": ["likes tea"]}]}'
    assert mcpchat("call", "memory.create_entities", "--json", entity).returncode == 0
    graph = json.loads(mcpchat("call", "memory.read_graph", "-o", "json").stdout)
    assert graph["structured"]["entities"][0]["name"] == "Ann"


def test_time_and_git_work(mcpchat: Mcpchat, tmp_path: Path) -> None:
    assert "Europe/Paris" in mcpchat("call", "time.get_current_time", "timezone=Europe/Paris").stdout
    assert "the first note" in mcpchat("call", "git.git_log", f"repo_path={tmp_path}/notes").stdout
    assert "+buy bread" in mcpchat("call", "git.git_diff_unstaged", f"repo_path={tmp_path}/notes").stdout


def test_fetch_reads_a_local_page(mcpchat: Mcpchat, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path / "notes")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        page = mcpchat("call", "fetch.fetch", f"url=http://127.0.0.1:{port}/todo.md", "raw=true")
        assert "buy bread" in page.stdout, page.stderr
    finally:
        server.kill()
        server.communicate()


def test_resources_and_prompts_are_listed_and_used(mcpchat: Mcpchat) -> None:
    uri = "demo://resource/static/document/features.md"
    assert uri in {resource.get("uri") for resource in json.loads(mcpchat("read", "everything", "-o", "json").stdout)}
    assert mcpchat("read", f"everything:{uri}").stdout.startswith("# Everything Server")
    assert mcpchat("read", uri).stdout == mcpchat("read", f"everything:{uri}").stdout
    prompt = mcpchat("prompt", "everything:args-prompt", "city=Rome")
    assert (prompt.returncode, prompt.stdout) == (0, "user: What's weather in Rome?\n")
    assert "everything:args-prompt needs city" in mcpchat("prompt", "everything:args-prompt").stderr


def test_progress_images_links_and_structure_work(mcpchat: Mcpchat) -> None:
    image = json.loads(mcpchat("call", "everything.get-tiny-image", "-o", "json").stdout)["parts"][1]
    assert (image["type"], image["media_type"]) == ("image", "image/png")
    weather = mcpchat("call", "everything.get-structured-content", "location=New York", "-o", "json").stdout
    assert set(json.loads(weather)["structured"]) == {"temperature", "conditions", "humidity"}
    result = mcpchat("call", "everything.trigger-long-running-operation", "duration=1", "steps=2")
    assert "completed" in result.stdout


def test_a_form_is_declined_without_a_terminal_else_filled_in(mcpchat: Mcpchat, config: Path) -> None:
    assert "declined" in mcpchat("call", "everything.trigger-elicitation-request").stdout
    arguments = [MCPCHAT, "call", "everything.trigger-elicitation-request", "--config", str(config)]
    with Terminal(arguments, columns=100, lines=60) as terminal:
        terminal.wait_for("everything asks you: Please provide inputs")
        terminal.wait_for("\n    :")
        terminal.send("\r")
        terminal.wait_for("it is required")
        terminal.send("Ann\r")
        for _ in range(30):  # the default of each field is accepted, by Enter or by a key
            terminal.settle()
            if "[s]end to everything" in terminal.text:
                break
            terminal.send("\r")
        terminal.wait_for("[s]end to everything")
        terminal.send("s")
        terminal.wait_for('"name": "Ann"')
        assert terminal.wait_exit() == 0
