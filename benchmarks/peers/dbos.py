"""DBOS on SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from .. import meter
from .base import Peer


class DbosOnSqlite(Peer):
    """A DBOS queue with one workflow at a time."""

    name = "DBOS (SQLite)"
    distributions = ("dbos",)
    share = 0.3
    durability = (
        "synchronous=FULL (SQLite's default); the file was switched to WAL beforehand, which is faster than its own "
        "journal. Each job is a workflow whose input and result are kept"
    )

    def __init__(self, place: Path, address: str) -> None:
        super().__init__(place, address)
        from dbos import DBOS

        path = place / "dbos.sqlite"
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = WAL")
        DBOS(config={"name": "benchmark", "system_database_url": f"sqlite:///{path}", "run_admin_server": False})
        self._tick = DBOS.workflow(name="tick")(meter.tick)
        self._dbos = DBOS
        self._is_launched = False

    def _launch(self, queues: list[str]) -> None:
        if not self._is_launched:
            self._is_launched = True
            self._dbos.listen_queues(queues)
            self._dbos.launch()
            self._dbos.register_queue("jobs", polling_interval_sec=0.01)

    def enqueue(self, sent: int) -> None:
        self._launch([])
        self._dbos.enqueue_workflow("jobs", self._tick, sent)

    def work(self) -> None:
        import threading

        self._launch(["jobs"])
        threading.Event().wait()
