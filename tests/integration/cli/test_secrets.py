"""Secrets of the config: stored in the keyring, or read from a program."""

import json
import shlex
import stat
import sys
from pathlib import Path

import pytest

from mcpchat.cli.server_entries import move_secrets
from mcpchat.config.secret_refs import resolve_url
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.config.validation import iter_literal_secrets
from mcpchat.errors import ConfigError
from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI
from tests.support.keyring import MemoryKeyring
from tests.support.waiting import wait_until


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def with_key(fake: FakeOpenAI, reference: str) -> str:
    return f'[model]\nname = "m"\nbase_url = "{fake.base_url}"\napi_key = {json.dumps(reference)}\n'


def test_a_stored_secret_is_what_the_config_refers_to(
    run: CommandLine, fake_openai: FakeOpenAI, keyring: MemoryKeyring
) -> None:
    code, out, err = unpack(
        run("secret", "set", "mine", stdin="sk-stored-1\n", config=with_key(fake_openai, "keyring:mine"))
    )
    assert (code, out, err) == (0, "", 'stored mine; "keyring:mine" refers to it\n')
    assert keyring.passwords == {("mcpchat", "mine"): "sk-stored-1"}
    run("ask", "hi")
    assert fake_openai.headers[-1]["authorization"] == "Bearer sk-stored-1"


def test_secrets_are_listed_without_their_values(
    run: CommandLine, fake_openai: FakeOpenAI, keyring: MemoryKeyring, isolated: Path
) -> None:
    run("secret", "set", "b", stdin="hidden-1", config=with_key(fake_openai, "keyring:a"))
    assert unpack(run("secret"))[:2] == (0, "a  missing  model.api_key\nb  stored\n")
    assert json.loads(run("secret", "-o", "json").stdout) == [
        {"name": "a", "stored": False, "used_by": ["model.api_key"]},
        {"name": "b", "stored": True, "used_by": []},
    ]
    (file,) = isolated.rglob("secrets.json")
    assert ("hidden-1" in file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (False, 0o600)
    assert unpack(run("secret", "delete", "b"))[0] == 0
    assert unpack(run("secret"))[1] == "a  missing  model.api_key\n"
    code, _, err = unpack(run("secret", "delete", "b"))
    assert (code, "the keyring has no secret b" in err) == (2, True)
    assert keyring.passwords == {}


@pytest.mark.parametrize(
    ("name", "secret"), [("google/alice", "x"), ("", "x"), (" a", "x"), ("a", ""), ("a", "\n"), ("a", "\0")]
)
def test_what_is_no_secret_is_not_stored(run: CommandLine, keyring: MemoryKeyring, name: str, secret: str) -> None:
    assert unpack(run("secret", "set", name, stdin=secret))[0] == 2
    assert keyring.passwords == {}


ENTRIES = {
    "a": {"url": "https://a.example", "headers": {"Authorization": "Bearer abcdef0123456789abcdef", "X": "plain"}},
    "b": {"command": "b", "env": {"API_TOKEN": "abcdef0123456789"}},
}


def test_secrets_in_plain_text_move_into_the_keyring(
    monkeypatch: pytest.MonkeyPatch, keyring: MemoryKeyring, tmp_path: Path
) -> None:
    monkeypatch.setattr("typer.confirm", lambda question, **options: "a.headers.Authorization" in question)
    moved = move_secrets(ENTRIES, StoredSecrets(tmp_path))
    assert moved["a"]["headers"] == {"Authorization": "Bearer keyring:a-authorization", "X": "plain"}
    assert moved["b"]["env"] == {"API_TOKEN": "keyring:b-api_token"}
    assert keyring.passwords == {
        ("mcpchat", "a-authorization"): "abcdef0123456789abcdef",
        ("mcpchat", "b-api_token"): "abcdef0123456789",
    }
    monkeypatch.setattr("typer.confirm", lambda question, **options: False)
    assert move_secrets(ENTRIES, StoredSecrets(tmp_path)) == ENTRIES


async def test_a_secret_of_an_address_moves_and_is_sent(keyring: MemoryKeyring, tmp_path: Path) -> None:
    entry = {"url": "https://a.example/mcp?x=1&api_key=abc%2Fdef#y"}
    assert list(iter_literal_secrets({"a": entry})) == [("a", "url", "api_key")]
    moved = await move_secret(entry, "a", "url.api_key", StoredSecrets(tmp_path))
    assert moved == {"url": "https://a.example/mcp?x=1&api_key=keyring:a-api_key#y"}
    assert not list(iter_literal_secrets({"a": moved}))
    assert keyring.passwords == {("mcpchat", "a-api_key"): "abc/def"}
    keyring.passwords["mcpchat", "a-api_key"] = "new/value"
    url = await resolve_url(moved["url"], {}, allow_http=False, config_key="servers.a.url")
    assert url == "https://a.example/mcp?x=1&api_key=new%2Fvalue#y"
    with pytest.raises(ConfigError, match="without encryption"):
        await resolve_url("http://a.example/?k=keyring:a-api_key", {}, allow_http=False, config_key="servers.a.url")
    with pytest.raises(ConfigError, match="without encryption"):
        await resolve_url("http://a.example/?api_key=abc0123def", {}, allow_http=False, config_key="servers.a.url")
    for url in (
        "http://127.0.0.1/?api_key=abc0123def",
        "https://a.example/?api_key=abc0123def",
        "http://a.example/?q=1",
    ):
        assert await resolve_url(url, {}, allow_http=False, config_key="servers.a.url") == url


def test_without_a_keyring_they_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setattr("typer.confirm", lambda question, **options: True)
    assert move_secrets(ENTRIES, StoredSecrets(tmp_path)) == ENTRIES
    assert "what was not moved stays in the file" in capsys.readouterr().err


def test_a_missing_secret_says_how_to_store_it(
    run: CommandLine, fake_openai: FakeOpenAI, keyring: MemoryKeyring
) -> None:
    code, _, err = unpack(run("ask", "hi", config=with_key(fake_openai, "keyring:mine")))
    assert (code, "mcpchat secret set mine" in err) == (2, True)


def test_a_program_gives_the_secret_once_a_run(run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    program = tmp_path / "give.py"
    program.write_text("open('ran', 'a').write('x')\nprint('sk-of-a-program')\n")
    config = with_key(fake_openai, f"cmd:{shlex.join([sys.executable, str(program)])}")
    run("ask", "hi", config=config)
    run("ask", "hi")
    assert {headers["authorization"] for headers in fake_openai.headers} == {"Bearer sk-of-a-program"}
    assert (tmp_path / "ran").read_text() == "x"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("cmd:nosuchprogram x", "model.api_key: cannot run nosuchprogram: No such file"),
        ("cmd:sh -c 'echo no session >&2; exit 3'", "model.api_key: sh ended with 3: no session"),
        ("cmd:true", "model.api_key: true wrote no secret"),
        ("cmd:yes", "model.api_key: yes wrote no secret"),
        ("cmd:echo 'x", "the quotes do not match"),
        ("cmd: ", "no command"),
    ],
)
def test_a_program_that_fails_says_why(run: CommandLine, fake_openai: FakeOpenAI, command: str, problem: str) -> None:
    code, _, err = unpack(run("ask", "hi", config=with_key(fake_openai, command)))
    assert (code, problem in err) == (2, True)
    assert fake_openai.requests == []


