"""Third-party programs that scripts/published.py installs. In CI they must be there."""

import os

import pytest

from tests.support.paths import PUBLISHED

needs_published = pytest.mark.skipif(
    not (PUBLISHED / "done").is_file() and not os.environ.get("CI"), reason="scripts/published.py has not been run"
)
