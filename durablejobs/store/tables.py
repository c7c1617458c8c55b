"""The tables, their indexes and checks: the schema that the migrations add up to, but for triggers and the view.

Other programs insert into `jobs` by plain SQL, so every column but `handler` has a default in the database, and
nonsense is refused by the database. Measured habits of SQLite that shape the checks: `x IN (a, b, c)` with three or
more members builds a temporary table at every insert (twice the cost of the row), a chain of `OR` does not;
a check is evaluated on an update only when it names a column that changes.

The tables are the same in both databases. Some checks differ, because SQLite lets any value into any column and
PostgreSQL does not. Triggers and the view are written in each one's own language: for SQLite in `sqlite.triggers`, for
PostgreSQL in the migration. What tables and indexes are told beside that in PostgreSQL is in `postgres.tables`.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

from ..statuses import FINAL, LIVE, Status
from .counters import LARGEST
from .json_text import JsonText
from .moments import Moment, StatementMoment

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)

Long = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits; in SQLite every INTEGER has them, and only a key of exactly this name is the row's number."""


def _one_of(statuses: frozenset[Status]) -> str:
    return "(" + " OR ".join(f"status = '{status}'" for status in Status if status in statuses) + ")"


def _check(name: str, sqlite: str, postgresql: str) -> tuple[CheckConstraint, ...]:
    """Return a check that the two databases write differently."""
    return (
        CheckConstraint(sqlite, name).ddl_if(dialect="sqlite"),
        CheckConstraint(postgresql, name).ddl_if(dialect="postgresql"),
    )


def _is_name(column: str, usual: str | None = None) -> tuple[CheckConstraint, ...]:
    # What is so common that it is known to be right is compared, not examined: that takes SQLite a tenth of an insert.
    examined = (
        f"typeof({column}) = 'text' AND length({column}) BETWEEN 1 AND 200 AND {column} NOT GLOB '*[^A-Za-z0-9_.:-]*'"
    )
    return _check(
        f"{column}_is_a_name",
        f"{column} = {usual} OR ({examined})" if usual else examined,
        # Not `~ '^[…]{1,200}$'`: PostgreSQL takes 9 µs for that, at every insert and at every update of the row.
        f"{column} !~ '[^A-Za-z0-9_.:-]' AND length({column}) BETWEEN 1 AND 200",
    )


def _is_json(column: str, kind: str, usual: str | None = None) -> tuple[CheckConstraint, ...]:
    # SQLite takes JSON in a blob for JSON.
    examined = f"typeof({column}) = 'text' AND json_valid({column}) AND json_type({column}) = '{kind}'"
    return _check(
        f"{column}_is_a_json_{kind}",
        f"{usual} OR ({examined})" if usual else examined,
        f"json_typeof({column}) = '{kind}'",  # the type `json` has refused already what is no JSON
    )


def _is_key(column: str) -> tuple[CheckConstraint, ...]:
    is_text = f"typeof({column}) = 'text' AND length({column}) BETWEEN 1 AND 500"
    return _check(
        f"{column}_is_1_to_500_long",
        f"{column} IS NULL OR ({is_text})",
        f"{column} IS NULL OR length({column}) BETWEEN 1 AND 500",
    )


def _is_counter(*columns: str) -> str:
    return " AND ".join(f"{column} BETWEEN 0 AND {LARGEST[column]}" for column in columns)


_YEARS: Final = "{0} >= '0001-01-01 00:00:00+00' AND {0} < '10000-01-01 00:00:00+00'"
"""What Python's datetime can hold: not infinity."""


def _is_time(column: str) -> str:
    """Text of one of the forms `2026-01-31 12:00`, `12:00:00`, `12:00:00.123`, `12:00:00.123456`.

    Nothing else that SQLite takes for a time: Python cannot read 31 February or 24:00, and `+02:00` would not sort.
    SQLite computes with the text, and so finds these out, only when there is something to add.
    """
    digit = "[0-9]"
    return (
        f"typeof({column}) = 'text' AND {column} >= '0001' AND "
        f"datetime(substr({column}, 1, 19), '+0 seconds') IS substr({column} || ':' || '00', 1, 19) AND ("
        f"{column} GLOB '????-??-?? ??:??:??.{6 * digit}' OR {column} GLOB '????-??-?? ??:??:??.{3 * digit}' "
        f"OR length({column}) < 20)"
    )


