"""Threads, the event loop and child processes side by side in one worker."""

from __future__ import annotations

import asyncio
import signal
from contextlib import closing

import pytest

from durablejobs import DurableJobs

from ..harness import wait_until
from .conftest import PATIENCE, Site, is_alive

GATES = ("thread_gate", "async_gate", "process_gate")


def start_with_all_lanes_busy(site: Site, *options: object) -> list[int]:
    """Return the ids of three running jobs: one in a thread, one on the loop, one in a child."""
    ids = [site.enqueue(name, "gate") for name in GATES]
    site.start("--concurrency", 1, "--process-concurrency", 1, *options)
    for job_id in ids:
        site.wait_for_call(job_id)
    return ids


def test_each_kind_of_handler_runs_where_it_belongs_and_none_waits_for_another(site: Site) -> None:
    gates = start_with_all_lanes_busy(site)
    worker = site.processes[0]
    inside = site.enqueue("async_pid")
    site.wait_for("succeeded", inside)
    assert site.job(inside).result == worker.pid
    assert site.calls(job=gates[0])[0]["pid"] == site.calls(job=gates[1])[0]["pid"] == worker.pid
    assert site.calls(job=gates[2])[0]["pid"] != worker.pid
    site.open_gate()
    site.wait_for("succeeded", *gates)


def test_hundreds_of_async_jobs_run_at_once(site: Site) -> None:
    site.jobs.enqueue_many("meet", [(400,)] * 400)
    site.run("--async-concurrency", 400)
    assert site.statuses() == {"succeeded": 400}


def test_a_child_is_used_again_and_a_fresh_one_is_not(site: Site) -> None:
    ids = [site.enqueue("process_pid") for _ in range(4)]
    fresh = [site.enqueue("fresh_pid") for _ in range(2)]
    site.run("--process-concurrency", 1)
    assert len({site.job(job_id).result for job_id in ids}) == 1
    assert len({site.job(job_id).result for job_id in [ids[0], *fresh]}) == 3


def test_a_child_is_replaced_after_so_many_runs(site: Site) -> None:
    ids = [site.enqueue("process_pid") for _ in range(4)]
    (site.directory / "script.py").write_text(
        "from handlers import jobs\n"
        "if __name__ == '__main__':\n"
        "    jobs.work(burst=True, process_concurrency=1, runs_per_child=2)\n"
    )
    assert site.start_python("script.py").wait(PATIENCE) == 0
    pids = [site.job(job_id).result for job_id in ids]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_handlers_of_a_script_run_in_child_processes_too(site: Site) -> None:
    ids = [site.enqueue(name) for name in ("thread_pid", "process_pid", "fresh_pid")]
    assert site.start_python("handlers.py").wait(PATIENCE) == 0, site.log
    assert len({site.job(job_id).result for job_id in ids}) == 3


def test_a_handler_in_a_child_enqueues_into_the_workers_database(site: Site) -> None:
    (site.directory / "jobs.db").rename(site.directory / "other.db")
    with_jobs = DurableJobs(site.directory / "other.db")
    job_id = with_jobs.enqueue("enqueue_more").id
    assert site.start_python("-m", "durablejobs", "worker", "--db", "other.db", "--burst").wait(PATIENCE) == 0
    assert with_jobs.get(with_jobs.get(job_id).result).status == "succeeded"
    with_jobs.close()


def test_a_burst_over_all_lanes_ends_when_nothing_is_left(site: Site) -> None:
    for name in ("thread_pid", "async_pid", "process_pid"):
        site.jobs.enqueue_many(name, [()] * 50)
    site.run("--concurrency", 2, "--process-concurrency", 2)
    assert site.statuses() == {"succeeded": 150}


def test_max_jobs_counts_the_runs_of_all_lanes(site: Site) -> None:
    for name in ("thread_pid", "async_pid", "process_pid"):
        site.jobs.enqueue_many(name, [()] * 5)
    assert site.start("--max-jobs", 7).wait(PATIENCE) == 0
    assert site.statuses() == {"succeeded": 7, "pending": 8}


def test_a_long_backlog_of_one_kind_is_drained_and_the_others_come_after_it(site: Site) -> None:
    site.jobs.enqueue_many("thread_pid", [()] * 3000)
    behind = [site.enqueue("async_pid"), site.enqueue("process_pid")]
    site.run("--concurrency", 1)
    assert site.statuses() == {"succeeded": 3002}
    assert [site.job(job_id).status for job_id in behind] == ["succeeded"] * 2


def test_an_unknown_handler_fails_its_attempt_beside_all_lanes(site: Site) -> None:
    with closing(DurableJobs(site.directory / "jobs.db")) as stranger:
        job_id = stranger.using(max_attempts=1).enqueue("nobody_knows").id
    site.run()
    assert [error["kind"] for error in site.errors(job_id)] == ["unknown_handler"]


