"""Run all gates: lint, format, types, import contracts, generated files, tests."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GATES = (
    ("ruff check", ["ruff", "check", "."]),
    ("ruff format", ["ruff", "format", "--check", "."]),
    ("mypy", ["mypy"]),
    ("import-linter", ["importlinter.cli", "lint"]),
    ("generated files", [str(ROOT / "scripts/generate.py"), "--check"]),
    ("published servers", [str(ROOT / "scripts/published.py")]),
    (
        "pytest",
        ["pytest", "-n", "2", "--dist", "worksteal", "--cov", "--cov-report=term:skip-covered"],
    ),  # the tests mostly wait
)


def main() -> int:
    failed = []
    for name, args in GATES:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        runner = [sys.executable] if args[0].endswith(".py") else [sys.executable, "-m"]
        if args[0] == "importlinter.cli":
            runner, args = [sys.executable, "-c"], ["from importlinter.cli import lint_imports_command as c; c()"]
        code = subprocess.run([*runner, *args], cwd=ROOT, check=False).returncode
        print(f"== {name}: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
        if code:
            failed.append(name)
    print("all gates pass" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
