"""Run all gates: lint, format, types, import contracts, generated files, tests, coverage. With --all also tests/e2e.

The end-to-end tests start the installed command and other people's programs, so they take longest.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
WORKERS = str(3 * (os.cpu_count() or 1))  # the tests wait for more than half of their time
PYTEST = ["pytest", "-n", WORKERS, "--dist", "worksteal"]
MEASURE = ["--cov", "--cov-report=term:skip-covered"]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as c; c()"
CENTRE = ",".join(f"src/mcpchat/{package}/*" for package in ("core", "engine", "config"))
MIN_CENTRE = 97  # percent, of lines and branches; pyproject.toml has that of everything
INSTALL = "published servers"  # it mostly waits for downloads
GATES = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "import-linter": ["-c", LINT_IMPORTS],
    "generated files": ["scripts/generate.py", "--check"],
    INSTALL: ["scripts/published.py"],
    "tests": ["-m", *PYTEST, *MEASURE, "tests/unit", "tests/integration", "tests/architecture"],
    "coverage of the centre": ["-m", "coverage", "report", f"--include={CENTRE}", f"--fail-under={MIN_CENTRE}"],
}
END_TO_END = {"end-to-end tests": ["-m", *PYTEST, "tests/e2e"]}


def start(args: list[str], output: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *args], cwd=ROOT, stdout=output, stderr=output)


def main() -> int:
    gates = GATES | (END_TO_END if "--all" in sys.argv[1:] else {})
    failed = []
    with tempfile.TemporaryFile() as output:
        installing = start(gates[INSTALL], output)
        for name, args in gates.items():
            print(f"== {name}", flush=True)
            started = time.monotonic()
            code = (installing if name == INSTALL else start(args)).wait()
            if name == INSTALL:
                output.seek(0)
                print(output.read().decode(errors="replace"), end="")
            print(f"== {name}: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
            if code:
                failed.append(name)
    print("all gates pass" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
