"""Write the pictures of the pages that mcpchat makes, with a headless Chromium: the end of a sign-in, a thread as HTML.

    python scripts/page_pictures.py

Run this only if a page has changed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mcpchat.auth.sign_in_page import not_signed_in, render_page, signed_in  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
PERMISSIONS = ("Gmail (read, send)", "Drive (read)", "Sheets (read, write)")
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")


def take_picture(name: str, page: str, width: int, height: int, *options: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", *options, f"--window-size={width},{height}",
                f"--screenshot={PICTURES / name}.png", source.as_uri(),
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
    sys.stdout.write(f"wrote docs/pictures/{name}.png\n")


def main() -> None:
    done = render_page(signed_in("Google", "ann@example.com", PERMISSIONS))
    take_picture("signed-in", done, 800, 520)
    take_picture("signed-in-dark", done, 390, 560, *DARK)
    take_picture("not-signed-in", render_page(not_signed_in("Google", "Access was denied.")), 800, 400)


if __name__ == "__main__":
    main()
