"""Jobs that somebody stops, from another process and by plain SQL, whatever they are doing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..harness import wait_until
from .conftest import PATIENCE, Site, is_alive

Cancel = Callable[[Site, int], object]


def by_command(site: Site, job_id: int) -> None:
    site.command("cancel", job_id)


def by_python(site: Site, job_id: int) -> None:
    site.jobs.cancel(job_id)


def by_sql(site: Site, job_id: int) -> None:
    site.sql("UPDATE jobs SET cancel_requested_at = datetime('now') WHERE id = ? AND finished_at IS NULL", job_id)


EACH_WAY = pytest.mark.parametrize("cancel", [by_command, by_python, by_sql])


@EACH_WAY
@pytest.mark.parametrize("handler", ["thread_polls", "async_cleans_up", "process_cleans_up"])
def test_a_running_job_stops_and_ends_cancelled(site: Site, handler: str, cancel: Cancel) -> None:
    job_id = site.enqueue(handler)
    worker = site.start()
    site.wait_for_call(job_id)
    cancel(site, job_id)
    site.wait_for("cancelled", job_id)
    assert len(site.calls()) == 1
    assert len(site.calls("cleaned", job_id)) == (0 if handler == "thread_polls" else 1)
    assert site.errors(job_id) == []
    assert site.job(job_id).error == "stopped because it was asked to"
    assert worker.poll() is None


@EACH_WAY
@pytest.mark.parametrize("status", ["pending", "scheduled", "blocked"])
def test_a_job_that_waits_is_cancelled_at_once(site: Site, status: str, cancel: Cancel) -> None:
    job_id = site.using(delay=3600 if status == "scheduled" else 0).enqueue("thread_pid").id
    if status == "blocked":
        site.sql("UPDATE jobs SET status = 'blocked' WHERE id = ?", job_id)
    cancel(site, job_id)
    job = site.job(job_id)
    assert job.status == "cancelled"
    assert job.finished_at is not None
    site.run()
    assert site.job(job_id).attempt == 0


@EACH_WAY
def test_a_child_that_does_not_listen_is_killed(site: Site, cancel: Cancel) -> None:
    job_id = site.enqueue("hold_the_interpreter")
    (site.directory / "script.py").write_text(
        "from handlers import jobs\nif __name__ == '__main__':\n    jobs.work(kill_after=0.3)\n"
    )
    worker = site.start_python("script.py")
    child = site.wait_for_call(job_id)["pid"]
    cancel(site, job_id)
    site.wait_for("cancelled", job_id)
    wait_until(lambda: not is_alive(child), "the child is dead", PATIENCE)
    assert site.job(job_id).crashes == 0
    assert worker.poll() is None


def test_a_job_whose_worker_has_died_meanwhile_ends_cancelled(site: Site) -> None:
    job_id = site.enqueue("process_endless")
    worker = site.start()
    site.wait_for_call(job_id)
    worker.kill()
    worker.wait(PATIENCE)
    by_sql(site, job_id)
    site.run()
    assert site.job(job_id).status == "cancelled"
    assert len(site.calls()) == 1


def test_a_job_that_is_cancelled_while_its_worker_drains_stops(site: Site) -> None:
    job_id = site.enqueue("thread_polls")
    worker = site.start()
    site.wait_for_call(job_id)
    worker.terminate()
    site.wait_for_log("stopping: 1 running jobs")
    by_sql(site, job_id)
    assert worker.wait(PATIENCE) == 0
    assert site.job(job_id).status == "cancelled"


def test_what_has_ended_is_not_cancelled_by_sql(site: Site) -> None:
    job_id = site.enqueue("thread_pid")
    site.run()
    by_sql(site, job_id)
    site.sql("UPDATE jobs SET cancel_requested_at = datetime('now') WHERE id = ?", job_id)
    assert site.job(job_id).status == "succeeded"
