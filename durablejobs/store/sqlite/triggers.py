"""The triggers and the view of a SQLite database: what the migrations add up to."""

from __future__ import annotations

from typing import Final

_COUNT_UP: Final = """
            INSERT INTO job_counts(queue, status, number) VALUES (NEW.queue, NEW.status, 1)
            ON CONFLICT DO UPDATE SET number = number + 1;
"""
_COUNT_DOWN: Final = """
            UPDATE job_counts SET number = number - 1 WHERE queue = OLD.queue AND status = OLD.status;
"""

TRIGGERS: Final = {
    # `INSERT INTO jobs(handler, run_at) VALUES ('mail', <tomorrow>)` must not run today.
    "jobs_due_later_are_scheduled": """
        CREATE TRIGGER jobs_due_later_are_scheduled AFTER INSERT ON jobs
        WHEN NEW.status = 'pending' AND NEW.run_at > NEW.created_at
        BEGIN
            UPDATE jobs SET status = 'scheduled' WHERE id = NEW.id;
        END
    """,
    # `UPDATE jobs SET cancel_requested_at = <now>` is a cancellation, whatever the job is doing: one that runs is told
    # to stop by its worker, all others are ended here.
    "jobs_cancel_requested": """
        CREATE TRIGGER jobs_cancel_requested AFTER UPDATE OF cancel_requested_at ON jobs
        WHEN NEW.cancel_requested_at IS NOT NULL AND NEW.finished_at IS NULL AND NEW.status <> 'running'
        BEGIN
            UPDATE jobs SET status = 'cancelled', finished_at = strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'
            WHERE id = NEW.id;
        END
    """,
    "jobs_count_ended": f"""
        CREATE TRIGGER jobs_count_ended AFTER UPDATE OF finished_at ON jobs
        WHEN OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL
        BEGIN{_COUNT_UP}        END
    """,
    "jobs_count_inserted": f"""
        CREATE TRIGGER jobs_count_inserted AFTER INSERT ON jobs
        WHEN NEW.finished_at IS NOT NULL
        BEGIN{_COUNT_UP}        END
    """,
    "jobs_count_retried": f"""
        CREATE TRIGGER jobs_count_retried AFTER UPDATE OF finished_at ON jobs
        WHEN OLD.finished_at IS NOT NULL AND NEW.finished_at IS NULL
        BEGIN{_COUNT_DOWN}        END
    """,
    "jobs_count_deleted": f"""
        CREATE TRIGGER jobs_count_deleted AFTER DELETE ON jobs
        WHEN OLD.finished_at IS NOT NULL
        BEGIN{_COUNT_DOWN}        END
    """,
    # A person who by SQL empties a queue into another, or calls failed jobs cancelled.
    "jobs_count_moved": f"""
        CREATE TRIGGER jobs_count_moved AFTER UPDATE OF queue, status ON jobs
        WHEN OLD.finished_at IS NOT NULL AND NEW.finished_at IS NOT NULL
        BEGIN{_COUNT_DOWN}{_COUNT_UP}        END
    """,
}

VIEWS: Final = {
    # What a person wants first, newest first.
    "jobs_overview": """
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
    """,
}