def test_a_program_that_failed_is_not_run_again_at_once(
    run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    server = '[servers.a]\nurl = "http://127.0.0.1:9"\nheaders = {X = "cmd:sh -c \'echo x >> ran; exit 3\'"}\n'
    assert "a.headers.X: sh ended with 3" in run("tools", "a", config=server).stderr
    assert (tmp_path / "ran").read_text() == "x\n"


def test_what_a_program_leaves_in_the_background_is_not_waited_for(run: CommandLine, fake_openai: FakeOpenAI) -> None:
    run("ask", "hi", config=with_key(fake_openai, "cmd:sh -c 'sleep 60 & echo sk-at-once'"))
    assert fake_openai.headers[-1]["authorization"] == "Bearer sk-at-once"


def test_a_program_that_hangs_is_ended_with_its_children(
    run: CommandLine, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mcpchat.config.secret_refs.COMMAND_TIMEOUT", 0.5)
    command = "cmd:sh -c 'sleep 60 & echo $! > pid; sleep 60; echo x'"
    assert "sh did not end within" in run("ask", "hi", config=with_key(fake_openai, command)).stderr
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(child))


def test_a_program_runs_without_a_shell(run: CommandLine, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    run("ask", "hi", config=with_key(fake_openai, "cmd:echo $HOME; touch made"))
    assert fake_openai.headers[-1]["authorization"] == "Bearer $HOME; touch made"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("reference", ["cmd:touch made", "Bearer cmd:touch made", "keyring:mine"])
def test_a_project_and_another_clients_file_have_no_secrets(
    run: CommandLine, tmp_path: Path, reference: str, keyring: MemoryKeyring
) -> None:
    (tmp_path / ".mcpchat.toml").write_text(
        f'[servers.a]\nurl = "https://a.example"\nheaders = {{X = "{reference}"}}\n'
    )
    code, _, err = unpack(run("trust", "--yes"))
    assert (code, "a project file cannot" in err) == (2, True)
    (tmp_path / ".mcpchat.toml").unlink()
    entry = {"url": "https://a.example", "headers": {"X": reference}}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"a": entry}}))
    code, _, err = unpack(run("tools", "--mcp", "mcp.json"))
    assert (code, "cannot use your keyring or run commands" in err) == (2, True)
    assert not (tmp_path / "made").exists()
