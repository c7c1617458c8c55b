"""What a soak is told: how long, how much, on which database. Times are in seconds."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..processes import ROOT

DATABASE_VARIABLE: Final = "DURABLEJOBS_SOAK_DATABASE"
NOTES_VARIABLE: Final = "DURABLEJOBS_SOAK_NOTES"
PLANTED_VARIABLE: Final = "DURABLEJOBS_SOAK_PLANTED"
PLANTED: Final = ("effects-alone", "forgets", "leaks", "no-claim-token")
"""Bugs that the judgement must find."""
RISKY: Final = "risky"
"""The queue of the jobs that kill their worker."""
MAX_CRASHES: Final = 6
"""So many that havoc alone does not stop a job: what stops is poison."""
BATCH: Final = 5
"""Jobs that are enqueued at once."""


@dataclass(frozen=True)
class Settings:
    """One soak."""

    database: str
    """A path, or the URL of a database that is empty."""
    directory: Path
    """Where notes and logs are written."""
    seconds: float
    rate: float = 15.0
    """Calls of the clients in a second, all together."""
    workers: int = 4
    """One of them is left alone; its memory is what is watched."""
    lease: float = 6.0
    planted: tuple[str, ...] = ()

    @property
    def havoc_every(self) -> float:
        """The mean time between two things done to a process."""
        return min(5.0, self.seconds / 20)

    @property
    def retention(self) -> float:
        """How long ended jobs are kept: pruning is part of the load. All rows are read much more often."""
        return max(10.0, min(300.0, self.seconds / 6))

    @property
    def clock_error(self) -> float:
        """By how much a moment in a row may be too early: on PostgreSQL by what the server's answers take."""
        return 0.005 if self.is_sqlite else 0.5

    @property
    def least_calls(self) -> int:
        """Fewer acknowledged calls than this are no load: then the rest of the verdict means nothing."""
        return int(self.rate * self.seconds / 4)

    @property
    def is_sqlite(self) -> bool:
        return "://" not in self.database or self.database.startswith("sqlite")

    @property
    def path(self) -> Path:
        """The file of a SQLite database."""
        return Path(self.database.partition(":///")[2] or self.database)

    @property
    def sqlalchemy_url(self) -> str:
        return self.database if "://" in self.database else f"sqlite:///{self.database}"

    @property
    def history(self) -> Path:
        """What the clients wrote down."""
        return self.directory / "history"

    @property
    def notes(self) -> Path:
        """What the handlers wrote down."""
        return self.directory / "notes"

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of the soak are told."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("DURABLEJOBS_")}
        return own | {
            "PYTHONPATH": str(ROOT),
            DATABASE_VARIABLE: self.database,
            NOTES_VARIABLE: str(self.notes),
            PLANTED_VARIABLE: ",".join(self.planted),
        }

    def client_command(self, name: str) -> list[str]:
        rate = self.rate / 2
        return [sys.executable, "-m", "benchmarks.soak.client", name, str(rate), str(self.history)]

    def worker_command(self, name: str, queues: str) -> list[str]:
        command = [sys.executable, "-m", "durablejobs", "worker", "--app", "benchmarks.soak.handlers:jobs"]
        command += ["--db", self.database, "--name", name, "--queues", queues, "--quiet"]
        command += ["--concurrency", "6", "--async-concurrency", "20", "--process-concurrency", "1"]
        command += ["--lease", f"{self.lease:g}s", "--grace", "15s", "--max-crashes", str(MAX_CRASHES)]
        kept = f"{self.retention:g}s"
        return [*command, "--keep-succeeded", kept, "--keep-failed", kept, "--keep-cancelled", kept]
