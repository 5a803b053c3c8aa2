"""A browser with a script for a person: BROWSER="python headless_browser.py PLAN %s".

PLAN is a JSON file: login, scope (what is ticked; all without), deny, pause (seconds), stay (in the foreground, for so
long), to (a file that gets the address at which it ends, which is then not opened). What it saw is written to PLAN.seen.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2


def main() -> None:
    path, url = Path(sys.argv[1]), sys.argv[2]
    plan: dict[str, Any] = json.loads(path.read_text())
    print("noise on stdout")
    time.sleep(plan.get("pause", 0))
    visits: list[dict[str, Any]] = []
    with httpx2.Client(timeout=20) as client:
        response = client.get(url)
        visits.append({"url": url, "status": response.status_code})
        for _ in range(20):
            location = response.headers.get("location")
            if location is not None:
                url = urljoin(url, location)
                if plan.get("to") and urlsplit(url).path.startswith("/callback"):
                    Path(plan["to"]).write_text(url)
                    break
                response = client.get(url)
            elif "/interaction/" in url and response.status_code == 200:
                fields = {"login": plan.get("login", "alice@example.com")}
                fields |= {key: plan[key] for key in ("scope", "deny") if key in plan}
                response = client.post(url, data=fields)
            else:
                break
            visits.append({"url": url, "status": response.status_code, "text": response.text[:2000]})
    path.with_suffix(".seen").write_text(json.dumps(visits))
    time.sleep(plan.get("stay", 0))


main()
