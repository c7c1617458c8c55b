"""A server that is out of reach for longer than a lease: workers live on, and what they ran is stored afterwards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from durablejobs import DurableJobs, DurableJobsError, Status, WorkerConfig

from ...worker.harness import wait_until
from .proxy import Proxy

PATIENCE = 60.0


@pytest.fixture
def jobs(proxied_url: str) -> Iterator[DurableJobs]:
    """The app of the worker, by way of the proxy."""
    app = DurableJobs(proxied_url)
    yield app
    app.close()


def test_a_job_that_runs_through_an_outage_longer_than_the_lease_is_settled_afterwards(
    jobs: DurableJobs, postgres_url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "durablejobs.worker")
    began, may_end = threading.Event(), threading.Event()

    @jobs.handler("slow")
    def slow() -> str:
        began.set()
        assert may_end.wait(PATIENCE)
        return "done"

    job = slow.enqueue()
    worker = jobs.worker(WorkerConfig(concurrency=2, lease=1.0, heartbeat=0.2, interval=0.1))
    ended: list[DurableJobsError | None] = []

    def run() -> None:
        try:
            worker.run()
            ended.append(None)
        except DurableJobsError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(PATIENCE)
    proxy.refuse()
    proxy.reset()
    # Each pause is twice as long as the one before: six of them are far longer than the lease.
    wait_until(lambda: caplog.text.count("trying again") >= 6 or ended, "the worker has tried for long", PATIENCE)
    assert not ended
    may_end.set()
    proxy.refuse(False)
    direct = DurableJobs(postgres_url)
    try:
        wait_until(lambda: direct.get(job.id).status is Status.SUCCEEDED or ended, "the job is settled", PATIENCE)
        assert direct.get(job.id).result == "done"
    finally:
        worker.stop()
        thread.join(PATIENCE)
        direct.close()
    assert ended == [None]
