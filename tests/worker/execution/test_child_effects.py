"""What a handler in a child process writes: effects with the job's ending, progress, and its log."""

from __future__ import annotations

import pytest

from .conftest import Site

pytestmark = pytest.mark.conformance


@pytest.fixture(autouse=True)
def effects(site: Site) -> None:
    site.sql("DROP TABLE IF EXISTS effects")
    site.sql("CREATE TABLE effects(job INTEGER)")


def _run(site: Site, how: str) -> int:
    job_id = site.using(max_attempts=1).enqueue("process_effect", how).id
    site.run("--process-concurrency", 1)
    return job_id


def test_effects_and_children_commit_with_the_ending_that_the_child_writes(site: Site) -> None:
    job_id = _run(site, "return")
    assert (site.job(job_id).status, site.job(job_id).result) == ("succeeded", "paid")
    assert site.sql("SELECT job FROM effects") == [{"job": job_id}]
    assert site.sql("SELECT handler, status FROM jobs WHERE id <> ?", job_id) == [
        {"handler": "thread_pid", "status": "succeeded"}
    ]


def test_effects_of_a_handler_that_raises_after_them_are_undone(site: Site) -> None:
    job_id = _run(site, "raise")
    assert (site.job(job_id).status, site.job(job_id).error) == ("failed", "ValueError: after its effects")
    assert site.sql("SELECT job FROM effects") == []
    assert site.statuses() == {"failed": 1}


def test_a_child_that_dies_before_its_commit_leaves_nothing_and_its_next_run_all(site: Site) -> None:
    job_id = _run(site, "die once")
    assert len(site.calls("began", job_id)) == 2
    assert (site.job(job_id).status, site.job(job_id).crashes) == ("succeeded", 1)
    assert site.sql("SELECT job FROM effects") == [{"job": job_id}]
    assert site.statuses() == {"succeeded": 2}


def test_progress_and_the_kept_log_of_a_child_reach_the_rows(site: Site) -> None:
    job_id = _run(site, "return")
    assert site.job(job_id).progress == {"done": 1, "total": 2, "message": "half-way"}
    messages = site.sql("SELECT level, message FROM job_logs WHERE job_id = ? ORDER BY id", job_id)
    assert [each["message"] for each in messages] == ["by hand", "by logging"]
