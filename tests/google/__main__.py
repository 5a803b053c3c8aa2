"""The stand-in by itself, with something in it, for trying things by hand: python -m tests.google."""

import signal

from tests.google import google
from tests.google.example import fill
from tests.google.http import TOKEN


def main() -> None:
    with google() as service:
        fill(service)
        print(f"GOOGLE_API_URL={service.url} GOOGLE_ACCESS_TOKEN={TOKEN}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
