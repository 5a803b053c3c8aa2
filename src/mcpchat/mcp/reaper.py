"""No server outlives us, not even when we are killed: a shell waits for our end, and then ends what is left.

The shell reads from a pipe that only this process holds open; the system closes it however we end. That needs nothing
but a POSIX shell, so it works on Linux, macOS and the BSDs alike. On Windows there is no such watch.
"""

import subprocess
import sys
from contextlib import suppress

# "+ PID" and "- PID" keep the list of process groups; the end of the input is our end.
_SCRIPT = """
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
    """The process groups that must not outlive us. The watch begins with the first of them."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def add(self, group: int) -> None:
        if sys.platform == "win32":
            return
        if self._shell is None:
            with suppress(OSError):  # no shell: then what closing stdin does must do
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    bufsize=0,
                )
        self._groups.add(group)
        self._send(f"+ {group}\n")

    def remove(self, group: int) -> None:
        if group in self._groups:
            self._groups.remove(group)
            self._send(f"- {group}\n")

    def _send(self, line: str) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(line.encode())

    def close(self) -> None:
        """End the watch: nothing is left to be watched."""
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                shell.wait(0.5)  # it has nothing to do, or does it without us
