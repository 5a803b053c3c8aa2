"""No process of a server outlives mcpchat."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import HOSTILE, MCPCHAT
from tests.support.processes import DEVNULL, run_process, start_process
from tests.support.waiting import wait_until


def start_stubborn_call(tmp_path: Path, *args: str) -> tuple["subprocess.Popen[bytes]", list[int]]:
    """Start mcpchat with a server that ignores termination, in the middle of a call; return the process and the pids of
    the server and its children."""
    config = tmp_path / "c.toml"
    config.write_text(
        f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "stubborn"]\n'
        f'[servers.slow]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "silent-at-call"]\nrequired = true\n'
    )
    run_process([MCPCHAT, "tools", "--config", str(config)]).check_returncode()
    log = Path(os.environ["HOME"], ".local/state/mcpchat/logs/bad.log")
    leader_count = log.read_text().count("leader")
    process = start_process(
        [MCPCHAT, *args, "--config", str(config)], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
    )
    wait_until(lambda: log.read_text().count("leader") > leader_count)
    pids = [int(line.split()[-1]) for line in log.read_text().splitlines()[-3:]]
    assert all(is_alive(pid) for pid in pids)
    return process, pids


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_outlives_mcpchat(tmp_path: Path, number: signal.Signals) -> None:
    process, pids = start_stubborn_call(tmp_path, "servers", "show", "bad")
    process.send_signal(number)
    process.wait(30)
    wait_until(lambda: not any(map(is_alive, pids)))
