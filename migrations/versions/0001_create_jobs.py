"""Create jobs, job_errors, job_logs, job_workers, job_queues, job_counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NEEDS = "0.1.0"
"""The first version of durablejobs that works with this schema."""


def upgrade() -> None:
    op.add_column("job_schema", sa.Column("needs", sa.Text(), nullable=False, server_default=NEEDS))
    op.create_table(
        "job_counts",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "status", name=op.f("pk_job_counts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.Text(), nullable=True),
        sa.Column("paused_until", sa.Text(), nullable=True),
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
        sa.Column("redact", sa.Text(), nullable=True),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("running_key", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "redact IS NULL OR (json_valid(redact) AND json_type(redact) = 'object')",
            name=op.f("ck_job_handlers_redact_is_a_json_object"),
        ),
        sa.PrimaryKeyConstraint("handler", name=op.f("pk_job_handlers")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("seat", sa.Integer(), nullable=True),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.Column("heartbeat_at", sa.Text(), nullable=False),
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
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("args", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("kwargs", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "run_at",
            sa.Text(),
            server_default=sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("20"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim_token", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=True),
        sa.Column("lease_expires_at", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.Text(), nullable=True),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("unique_while", sa.Text(), nullable=True),
        sa.Column("unique_until", sa.Text(), nullable=True),
        sa.Column("debounce_until", sa.Text(), nullable=True),
        sa.Column("running_key", sa.Text(), nullable=True),
        sa.Column("timeout", sa.Float(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("meta", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "created_at",
            sa.Text(),
            server_default=sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"),
            nullable=False,
        ),
        sa.Column("started_at", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "((status = 'scheduled' OR status = 'pending' OR status = 'blocked' OR status = 'running') AND finished_at IS NULL) OR ((status = 'succeeded' OR status = 'failed' OR status = 'cancelled') AND finished_at IS NOT NULL)",
            name=op.f("ck_jobs_status_is_known_and_final_ones_have_finished_at"),
        ),
        sa.CheckConstraint("json_valid(args) AND json_type(args) = 'array'", name=op.f("ck_jobs_args_is_a_json_array")),
        sa.CheckConstraint(
            "kwargs = '{}' OR (json_valid(kwargs) AND json_type(kwargs) = 'object')",
            name=op.f("ck_jobs_kwargs_is_a_json_object"),
        ),
        sa.CheckConstraint(
            "length(created_at) = 26 OR (typeof(created_at) = 'text' AND created_at >= '0001' AND datetime(substr(created_at, 1, 19), '+0 seconds') IS substr(created_at || ':' || '00', 1, 19) AND (created_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]' OR created_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9]' OR length(created_at) < 20))",
            name=op.f("ck_jobs_created_at_is_utc_text"),
        ),
        sa.CheckConstraint(
            "typeof(handler) = 'text' AND length(handler) BETWEEN 1 AND 200 AND handler NOT GLOB '*[^A-Za-z0-9_.:-]*'",
            name=op.f("ck_jobs_handler_is_a_name"),
        ),
        sa.CheckConstraint(
            "queue = 'default' OR (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 200 AND queue NOT GLOB '*[^A-Za-z0-9_.:-]*')",
            name=op.f("ck_jobs_queue_is_a_name"),
        ),
        sa.CheckConstraint(
            "meta = '{}' OR (json_valid(meta) AND json_type(meta) = 'object')",
            name=op.f("ck_jobs_meta_is_a_json_object"),
        ),
        sa.CheckConstraint(
            "run_at = created_at OR (typeof(run_at) = 'text' AND run_at >= '0001' AND datetime(substr(run_at, 1, 19), '+0 seconds') IS substr(run_at || ':' || '00', 1, 19) AND (run_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]' OR run_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9]' OR length(run_at) < 20))",
            name=op.f("ck_jobs_run_at_is_utc_text"),
        ),
        sa.CheckConstraint(
            "cancel_requested_at IS NULL OR (typeof(cancel_requested_at) = 'text' AND cancel_requested_at >= '0001' AND datetime(substr(cancel_requested_at, 1, 19), '+0 seconds') IS substr(cancel_requested_at || ':' || '00', 1, 19) AND (cancel_requested_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]' OR cancel_requested_at GLOB '????-??-?? ??:??:??.[0-9][0-9][0-9]' OR length(cancel_requested_at) < 20))",
            name=op.f("ck_jobs_cancel_requested_at_is_utc_text"),
        ),
        sa.CheckConstraint(
            "status <> 'running' OR lease_expires_at IS NOT NULL", name=op.f("ck_jobs_running_has_a_lease")
        ),
        sa.CheckConstraint(
            "running_key IS NULL OR length(running_key) BETWEEN 1 AND 500",
            name=op.f("ck_jobs_running_key_is_1_to_500_long"),
        ),
        sa.CheckConstraint(
            "timeout IS NULL OR (typeof(timeout) = 'real' AND timeout > 0)", name=op.f("ck_jobs_timeout_is_positive")
        ),
        sa.CheckConstraint(
            "typeof(max_attempts) = 'integer' AND max_attempts BETWEEN 1 AND 1000000",
            name=op.f("ck_jobs_max_attempts_is_1_to_1000000"),
        ),
        sa.CheckConstraint("typeof(priority) = 'integer'", name=op.f("ck_jobs_priority_is_an_integer")),
        sa.CheckConstraint("attempt >= 0 AND claim_token >= 0", name=op.f("ck_jobs_counters_are_not_negative")),
        sa.CheckConstraint(
            "typeof(crashes) = 'integer' AND crashes BETWEEN 0 AND 1000000",
            name=op.f("ck_jobs_crashes_is_0_to_1000000"),
        ),
        sa.CheckConstraint("result IS NULL OR json_valid(result)", name=op.f("ck_jobs_result_is_json")),
        sa.CheckConstraint(
            "unique_while IS NULL OR unique_while = 'live' OR unique_while = 'waiting'",
            name=op.f("ck_jobs_unique_while_is_live_or_waiting"),
        ),
        sa.CheckConstraint(
            "unique_key IS NULL OR length(unique_key) BETWEEN 1 AND 500",
            name=op.f("ck_jobs_unique_key_is_1_to_500_long"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_finished",
        "jobs",
        ["status", "finished_at", "queue"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_pending",
        "jobs",
        ["queue", "running_key", sa.literal_column("priority DESC"), "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_jobs_places",
        "jobs",
        ["status", "running_key"],
        unique=False,
        sqlite_where=sa.text("running_key IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index("ix_jobs_running", "jobs", ["worker_id"], unique=False, sqlite_where=sa.text("status = 'running'"))
    op.create_index(
        "ix_jobs_scheduled", "jobs", ["run_at", "queue"], unique=False, sqlite_where=sa.text("status = 'scheduled'")
    )
    op.create_index(
        "ix_jobs_unique_key",
        "jobs",
        ["unique_key"],
        unique=True,
        sqlite_where=sa.text(
            "unique_key IS NOT NULL AND (unique_until IS NOT NULL OR (finished_at IS NULL AND (coalesce(unique_while, 'live') <> 'waiting' OR claim_token = 0)))"
        ),
    )
    op.create_table(
        "job_errors",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_errors_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_errors")),
    )
    op.create_index("ix_job_errors_job_id", "job_errors", ["job_id"], unique=False)
    op.create_table(
        "job_logs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_logs_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_logs")),
    )
    op.create_index("ix_job_logs_job_id", "job_logs", ["job_id"], unique=False)
    op.create_table(
        "job_moves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_moves")),
    )
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
