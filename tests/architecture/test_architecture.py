"""Tests of the architecture: the depth of the call stack, and that completion offers valid choices."""

import os
import subprocess
import sys

import pytest

from mcpchat.cli.completion import load_commands
from tests.support.fake_openai import FakeOpenAI

MAX_FRAMES = 13  # of our own functions, from the entry point to the SDK
STACK = """
import sys, traceback
from openai._base_client import AsyncAPIClient
request = AsyncAPIClient.request

async def report(self, *args, **kwargs):
    frames = [frame for frame in traceback.extract_stack() if "/mcpchat/" in frame.filename]
    for frame in frames:
        sys.stderr.write(f"FRAME {frame.filename.rpartition('/mcpchat/')[2]} {frame.name}\\n")
    return await request(self, *args, **kwargs)

AsyncAPIClient.request = report
sys.argv = ["mcpchat", "ask", "hello"]
from mcpchat.__main__ import main
main()
"""


def test_the_call_stack_is_short(fake_openai: FakeOpenAI) -> None:
    environ = os.environ | {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m", "OPENAI_API_KEY": "k"}
    result = subprocess.run(
        [sys.executable, "-c", STACK], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50
    )
    assert result.returncode == 0, result.stderr
    requests = result.stderr.split("FRAME __main__.py main\n")  # a GET of the models, then the POST
    frames = [line for line in ("FRAME __main__.py main\n" + requests[-1]).splitlines() if line.startswith("FRAME ")]
    assert frames[-1].startswith("FRAME models/openai/client.py ")
    assert len(frames) <= MAX_FRAMES, "\n".join(frames)


ARGUMENTS = {
    "ask": ["question"],
    "call": ["a.b"],
    "batch": ["requests.jsonl"],
    "servers show": ["a"],
    "threads search": ["word"],
    "threads show": ["a"],
    "threads export": ["a"],
    "agents show": ["a"],
}
CHOICES = [
    (path, name, choice)
    for path, command in load_commands().items()
    for name, option in command.options.items()
    if name.startswith("--")
    for choice in (*option.choices, "no-such-choice")
    if option.choices
]


@pytest.mark.parametrize(("path", "name", "choice"), CHOICES)
def test_completion_offers_valid_choices(path: str, name: str, choice: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The parser accepts each choice and rejects any other, even if other arguments are missing."""
    from mcpchat.cli.main import run

    run([*path.split(), *ARGUMENTS.get(path, ()), name, choice, "--config", "/nowhere/config.toml"])
    assert ("expected one of" in capsys.readouterr().err) == (choice == "no-such-choice")
