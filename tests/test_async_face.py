"""The verbs from an event loop: the same answers, a loop that goes on, and commits that are shared."""

from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durablejobs import (
    ArgumentsError,
    DurableJobs,
    Handler,
    IllegalActError,
    Job,
    JobNotFoundError,
    Status,
    UnknownHandlerError,
    current_job,
)
from durablejobs.bridge import THREADS
from durablejobs.client import Client
from durablejobs.jobs import NewJob

from .conftest import Sql


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine function."""

    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@pytest.fixture
def mail(jobs: DurableJobs) -> Handler[..., Any]:
    @jobs.handler("mail", queue="letters")
    def send(to: str, subject: str = "") -> str:
        return f"sent to {to}"

    return send


@in_a_loop
async def test_a_job_is_stored_when_aenqueue_returns(jobs: DurableJobs, mail: Any, sql: Sql) -> None:
    job = await mail.aenqueue("a@b.c", subject="hi")
    assert sql("SELECT id, queue, args, kwargs FROM jobs") == [
        {"id": job.id, "queue": "letters", "args": '["a@b.c"]', "kwargs": '{"subject": "hi"}'}
    ]
    assert await jobs.aget(job.id) == job == await job.arefresh()


@in_a_loop
async def test_options_and_names_work_as_in_the_plain_verbs(jobs: DurableJobs, mail: Any) -> None:
    assert (await mail.using(delay=60, priority=2).aenqueue("a@b.c")).priority == 2
    assert (await jobs.using(queue="bulk").aenqueue("mail", "a@b.c")).queue == "bulk"
    assert (await jobs.aenqueue("mail", "a@b.c")).queue == "letters"
    assert (await jobs.aenqueue_many("mail", [("a@b.c",), {"to": "x@y.z"}])).count == 2
    assert (await mail.aenqueue_many(("a@b.c",) for _ in range(3))).count == 3
    assert [queue.queue for queue in await jobs.astatistics()] == ["bulk", "letters"]


@in_a_loop
async def test_a_persons_acts(jobs: DurableJobs, mail: Any) -> None:
    job = await mail.aenqueue("a@b.c")
    assert (await jobs.acancel(job.id)).status is Status.CANCELLED
    assert (await jobs.using().aretry(job.id)).status is Status.PENDING
    await jobs.adelete(job.id)
    assert await jobs.alist_jobs() == []


@in_a_loop
async def test_errors_reach_who_awaits(jobs: DurableJobs, mail: Any) -> None:
    with pytest.raises(JobNotFoundError):
        await jobs.aget(7)
    with pytest.raises(UnknownHandlerError, match="did you mean 'mail'"):
        await jobs.aenqueue("mial")
    with pytest.raises(ArgumentsError, match="missing a required argument: 'to'"):
        await mail.aenqueue()
    job = await mail.aenqueue("a@b.c")
    jobs.cancel(job.id)
    with pytest.raises(IllegalActError):
        await jobs.acancel(job.id)


@pytest.fixture
def writer(jobs: DurableJobs, database_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program, which can hold the write lock."""
    jobs.open()
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        yield connection


@in_a_loop
async def test_the_loop_goes_on_while_the_database_is_busy(
    jobs: DurableJobs, mail: Any, writer: sqlite3.Connection
) -> None:
    writer.execute("BEGIN IMMEDIATE")
    enqueuing = asyncio.create_task(mail.aenqueue("a@b.c"))
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert not enqueuing.done()
    writer.execute("ROLLBACK")
    assert (await enqueuing).id == 1


