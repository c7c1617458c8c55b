"""Create jobs, job_errors, job_logs, job_workers, job_queues, job_counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NEEDS = "0.1.0"
"""The first version of durablejobs that works with this schema."""

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")

CHECKS = {
    "status_is_known_and_final_ones_have_finished_at": "((status = 'scheduled' OR status = 'pending' OR status = 'blocked' OR status = 'running') AND finished_at IS NULL) OR ((status = 'succeeded' OR status = 'failed' OR status = 'cancelled') AND finished_at IS NOT NULL)",
    "running_has_a_lease": "status <> 'running' OR lease_expires_at IS NOT NULL",
    "counters_are_not_negative": "attempt BETWEEN 0 AND 2147483647 AND claim_token BETWEEN 0 AND 9223372036854775807",
    "unique_while_is_live_or_waiting": "unique_while IS NULL OR unique_while = 'live' OR unique_while = 'waiting'",
}
CHECKS_IN_SQLITE = {
    "args_is_a_json_array": "typeof(args) = 'text' AND json_valid(args) AND json_type(args) = 'array'",
    "kwargs_is_a_json_object": "kwargs = '{}' OR (typeof(kwargs) = 'text' AND json_valid(kwargs) AND json_type(kwargs) = 'object')",
    "created_at_is_utc_text": "length(created_at) = 26 OR (typeof(created_at) = 'text' AND created_at >= '0001' AND datetime(substr(created_at, 1, 19), '+0 seconds') IS substr(created_at || ':' || '00', 1, 19) AND (created_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]' OR created_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9]' OR length(created_at) < 20))",
    "handler_is_a_name": "typeof(handler) = 'text' AND length(handler) BETWEEN 1 AND 200 AND handler NOT GLOB '*[^A-Za-z0-9_.:-]*'",
    "queue_is_a_name": "queue = 'default' OR (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 200 AND queue NOT GLOB '*[^A-Za-z0-9_.:-]*')",
    "meta_is_a_json_object": "meta = '{}' OR (typeof(meta) = 'text' AND json_valid(meta) AND json_type(meta) = 'object')",
    "unique_key_is_1_to_500_long": "unique_key IS NULL OR (typeof(unique_key) = 'text' AND length(unique_key) BETWEEN 1 AND 500)",
    "running_key_is_1_to_500_long": "running_key IS NULL OR (typeof(running_key) = 'text' AND length(running_key) BETWEEN 1 AND 500)",
    "run_at_is_utc_text": "run_at = created_at OR (typeof(run_at) = 'text' AND run_at >= '0001' AND datetime(substr(run_at, 1, 19), '+0 seconds') IS substr(run_at || ':' || '00', 1, 19) AND (run_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]' OR run_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9]' OR length(run_at) < 20))",
    "timeout_is_positive": "timeout IS NULL OR (typeof(timeout) = 'real' AND timeout > 0)",
    "max_attempts_is_1_to_1000000": "typeof(max_attempts) = 'integer' AND max_attempts BETWEEN 1 AND 1000000",
    "cancel_requested_at_is_utc_text": "cancel_requested_at IS NULL OR (typeof(cancel_requested_at) = 'text' AND cancel_requested_at >= '0001' AND datetime(substr(cancel_requested_at, 1, 19), '+0 seconds') IS substr(cancel_requested_at || ':' || '00', 1, 19) AND (cancel_requested_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]' OR cancel_requested_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9]' OR length(cancel_requested_at) < 20))",
    "crashes_is_0_to_1000000": "typeof(crashes) = 'integer' AND crashes BETWEEN 0 AND 1000000",
    "priority_is_an_integer": "typeof(priority) = 'integer'",
    "result_is_json": "result IS NULL OR (typeof(result) = 'text' AND json_valid(result))",
}
CHECKS_IN_POSTGRESQL = {
    "unique_key_is_1_to_500_long": "unique_key IS NULL OR length(unique_key) BETWEEN 1 AND 500",
    "running_key_is_1_to_500_long": "running_key IS NULL OR length(running_key) BETWEEN 1 AND 500",
    "handler_is_a_name": "handler !~ '[^A-Za-z0-9_.:-]' AND length(handler) BETWEEN 1 AND 200",
    "queue_is_a_name": "queue !~ '[^A-Za-z0-9_.:-]' AND length(queue) BETWEEN 1 AND 200",
    "args_is_a_json_array": "json_typeof(args) = 'array'",
    "kwargs_is_a_json_object": "json_typeof(kwargs) = 'object'",
    "meta_is_a_json_object": "json_typeof(meta) = 'object'",
    "max_attempts_is_1_to_1000000": "max_attempts BETWEEN 1 AND 1000000",
    "crashes_is_0_to_1000000": "crashes BETWEEN 0 AND 1000000",
    "cancel_requested_at_is_utc_text": "cancel_requested_at IS NULL OR (cancel_requested_at >= '0001-01-01 00:00:00+00' AND cancel_requested_at < '10000-01-01 00:00:00+00')",
    "timeout_is_positive": "timeout IS NULL OR (timeout > 0 AND timeout < 'infinity')",
    "run_at_is_utc_text": "run_at >= '0001-01-01 00:00:00+00' AND run_at < '10000-01-01 00:00:00+00'",
    "created_at_is_utc_text": "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
}


def upgrade() -> None:
    create_tables()
    if is_sqlite():
        create_triggers_and_view_in_sqlite()
    else:
        create_triggers_and_view_in_postgresql(context.config.attributes["schema"])


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def now() -> sa.TextClause:
    """The moment of the statement."""
    return sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')" if is_sqlite() else "statement_timestamp()")


def only(condition: str) -> dict[str, sa.TextClause]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def checks_of_jobs() -> list[sa.CheckConstraint]:
    checks = CHECKS | (CHECKS_IN_SQLITE if is_sqlite() else CHECKS_IN_POSTGRESQL)
    return [sa.CheckConstraint(condition, name=op.f(f"ck_jobs_{name}")) for name, condition in checks.items()]


def create_tables() -> None:
    op.add_column("job_schema", sa.Column("needs", sa.Text(), nullable=False, server_default=NEEDS))
    op.create_table(
        "job_counts",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("part", LONG, server_default=sa.text("0"), nullable=False),
        sa.Column("number", LONG, nullable=False),
        sa.PrimaryKeyConstraint("queue", "status", "part", name=op.f("pk_job_counts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", MOMENT, nullable=True),
        sa.Column("paused_until", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_job_queues_name_is_1_to_200_long")),
        sa.CheckConstraint(
            "paused_until IS NULL OR paused_at IS NOT NULL", name=op.f("ck_job_queues_paused_until_needs_paused_at")
        ),
        sa.CheckConstraint(
            "max_running IS NULL OR max_running BETWEEN 1 AND 1000000",
            name=op.f("ck_job_queues_max_running_is_1_to_1000000"),
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_queues")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_handlers",
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("redact", JSON, nullable=True),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("running_key", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "redact IS NULL OR (typeof(redact) = 'text' AND json_valid(redact) AND json_type(redact) = 'object')"
            if is_sqlite()
            else "json_typeof(redact) = 'object'",
            name=op.f("ck_job_handlers_redact_is_a_json_object"),
        ),
        sa.PrimaryKeyConstraint("handler", name=op.f("pk_job_handlers")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_workers",
        sa.Column("id", LONG, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("seat", sa.Integer(), nullable=True),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
        sa.Column("stuck", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("asked_to", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "asked_to IS NULL OR asked_to = 'quiet' OR asked_to = 'stop'",
            name=op.f("ck_job_workers_asked_to_is_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_workers")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "jobs",
        sa.Column("id", LONG, sa.Identity(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("args", JSON, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("kwargs", JSON, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_at", MOMENT, server_default=now(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("20"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim_token", LONG, server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", LONG, nullable=True),
        sa.Column("lease_expires_at", MOMENT, nullable=True),
        sa.Column("cancel_requested_at", MOMENT, nullable=True),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("unique_while", sa.Text(), nullable=True),
        sa.Column("unique_until", MOMENT, nullable=True),
        sa.Column("debounce_until", MOMENT, nullable=True),
        sa.Column("running_key", sa.Text(), nullable=True),
        sa.Column("timeout", sa.Float(), nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("progress", JSON, nullable=True),
        sa.Column("meta", JSON, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", MOMENT, server_default=now(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        *checks_of_jobs(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
        postgresql_with={
            "fillfactor": 80,
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_threshold": 5000,
            "autovacuum_analyze_scale_factor": "0.02",
        },
    )
    op.create_index(
        "ix_jobs_finished",
        "jobs",
        ["status", "finished_at", "queue"],
        unique=False,
        **only("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_pending",
        "jobs",
        ["queue", "running_key", sa.literal_column("priority DESC"), "id"],
        unique=False,
        **only("status = 'pending'"),
    )
    op.create_index(
        "ix_jobs_places",
        "jobs",
        ["status", "running_key"],
        unique=False,
        **only("running_key IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index("ix_jobs_running", "jobs", ["worker_id"], unique=False, **only("status = 'running'"))
    op.create_index("ix_jobs_scheduled", "jobs", ["run_at", "queue"], unique=False, **only("status = 'scheduled'"))
    op.create_index(
        "ix_jobs_unique_key",
        "jobs",
        ["unique_key"],
        unique=True,
        **only(
            "unique_key IS NOT NULL AND (unique_until IS NOT NULL OR (finished_at IS NULL AND (coalesce(unique_while, 'live') <> 'waiting' OR claim_token = 0)))"
        ),
    )
    op.create_table(
        "job_errors",
        sa.Column("id", LONG, sa.Identity(), nullable=False),
        sa.Column("job_id", LONG, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", LONG, nullable=True),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_errors_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_errors")),
    )
    op.create_index("ix_job_errors_job_id", "job_errors", ["job_id"], unique=False)
    op.create_table(
        "job_logs",
        sa.Column("id", LONG, sa.Identity(), nullable=False),
        sa.Column("job_id", LONG, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_logs_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_logs")),
    )
    op.create_index("ix_job_logs_job_id", "job_logs", ["job_id"], unique=False)
    op.create_table(
        "job_moves",
        sa.Column("id", LONG, sa.Identity(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_moves")),
    )


def create_triggers_and_view_in_sqlite() -> None:
    op.execute(
        """
        CREATE TRIGGER jobs_due_later_are_scheduled AFTER INSERT ON jobs
        WHEN NEW.status = 'pending' AND NEW.run_at > NEW.created_at
        BEGIN
            UPDATE jobs SET status = 'scheduled' WHERE id = NEW.id;
        END
        """
    )

    op.execute(
        """
        CREATE TRIGGER jobs_cancel_requested AFTER UPDATE OF cancel_requested_at ON jobs
        WHEN NEW.cancel_requested_at IS NOT NULL AND NEW.finished_at IS NULL AND NEW.status <> 'running'
        BEGIN
            UPDATE jobs SET status = 'cancelled', finished_at = strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'
            WHERE id = NEW.id;
        END
        """
    )

    op.execute(
        """
        CREATE TRIGGER jobs_count_ended AFTER UPDATE OF finished_at ON jobs
        WHEN OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL
        BEGIN
            INSERT INTO job_counts(queue, status, number) VALUES (NEW.queue, NEW.status, 1)
            ON CONFLICT DO UPDATE SET number = number + 1;
        END
        """
    )

    op.execute(
        """
        CREATE TRIGGER jobs_count_inserted AFTER INSERT ON jobs
        WHEN NEW.finished_at IS NOT NULL
        BEGIN
            INSERT INTO job_counts(queue, status, number) VALUES (NEW.queue, NEW.status, 1)
            ON CONFLICT DO UPDATE SET number = number + 1;
        END
        """
    )

    op.execute(
        """
        CREATE TRIGGER jobs_count_retried AFTER UPDATE OF finished_at ON jobs
        WHEN OLD.finished_at IS NOT NULL AND NEW.finished_at IS NULL
        BEGIN
            UPDATE job_counts SET number = number - 1 WHERE queue = OLD.queue AND status = OLD.status;
        END
        """
    )

    op.execute(
        """
        CREATE TRIGGER jobs_count_deleted AFTER DELETE ON jobs
        WHEN OLD.finished_at IS NOT NULL
        BEGIN
            UPDATE job_counts SET number = number - 1 WHERE queue = OLD.queue AND status = OLD.status;
        END
        """
    )

    op.execute(
        """
        CREATE TRIGGER jobs_count_moved AFTER UPDATE OF queue, status ON jobs
        WHEN OLD.finished_at IS NOT NULL AND NEW.finished_at IS NOT NULL
        BEGIN
            UPDATE job_counts SET number = number - 1 WHERE queue = OLD.queue AND status = OLD.status;
            INSERT INTO job_counts(queue, status, number) VALUES (NEW.queue, NEW.status, 1)
            ON CONFLICT DO UPDATE SET number = number + 1;
        END
        """
    )

    op.execute(
        """
        CREATE VIEW jobs_overview AS
        SELECT
            id,
            handler,
            queue,
            CASE WHEN status = 'scheduled' AND attempt > 0 THEN 'retrying' ELSE status END AS status,
            max(attempt - crashes, 0) || '/' || max_attempts AS tries,
            CASE
                WHEN age < 60 THEN CAST(age AS INTEGER) || ' s'
                WHEN age < 3600 THEN CAST(age / 60 AS INTEGER) || ' min'
                WHEN age < 172800 THEN CAST(age / 3600 AS INTEGER) || ' h'
                ELSE CAST(age / 86400 AS INTEGER) || ' d'
            END AS age,
            CASE WHEN took < 1 THEN CAST(took * 1000 AS INTEGER) || ' ms' ELSE round(took, 1) || ' s' END AS took,
            substr(args, 1, 40) AS args,
            run_at,
            error
        FROM (
            SELECT
                *,
                max((julianday('now') - julianday(created_at)) * 86400, 0) AS age,
                (julianday(finished_at) - julianday(started_at)) * 86400 AS took
            FROM jobs
        )
        ORDER BY id DESC
        """
    )


def create_triggers_and_view_in_postgresql(schema: str) -> None:
    """Functions name the tables with their schema: whoever inserts may have any search path."""
    op.execute(
        """
        CREATE FUNCTION jobs_due_later_are_scheduled() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.status := 'scheduled';
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER jobs_due_later_are_scheduled BEFORE INSERT ON jobs FOR EACH ROW
        WHEN (NEW.status = 'pending' AND NEW.run_at > NEW.created_at)
        EXECUTE FUNCTION jobs_due_later_are_scheduled()
        """
    )
    op.execute(
        """
        CREATE FUNCTION jobs_cancel_requested() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.status := 'cancelled';
            NEW.finished_at := statement_timestamp();
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER jobs_cancel_requested BEFORE UPDATE OF cancel_requested_at ON jobs FOR EACH ROW
        WHEN (NEW.cancel_requested_at IS NOT NULL AND NEW.finished_at IS NULL AND NEW.status <> 'running')
        EXECUTE FUNCTION jobs_cancel_requested()
        """
    )
    # One function for each kind of statement, because each has other transition tables. A condition stands before
    # each INSERT: who may only insert jobs needs no right to write counts.
    count = f"""INSERT INTO "{schema}".job_counts AS counted (queue, status, part, number)
                SELECT queue, status, pg_current_xact_id()::text::bigint, sum(number) FROM (
                    {{changes}}
                ) AS changes GROUP BY queue, status HAVING sum(number) <> 0
                ON CONFLICT (queue, status, part) DO UPDATE SET number = counted.number + excluded.number;"""
    up = "SELECT queue, status, 1 AS number FROM rows_after WHERE finished_at IS NOT NULL"
    down = "SELECT queue, status, -1 AS number FROM rows_before WHERE finished_at IS NOT NULL"
    wake = f"PERFORM pg_notify('durablejobs.{schema}', '');"
    op.execute(
        f"""
        CREATE FUNCTION jobs_were_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM rows_after WHERE status = 'pending') THEN
                {wake}
            END IF;
            IF EXISTS (SELECT FROM rows_after WHERE finished_at IS NOT NULL) THEN
                {count.format(changes=up)}
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION jobs_were_updated() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM rows_after WHERE status = 'pending') THEN
                {wake}
            END IF;
            IF EXISTS (SELECT FROM rows_after WHERE finished_at IS NOT NULL)
                OR EXISTS (SELECT FROM rows_before WHERE finished_at IS NOT NULL) THEN
                {count.format(changes=f"{up} UNION ALL {down}")}
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION jobs_were_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM rows_before WHERE finished_at IS NOT NULL) THEN
                {count.format(changes=down)}
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER jobs_were_inserted AFTER INSERT ON jobs REFERENCING NEW TABLE AS rows_after "
        "FOR EACH STATEMENT EXECUTE FUNCTION jobs_were_inserted()"
    )
    op.execute(
        "CREATE TRIGGER jobs_were_updated AFTER UPDATE ON jobs REFERENCING OLD TABLE AS rows_before "
        "NEW TABLE AS rows_after FOR EACH STATEMENT EXECUTE FUNCTION jobs_were_updated()"
    )
    op.execute(
        "CREATE TRIGGER jobs_were_deleted AFTER DELETE ON jobs REFERENCING OLD TABLE AS rows_before "
        "FOR EACH STATEMENT EXECUTE FUNCTION jobs_were_deleted()"
    )
    op.execute(
        """
        CREATE VIEW jobs_overview AS
        SELECT
            id,
            handler,
            queue,
            CASE WHEN status = 'scheduled' AND attempt > 0 THEN 'retrying' ELSE status END AS status,
            greatest(attempt - crashes, 0) || '/' || max_attempts AS tries,
            CASE
                WHEN age < 60 THEN trunc(age) || ' s'
                WHEN age < 3600 THEN trunc(age / 60) || ' min'
                WHEN age < 172800 THEN trunc(age / 3600) || ' h'
                ELSE trunc(age / 86400) || ' d'
            END AS age,
            CASE WHEN took < 1 THEN trunc(took * 1000) || ' ms' ELSE round(took, 1) || ' s' END AS took,
            left(args::text, 40) AS args,
            run_at,
            error
        FROM (
            SELECT
                *,
                greatest(extract(epoch FROM clock_timestamp() - created_at), 0) AS age,
                extract(epoch FROM finished_at - started_at) AS took
            FROM jobs
        ) AS timed
        ORDER BY id DESC
        """
    )