def key_is_held(table: str = "") -> str:
    """Return the condition under which a job of this table (`name.`) holds its unique key, as SQL.

    While it is live; with `unique_while` = 'waiting' until it is claimed for the first time (a token only grows, so
    that no later change gives it a key back that somebody else has by then); with `unique_until` in any case, until
    somebody clears it.
    """
    return (
        f"{table}unique_key IS NOT NULL AND ({table}unique_until IS NOT NULL OR ({table}finished_at IS NULL AND "
        f"(coalesce({table}unique_while, 'live') <> 'waiting' OR {table}claim_token = 0)))"
    )


KEY_IS_HELD: Final = key_is_held()

jobs = Table(
    "jobs",
    metadata,
    Column("id", Long, Identity(), primary_key=True),
    Column("handler", Text, nullable=False),
    Column("queue", Text, nullable=False, server_default=text("'default'")),
    Column("args", JsonText, nullable=False, server_default=text("'[]'")),
    Column("kwargs", JsonText, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("run_at", Moment, nullable=False, server_default=StatementMoment()),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False, server_default=text("20")),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("claim_token", Long, nullable=False, server_default=text("0")),
    Column("worker_id", Long),
    Column("lease_expires_at", Moment),
    Column("cancel_requested_at", Moment),
    Column("unique_key", Text),
    Column("unique_while", Text),
    Column("unique_until", Moment),
    Column("debounce_until", Moment),
    Column("running_key", Text),
    Column("timeout", Float),
    Column("result", JsonText),
    Column("error", Text),
    Column("progress", JsonText),
    Column("meta", JsonText, nullable=False, server_default=text("'{}'")),
    Column("created_at", Moment, nullable=False, server_default=StatementMoment()),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    *_is_name("handler"),
    *_is_name("queue", usual="'default'"),
    *_is_json("args", "array"),
    *_is_json("kwargs", "object", usual="kwargs = '{}'"),
    *_is_json("meta", "object", usual="meta = '{}'"),
    CheckConstraint("result IS NULL OR (typeof(result) = 'text' AND json_valid(result))", "result_is_json").ddl_if(
        dialect="sqlite"
    ),
    CheckConstraint(
        f"({_one_of(LIVE)} AND finished_at IS NULL) OR ({_one_of(FINAL)} AND finished_at IS NOT NULL)",
        "status_is_known_and_final_ones_have_finished_at",
    ),
    CheckConstraint("status <> 'running' OR lease_expires_at IS NOT NULL", "running_has_a_lease"),
    CheckConstraint("typeof(priority) = 'integer'", "priority_is_an_integer").ddl_if(dialect="sqlite"),
    *_check(
        "max_attempts_is_1_to_1000000",
        "typeof(max_attempts) = 'integer' AND max_attempts BETWEEN 1 AND 1000000",
        "max_attempts BETWEEN 1 AND 1000000",
    ),
    # Text and blobs are larger than every number.
    CheckConstraint(_is_counter("attempt", "claim_token"), "counters_are_not_negative"),
    *_check(
        "crashes_is_0_to_1000000",
        "typeof(crashes) = 'integer' AND crashes BETWEEN 0 AND 1000000",
        "crashes BETWEEN 0 AND 1000000",
    ),
    *_is_key("unique_key"),
    CheckConstraint(
        "unique_while IS NULL OR unique_while = 'live' OR unique_while = 'waiting'", "unique_while_is_live_or_waiting"
    ),
    *_is_key("running_key"),
    # In PostgreSQL NaN is greater than infinity.
    *_check(
        "timeout_is_positive",
        "timeout IS NULL OR (typeof(timeout) = 'real' AND timeout > 0)",
        "timeout IS NULL OR (timeout > 0 AND timeout < 'infinity')",
    ),
    # In SQLite equal to created_at is the common case and proves the form without parsing it.
    *_check("run_at_is_utc_text", f"run_at = created_at OR ({_is_time('run_at')})", _YEARS.format("run_at")),
    *_check(
        "cancel_requested_at_is_utc_text",
        f"cancel_requested_at IS NULL OR ({_is_time('cancel_requested_at')})",
        f"cancel_requested_at IS NULL OR ({_YEARS.format('cancel_requested_at')})",
    ),
    *_check(
        "created_at_is_utc_text",
        f"length(created_at) = 26 OR ({_is_time('created_at')})",
        _YEARS.format("created_at"),
    ),
    sqlite_autoincrement=True,
)


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition)}  # in PostgreSQL, too: see `postgres.tables`