def test_a_plain_function_that_returns_a_coroutine_fails_at_once(site: Site) -> None:
    job_id = site.enqueue("returns_a_coroutine")
    site.run()
    assert site.job(job_id).status == "failed"
    assert [error["kind"] for error in site.errors(job_id)] == ["not_awaited"]


def test_an_async_handler_that_blocks_the_loop_is_reported_and_holds_up_no_thread(site: Site) -> None:
    job_id = site.enqueue("block_the_loop", 4)
    site.start("--concurrency", 1)
    site.wait_for_call(job_id)
    beside = site.enqueue("thread_pid")
    site.wait_for("succeeded", beside)
    site.wait_for_log("the event loop is blocked in")
    assert "handlers.py" in site.log
    assert "(block_the_loop)" in site.log
    site.wait_for("succeeded", job_id)


# Stopping


def test_after_the_first_signal_the_jobs_of_all_lanes_finish(site: Site) -> None:
    ids = start_with_all_lanes_busy(site)
    worker = site.processes[0]
    worker.send_signal(signal.SIGTERM)
    site.wait_for_log("stopping: 3 running jobs")
    site.open_gate()
    assert worker.wait(PATIENCE) == 0
    assert [site.job(job_id).status for job_id in ids] == ["succeeded"] * 3


@pytest.mark.parametrize("how", ["the second signal", "the end of the grace period"])
def test_the_jobs_of_all_lanes_are_given_back_and_children_are_dead_then(site: Site, how: str) -> None:
    ids = start_with_all_lanes_busy(site, *(["--grace", "0.2s"] if how == "the end of the grace period" else []))
    worker = site.processes[0]
    worker.send_signal(signal.SIGTERM)
    site.wait_for_log("stopping: 3 running jobs")
    if how == "the second signal":
        worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 130
    assert not is_alive(site.calls(job=ids[2])[0]["pid"])
    rows = site.sql("SELECT status, attempt, crashes FROM jobs")
    assert rows == [{"status": "pending", "attempt": 0, "crashes": 0}] * 3
    assert site.sql("SELECT * FROM job_workers") == []
    site.open_gate()
    site.run()
    assert site.statuses() == {"succeeded": 3}


def test_ctrl_c_and_a_service_manager_that_signals_every_process_leave_children_alone(site: Site) -> None:
    job_id = site.enqueue("ignore_signals_from_outside")
    site.run()
    assert site.job(job_id).result == "still here"


# Crashes of the worker


def test_a_job_that_nearly_crashed_too_often_runs_alone_over_all_lanes(site: Site) -> None:
    job_id = site.enqueue("die_in_thread")
    site.sql("UPDATE jobs SET crashes = 4, attempt = 4 WHERE id = ?", job_id)
    others = [site.enqueue(name, "gate") for name in ("async_gate", "process_gate")]
    worker = site.start("--concurrency", 2)
    for other in others:
        site.wait_for_call(other)
    assert site.calls(job=job_id) == []
    site.open_gate()
    assert worker.wait(PATIENCE) == -signal.SIGKILL
    site.run()
    assert site.job(job_id).status == "failed"
    assert [site.job(other).status for other in others] == ["succeeded"] * 2
    assert [site.job(other).crashes for other in others] == [0, 0]


def test_after_the_death_of_a_worker_the_running_jobs_of_all_lanes_are_marked_and_run_again(site: Site) -> None:
    ids = start_with_all_lanes_busy(site)
    child = site.calls(job=ids[2])[0]["pid"]
    waiting = site.enqueue("thread_gate", "gate")
    worker = site.processes[0]
    worker.kill()
    worker.wait(PATIENCE)
    wait_until(lambda: not is_alive(child), "the child has ended with its worker", PATIENCE)
    site.open_gate()
    site.run()
    assert site.statuses() == {"succeeded": 4}
    assert [site.job(job_id).crashes for job_id in [*ids, waiting]] == [1, 1, 1, 0]


@pytest.mark.parametrize("where", ["in the handler", "in a callback"])
def test_a_handler_that_stops_the_event_loop_is_named_and_its_neighbours_go_on(
    jobs: DurableJobs, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    @jobs.handler
    async def neighbour() -> str:
        await asyncio.sleep(0.3)
        return "done"

    @jobs.handler
    async def stops() -> str:
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        if where == "in the handler":
            loop.stop()
        else:
            loop.call_soon(loop.stop)
        return "stopped"

    neighbours = [neighbour.enqueue() for _ in range(3)]
    job = stops.enqueue()
    late = neighbour.using(delay=0.2).enqueue()
    while not late.refresh().is_final:
        jobs.work(burst=True, concurrency=1)
    assert [each.refresh().result for each in (*neighbours, job, late)] == ["done"] * 3 + ["stopped", "done"]
    assert {each.attempt for each in jobs.list_jobs()} == {1}
    culprit = f"job {job.id} (stops)" if where == "in the handler" else "a task of some async handler"
    assert f"{culprit} has stopped the event loop of all async jobs; it goes on" in caplog.text
