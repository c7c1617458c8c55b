"""Workers inside an application's own process, in threads of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from durablejobs import DurableJobs, Worker, WorkerReport

from .harness import PATIENCE, Queue, wait_until


class Application:
    """The handlers of a process that runs its workers itself."""

    def __init__(self, queue: Queue) -> None:
        self.jobs = DurableJobs(queue.path)
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        self.calls: list[str] = []

        @self.jobs.handler
        def pass_gate() -> str:
            self.calls.append(threading.current_thread().name)
            self.began.release()
            self.gate.wait(PATIENCE)
            return "done"

        @self.jobs.handler
        def echo(value: int) -> int:
            self.calls.append(threading.current_thread().name)
            return value

    @contextmanager
    def working(self, worker: Worker) -> Iterator[list[WorkerReport]]:
        """Run a worker in a thread; it must have ended at the end of the block. Yields its report, later."""
        reports: list[WorkerReport] = []
        thread = threading.Thread(target=lambda: reports.append(worker.run()))
        thread.start()
        try:
            yield reports
            thread.join(PATIENCE)
            assert not thread.is_alive()
        finally:
            self.gate.set()
            worker.stop()
            worker.stop()
            thread.join(PATIENCE)


@pytest.fixture
def application(queue: Queue) -> Iterator[Application]:
    application = Application(queue)
    yield application
    application.gate.set()
    application.jobs.close()


def test_stop_lets_the_running_job_finish(application: Application, queue: Queue) -> None:
    worker = application.jobs.worker(concurrency=1)
    job = application.jobs.enqueue("pass_gate")
    with application.working(worker) as reports:
        assert application.began.acquire(timeout=PATIENCE)
        worker.stop()
        application.gate.set()
    assert reports[0].succeeded == 1
    assert application.jobs.get(job.id).result == "done"
    assert queue.registered() == []


def test_a_second_stop_gives_the_running_job_back(application: Application, queue: Queue) -> None:
    job = application.jobs.enqueue("pass_gate")
    first = application.jobs.worker(concurrency=1)
    with application.working(first) as reports:
        assert application.began.acquire(timeout=PATIENCE)
        first.stop()
        first.stop()
    assert reports[0].given_back == 1
    row = queue.row(job.id)
    assert (row["status"], row["attempt"], row["crashes"]) == ("pending", 0, 0)


def test_the_thread_that_still_runs_a_job_given_back_does_not_disturb_the_next_worker(
    application: Application, queue: Queue
) -> None:
    job = application.jobs.enqueue("pass_gate")
    first = application.jobs.worker(concurrency=1)
    thread = threading.Thread(target=first.run)
    thread.start()
    assert application.began.acquire(timeout=PATIENCE)
    first.stop()
    first.stop()
    thread.join(PATIENCE)
    second = application.jobs.worker(concurrency=1, max_jobs=1)
    with application.working(second) as reports:
        assert application.began.acquire(timeout=PATIENCE)
        application.gate.set()  # both runs end now
    assert reports[0].succeeded == 1
    row = queue.row(job.id)
    assert (row["status"], row["attempt"], row["crashes"]) == ("succeeded", 1, 0)
    assert len(application.calls) == 2


def test_an_idle_worker_is_stopped_at_once(application: Application) -> None:
    worker = application.jobs.worker(concurrency=2, interval=60)
    with application.working(worker):
        application.jobs.enqueue("echo", 1).wait(PATIENCE)
        worker.stop()  # leaving the block waits for the end, less long than the interval


def test_stop_before_run_ends_the_run_at_once(application: Application) -> None:
    worker = application.jobs.worker()
    worker.stop()
    job = application.jobs.enqueue("echo", 1)
    assert worker.run().runs == 0
    assert application.jobs.get(job.id).attempt == 0


def test_two_workers_in_one_process_do_not_take_each_other_for_dead(application: Application, queue: Queue) -> None:
    workers = [application.jobs.worker(concurrency=1, name=name) for name in ("ann", "bob")]
    jobs = [application.jobs.enqueue("pass_gate") for _ in range(2)]
    with application.working(workers[0]), application.working(workers[1]):
        for _ in jobs:
            assert application.began.acquire(timeout=PATIENCE)
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 1.2, "each has looked for dead workers")
        assert {row["name"] for row in queue.registered()} == {"ann", "bob"}
        assert not application.began.acquire(blocking=False)
        application.gate.set()
        for job in jobs:
            job.wait(PATIENCE)
        for worker in workers:
            worker.stop()
    assert queue.sql("SELECT DISTINCT attempt, crashes FROM jobs") == [{"attempt": 1, "crashes": 0}]


def test_a_worker_in_another_process_respects_the_workers_of_this_one(application: Application, queue: Queue) -> None:
    job = application.jobs.enqueue("pass_gate")
    worker = application.jobs.worker(concurrency=1)
    with application.working(worker):
        assert application.began.acquire(timeout=PATIENCE)
        queue.run()  # looks for dead workers and finds none
        assert queue.row(job.id)["crashes"] == 0
        application.gate.set()
        job.wait(PATIENCE)
        worker.stop()
    assert len(application.calls) == 1


def test_a_handler_can_enqueue_and_read_jobs(application: Application) -> None:
    @application.jobs.handler
    def spawn(count: int) -> list[int]:
        return [application.jobs.enqueue("echo", number).id for number in range(count)]

    spawned = spawn.enqueue(5)
    assert application.jobs.work(burst=True, concurrency=2).succeeded == 6
    assert [application.jobs.get(job_id).result for job_id in spawned.wait(PATIENCE)] == [0, 1, 2, 3, 4]
