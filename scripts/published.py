"""Install the third-party programs that the tests use into .published/, once.

These are MCP servers, the conformance suite, a fake model server, llama.cpp, an OAuth authorization server, and
Google's descriptions of its APIs. Without npm they are not installed and the tests that need them are skipped; if the
variable CI is set, that is an error.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".published"
NPM = {
    "@copilotkit/aimock": "1.43.0",
    "node": "22.23.3",  # the conformance suite needs a newer Node.js than many systems have
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
    "@modelcontextprotocol/server-memory": "2026.8.31",
    "oidc-provider": "9.13.3",
}
PYPI = {
    "gguf": "0.19.0",
    "mcp-server-fetch": "2026.10.24",
    "mcp-server-git": "2026.10.19",
    "mcp-server-time": "2026.10.19",
    "numpy": "2.4.6",
    "xllamacpp": "2026.10.11549",
}
DISCOVERY = {"google-api-python-client": "2.202.0"}  # 100 MB installed: only the documents of these APIs are kept
APIS = ("calendar.v3", "docs.v1", "drive.v3", "gmail.v1", "sheets.v4")
MANIFEST = json.dumps([NPM, PYPI, DISCOVERY, APIS])


def fetch_discovery_documents(python: Path, environ: dict[str, str]) -> None:
    """Take Google's discovery documents out of the package that ships them."""
    with tempfile.TemporaryDirectory() as folder:
        (name, version), *_ = DISCOVERY.items()
        command = [str(python), "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"{name}=={version}"]
        subprocess.run(command, check=True, env=environ)
        (FOLDER / "discovery").mkdir()
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for api in APIS:
                data = wheel.read(f"googleapiclient/discovery_cache/documents/{api}.json")
                (FOLDER / "discovery" / f"{api}.json").write_bytes(data)


def main() -> int:
    done = FOLDER / "done"
    if done.is_file() and done.read_text() == MANIFEST:
        print(f"{FOLDER.name}/ is complete")
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: the tests with published servers are skipped")
        return 1 if os.environ.get("CI") else 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    packages = [f"{name}@{version}" for name, version in NPM.items()]
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        subprocess.run([npm, "install", *quiet, "--prefix", str(FOLDER), *packages], check=True, env=environ)
        venv.create(FOLDER / "py", with_pip=True)
        python = FOLDER / "py" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        pinned = [f"{name}=={version}" for name, version in PYPI.items()]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *pinned], check=True, env=environ)
        fetch_discovery_documents(python, environ)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the published servers cannot be installed: {error}")
        return 1 if os.environ.get("CI") else 0
    done.write_text(MANIFEST)
    return 0


if __name__ == "__main__":
    sys.exit(main())
