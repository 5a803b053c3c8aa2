"""What differs on Windows, tested with a stand-in for the system: nothing here runs there."""

import ctypes
from typing import Any

import pytest

from mcpchat.errors import ServerError
from mcpchat.mcp.job_object import JobObject
from mcpchat.mcp.process import check_batch_arguments


class Kernel32:
    """Records the calls. ``refused`` names those that fail."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> int:
            self.calls.append((name, *args))
            return 0 if name in self.refused else len(self.calls)

        return call

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


def test_a_server_is_put_into_a_job_that_ends_with_us() -> None:
    kernel32 = Kernel32()
    job = JobObject(kernel32)
    name, handle, kind, _, size = kernel32.calls[1]
    assert (name, handle, kind) == ("SetInformationJobObject", 1, 9)
    assert size == (144 if ctypes.sizeof(ctypes.c_void_p) == 8 else 112)
    job.add(4711)
    assert kernel32.names[2:] == ["OpenProcess", "AssignProcessToJobObject", "CloseHandle"]
    assert kernel32.calls[2][1:] == (0x0101, False, 4711)
    assert kernel32.calls[3][1:] == (1, 3)
    assert kernel32.calls[4][1:] == (3,)


@pytest.mark.parametrize(
    ("refused", "names"),
    [
        ("CreateJobObjectW", ["CreateJobObjectW"]),
        ("SetInformationJobObject", ["CreateJobObjectW", "SetInformationJobObject", "CloseHandle"]),
        ("OpenProcess", ["CreateJobObjectW", "SetInformationJobObject", "OpenProcess"]),
    ],
)
def test_a_refused_job_is_no_error(refused: str, names: list[str]) -> None:
    kernel32 = Kernel32(refused)
    JobObject(kernel32).add(1)
    assert kernel32.names == names


@pytest.mark.parametrize("program", ["C:\\node\\npx.CMD", "npx.cmd", "x.bat"])
@pytest.mark.parametrize("argument", ["a&calc", "%PATH%", 'a"b', "a|b", "a>b", "^", "!x!", "a\nb"])
def test_a_batch_file_gets_no_argument_that_its_shell_misreads(program: str, argument: str) -> None:
    with pytest.raises(ServerError, match="a batch file cannot have"):
        check_batch_arguments(program, ["-y", argument])


def test_other_programs_and_arguments_are_left_alone() -> None:
    check_batch_arguments("npx.cmd", ["-y", "@scope/package@1.0.0", "C:\\Users\\me\\my notes", "--a=b,c;d(e)"])
    check_batch_arguments("/usr/bin/npx", ["a&b", "%PATH%"])
    check_batch_arguments("node.exe", ["a&b"])
