"""The promises as questions to the rows: each finds the rows that break it.

Everything is read as of one moment, while workers go on. A rule must hold for every database that only durablejobs
and the documented SQL have written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, case, func, literal, not_, or_, select
from sqlalchemy import text as sql_text

from ..statuses import FINAL, Status
from .moments import EarliestMoment
from .tables import KEY_IS_HELD, job_counts, job_errors, jobs

SHOWN: Final = 10
"""Offenders that are named."""


class Rule(NamedTuple):
    """What must hold, and the question whose answer names who breaks it, one in a row."""

    promise: str
    text: str
    offenders: Select[Any]


class Checked(NamedTuple):
    """A rule after the look at the rows."""

    promise: str
    text: str
    broken: int
    """By how many."""
    examples: list[str]
    """Some of them: ids, keys, queues."""


_is_running = jobs.c.status == Status.RUNNING
_is_final = jobs.c.status.in_(sorted(FINAL))
_crashes_recorded = (
    select(func.count())
    .where(job_errors.c.job_id == jobs.c.id, job_errors.c.kind == "crash")
    .correlate(jobs)
    .scalar_subquery()
)


def _jobs(*conditions: Any) -> Select[Any]:
    return select(jobs.c.id).where(*conditions)


def _miscounted() -> Select[Any]:
    """Queues and statuses whose kept count of ended jobs differs from the rows."""
    both = (
        select(jobs.c.queue, jobs.c.status, func.count().label("number"))
        .where(_is_final)
        .group_by(jobs.c.queue, jobs.c.status)
    ).union_all(select(job_counts.c.queue, job_counts.c.status, -job_counts.c.number))
    each = both.subquery("each")
    return (
        select(each.c.queue + literal(" ") + each.c.status)
        .group_by(each.c.queue, each.c.status)
        .having(func.sum(each.c.number) != 0)
    )


RULES: Final = (
    Rule("I9", "every status is a known one", _jobs(jobs.c.status.not_in(sorted(Status)))),
    Rule(
        "I3",
        "a job has the moment of its end if and only if its status is final",
        _jobs(case((_is_final, jobs.c.finished_at.is_(None)), else_=jobs.c.finished_at.is_not(None))),
    ),
    Rule(
        "I3",
        "a job that does not run belongs to no worker",
        _jobs(not_(_is_running), or_(jobs.c.worker_id.is_not(None), jobs.c.lease_expires_at.is_not(None))),
    ),
    Rule(
        "I4",
        "a running job has a worker, a lease and a claim token",
        _jobs(
            _is_running,
            or_(jobs.c.worker_id.is_(None), jobs.c.lease_expires_at.is_(None), jobs.c.claim_token < 1),
        ),
    ),
    Rule(
        "I5",
        "a job that succeeded has been claimed and has run",
        _jobs(
            jobs.c.status == Status.SUCCEEDED,
            or_(jobs.c.attempt < 1, jobs.c.claim_token < 1, jobs.c.started_at.is_(None)),
        ),
    ),
    Rule("I8", "every attempt was claimed", _jobs(jobs.c.attempt > jobs.c.claim_token)),
    Rule(
        "I8",
        "no job has spent more attempts than it may",
        _jobs(jobs.c.attempt - jobs.c.crashes > jobs.c.max_attempts),
    ),
    Rule("I8", "every crash is recorded", _jobs(jobs.c.crashes > 0, jobs.c.crashes > _crashes_recorded)),
    Rule(
        "I13",
        "no job has started before its time (or the clock was set back)",
        _jobs(or_(_is_running, jobs.c.status == Status.SUCCEEDED), jobs.c.started_at < EarliestMoment(jobs.c.run_at)),
    ),
    Rule(
        "I2",
        "no unique key is held by two jobs",
        select(jobs.c.unique_key).where(sql_text(KEY_IS_HELD)).group_by(jobs.c.unique_key).having(func.count() > 1),
    ),
    Rule("I10", "the kept counts of ended jobs equal the rows", _miscounted()),
    Rule(
        "I10",
        "every recorded error belongs to a job",
        select(job_errors.c.job_id).where(job_errors.c.job_id.not_in(select(jobs.c.id))),
    ),
)


def check_rules(connection: Connection) -> Iterator[Checked]:
    """Ask every question, in the connection's snapshot."""
    for promise, text, offenders in RULES:
        broken = connection.execute(select(func.count()).select_from(offenders.subquery())).scalar_one()
        examples = connection.execute(offenders.limit(SHOWN)).scalars() if broken else ()
        yield Checked(promise, text, broken, [str(each) for each in examples])


def count_rows(connection: Connection) -> dict[str, int]:
    """Return the number of jobs and of recorded errors."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (jobs, job_errors)
    }
