"""The rights in docs/postgresql-grants.sql are enough to work and to enqueue, and are not more than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import make_url

from durablejobs import DatabaseUnusableError, DurableJobs, Fail, Retention, current_job

from ... import postgres

GRANTS: Final = Path(__file__).resolve().parents[3] / "docs" / "postgresql-grants.sql"
TABLES: Final = ("jobs", "job_errors", "job_logs", "job_workers", "job_queues", "job_handlers", "job_counts")


@pytest.fixture
def roles(postgres_url: str, worker_id: str) -> Iterator[dict[str, str]]:
    """The URLs of a worker and of an enqueuer, who have the rights that the page grants."""
    names = {name: f"{name}_{worker_id}" for name in ("jobs_worker", "jobs_enqueuer")}
    grants = GRANTS.read_text()
    with postgres.admin(postgres_url) as connection:
        for name, role in names.items():
            connection.execute(f"DROP ROLE IF EXISTS {role}")
            connection.execute(f"CREATE ROLE {role} LOGIN")
            grants = grants.replace(f"TO {name};", f"TO {role};")
        connection.execute(grants)
        yield {
            name: make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
            for name, role in names.items()
        }
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = ANY(%s)",
            (list(names.values()),),
        )
        for role in names.values():
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_an_enqueuer_and_a_worker_need_no_more(roles: dict[str, str]) -> None:
    with closing(DurableJobs(roles["jobs_enqueuer"])) as outside:

        @outside.handler("login", redact=["secret"])
        def login(secret: str) -> None: ...

        outside.using(check=False).enqueue_many("mail", [[number] for number in range(20)])
        for on_conflict in ("skip", "replace"):
            job = outside.using(check=False, unique_key="k", on_conflict=on_conflict).enqueue("mail", 20)
        outside.using(check=False, unique_key="k", unique_for=3600).enqueue("mail", 21)
        outside.using(check=False, unique_key="other", unique_for=0.001).enqueue("mail", 22)
        login.enqueue("s3cr3t")
        outside.cancel(outside.using(check=False).enqueue("mail", 23).id)
        assert outside.get(job.id).status == "pending"
    with closing(DurableJobs(roles["jobs_worker"])) as inside:

        @inside.handler("login", max_running=1)
        def log_in(secret: str) -> None: ...

        @inside.handler("mail", max_attempts=2, keep_log=True)
        def mail(number: int) -> None:
            current_job().log("sending")
            if number == 3:
                raise Fail("no")
            with current_job().transaction() as connection:
                mail.using(connection=connection, delay=60).enqueue(99)

        inside.pause("bulk")
        inside.limit("default", 3)
        report = inside.work(burst=True, retention=Retention(failed=0.001), prune_interval=0.05)
        assert report.succeeded >= 20
        assert inside.examine()
        assert inside.statistics()
        inside.retry(next(each for each in inside.list_jobs(limit=100) if each.status == "cancelled").id)
        inside.delete(job.id)


@pytest.mark.parametrize("role", ["jobs_worker", "jobs_enqueuer"])
def test_neither_may_change_the_tables(roles: dict[str, str], role: str) -> None:
    with postgres.admin(roles[role]) as connection:
        for table in TABLES:
            with pytest.raises(Exception, match=r"must be owner|permission denied"):
                connection.execute(f"ALTER TABLE {table} ADD COLUMN more TEXT")
            with pytest.raises(Exception, match="permission denied"):
                connection.execute(f"TRUNCATE {table} CASCADE")


def test_an_enqueuer_works_nothing_and_is_told_why(roles: dict[str, str]) -> None:
    with closing(DurableJobs(roles["jobs_enqueuer"])) as jobs:
        jobs.handler("mail")(lambda: None)
        with pytest.raises(DatabaseUnusableError, match="denied for table job_workers: this user lacks a right"):
            jobs.work(burst=True)
