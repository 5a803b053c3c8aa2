"""Where things are: the checkout, the installed command, the test servers, the third-party programs."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SERVERS = ROOT / "tests/support/servers"
DATABASES = ROOT / "tests/support/databases"  # of each stored version, as SQL
QUIRKY = SERVERS / "quirky.py"
SCRIPTED = SERVERS / "scripted.py"
FULL_FEATURED = SERVERS / "full_featured.py"
HEADLESS_BROWSER = ROOT / "tests/support/headless_browser.py"
HOSTILE = SERVERS / "hostile.py"
GUARD = str(ROOT / "tests/support/guard")  # a sitecustomize that lets processes reach this machine alone
MCPCHAT = str(Path(sys.executable).with_name("mcpchat"))

# Installed by scripts/published.py.
PUBLISHED = ROOT / ".published"
NODE_MODULES = PUBLISHED / "node_modules"
NODE = NODE_MODULES / "node/bin/node"
PYTHON_PROGRAMS = PUBLISHED / "py/bin"
