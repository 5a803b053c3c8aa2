"""The tasks that servers run for us, in the thread database: they are found again after a restart."""

import time
from collections.abc import Sequence

import msgspec

from mcpchat.core.server_task import ServerTask
from mcpchat.errors import UsageError
from mcpchat.threads.database import Database

_KEPT_SECONDS = 90 * 86400.0  # a task that has not changed for so long is forgotten


class SqlTaskStore:
    """The TaskStore on a SQL database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def save(self, task: ServerTask) -> None:
        record = msgspec.json.encode(task).decode()
        with self._db.transaction():
            self._db.run("DELETE FROM tasks WHERE updated < ?", time.time() - _KEPT_SECONDS)
            self._db.run(
                "INSERT INTO tasks (id, updated, record) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET updated = excluded.updated, record = excluded.record",
                task.id,
                task.updated,
                record,
            )

    def recent(self) -> Sequence[ServerTask]:
        rows = self._db.run("SELECT record FROM tasks ORDER BY updated DESC, id")
        tasks = []
        for (record,) in rows:
            try:
                tasks.append(msgspec.json.decode(record, type=ServerTask))
            except msgspec.MsgspecError:
                continue  # of a newer version, or damaged
        return tasks

    def find(self, name: str) -> ServerTask:
        matches = [task for task in self.recent() if task.id.startswith(name.lower())] if name else []
        exact = [task for task in matches if task.id == name.lower()]
        if len(matches) > 1 and not exact:
            raise UsageError(f"{name!r} is the beginning of {len(matches)} ids", hint="mcpchat tasks lists them")
        if not matches:
            raise UsageError(f"there is no task {name!r}", hint="mcpchat tasks lists them")
        return (exact or matches)[0]

    def close(self) -> None:
        self._db.close()
