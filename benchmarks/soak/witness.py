"""Reads the rows while they change: what has ended and stays so, which leases were renewed when."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from .settings import Settings


class EndedJob(NamedTuple):
    """A job that has ended, as its row says; times are seconds since 1970."""

    id: int
    key: str
    handler: str
    queue: str
    status: str
    attempt: int
    max_attempts: int
    crashes: int
    claim_token: int
    created_at: float
    run_at: float
    started_at: float | None
    finished_at: float


@dataclass
class Renewal:
    """How near to its end a lease was extended."""

    pid: int
    at: float
    """When it was seen, in seconds since 1970."""
    margin: float


@dataclass
class Witness:
    """What was seen of the rows."""

    settings: Settings
    ended: dict[int, EndedJob] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    """Ends that did not stay what they were (I3)."""
    renewals: list[Renewal] = field(default_factory=list)
    _leases: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine: Engine = create_engine(self.settings.sqlalchemy_url)

    def prepare(self) -> None:
        """Make the tables of the handlers and clients."""
        key = "INTEGER PRIMARY KEY" if self.settings.is_sqlite else "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        with self.engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE soak_effects(id {key}, name TEXT NOT NULL, job BIGINT NOT NULL)"))
            connection.execute(text(f"CREATE TABLE soak_orders(id {key}, name TEXT NOT NULL)"))

    def look_at_ends(self) -> None:
        """Read all jobs that have ended; those seen before must be as they were."""
        columns = "id, args, handler, queue, status, attempt, max_attempts, crashes, claim_token"
        columns += ", created_at, run_at, started_at, finished_at"
        with self.engine.connect() as connection:
            rows = connection.execute(text(f"SELECT {columns} FROM jobs WHERE finished_at IS NOT NULL")).all()
            live = connection.execute(text("SELECT id FROM jobs WHERE finished_at IS NULL")).scalars().all()
        for row in rows:
            job = _ended(row)
            before = self.ended.setdefault(job.id, job)
            if before != job:
                self.changed.append(f"job {job.id} was {before.status} and then {job.status}: {before} {job}")
                self.ended[job.id] = job
        self.changed += [f"job {job} was {self.ended[job].status} and lives again" for job in live if job in self.ended]

    def look_at_leases(self) -> None:
        """Compare the leases with those of the last look, which must be less than a heartbeat ago."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT j.id, j.claim_token, j.lease_expires_at, w.pid FROM jobs j "
                    "JOIN job_workers w ON w.id = j.worker_id WHERE j.status = 'running'"
                )
            ).all()
        leases = {(row[0], row[1]): (_seconds(row[2]), row[3]) for row in rows}
        for claim, (expires, pid) in leases.items():
            before = self._leases.get(claim)
            if before is not None and expires > before:
                self.renewals.append(Renewal(pid, time.time(), self.settings.lease - (expires - before)))
        self._leases = {claim: expires for claim, (expires, _) in leases.items()}

    def live(self) -> list[tuple[Any, ...]]:
        """Return the jobs that have not ended: id, handler, status."""
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT id, handler, status FROM jobs WHERE finished_at IS NULL"))
            return [tuple(row) for row in rows]

    def effects(self) -> Counter[int]:
        """Return how many effects each job has had."""
        with self.engine.connect() as connection:
            return Counter(connection.execute(text("SELECT job FROM soak_effects")).scalars())

    def orders(self) -> Counter[str]:
        """Return how many rows each client's own transaction has left."""
        with self.engine.connect() as connection:
            return Counter(connection.execute(text("SELECT name FROM soak_orders")).scalars())

    def close(self) -> None:
        self.engine.dispose()


def _ended(row: Any) -> EndedJob:
    args = json.loads(row.args) if isinstance(row.args, str) else row.args
    times = [_seconds(row.created_at), _seconds(row.run_at)]
    started_at = None if row.started_at is None else _seconds(row.started_at)
    return EndedJob(
        row.id,
        str(args[0]),
        row.handler,
        row.queue,
        row.status,
        row.attempt,
        row.max_attempts,
        row.crashes,
        row.claim_token,
        *times,
        started_at,
        _seconds(row.finished_at),
    )


def _seconds(moment: str | datetime) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
