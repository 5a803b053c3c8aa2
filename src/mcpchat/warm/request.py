"""What the front and the warm process tell each other: where they meet, and how a command is written down.

The front imports this at every start: no module of the standard library that takes long to import.
"""

import os
import sys
import zlib

TYPE_CHECKING = False  # as typing's, whose import takes long
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_REQUEST = 200_000  # bytes of one message; a longer command starts cold
MAX_FILES = 64  # file descriptors that are handed over
MAX_PATH = 100  # bytes that the address of a Unix socket can have, with some to spare
MAX_NUMBER = 400  # of a file descriptor that is handed over
# Prefixes of the variables that are read when a program starts, or when a library is imported.
START_VARIABLES = (
    "PYTHON", "LANG", "LC_", "LD_", "GLIBC_TUNABLES", "MALLOC_", "LOCPATH", "GCONV_PATH", "OPENSSL_", "OPENAI_LOG",
    "OPENAI_API_TYPE", "OPENAI_API_VERSION", "AZURE_OPENAI_ENDPOINT", "OTEL_PROPAGATORS", "OTEL_PYTHON",
    "GOOGLE_API_USE", "TYPER_", "WCWIDTH_", "PSYCOPG_", "PYDANTIC_",
)  # fmt: skip

# What the warm process says, some with a number or a reason after it.
HELLO, READY, COLD = b"hello", b"ready", b"cold"
EXIT, KILLED, STOPPED, PROGRAM, TERMINAL = b"exit", b"killed", b"stopped", b"program", b"terminal"
GO = b"go"  # the front's answer to READY: only now the command runs
YES, NO = b"yes", b"no"  # its answers to TERMINAL


def find_folder(environ: "Mapping[str, str]") -> str:
    """The folder of our sockets: of the user's session, else of mcpchat's state; empty if there is none."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):  # noqa: PTH112
        return f"{runtime}/mcpchat"
    state = environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):
        home = environ.get("HOME", "")
        state = f"{home}/.local/state" if home.startswith("/") else ""
    return f"{state}/mcpchat/kept" if state else ""


def find_socket(environ: "Mapping[str, str]") -> str:
    """The path of the warm process's socket, for this installation of mcpchat; empty if there can be none."""
    folder = find_folder(environ)
    installation = zlib.crc32(f"{sys.executable}\0{__file__}".encode(errors="surrogateescape"))
    path = f"{folder}/warm-{installation:08x}.sock"
    return path if sys.platform == "linux" and folder and len(os.fsencode(path)) < MAX_PATH else ""


def describe_interpreter(environ: "Mapping[str, str]") -> "list[bytes]":
    """What makes two interpreters behave alike: version, flags, variables. The warm process must have the same."""
    flags = repr(sys.flags).replace("safe_path=True", "safe_path=False")  # which only the warm process needs
    variables = (
        f"{name}={value}"
        for name, value in environ.items()
        if name.startswith(START_VARIABLES) and name != "PYDANTIC_DISABLE_PLUGINS"
    )
    words = [sys.version, sys.executable, flags, repr(sys._xoptions), repr(sys.warnoptions), *sorted(variables)]
    return [word.encode(errors="surrogateescape") for word in words]


def pack(lists: "Sequence[Sequence[bytes]]") -> bytes:
    """Write lists of strings without NUL as one message."""
    return b"\0".join(part for items in lists for part in (b"%d" % len(items), *items))


def unpack(message: bytes) -> "list[list[bytes]]":
    """Read what ``pack`` wrote. Raises ValueError."""
    parts, lists = message.split(b"\0"), []
    while parts:
        count = int(parts[0])
        if not 0 <= count < len(parts):
            raise ValueError("the message is damaged")
        lists.append(parts[1 : count + 1])
        del parts[: count + 1]
    return lists


def pack_numbers(numbers: "Sequence[int]") -> list[bytes]:
    return [b"%d" % number for number in numbers]
