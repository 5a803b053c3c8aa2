"""A real PostgreSQL of the tests' own, started from the machine's programs and gone with them."""

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PASSWORD = "pg-password-of-the-tests"
MISSING = "PostgreSQL's programs (initdb, postgres) are not here: apt-get install postgresql"


def programs() -> Path | None:
    """The folder of initdb and postgres; None where there is none."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if found := shutil.which("initdb"):
        places.append(Path(found).parent)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


class Postgres:
    """One server: without a password over its socket, with one over loopback. ``new`` makes an empty database."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._numbers = itertools.count(1)
        self.port = port
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        # It refuses to run as root, as the tests may.
        self._user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._user:
            for path in (self._folder, secret):
                shutil.chown(path, "postgres", "postgres")
        data = str(self._folder / "data")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "COVERAGE", "PYTHON"))}
        subprocess.run(
            [str(folder / "initdb"), "-D", data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
             f"--pwfile={secret}", "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, env=plain, cwd=self._folder, **self._user,
        )  # fmt: skip
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": self._folder,
            "fsync": "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.log = self._folder / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(folder / "postgres"), "-D", data, *words],
                stdout=log, stderr=log, env=plain, cwd=self._folder, **self._user,
            )  # fmt: skip
        import psycopg

        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.05)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}&port={self.port}"

    def url_with_password(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new(self) -> str:
        """The name of a new database."""
        import psycopg

        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        shutil.rmtree(self._folder, ignore_errors=True)
