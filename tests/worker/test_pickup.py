"""How soon an idle worker begins a job. The interval is only the net: here it is an hour, longer than anybody waits."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from durablejobs import DurableJobs, EnqueueOptions, WorkerConfig
from durablejobs.clock import to_text
from durablejobs.errors import DatabaseUnusableError
from durablejobs.store.database import Watch
from durablejobs.store.doors.claims import ClaimRequest

from .harness import Queue, wait_until

pytestmark = pytest.mark.conformance


@pytest.mark.timeout(30, func_only=True)
def test_what_is_committed_between_the_last_look_and_the_first_watch_is_found(
    jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durablejobs.worker.RESCUE_EVERY", 3600)
    jobs.handler("echo")(lambda: None)
    jobs.migrate()
    watch_work = jobs._store.watch_work

    def enqueue_and_watch() -> Watch:
        jobs.enqueue("echo")
        return watch_work()

    monkeypatch.setattr(jobs._store, "watch_work", enqueue_and_watch)
    assert jobs.work(max_jobs=1, interval=3600).succeeded == 1


@pytest.mark.timeout(30, func_only=True)
def test_a_look_out_that_cannot_be_had_is_tried_again_and_ends_no_worker(
    jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.handler("echo")(lambda: None)
    jobs.migrate()
    watch_work = jobs._store.watch_work
    refusals: list[Exception] = [OSError("too many open files"), DatabaseUnusableError("jobs.db", "cannot be opened")]

    def watch_or_refuse() -> Watch:
        if refusals:
            raise refusals.pop()
        jobs.enqueue("echo")
        return watch_work()

    monkeypatch.setattr(jobs._store, "watch_work", watch_or_refuse)
    assert jobs.work(max_jobs=1, interval=0.05).succeeded == 1
    assert [record.message for record in caplog.records if "look-out" in record.message] == [
        "no look-out for new jobs: jobs.db: cannot be opened; trying again",
        "no look-out for new jobs: too many open files; trying again",
    ]


def test_who_only_drains_never_watches(jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.handler("echo")(lambda: None)
    jobs.migrate()
    jobs.enqueue("echo")
    monkeypatch.setattr(jobs._store, "watch_work", lambda: pytest.fail("watched"))
    assert jobs.work(burst=True, concurrency=1).succeeded == 1


def test_an_enqueue_by_another_process_starts_at_once(
    queue: Queue, record_property: Callable[[str, object], None]
) -> None:
    queue.start_idle(interval=3600)
    waits = []
    for _ in range(10):
        before = time.monotonic()
        job_id = queue.enqueue("echo")
        waits.append(queue.wait_for_call(job_id).moment - before)
    record_property("pickup_seconds", sorted(waits))


@pytest.mark.conformance("and fast")
def test_a_job_inserted_by_plain_sql_starts_at_once(queue: Queue) -> None:
    queue.start_idle(interval=3600)
    inserted = queue.sql("""INSERT INTO jobs(handler, args) VALUES ('echo', '["hello"]') RETURNING id""")
    job_id = inserted[0]["id"]
    queue.wait_for("succeeded", job_id)
    assert queue.job(job_id).result == "hello"


def test_a_job_enqueued_by_a_program_that_ends_at_once_starts_at_once(queue: Queue) -> None:
    queue.start_idle(interval=3600)
    code = "import sys, durablejobs; print(durablejobs.DurableJobs(sys.argv[1]).enqueue('echo', 1).id)"
    printed = subprocess.run([sys.executable, "-c", code, queue.database], capture_output=True, text=True, check=True)
    queue.wait_for_call(int(printed.stdout))


@pytest.mark.parametrize("by", ["the library", "plain SQL"])
def test_a_scheduled_job_starts_when_it_is_due_and_not_before(queue: Queue, by: str) -> None:
    queue.start_idle(interval=3600)
    if by == "the library":
        job_id = queue.enqueue("echo", options=EnqueueOptions(delay=0.8))
    else:
        due = to_text(datetime.now(UTC) + timedelta(seconds=0.8))
        job_id = queue.sql("INSERT INTO jobs(handler, run_at) VALUES ('echo', ?) RETURNING id", due)[0]["id"]
    run_at = queue.job(job_id).run_at.timestamp()
    assert run_at <= queue.wait_for_call(job_id).time
    assert queue.row(job_id)["claim_token"] == 1  # not given back and claimed again


@pytest.mark.sqlite("a time is text there")
@pytest.mark.parametrize(
    "run_at",
    ["2999-02-30 12:00:00", "2999-04-31 12:00", "2999-01-31 24:00", "2999-01-31   12:00", "2999-01-31", "soon", ""],
)
def test_a_run_at_that_python_cannot_read_is_refused_by_the_database(queue: Queue, run_at: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="run_at_is_utc_text"):
        queue.sql("INSERT INTO jobs(handler, run_at) VALUES ('echo', ?)", run_at)


def test_a_worker_does_not_spin_while_it_runs_a_job_that_was_scheduled(queue: Queue) -> None:
    worker = queue.start_idle()
    job_id = queue.enqueue("sleep", 1, options=EnqueueOptions(delay=0.3))
    queue.wait_for_call(job_id)
    before = worker.cpu_seconds()
    queue.wait_for_call(job_id, event="ended")
    assert worker.cpu_seconds() - before < 0.6


def test_an_idle_worker_costs_little(queue: Queue) -> None:
    worker = queue.start_idle()
    before, since = worker.cpu_seconds(), time.monotonic()
    queue.wait_for_call(queue.enqueue("echo", options=EnqueueOptions(delay=1)))
    assert (worker.cpu_seconds() - before) / (time.monotonic() - since) < 0.2


def test_a_claim_that_the_worker_never_heard_of_is_given_back_after_a_lease(jobs: DurableJobs) -> None:
    """As when the network has delivered it late: its lease is extended with the others."""
    jobs.migrate()
    job = jobs.using(queue="theirs").enqueue("echo")
    worker = jobs.worker(WorkerConfig(queues="own", lease=1, heartbeat=0.2, interval=0.05))
    with ThreadPoolExecutor() as pool:
        report = pool.submit(worker.run)
        wait_until(lambda: len(jobs.workers()) == 1, "the worker is registered")
        late = ClaimRequest(jobs.workers()[0].id, ("theirs",), 1, 3600)
        assert [each.id for each in jobs._store.claims.turn((), late).claimed] == [job.id]
        try:
            wait_until(lambda: job.refresh().status == "pending", "the job is given back")
        finally:
            worker.stop()
        assert report.result().runs == 0
    assert job.refresh().attempt == 0