@pytest.fixture
def groups(jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each commit of enqueues has stored."""
    sizes: list[int] = []

    def store_all(group: Sequence[NewJob]) -> list[tuple[int, bool]]:
        sizes.append(len(group))
        return jobs._store.database.insert_group(group)

    monkeypatch.setattr(jobs._store.new_jobs._inserts, "_store_all", store_all)
    return sizes


@in_a_loop
async def test_tasks_of_a_loop_share_commits(jobs: DurableJobs, mail: Any, groups: list[int]) -> None:
    await mail.aenqueue("the first")  # which opens the database

    async def enqueue(number: int) -> None:
        for _ in range(3):
            await mail.aenqueue(str(number))

    await asyncio.gather(*(enqueue(number) for number in range(100)))
    assert groups == [1, 100, 100, 100]


@in_a_loop
async def test_calls_in_threads_share_commits(
    jobs: DurableJobs, mail: Any, writer: sqlite3.Connection, groups: list[int]
) -> None:
    writer.execute("BEGIN IMMEDIATE")
    keyed = (mail.using(unique_key=str(number)) for number in range(100))  # which takes more than storing a row
    enqueuing = [asyncio.create_task(each.aenqueue("a@b.c")) for each in keyed]
    inserts = jobs._store.new_jobs._inserts
    while len(inserts._line) < THREADS - 1:  # one is on its way to the disk, the others come after it
        await asyncio.sleep(0.001)
    writer.execute("ROLLBACK")
    assert len({job.id for job in await asyncio.gather(*enqueuing)}) == 100
    assert groups[0] == 1
    assert groups[1] >= THREADS - 1


@in_a_loop
async def test_an_error_of_one_reaches_nobody_else(jobs: DurableJobs, mail: Any, sql: Sql) -> None:
    await mail.aenqueue("the first")
    sql("CREATE TRIGGER bad BEFORE INSERT ON jobs WHEN NEW.args = '[\"bad\"]' BEGIN SELECT raise(ABORT, 'no'); END")
    done = await asyncio.gather(*(mail.aenqueue(to) for to in ("good", "bad", "better")), return_exceptions=True)
    assert [type(each).__name__ for each in done] == ["Job", "IntegrityError", "Job"]
    assert [row["args"] for row in sql("SELECT args FROM jobs")] == ['["the first"]', '["good"]', '["better"]']


@in_a_loop
async def test_a_task_that_is_cancelled_in_the_line_stores_nothing_and_harms_nobody(
    jobs: DurableJobs, mail: Any, writer: sqlite3.Connection, groups: list[int]
) -> None:
    await mail.aenqueue("the first")
    writer.execute("BEGIN IMMEDIATE")
    busy = asyncio.create_task(mail.aenqueue("busy"))
    while len(groups) < 2:
        await asyncio.sleep(0.001)
    waiting = [asyncio.create_task(mail.aenqueue(to)) for to in ("cancelled", "stored")]
    await asyncio.sleep(0)
    busy.cancel()
    waiting[0].cancel()
    await asyncio.sleep(0)
    writer.execute("ROLLBACK")
    await waiting[1]
    assert [job.args[0] for job in reversed(jobs.list_jobs())] == ["the first", "busy", "stored"]


@in_a_loop
async def test_each_loop_has_its_own_line(jobs: DurableJobs, mail: Any) -> None:
    await mail.aenqueue("here")

    def elsewhere() -> int:
        job: Job = asyncio.run(mail.aenqueue("there"))
        return job.id

    there, here = await asyncio.gather(asyncio.to_thread(elsewhere), mail.aenqueue("here"))
    assert {there, here.id} == {2, 3}


@in_a_loop
async def test_more_calls_than_threads_wait_in_line(jobs: DurableJobs, mail: Any) -> None:
    stored = await asyncio.gather(*(mail.aenqueue(str(number)) for number in range(200)))
    assert sorted(job.id for job in stored) == list(range(1, 201))


def test_a_verb_in_a_thread_knows_the_current_job(jobs: DurableJobs) -> None:
    @jobs.handler
    async def parent() -> int:
        job = await child.aenqueue(current_job().id)
        return job.id

    @jobs.handler
    def child(parent_id: int) -> int:
        return parent_id

    first = parent.enqueue()
    jobs.work(burst=True)
    assert first.refresh().result == 2
    assert jobs.get(2).result == first.id


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(jobs: DurableJobs, mail: Any) -> None:
    asyncio.run(mail.aenqueue("parent"))
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(asyncio.wait_for(mail.aenqueue("child"), 20))
        except BaseException:  # noqa: BLE001 - pytest must not go on in the child
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [job.args for job in jobs.list_jobs()] == [["child"], ["parent"]]


@pytest.mark.parametrize("home", [DurableJobs, Client, Handler, Job])
def test_each_a_verb_is_the_plain_one_in_a_thread(home: type) -> None:
    """Nothing is written twice: the plain verb is what the other one wraps."""
    found = [name for name in vars(home) if name.startswith("a") and name[1:] in vars(home)]
    assert found
    for name in found:
        twin = getattr(home, name)
        if getattr(twin, "__wrapped__", None) is not None:
            assert twin.__wrapped__ is getattr(home, name[1:])
            assert twin.__qualname__ == f"{home.__name__}.{name}"
            assert twin.__doc__.startswith(f"`{name[1:]}` for the event loop")


@in_a_loop
async def test_a_persons_word_about_queues(jobs: DurableJobs, mail: Any) -> None:
    await mail.aenqueue("a@b.c")
    await jobs.apause("letters", reason="inventory")
    await jobs.alimit("letters", 3)
    (state,) = await jobs.aqueues()
    assert (state.is_paused, state.reason, state.max_running, state.pending) == (True, "inventory", 3, 1)
    assert await jobs.aresume("letters")
    assert not await jobs.aresume("letters")
