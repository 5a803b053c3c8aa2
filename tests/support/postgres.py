"""A real PostgreSQL server for the tests, started from the installed programs with a temporary data directory."""

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PASSWORD = "pg-password-of-the-tests"
NOT_INSTALLED = "PostgreSQL's programs (initdb, postgres) are not installed: apt-get install postgresql"


def find_programs() -> Path | None:
    """Return the folder of initdb and postgres, or None if they are not installed."""
    directories = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if initdb := shutil.which("initdb"):
        directories.append(Path(initdb).parent)
    return next(
        (
            directory
            for directory in directories
            if (directory / "initdb").exists() and (directory / "postgres").exists()
        ),
        None,
    )


class Postgres:
    """A running server. It needs a password over loopback, but not over its Unix socket."""

    def __init__(self, bin_directory: Path, port: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._numbers = itertools.count(1)
        self.port = port
        password_file = self._directory / "secret"
        password_file.write_text(PASSWORD)
        # The tests may run as root, but PostgreSQL refuses to.
        self._user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._user:
            for path in (self._directory, password_file):
                shutil.chown(path, "postgres", "postgres")
        data = str(self._directory / "data")
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "COVERAGE", "PYTHON"))
        }
        subprocess.run(
            [str(bin_directory / "initdb"), "-D", data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
             f"--pwfile={password_file}", "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, env=environ, cwd=self._directory, **self._user,
        )  # fmt: skip
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": self._directory,
            "fsync": "off",
        }
        args = [arg for name, value in options.items() for arg in ("-c", f"{name}={value}")]
        self.log = self._directory / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(bin_directory / "postgres"), "-D", data, *args],
                stdout=log, stderr=log, env=environ, cwd=self._directory, **self._user,
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
        return f"postgresql://postgres@/{database}?host={self._directory}&port={self.port}"

    def url_with_password(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        import psycopg

        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        shutil.rmtree(self._directory, ignore_errors=True)
