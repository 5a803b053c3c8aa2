"""Kills leftover server processes if mcpchat dies: a shell waits for our exit and ends the remaining process groups.

The shell reads from a pipe that only this process holds open; the system closes it however we exit, SIGKILL included.
It needs only a POSIX shell, so it works on Linux, macOS and the BSDs. On Windows a job object does the same.
"""

import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.platform == "win32":
    from mcpchat.mcp.job_object import JobObject

# "+ PID" and "- PID" maintain the list of process groups; end of input means that we have exited.
REAPER_SCRIPT = """
trap '' HUP INT TERM PIPE
groups=' '
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s TERM -- "-$group" 2>/dev/null; done
[ "$groups" = ' ' ] || sleep 2
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"""


class ProcessReaper:
    """The process groups that must not outlive us. The shell is started with the first one."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()
        self._job: JobObject | None = None

    def add(self, group: int) -> None:
        """Watch the process group."""
        if sys.platform == "win32":
            self._job = self._job or JobObject()
            self._job.add(group)
            return
        if self._shell is None:
            with suppress(OSError):  # without a shell, servers only see their stdin close
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", REAPER_SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    bufsize=0,
                )
        self._groups.add(group)
        self._send(f"+ {group}\n")

    def remove(self, group: int) -> None:
        """Stop watching the process group, because it has ended."""
        if group in self._groups:
            self._groups.remove(group)
            self._send(f"- {group}\n")

    def _send(self, line: str) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(line.encode())

    def close(self) -> None:
        """Stop the shell. Call this when all processes have been stopped."""
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                shell.wait(0.5)  # if it is still killing groups, it finishes without us
