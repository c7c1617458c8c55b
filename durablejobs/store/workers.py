"""The register of workers: who is alive, with a heartbeat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from ..config import parsed_job_id
from ..records import Wish, WorkerRecord
from .conditions import IS_RUNNING
from .hot import HotStatement
from .tables import job_workers, jobs


class Registration(NamedTuple):
    """A worker's row on its way in; times are text."""

    name: str
    host: str
    pid: int
    seat: int | None
    queues: str
    concurrency: int
    version: str
    started_at: str
    heartbeat_at: str
    asked_to: Wish | None = None
    """What it has been asked and goes on doing, where it registers again."""


class Vital(NamedTuple):
    """What there is to judge whether a worker is alive."""

    id: int
    name: str
    host: str
    pid: int
    seat: int | None
    heartbeat_at: str


_REGISTER: Final = HotStatement(
    insert(job_workers).values({name: bindparam(name) for name in Registration._fields}).returning(job_workers.c.id)
)
_REGISTER_AGAIN: Final = HotStatement(
    insert(job_workers).values({name: bindparam(name) for name in ("id", *Registration._fields)})
)
_VITALS: Final = HotStatement(select(*(job_workers.c[name] for name in Vital._fields)))
# Who writes it at this moment lives, or was stopped in the middle of it: that is not waited for.
_LAST_HEARTBEAT: Final = HotStatement(
    select(job_workers.c.heartbeat_at).where(job_workers.c.id == bindparam("worker")).with_for_update(skip_locked=True)
)
_HEARTBEAT: Final = HotStatement(
    update(job_workers)
    .where(job_workers.c.id == bindparam("worker"))
    .values(heartbeat_at=bindparam("now"), stuck=bindparam("stuck"))
)
_ASKED_TO: Final = HotStatement(select(job_workers.c.asked_to).where(job_workers.c.id == bindparam("worker")))
_UNREGISTER: Final = HotStatement(delete(job_workers).where(job_workers.c.id == bindparam("worker")))


def register(connection: Connection, registration: Registration) -> int:
    """Add a worker; return its id, which is never used for another."""
    return int(_REGISTER.run(connection, registration._asdict()).fetchone()[0])


def register_again(connection: Connection, worker_id: int, registration: Registration) -> None:
    """Add a worker under the id that it had."""
    _REGISTER_AGAIN.run(connection, {"id": worker_id, **registration._asdict()})


def vitals(connection: Connection) -> list[Vital]:
    """Return all registered workers."""
    return [Vital._make(row) for row in _VITALS.run(connection, {})]


def is_silent_since(connection: Connection, vital: Vital) -> bool:
    """Return whether this worker has given no sign of life since it was looked at, and gives none just now."""
    row = _LAST_HEARTBEAT.run(connection, {"worker": vital.id}).fetchone()
    return row is not None and row[0] == vital.heartbeat_at


def heartbeat(connection: Connection, worker_id: int, now: str, stuck: Sequence[int]) -> bool:
    """Note that this worker lives, and which of its jobs are stuck; return whether it is still registered."""
    values = {"worker": worker_id, "now": now, "stuck": json.dumps(stuck)}
    return _HEARTBEAT.run(connection, values).rowcount == 1


def ask(connection: Connection, worker: str, wish: Wish | None) -> int:
    """Ask the workers of this name, or the one with this id, for something; return how many there are."""
    is_meant = job_workers.c.name == worker
    number = parsed_job_id(worker)
    if number is not None:
        is_meant = is_meant | (job_workers.c.id == number)
    return connection.execute(update(job_workers).where(is_meant).values(asked_to=wish)).rowcount


def asked_to(connection: Connection, worker_id: int, so_far: Wish | None) -> Wish | None:
    """Return what a person has asked this worker to do; what it was so far, if its row is gone."""
    row = _ASKED_TO.run(connection, {"worker": worker_id}).fetchone()
    return row[0] if row is not None else so_far


def unregister(connection: Connection, worker_id: int) -> None:
    """Remove a worker."""
    _UNREGISTER.run(connection, {"worker": worker_id})


def worker_records(connection: Connection) -> list[WorkerRecord]:
    """Return all registered workers with the number of jobs each has claimed, oldest first."""
    running = select(func.count()).where(IS_RUNNING, jobs.c.worker_id == job_workers.c.id).scalar_subquery()
    rows = connection.execute(select(job_workers, running.label("running")).order_by(job_workers.c.id)).mappings()
    return [_record(row) for row in rows]


def _record(row: Any) -> WorkerRecord:
    fields = {name: row[name] for name in WorkerRecord.__slots__}
    return WorkerRecord(**(fields | {"stuck": json.loads(row["stuck"])}))
