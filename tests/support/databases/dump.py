"""Writes a database with the tests' one thread as SQL, in the current format.

python -m tests.support.databases.dump > tests/support/databases/vN.sql
"""

import sqlite3
import sys
import tempfile
from pathlib import Path

from mcpchat.core.threads import NewMessage, Thread
from mcpchat.threads import sqlite
from tests.support.example_thread import EVERYTHING, EXAMPLE_TASK, RECORD


def main() -> None:
    path = Path(tempfile.mkdtemp()) / "threads.db"
    store = sqlite.open_threads(path)
    thread = Thread(id="0123456789abcdef0123456789abcdef", title="Größe", agent="mail", model="m")
    store.append(thread, 0, [NewMessage(message=message, metadata=RECORD) for message in EVERYTHING])
    store.tasks.save(EXAMPLE_TASK)
    store.close()
    database = sqlite3.connect(path)
    own_tables = "sql IS NOT NULL AND name NOT LIKE 'words^_%' ESCAPE '^' AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    lines = [
        f"{row[0]};" for row in database.execute(f"SELECT sql FROM sqlite_master WHERE {own_tables} ORDER BY rowid")
    ]
    for table in ("threads", "nodes", "blobs", "uses", "tools", "tool_uses", "tasks"):
        for row in database.execute(f"SELECT * FROM {table}"):
            values = (database.execute("SELECT quote(?)", (value,)).fetchone()[0] for value in row)
            lines.append(f"INSERT INTO {table} VALUES ({', '.join(values)});")
    words = database.execute("SELECT rowid, quote(text) FROM words")
    lines += [f"INSERT INTO words (rowid, text) VALUES ({row[0]}, {row[1]});" for row in words]
    (version,) = database.execute("PRAGMA user_version").fetchone()
    sys.stdout.write("\n".join([*lines, f"PRAGMA user_version = {version};"]) + "\n")


if __name__ == "__main__":
    main()
