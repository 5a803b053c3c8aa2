"""Servers in a real sandbox."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import run_mcpchat
from tests.support.fake_openai import FakeOpenAI
from tests.support.paths import QUIRKY
from tests.support.scripted_mcp import ScriptedServer

PROBE = """
import json, os, pathlib, socket, sys
def tried(work):
    try:
        return str(work())
    except OSError as error:
        return type(error).__name__
home = pathlib.Path(sys.argv[2])
name = sys.argv[1]
found = {
    "home": tried(lambda: sorted(p.name for p in home.iterdir())),
    "read": tried(lambda: (home / "open/note").read_text()),
    "write open": tried(lambda: (home / "open/new").write_text("x")),
    "write mine": tried(lambda: (home / "mine/new").write_text("x")),
    "tmp": tried(lambda: sorted(p.name for p in pathlib.Path("/tmp").iterdir() if str(p) not in str(home))),
    "net": tried(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 2).close()),
    "processes": tried(lambda: len([p for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()]) < 5),
    "etc": tried(lambda: pathlib.Path("/etc/mcpchat-probe").write_text("x")),
    "root": os.getuid() == 0,
    "kernel": tried(lambda: open("/proc/sys/kernel/core_pattern", "r+").close()),
}
pathlib.Path(home / "mine/found.json").write_text(json.dumps(found))
"""


@pytest.fixture
def sandboxed(server: ScriptedServer, fake_openai: FakeOpenAI) -> dict[str, Any]:
    """Yield the config parts and a home folder; ``found`` runs the server and returns its findings."""
    home_folder = Path(os.environ["HOME"])
    for name in ("open", "mine", "secret"):
        (home_folder / name).mkdir()
    (home_folder / "open/note").write_text("a note")
    (server.folder / "probe.py").write_text(PROBE)
    port = fake_openai.base_url.rpartition(":")[2].partition("/")[0]

    def found(sandbox: str) -> dict[str, str]:
        script = f"{sys.executable} {home_folder}/open/probe.py box {home_folder} {port}; exec {sys.executable} {home_folder}/open/odd.py"
        (home_folder / "open/probe.py").write_text(PROBE)
        (home_folder / "open/odd.py").write_text(QUIRKY.read_text())
        server.folder.joinpath("c.toml").write_text(
            f'[servers.box]\ncommand = "sh"\nargs = ["-c", "{script}"]\nsandbox = {sandbox}\n'
        )
        completed = server.run("call", "box.echo", "text=hi", "--yes", PYTHONPATH="")
        assert (completed.returncode, completed.stdout) == (0, "echo: hi\n"), completed.stderr
        return dict(json.loads((home_folder / "mine/found.json").read_text()))

    return {"found": found, "home": home_folder}


def python_folders() -> list[str]:
    """Return the folders of this Python, which a sandbox would otherwise hide."""
    folders = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent.parent)}
    return [folder for folder in folders if not folder.startswith("/usr")]


def test_a_sandboxed_server_has_no_home_or_network_by_default(sandboxed: dict[str, Any]) -> None:
    home_folder = sandboxed["home"]
    with tempfile.NamedTemporaryFile(prefix="for-nobody-else-") as file:
        _check_findings(sandboxed["found"], home_folder, Path(file.name).name)


def _check_findings(run_in_sandbox: Any, home_folder: Path, scratch: str) -> None:
    readable = json.dumps(["~/open", *python_folders()])
    findings = run_in_sandbox(f'{{ read = {readable}, write = ["~/mine"] }}')
    assert scratch not in findings.pop("tmp")
    assert findings == {
        "home": "['mine', 'open']",
        "read": "a note",
        "write open": "OSError",
        "write mine": "1",
        "net": "ConnectionRefusedError",
        "processes": "True",
        "etc": "OSError",
        "root": False,
        "kernel": "OSError" if os.geteuid() == 0 else "PermissionError",
    }
    assert (home_folder / "mine/new").read_text() == "x"
    assert not (home_folder / "open/new").exists()
    network_findings = run_in_sandbox(f'{{ read = {readable}, write = ["~/mine"], network = true }}')
    assert network_findings["net"] == "None"


FIND_FILES = """
import json, pathlib, sys
found = pathlib.Path(sys.argv[1])
names = json.loads(found.read_text())
found.write_text(json.dumps([name for name in names if pathlib.Path(name).is_file() and pathlib.Path(name).read_text()]))
"""


@pytest.mark.parametrize("grant", ["nothing", "all around", "one folder"])
def test_mcpchats_own_files_are_hidden_wherever_they_are(fake_openai: FakeOpenAI, grant: str) -> None:
    with tempfile.TemporaryDirectory(dir="/opt") as name:  # outside the home folders and /tmp
        _check_own_files(Path(name).resolve(), grant)


def _check_own_files(base: Path, grant: str) -> None:
    own = {
        "config": base / "config/c.toml",
        "instructions": base / "config/secret.md",
        "threads": base / "data/mcpchat/threads.db",
        "pins": base / "state/mcpchat/pins/x.json",
        "client": base / "client/secrets.json",
        "named": base / "named/secrets.json",
        "bus": base / "run/bus",
        "kept": base / "run/mcpchat/kept.sock",
        "agent": base / "agent/sock",
        "other": base / "other/note",
    }
    for file in own.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (base / "out").mkdir()
    read = {"nothing": [], "all around": [str(base)], "one folder": [str(base / "data/mcpchat")]}[grant]
    script = base / "out/probe.py"
    script.write_text(FIND_FILES + QUIRKY.read_text())
    (base / "out/found").write_text(json.dumps([*map(str, own.values())]))
    arguments = json.dumps([str(script), str(base / "out/found")])
    sandbox = f"{{ read = {json.dumps([*read, *python_folders()])}, write = [{json.dumps(str(base / 'out'))}] }}"
    own["config"].write_text(
        f'[servers.box]\ncommand = "{sys.executable}"\nargs = {arguments}\nsandbox = {sandbox}\n'
        f'[auth.google]\nclient_secrets_file = "{own["client"]}"\n'
    )
    environ = {
        **os.environ,
        **{f"XDG_{kind.upper()}_HOME": str(base / kind) for kind in ("data", "state", "cache")},
        "MCPCHAT_OTHER_CLIENT_SECRETS_FILE": str(own["named"]),
        "XDG_RUNTIME_DIR": str(base / "run"),
        "SSH_AUTH_SOCK": str(own["agent"]),
    }
    config = str(own["config"])
    completed = run_mcpchat("call", "box.echo", "text=hi", "--yes", "--config", config, env=environ, text=True)
    assert (completed.returncode, completed.stdout) == (0, "echo: hi\n"), completed.stderr
    found = json.loads((base / "out/found").read_text())
    expected = {"one folder": ["threads", "other"], "all around": ["instructions", "other"]}.get(grant, ["other"])
    assert found == [str(own[key]) for key in expected]


def test_a_bundled_server_runs_in_a_sandbox(server: ScriptedServer) -> None:
    (server.folder / "c.toml").write_text('[servers.calc]\nbuiltin = "calculator"\nsandbox = true\n')
    completed = server.run("call", "calc.calculate", "expression=6*7")
    assert completed.returncode == 0, completed.stderr
    assert '"result": 42' in completed.stdout