# Partial indexes on live statuses only: a claim costs the same after ten million finished jobs.
PENDING_INDEX: Final = Index(
    "ix_jobs_pending",
    jobs.c.queue,
    jobs.c.running_key,
    jobs.c.priority.desc(),
    jobs.c.id,
    **_only("status = 'pending'"),
)
SCHEDULED_INDEX: Final = Index("ix_jobs_scheduled", jobs.c.run_at, jobs.c.queue, **_only("status = 'scheduled'"))
# Of the live jobs that share places, which are few or none.
PLACES_INDEX: Final = Index(
    "ix_jobs_places",
    jobs.c.status,
    jobs.c.running_key,
    **_only("running_key IS NOT NULL AND finished_at IS NULL"),
)
RUNNING_INDEX: Final = Index("ix_jobs_running", jobs.c.worker_id, **_only("status = 'running'"))
UNIQUE_INDEX: Final = Index(
    "ix_jobs_unique_key",
    jobs.c.unique_key,
    unique=True,
    **_only(KEY_IS_HELD),
)
FINISHED_INDEX: Final = Index(
    "ix_jobs_finished",
    jobs.c.status,
    jobs.c.finished_at,
    jobs.c.queue,
    **_only("finished_at IS NOT NULL"),
)

job_errors = Table(
    "job_errors",
    metadata,
    Column("id", Long, Identity(), primary_key=True),
    Column("job_id", Long, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", Long),
    Column("started_at", Moment),
    Column("ended_at", Moment, nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("traceback", Text),
    Index("ix_job_errors_job_id", "job_id"),
)

# What a running job has kept of its log, bounded by the journal of its worker.
job_logs = Table(
    "job_logs",
    metadata,
    Column("id", Long, Identity(), primary_key=True),
    Column("job_id", Long, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_job_logs_job_id", "job_id"),
)

job_workers = Table(
    "job_workers",
    metadata,
    Column("id", Long, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("seat", Integer),
    Column("queues", Text, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("heartbeat_at", Moment, nullable=False),
    Column("stuck", Text, nullable=False, server_default=text("'[]'")),
    Column("asked_to", Text),
    CheckConstraint("asked_to IS NULL OR asked_to = 'quiet' OR asked_to = 'stop'", "asked_to_is_known"),
    sqlite_autoincrement=True,
)

# What an operator says about a queue; a queue without a row is neither paused nor limited.
job_queues = Table(
    "job_queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_at", Moment),
    Column("paused_until", Moment),
    Column("reason", Text),
    Column("max_running", Integer),
    CheckConstraint("length(name) BETWEEN 1 AND 200", "name_is_1_to_200_long"),
    CheckConstraint("paused_until IS NULL OR paused_at IS NOT NULL", "paused_until_needs_paused_at"),
    CheckConstraint("max_running IS NULL OR max_running BETWEEN 1 AND 1000000", "max_running_is_1_to_1000000"),
    sqlite_with_rowid=False,
)

# How many jobs have ended, by queue and status: kept by triggers, so that it is true whoever changes `jobs`, and
# counting ten million finished jobs reads a few rows. The parts of a count add up. In SQLite there is one, 0; in
# PostgreSQL each transaction writes one of its own, so that no worker waits for another's commit, and workers fold
# them into part 0 now and then.
job_counts = Table(
    "job_counts",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("part", Long, primary_key=True, server_default=text("0"), autoincrement=False),
    Column("number", Long, nullable=False),
    sqlite_with_rowid=False,
)

# Where the queue has moved to, or come from: see `freezing`.
job_moves = Table(
    "job_moves",
    metadata,
    Column("id", Long, Identity(), primary_key=True),
    Column("direction", Text, nullable=False),
    Column("other", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
)

# What those who show jobs must know of a handler without importing it.
job_handlers = Table(
    "job_handlers",
    metadata,
    Column("handler", Text, primary_key=True),
    Column("redact", JsonText),
    Column("max_running", Integer),
    Column("running_key", Text),
    *_is_json("redact", "object", usual="redact IS NULL"),
    sqlite_with_rowid=False,
)

VERSION_TABLE: Final = "job_schema"
"""Where the migrations write their revision: not Alembic's default name, which the application may use."""
