"""Runs the fake Google APIs with an example account, for manual tests: python -m tests.support.google."""

import signal

from tests.support.google import run_fake_google
from tests.support.google.example import fill_account
from tests.support.google.http import TOKEN


def main() -> None:
    with run_fake_google() as service:
        fill_account(service)
        print(f"GOOGLE_API_URL={service.url} GOOGLE_ACCESS_TOKEN={TOKEN}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
