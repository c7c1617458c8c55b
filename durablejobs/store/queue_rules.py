"""Queues that are paused or limited: their rows in `job_queues`, and what a claim may take because of them.

Most queues have no row, and then nothing is asked but an empty table. What runs is counted from the rows of the jobs,
in the claiming transaction: no counter could leak a place when a worker dies.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, false, func, or_, select, update

from ..records import QueueState
from ..statuses import Status
from .conditions import IS_RUNNING
from .hot import HotStatement, is_postgres
from .queries import live_counts
from .tables import job_queues, jobs
from .upserts import upsert

_is_paused = job_queues.c.paused_at.is_not(None) & or_(
    job_queues.c.paused_until.is_(None), job_queues.c.paused_until > bindparam("now")
)

RULES: Final = HotStatement(select(job_queues.c.name, _is_paused.label("is_paused"), job_queues.c.max_running))
# Where writers are many, two workers that count at once would both find the last free place: so who is about to count
# holds the rows of the limited queues until its commit, and only those, always in one order.
_LIMITED_AND_LOCKED: Final = HotStatement(
    select(job_queues.c.name)
    .where(job_queues.c.max_running.is_not(None), ~func.coalesce(_is_paused, false()))
    .order_by(job_queues.c.name)
    .with_for_update()
)
RUNNING: Final = HotStatement(
    select(func.count()).select_from(jobs).where(IS_RUNNING, jobs.c.queue == bindparam("queue"))
)


def rooms(connection: Connection, now: str) -> dict[str, int]:
    """Return how many more jobs of each queue may run; what is not in it has no limit, what is paused has no room."""
    found = {}
    rules = RULES.run(connection, {"now": now}).fetchall()
    if is_postgres(connection) and any(max_running is not None and not paused for _, paused, max_running in rules):
        _LIMITED_AND_LOCKED.run(connection, {"now": now})
    for name, is_paused, max_running in rules:
        if is_paused:
            found[name] = 0
        elif max_running is not None:
            running = RUNNING.run(connection, {"queue": name}).fetchone()[0]
            found[name] = max(0, max_running - running)
    return found


def pause(connection: Connection, queue: str, now: datetime, until: datetime | None, reason: str | None) -> None:
    """Let no job of this queue begin any more; a second pause replaces the first."""
    _set(connection, queue, paused_at=now, paused_until=until, reason=reason)


def resume(connection: Connection, queue: str, now: datetime) -> bool:
    """Let jobs of this queue begin again; return whether it was paused."""
    was_paused = select(job_queues.c.name).where(job_queues.c.name == queue, _is_paused)
    found = connection.execute(was_paused, {"now": now}).first() is not None
    connection.execute(
        update(job_queues).where(job_queues.c.name == queue).values(paused_at=None, paused_until=None, reason=None)
    )
    _forget_without_rule(connection, queue)
    return found


def limit(connection: Connection, queue: str, max_running: int | None) -> None:
    """Let so many jobs of this queue run at once, all workers together; None: as many as there are slots."""
    _set(connection, queue, max_running=max_running)
    _forget_without_rule(connection, queue)


def _set(connection: Connection, queue: str, **columns: datetime | str | int | None) -> None:
    upsert(connection, job_queues, {"name": queue}, columns)


def _forget_without_rule(connection: Connection, queue: str) -> None:
    has_no_rule = job_queues.c.paused_at.is_(None) & job_queues.c.max_running.is_(None)
    connection.execute(delete(job_queues).where(job_queues.c.name == queue, has_no_rule))


def states(connection: Connection, now: datetime) -> list[QueueState]:
    """Return each queue that has a rule or live jobs, by name."""
    rules = {
        row.name: row
        for row in connection.execute(select(job_queues, _is_paused.label("is_paused")), {"now": now}).all()
    }
    counts = live_counts(connection)
    found = []
    for name in sorted(rules.keys() | counts.keys()):
        rule, live = rules.get(name), counts.get(name, {})
        is_paused = rule is not None and bool(rule.is_paused)
        found.append(
            QueueState(
                name,
                is_paused,
                rule.paused_at if rule is not None and is_paused else None,
                rule.paused_until if rule is not None and is_paused else None,
                rule.reason if rule is not None and is_paused else None,
                rule.max_running if rule is not None else None,
                live.get(Status.PENDING, 0),
                live.get(Status.SCHEDULED, 0),
                live.get(Status.RUNNING, 0),
            )
        )
    return found
