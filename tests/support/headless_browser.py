"""A browser with a scripted user: BROWSER="python headless_browser.py PLAN %s".

PLAN is a JSON file with these keys, all optional:

    login   the user's name
    scope   the scopes to tick (default: all)
    deny    refuse the request
    pause   seconds to wait before the first request
    stay    seconds to stay in the foreground afterwards
    to      a file to write the callback URL to, which is then not opened

The visited pages are written to PLAN with the suffix .seen.
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
