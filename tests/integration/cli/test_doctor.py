"""mcpchat doctor: checks, their fixes and the exit code."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.keyring import MemoryKeyring
from tests.support.paths import FULL_FEATURED

BOX = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{FULL_FEATURED}"]\n'


def model(fake: FakeOpenAI, name: str = "small") -> str:
    return f'[model]\nname = "{name}"\nbase_url = "{fake.base_url}"\napi_key = "env:KEY"\n'


def checks(run: CommandLine, *args: str, config: str | None = None, **environ: str) -> dict[str, dict[str, Any]]:
    found = json.loads(run("doctor", *args, "-o", "json", config=config, **environ).stdout)
    return {f"{check['subject']}/{check['name']}": check for check in found}


def test_all_is_well(run: CommandLine, fake_openai: FakeOpenAI, keyring: MemoryKeyring) -> None:
    keyring.passwords["mcpchat", "doctor-check"] = "a secret of the user"
    result = run("doctor", config=model(fake_openai) + BOX + 'env = {PATH = "env:PATH"}\n', KEY="sk-hidden-1")
    code, out, err = unpack(result)
    assert (code, err, "wrong" in out) == (0, "", False)
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert ["ok", "model", f"small at {fake_openai.base_url}, chat"] in lines
    assert ["ok", "keyring", "can be written and read"] in lines
    assert any(line[:2] == ["ok", "server"] and "has the model" in line[2] for line in lines if len(line) > 2)
    assert any(line[:2] == ["ok", "lists"] and "7 tools" in line[2] for line in lines if len(line) > 2)
    assert any(line[:2] == ["ok", "protocol"] and ", stdio" in line[2] for line in lines if len(line) > 2)
    assert "server box" in out.splitlines()
    assert "sk-hidden-1" not in out
    assert fake_openai.requests == []  # nothing that costs
    assert keyring.passwords == {("mcpchat", "doctor-check"): "a secret of the user"}


def test_each_fault_has_a_fix_and_the_worst_decides_the_exit_code(
    run: CommandLine, fake_openai: FakeOpenAI, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    fails = tmp_path / "fails.py"
    fails.write_text("import sys\nprint('no licence found', file=sys.stderr)\nsys.exit(3)\n")
    servers = (
        '[servers.missing]\ncommand = "no-such-program"\n[servers.off]\ncommand = "x"\nenabled = false\n'
        f'[servers.fails]\ncommand = "{sys.executable}"\nargs = ["{fails}"]\n'
        '[servers.key]\ncommand = "python3"\nenv = {K = "keyring:absent"}\n'
        '[servers.far]\nurl = "http://127.0.0.1:9/mcp"\n'
    )
    found = checks(run, config=model(fake_openai, "huge") + servers + BOX, KEY="k")
    assert found["server missing/program"]["status"] == "wrong"
    assert "no program 'no-such-program' on PATH" in found["server missing/program"]["detail"]
    assert "server missing/start" not in found
    assert found["server off/config"]["detail"] == "disabled: it is not started"
    assert "no licence found" in found["server fails/start"]["detail"]
    assert found["server fails/start"]["fix"]
    assert found["server key/start"]["fix"].startswith("mcpchat secret set absent")
    assert found["server far/start"]["status"] == "wrong"
    assert found["model/server"]["status"] == "warning"
    assert "has no huge, but large, small" in found["model/server"]["detail"]
    assert found["server box/start"]["status"] == "ok"
    assert run("doctor", KEY="k").returncode == 4
    assert run("doctor", "box").returncode == 0
    assert unpack(run("doctor", "bax"))[0] == 2


def test_a_config_with_a_fault_does_not_end_the_checks(run: CommandLine, keyring: MemoryKeyring) -> None:
    found = checks(run, config="[model\n")
    assert found["config/file"]["status"] == "wrong"
    assert found["machine/keyring"]["status"] == "ok"
    assert run("doctor").returncode == 2


def test_without_a_model_the_rest_is_checked(run: CommandLine, keyring: MemoryKeyring) -> None:
    found = checks(run, config="[servers]\n")
    assert (found["model/model"]["status"], found["model/model"]["fix"][:6]) == ("warning", "export")
    assert run("doctor").returncode == 0


@pytest.mark.parametrize("calls", [True, False])
def test_the_model_is_asked_only_on_request(
    run: CommandLine, fake_openai: FakeOpenAI, keyring: MemoryKeyring, calls: bool
) -> None:
    fake_openai.replies = [tool_call("doctor__ping", "{}") if calls else text("Pong!")]
    result = run("doctor", "--model-check", "-o", "json", config=model(fake_openai) + "[servers]\n", KEY="k")
    assert "--model-check sends the model one small request" in unpack(result)[2]
    found = {check["name"]: check for check in json.loads(result.stdout)}
    assert found["tools"]["status"] == ("ok" if calls else "warning")
    assert found["streaming"]["status"] == "ok"
    (request,) = fake_openai.requests
    assert [tool["function"]["name"] for tool in request["tools"]] == ["doctor__ping"]


def test_a_model_that_cannot_be_reached_is_worse_than_a_server(run: CommandLine, keyring: MemoryKeyring) -> None:
    config = '[model]\nname = "m"\nbase_url = "http://127.0.0.1:9/v1"\n[servers.x]\ncommand = "no-such"\n'
    result = run("doctor", config=config)
    assert result.returncode == 8
    assert checks(run)["model/server"]["status"] == "wrong"


def test_another_clients_servers_are_checked_before_an_import(run: CommandLine, isolated: Path, tmp_path: Path) -> None:
    entries = {
        "ok": {"command": sys.executable, "args": [str(FULL_FEATURED)], "env": {"API_KEY": "abcdef0123456789"}},
        "bad": {"command": "x", "envFile": ".env"},
        "gone": {"command": "no-such-program"},
    }
    (isolated / ".cursor").mkdir()
    (isolated / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": entries}))
    found = checks(run, "--from", "cursor", config="# mine\n")
    assert {
        name: check["status"] for name, check in found.items() if name.endswith(("/config", "/start", "/program"))
    } == {
        "server bad/config": "wrong",
        "server ok/program": "ok",
        "server ok/start": "ok",
        "server gone/program": "wrong",
    }
    assert run("doctor", "--from", "cursor").returncode == 2
    assert run("doctor", "--from", "cursor", "ok").returncode == 0
    assert "did you mean ok" in unpack(run("doctor", "--from", "cursor", "okk"))[2]
    assert (tmp_path / "c.toml").read_text() == "# mine\n"
