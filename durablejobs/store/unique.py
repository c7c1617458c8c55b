"""Inserting one job, with or without a unique key.

The unique index decides who holds a key, in the inserting statement: nothing is selected first, so nobody comes in
between. Only who is refused looks further: is the holder's time over, may it be replaced, who is it?
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Integer, and_, bindparam, case, insert, literal_column, null, select, text, update
from sqlalchemy.dialects import sqlite

from ..errors import DuplicateJobError
from ..jobs import NewJob, UniqueRule
from .counters import LARGEST
from .hot import HotStatement, Run, Statement
from .moments import Moment
from .tables import KEY_IS_HELD, jobs

_TRIES: Final = 10
"""A holder may end, or begin to run, between two statements of a transaction that has not locked the others out."""
_RULE_COLUMNS: Final = ("unique_while", "unique_until", "debounce_until")
_REPLACED: Final = ("handler", "queue", "args", "kwargs", "priority", "timeout", "meta", "running_key")


def _insert_unless_held(columns: tuple[str, ...]) -> HotStatement:
    """Return the INSERT that inserts nothing when the key is held; SQLAlchemy has the clause once for each database."""
    values: dict[str, Any] = {name: bindparam(name) for name in columns}
    held: dict[str, Any] = {"index_elements": [jobs.c.unique_key], "index_where": text(KEY_IS_HELD)}

    def in_postgres() -> Statement:
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(jobs).values(values).on_conflict_do_nothing(**held).returning(jobs.c.id)

    return HotStatement(
        sqlite.insert(jobs).values(values).on_conflict_do_nothing(**held).returning(jobs.c.id), in_postgres
    )


INSERT: Final = HotStatement(
    insert(jobs).values({name: bindparam(name) for name in NewJob._fields}).returning(jobs.c.id)
)
INSERT_UNLESS_DUPLICATE: Final = _insert_unless_held(NewJob._fields)
INSERT_BY_RULE: Final = _insert_unless_held((*NewJob._fields, *_RULE_COLUMNS))
# A job that has ended holds its key until somebody wants it after `unique_until`.
RELEASE_EXPIRED: Final = HotStatement(
    update(jobs)
    .where(
        jobs.c.unique_key == bindparam("unique_key"),
        text(KEY_IS_HELD),
        jobs.c.unique_until <= bindparam("now"),
        jobs.c.finished_at.is_not(None),
    )
    .values(unique_until=null())
)
HOLDER: Final = HotStatement(select(jobs.c.id).where(jobs.c.unique_key == bindparam("unique_key"), text(KEY_IS_HELD)))

_goes_too_far = and_(
    bindparam("is_debounced") == literal_column("1"), jobs.c.debounce_until < bindparam("run_at", type_=Moment)
)
# At least the attempt that comes: the holder may have spent more than who replaces it would have given it.
_spent = jobs.c.attempt - jobs.c.crashes
_most_attempts = bindparam("max_attempts", type_=Integer)
_LARGEST: Final = literal_column(str(LARGEST["max_attempts"]), Integer)
_max_attempts = case(
    (_spent < _most_attempts, _most_attempts), (_spent < _LARGEST, _spent + literal_column("1")), else_=_LARGEST
)
_run_at = case((_goes_too_far, jobs.c.debounce_until), else_=bindparam("run_at", type_=Moment))
REPLACE: Final = HotStatement(
    update(jobs)
    .where(
        jobs.c.unique_key == bindparam("unique_key"),
        text(KEY_IS_HELD),
        jobs.c.status.in_([literal_column("'pending'"), literal_column("'scheduled'")]),
    )
    .values(
        {name: bindparam(name) for name in _REPLACED}
        | {
            "max_attempts": _max_attempts,
            "run_at": _run_at,
            "status": case(
                (_run_at <= bindparam("now", type_=Moment), literal_column("'pending'")),
                else_=literal_column("'scheduled'"),
            ),
        }
    )
    .returning(jobs.c.id)
)


def insert_job(run: Run, job: NewJob, rule: UniqueRule | None = None) -> tuple[int, bool]:
    """Insert one job; return its id and True, or the id of the job that holds its unique key and False.

    By its rule the holder is replaced, if it waits to be run.
    """
    values = job._asdict() | {"now": job.created_at}
    if job.unique_key is None:
        return int(run(INSERT, values).fetchall()[0][0]), True
    insertion = INSERT_UNLESS_DUPLICATE
    if rule is not None:
        insertion = INSERT_BY_RULE
        values |= {name: getattr(rule, name) for name in _RULE_COLUMNS} | {"is_debounced": int(rule.is_debounced)}
    for _ in range(_TRIES):
        inserted = run(insertion, values).fetchall()
        if inserted:
            return int(inserted[0][0]), True
        if run(RELEASE_EXPIRED, values).rowcount:
            continue
        if rule is not None and rule.replaces:
            replaced = run(REPLACE, values).fetchall()
            if replaced:
                return int(replaced[0][0]), False
        holder = run(HOLDER, values).fetchone()
        if holder is not None:
            return int(holder[0]), False
    raise DuplicateJobError(job.unique_key)
