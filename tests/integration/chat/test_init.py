"""mcpchat init: the first steps."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import FakeOpenAI, text
from tests.support.paths import MCPCHAT
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER, CTRL_C = "\r", "\x03"


@pytest.fixture
def cursor(isolated: Path) -> Path:
    file = isolated / ".cursor" / "mcp.json"
    file.parent.mkdir()
    secret = {"command": "x", "env": {"API_KEY": "abcdef0123456789"}}
    file.write_text(json.dumps({"mcpServers": {"far": {"url": "http://127.0.0.1:9/mcp"}, "locked": secret}}))
    return file


def press(terminal: Terminal, question: str, keys: str) -> None:
    """Press the keys once the question has waited for a moment."""
    terminal.wait_for(question)
    terminal.send(keys)


def test_a_model_and_servers_are_set_up_with_single_keys(fake_openai: FakeOpenAI, cursor: Path, tmp_path: Path) -> None:
    config = tmp_path / "new" / "c.toml"
    fake_openai.replies = [text("It works.")]
    environ = {"OPENAI_API_KEY": "sk-first-1", "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_CONFIG": str(config)}
    with Terminal([MCPCHAT, "init"], environ=environ, columns=120) as terminal:
        press(terminal, "which? [o/k/d]", "o")
        press(terminal, "the key is accepted; 2 models, such as", "")
        press(terminal, "  model: ", "\x15small" + ENTER)
        press(terminal, "1  Cursor: far, locked", "")
        press(terminal, "or one of them [1]", "1")
        press(terminal, "move locked.env.API_KEY into the keyring?", "n")
        press(terminal, "1  Cursor: locked", "")
        terminal.send("n")
        press(terminal, "[c]hat now", "c")
        terminal.wait_for("small · calculator, far")
        terminal.send("hello" + ENTER)
        terminal.wait_for("It works.")
    settings: dict[str, Any] = tomllib.loads(config.read_text())
    assert settings["model"] == {"name": "small", "base_url": fake_openai.base_url}
    assert settings["servers"].keys() == {"calculator", "far"}
    assert "abcdef0123456789" not in config.read_text()
    assert "sk-first-1" not in config.read_text()


def test_a_model_that_is_not_listed_is_taken_with_a_warning(fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    environ = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_CONFIG": str(config)}
    with Terminal([MCPCHAT, "init"], environ=environ, columns=120) as terminal:
        press(terminal, "which? [o/k/d]", "o")
        press(terminal, "  model: ", "\x15smal" + ENTER)
        terminal.wait_for("the server does not list smal; did you mean small?")
        terminal.wait_for("model smal\n")
    assert tomllib.loads(config.read_text())["model"]["name"] == "smal"


def test_a_copy_that_fails_is_asked_for_again(cursor: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    with Terminal([MCPCHAT, "init"], environ={"MCPCHAT_CONFIG": str(config)}, columns=120) as terminal:
        press(terminal, "which? [k/d]", "d")
        press(terminal, "or one of them [1]", "a")
        press(terminal, "move locked.env.API_KEY into the keyring?", "y")
        terminal.wait_for("nothing was copied")  # there is no keyring
        terminal.wait_for("or one of them [1]", count=2)
        terminal.send("a")
        terminal.wait_for("into the keyring?", count=2)
        terminal.send("n")
        press(terminal, "[c]hat now", "q")
        assert terminal.wait_exit() == 0
    assert tomllib.loads(config.read_text())["servers"].keys() == {"calculator", "far"}


def test_what_is_there_can_be_kept_and_ctrl_c_ends(fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[model]\nname = "small"\nbase_url = "{fake_openai.base_url}"\n')
    before = config.read_text()
    with Terminal([MCPCHAT, "init"], environ={"MCPCHAT_CONFIG": str(config)}, columns=120) as terminal:
        press(terminal, "Enter keeps small", ENTER)
        terminal.wait_for("none that are new")
        press(terminal, "[c]hat now", "q")
        assert terminal.wait_exit() == 0
    with Terminal([MCPCHAT, "init"], environ={"MCPCHAT_CONFIG": str(config)}, columns=120) as terminal:
        press(terminal, "Enter keeps small", CTRL_C)
        assert terminal.wait_exit() == 130
    assert config.read_text() == before


def test_without_a_terminal_it_says_what_else_there_is(run: CommandLine) -> None:
    code, out, err = unpack(run("init"))
    assert (code, out, "needs a terminal" in err, "mcpchat config init" in err) == (2, "", True, True)


def test_the_first_question_to_the_demo_leads_there() -> None:
    with Terminal([MCPCHAT, "ask", "--model", "demo", "What is 2 * 3?"]) as terminal:
        terminal.wait_for("= 6")
        terminal.wait_for("mcpchat init sets up a model and your servers")
        assert terminal.wait_exit() == 0


def test_another_service_gets_nothing_of_the_one_before(fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[model]\nname = "old"\nbase_url = "http://127.0.0.1:9/v1"\nheaders = {X-Old = "env:OLD"}\n')
    environ = {
        "MCPCHAT_CONFIG": str(config),
        "OLD": "old-secret-1",
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": fake_openai.base_url,
    }
    with Terminal([MCPCHAT, "init"], environ=environ, columns=120) as terminal:
        press(terminal, "Enter keeps old", "o")
        press(terminal, "  model: ", "\x15small" + ENTER)
        press(terminal, "[c]hat now", "q")
        assert terminal.wait_exit() == 0
    settings = tomllib.loads(config.read_text())
    assert settings["model"] == {"name": "small", "base_url": fake_openai.base_url}
