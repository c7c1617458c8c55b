"""Runs that take too long, in each lane."""

from __future__ import annotations

import json

import pytest

from ..harness import wait_until
from .conftest import PATIENCE, Site


@pytest.mark.parametrize("handler", ["thread_burn", "async_sleep", "process_burn", "process_sleep"])
def test_a_run_that_takes_too_long_is_a_failed_attempt_of_its_own_kind(site: Site, handler: str) -> None:
    job_id = site.using(max_attempts=1).enqueue(handler).id
    site.run("--concurrency", 1)
    (error,) = site.errors(job_id)
    assert site.job(job_id).status == "failed"
    assert (error["kind"], error["message"]) == ("timeout", "ran longer than its timeout of 0.3 s")
    assert "handlers.py" in error["traceback"]


def test_a_timeout_of_one_enqueue_or_of_an_insert_by_sql_counts_more_than_the_handlers(site: Site) -> None:
    mine = site.using(timeout=0.1, max_attempts=1).enqueue("thread_burn").id
    site.sql("INSERT INTO jobs(handler, timeout, max_attempts) VALUES ('thread_burn', 0.2, 1)")
    site.sql("INSERT INTO jobs(handler, max_attempts) VALUES ('thread_burn', 1)")
    site.run("--concurrency", 3)
    messages = [site.errors(mine + number)[0]["message"] for number in range(3)]
    assert messages == [f"ran longer than its timeout of {seconds} s" for seconds in ("0.1", "0.2", "0.3")]


def test_a_handler_that_spends_its_time_enqueueing_is_stopped_too(site: Site) -> None:
    job_id = site.using(max_attempts=1).enqueue("fan_out").id
    site.start("--concurrency", 1)
    site.wait_for("failed", job_id)
    assert site.errors(job_id)[0]["kind"] == "timeout"


def test_timeouts_while_handlers_roll_back_leave_nothing_open_and_harm_no_other_job(site: Site) -> None:
    ids = [site.using(max_attempts=1).enqueue("undo", 0.045 + 0.0001 * number).id for number in range(80)]
    site.run("--concurrency", 2)
    errors = {site.errors(job_id)[0]["message"] for job_id in ids}
    # The last is of a timeout that comes while SQLite asks us whether it may run a statement: it takes that for a no.
    known = "ValueError: undone", "ran longer than its timeout of 0.05 s", "DatabaseError: (sqlite3.DatabaseError) not"
    assert all(error.startswith(known) for error in errors), errors
    site.enqueue("thread_pid")  # somebody else can write


def test_a_timed_out_attempt_is_tried_again(site: Site) -> None:
    job_id = site.using(timeout=0.1, max_attempts=3).enqueue("async_sleep").id
    site.start()
    site.wait_for("failed", job_id)
    assert site.job(job_id).attempt == 3
    assert [error["kind"] for error in site.errors(job_id)] == ["timeout"] * 3


@pytest.mark.parametrize("handler", ["thread_swallow", "async_swallow", "process_swallow"])
def test_a_handler_that_catches_its_timeout_and_returns_has_succeeded(site: Site, handler: str) -> None:
    job_id = site.enqueue(handler)
    site.run()
    assert site.job(job_id).result == "half done"


def test_a_child_that_does_not_answer_is_killed(site: Site) -> None:
    job_id = site.enqueue("process_stubborn")
    (site.directory / "script.py").write_text(
        "from handlers import jobs\nif __name__ == '__main__':\n    jobs.work(burst=True, kill_after=0.3)\n"
    )
    assert site.start_python("script.py").wait(PATIENCE) == 0
    assert site.errors(job_id)[0]["message"] == "ran longer than its timeout of 0.3 s, and then 0.3 s to stop: killed"
    assert len(site.calls("asked", job_id)) == 1


@pytest.mark.slow
def test_a_thread_in_a_long_call_into_c_is_reported_as_stuck_and_keeps_its_job(site: Site) -> None:
    job_id = site.using(max_attempts=1).enqueue("stuck", 15).id
    site.start("--concurrency", 1, "--lease", "2s")
    site.wait_for_log(f"job {job_id} (stuck) is stuck: it goes on after its timeout of 0.2 s, in ")

    def worker() -> dict[str, object]:
        record: dict[str, object] = json.loads(site.command("workers", "--json"))
        return record

    wait_until(lambda: worker()["stuck"] == [job_id], "workers says so", PATIENCE, every=0.1)
    assert "1 stuck" in site.command("workers")
    assert "where it is stuck" in site.command("show", job_id)
    assert site.job(job_id).status == "running"
    site.wait_for("failed", job_id)
    assert [error["kind"] for error in site.errors(job_id)] == ["timeout"]
    assert len(site.calls(job=job_id)) == 1
    wait_until(lambda: worker()["stuck"] == [], "workers says that it is over", PATIENCE, every=0.1)
