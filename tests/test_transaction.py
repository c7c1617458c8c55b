"""A handler's own transaction: its effects and its job's ending are stored together, or not at all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, func, insert, select, text
from sqlalchemy.orm import Session

from durablejobs import DurableJobs, Job, Retry, Snooze, TransactionError, current_job
from durablejobs.interrupts import Guard
from durablejobs.store import effects
from durablejobs.store.transaction import Transaction

from .conftest import Sql, sql_on_postgres, sql_on_sqlite

pytestmark = pytest.mark.conformance

EFFECTS = Table("effects", MetaData(), Column("job", Integer), Column("what", Text))

Handler = Callable[[], Any]


def effect(connection: Connection | Session, what: str = "done") -> None:
    connection.execute(insert(EFFECTS).values(job=current_job().id, what=what))


@pytest.fixture(autouse=True)
def _table(dialect: str, jobs: DurableJobs, sql: Sql) -> None:
    jobs.migrate()
    sql("DROP TABLE IF EXISTS effects")
    counted = "INTEGER" if dialect == "sqlite" else "SERIAL"
    sql(f"CREATE TABLE effects(job INTEGER, what TEXT, number {counted} PRIMARY KEY)")


class Run:
    """Runs a function as a job with one attempt; returns the job as it has become."""

    def __init__(self, jobs: DurableJobs, database: str) -> None:
        self.jobs = jobs
        self.database = database

    def __call__(self, handler: Handler) -> Job:
        job = self.jobs.handler("handler", max_attempts=1)(handler).enqueue()
        self.jobs.work(burst=True, concurrency=1)
        return job.refresh()

    @property
    def effects(self) -> list[str]:
        return [row["what"] for row in self.sql("SELECT what FROM effects ORDER BY number")]

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement as another program does, in whatever thread."""
        is_file = "://" not in self.database
        with sql_on_sqlite(self.database) if is_file else sql_on_postgres(self.database) as run:
            return run(statement)


@pytest.fixture
def run(jobs: DurableJobs, database: str) -> Run:
    return Run(jobs, database)


def test_effects_and_ending_are_stored_together(run: Run) -> None:
    def handler() -> int:
        with current_job().transaction() as connection:
            effect(connection)
        return 5

    job = run(handler)
    assert (job.status, job.result) == ("succeeded", 5)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at <= job.finished_at
    assert run.effects == ["done"]


def test_until_the_handler_has_returned_nobody_sees_the_effects(run: Run) -> None:
    seen: list[str] = []

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
        seen.extend(run.effects)

    assert run(handler).status == "succeeded"
    assert seen == []
    assert run.effects == ["done"]


@pytest.mark.parametrize(
    ("signal", "status"), [(ValueError("no"), "failed"), (Retry("no"), "failed"), (Snooze(60), "scheduled")]
)
@pytest.mark.parametrize("inside", [True, False])
def test_whatever_the_handler_raises_undoes_the_effects(run: Run, signal: Exception, status: str, inside: bool) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            if inside:
                raise signal
        raise signal

    assert run(handler).status == status
    assert run.effects == []


def test_a_child_enqueued_in_the_transaction_has_its_fate(run: Run, jobs: DurableJobs) -> None:
    @jobs.handler
    def child(number: int) -> int:
        return number

    def handler() -> None:
        with current_job().transaction() as connection:
            child.using(connection=connection).enqueue(1)
            child.using(connection=connection).enqueue_many([[2], [3]])
        if current_job().attempt == 1:
            raise Retry(delay=0)

    job = jobs.handler("parent")(handler).enqueue()
    jobs.work(burst=True, concurrency=1)
    assert job.refresh().attempt == 2
    assert sorted(each.result for each in jobs.list_jobs() if each.handler == "child") == [1, 2, 3]


def test_a_job_without_a_transaction_may_enqueue_as_ever(run: Run, jobs: DurableJobs) -> None:
    assert run(lambda: jobs.using(check=False).enqueue("elsewhere").id).result == 2


def commit(connection: Connection) -> None:
    connection.commit()


def roll_back(connection: Connection) -> None:
    connection.rollback()


def end_by_text(connection: Connection) -> None:
    connection.execute(text(" -- really\n /* now */ commit"))


def roll_back_by_text(connection: Connection) -> None:
    connection.exec_driver_sql("ROLLBACK")


def end_transaction(connection: Connection) -> None:
    transaction = connection.get_transaction()
    assert transaction is not None
    transaction.commit()


def commit_by_the_driver(connection: Connection) -> None:
    assert connection.connection.driver_connection is not None
    connection.connection.driver_connection.commit()


def run_a_script(connection: Connection) -> None:
    assert connection.connection.driver_connection is not None
    connection.connection.driver_connection.executescript("SELECT 1;")


_REFUSES = pytest.mark.sqlite("PostgreSQL cannot refuse a COMMIT on the driver's own connection")
ENDS = [
    commit,
    roll_back,
    end_by_text,
    roll_back_by_text,
    end_transaction,
    pytest.param(commit_by_the_driver, marks=_REFUSES),
    pytest.param(run_a_script, marks=_REFUSES),
]


@pytest.mark.parametrize("end", ENDS)
def test_ending_it_by_hand_is_refused_and_nothing_is_stored(run: Run, end: Callable[[Connection], None]) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            end(connection)

    job = run(handler)
    assert job.status == "failed"
    assert job.error is not None
    assert "in a job's transaction" in job.error or "not authorized" in job.error
    assert run.effects == []


@pytest.mark.parametrize("end", ENDS)
def test_a_refusal_that_is_swallowed_stores_nothing_either(run: Run, end: Callable[[Connection], None]) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            with pytest.raises(Exception, match=r"in a job's transaction|not authorized"):
                end(connection)

    job = run(handler)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("TransactionError: ")
    assert run.effects == []


def test_an_end_by_the_drivers_own_connection_fails_the_attempt_where_it_cannot_be_refused(
    run: Run, dialect: str
) -> None:
    if dialect == "sqlite":
        pytest.skip("SQLite refuses it")

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            commit_by_the_driver(connection)

    job = run(handler)
    assert job.status == "failed"
    assert "an end by the driver's own connection in a job's transaction" in (job.error or "")


def test_past_the_transaction_a_job_is_enqueued_at_once_where_each_has_a_transaction_of_its_own(
    run: Run, jobs: DurableJobs, dialect: str
) -> None:
    if dialect == "sqlite":
        pytest.skip("SQLite has one write lock")

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            jobs.using(check=False, delay=60).enqueue("child")
            raise ValueError("its effects are undone, the child is not")

    assert run(handler).status == "failed"
    assert run.effects == []
    assert sorted(each.handler for each in jobs.list_jobs()) == ["child", "handler"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["close", "invalidate"])
def test_a_connection_that_the_handler_gives_away_fails_the_attempt_and_harms_nobody_else(
    run: Run, jobs: DurableJobs, way: str
) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            getattr(connection, way)()

    assert run(handler).status == "failed"
    assert run.effects == []

    @jobs.handler
    def next_one() -> None:
        with current_job().transaction() as connection:
            effect(connection, "next")

    job = next_one.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert job.refresh().status == "succeeded"
    assert run.effects == ["next"]


def test_a_part_that_may_fail_has_a_savepoint(run: Run) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection, "kept")
            with suppress(KeyError), connection.begin_nested():
                effect(connection, "undone")
                raise KeyError

    assert run(handler).status == "succeeded"
    assert run.effects == ["kept"]


def test_a_session_takes_part(run: Run) -> None:
    def handler() -> int:
        with current_job().transaction() as connection, Session(connection) as session:
            effect(session)
            session.commit()  # flushes; the job's transaction commits
            return session.scalar(select(func.count()).select_from(EFFECTS)) or 0

    assert run(handler).result == 1
    assert run.effects == ["done"]


def test_there_is_one_transaction_a_run(run: Run) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
        with current_job().transaction():
            raise AssertionError("never reached")

    job = run(handler)
    assert job.error == "TransactionError: job 1 has a transaction already: one holds all that a run writes"
    assert run.effects == []


def test_after_one_that_was_undone_there_may_be_another(run: Run) -> None:
    def handler() -> None:
        with suppress(KeyError), current_job().transaction() as connection:
            effect(connection, "first")
            raise KeyError
        with current_job().transaction() as connection:
            effect(connection, "second")

    assert run(handler).status == "succeeded"
    assert run.effects == ["second"]


@pytest.mark.sqlite("there is one write lock: PostgreSQL gives each transaction its own")
@pytest.mark.parametrize("many", [True, False])
def test_enqueueing_past_the_transaction_says_how_instead_of_waiting_for_itself(
    run: Run, jobs: DurableJobs, many: bool
) -> None:
    client = jobs.using(check=False)

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            if many:
                client.enqueue_many("child", [[1]])
            else:
                client.enqueue("child")

    job = run(handler)
    assert job.error is not None
    assert "using(connection=…)" in job.error
    assert [each.handler for each in jobs.list_jobs()] == ["handler"]
    assert run.effects == []


@pytest.mark.sqlite("there is one write lock: PostgreSQL gives each transaction its own")
def test_it_says_so_too_while_another_thread_waits_to_store_a_job(run: Run, jobs: DurableJobs) -> None:
    """The other thread leads the shared commit, and waits for the one that would wait for it."""
    client = jobs.using(check=False)
    leader = threading.Thread(target=lambda: client.enqueue("by_another"))

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            leader.start()
            while not client._store.new_jobs._inserts._is_busy:
                pass
            with pytest.raises(TransactionError):
                client.enqueue("by_itself")

    assert run(handler).status == "succeeded"
    leader.join()
    assert sorted(each.handler for each in jobs.list_jobs()) == ["by_another", "handler"]


def test_outside_of_a_run_there_is_no_transaction(run: Run) -> None:
    left: list[Any] = []
    assert run(lambda: left.append(current_job())).status == "succeeded"
    with pytest.raises(TransactionError, match="the run has ended"):
        left[0].transaction()


def test_a_transaction_that_was_never_entered_costs_nothing(run: Run) -> None:
    left: list[Any] = []
    assert run(lambda: left.append(current_job().transaction())).status == "succeeded"
    with pytest.raises(TransactionError, match="its transaction cannot begin"), left[0]:
        pass


def test_a_job_that_was_lost_meanwhile_writes_nothing(run: Run) -> None:
    def handler() -> None:
        run.sql("UPDATE jobs SET claim_token = claim_token + 1")  # as another worker that has taken over does
        with current_job().transaction() as connection:
            effect(connection)

    jobs = run.jobs
    jobs.handler("handler")(handler).enqueue()
    report = jobs.worker(burst=True, concurrency=1, max_jobs=1).run()
    assert (report.lost, report.succeeded) == (1, 0)
    assert run.effects == []


def test_a_handler_that_undoes_its_own_claim_stores_nothing(run: Run) -> None:
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            connection.execute(text("UPDATE jobs SET claim_token = claim_token + 1"))

    job = run(handler)
    assert job.error == "ClaimLostError: job 1 is not this worker's any more: nothing of this run is stored"
    assert run.effects == []


def test_constraints_that_are_checked_at_the_commit_fail_the_attempt(run: Run, sql: Sql) -> None:
    sql("DROP TABLE IF EXISTS child")
    sql("DROP TABLE IF EXISTS parent")
    sql("CREATE TABLE parent(id INTEGER PRIMARY KEY)")
    sql("CREATE TABLE child(parent INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)")

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            connection.execute(text("INSERT INTO child VALUES (7)"))

    job = run(handler)
    assert job.error is not None
    assert "foreign key constraint" in job.error.lower()
    assert run.effects == []


def test_many_jobs_in_many_threads_take_turns(jobs: DurableJobs, sql: Sql) -> None:
    @jobs.handler
    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)

    handler.enqueue_many([[]] * 50)
    report = jobs.work(burst=True, concurrency=4)
    assert report.succeeded == 50
    assert sql("SELECT count(DISTINCT job) AS jobs, count(*) AS n FROM effects") == [{"jobs": 50, "n": 50}]


def test_a_result_that_cannot_be_stored_undoes_nothing(run: Run) -> None:
    def handler() -> Any:
        with current_job().transaction() as connection:
            effect(connection)
        return {1, 2}

    assert run(handler).result["durablejobs"] == "the result could not be stored"
    assert run.effects == ["done"]


# On the event loop


def test_in_an_async_handler_it_is_an_async_with(run: Run) -> None:
    async def handler() -> None:
        async with current_job().transaction() as connection:
            effect(connection)

    assert run(handler).status == "succeeded"
    assert run.effects == ["done"]


@pytest.mark.parametrize("inside", [True, False])
def test_what_an_async_handler_raises_undoes_its_effects(run: Run, inside: bool) -> None:
    async def handler() -> None:
        async with current_job().transaction() as connection:
            effect(connection)
            if inside:
                raise ValueError
        raise ValueError

    assert run(handler).status == "failed"
    assert run.effects == []


def test_a_plain_with_is_refused_there_it_would_block_the_loop(run: Run) -> None:
    async def handler() -> None:
        with current_job().transaction():
            pass

    job = run(handler)
    assert job.error == (
        "TransactionError: in an async handler it is `async with current_job().transaction() as connection:`"
    )


def test_a_hundred_async_handlers_take_turns_and_the_loop_goes_on(jobs: DurableJobs, sql: Sql) -> None:
    @jobs.handler
    async def handler() -> None:
        await asyncio.sleep(0)
        async with current_job().transaction() as connection:
            effect(connection)
            await asyncio.sleep(0)

    handler.enqueue_many([[]] * 100)
    assert jobs.work(burst=True, concurrency=1).succeeded == 100
    assert sql("SELECT count(DISTINCT job) AS jobs, count(*) AS n FROM effects") == [{"jobs": 100, "n": 100}]


def test_a_timeout_in_the_block_undoes_the_effects_and_lets_the_next_one_in(jobs: DurableJobs, run: Run) -> None:
    @jobs.handler(timeout=0.2, max_attempts=1)
    async def slow() -> None:
        async with current_job().transaction() as connection:
            effect(connection)
            await asyncio.sleep(60)

    job = slow.enqueue()
    assert run(lambda: None).status == "succeeded"
    assert job.refresh().status == "failed"
    assert run.effects == []


@pytest.mark.sqlite("there is one write lock: PostgreSQL gives each transaction its own")
def test_one_that_is_cancelled_while_it_waits_for_the_lock_leaves_it_to_others(jobs: DurableJobs, run: Run) -> None:
    entered = threading.Event()

    @jobs.handler(timeout=0.2, max_attempts=1)
    async def waits() -> None:
        while not entered.is_set():
            await asyncio.sleep(0.001)
        async with current_job().transaction():
            raise AssertionError("never reached")

    def holds() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            entered.set()
            while jobs.get(waiting.id).attempt == 0:
                time.sleep(0.001)
            time.sleep(0.5)  # longer than the other one waits

    waiting = waits.enqueue()
    assert run(holds).status == "succeeded"
    assert waiting.refresh().status == "failed"
    assert "timeout of 0.2 s" in (waiting.refresh().error or "")
    jobs.enqueue("handler")
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    assert run.effects == ["done", "done"]


@pytest.mark.sqlite("there is one write lock: PostgreSQL gives each transaction its own")
def test_what_another_async_handler_does_meanwhile_waits_its_turn(jobs: DurableJobs, sql: Sql) -> None:
    entered = asyncio.Event()
    left = asyncio.Event()

    @jobs.handler
    async def holds() -> None:
        async with current_job().transaction() as connection:
            entered.set()
            await left.wait()
            effect(connection)

    @jobs.handler(max_attempts=1)
    async def enqueues() -> str:
        await entered.wait()
        with pytest.raises(TransactionError, match="aenqueue"):
            jobs.using(check=False).enqueue("child")
        enqueueing = asyncio.create_task(jobs.using(check=False).aenqueue("child"))
        await asyncio.sleep(0.05)
        assert not enqueueing.done()
        left.set()
        return (await enqueueing).handler

    holds.enqueue()
    job = enqueues.enqueue()
    jobs.work(burst=True, concurrency=1)
    assert job.wait(60) == "child"
    assert sql("SELECT count(*) AS n FROM effects") == [{"n": 1}]


@pytest.mark.sqlite("there is one write lock: PostgreSQL gives each transaction its own")
def test_an_enqueue_in_a_thread_past_the_own_transaction_is_refused_too(run: Run, jobs: DurableJobs) -> None:
    async def handler() -> None:
        async with current_job().transaction() as connection:
            effect(connection)
            await jobs.using(check=False).aenqueue("child")

    job = run(handler)
    assert "using(connection=…)" in (job.error or "")
    assert run.effects == []


def test_a_transaction_that_keeps_others_waiting_for_long_is_named_in_the_log(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(effects, "LONG", -1.0)

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)

    run(handler)
    assert "has kept its transaction open for 0.0 s, and others waiting for what it locks" in caplog.text


def test_a_timeout_while_it_is_rolled_back_waits_until_it_is(
    run: Run, jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the locks would be kept, or the next transaction find this one open."""
    is_rolling_back, is_interrupted = threading.Event(), threading.Event()
    roll_back, interrupt = Transaction.roll_back, Guard.interrupt

    def roll_back_slowly(transaction: Transaction) -> None:
        is_rolling_back.set()
        assert is_interrupted.wait(30)
        for _ in range(100):
            pass
        roll_back(transaction)

    def interrupt_then(guard: Guard, *args: Any) -> bool:
        assert is_rolling_back.wait(30)
        found = interrupt(guard, *args)
        is_interrupted.set()
        return found

    def handler() -> None:
        with current_job().transaction() as connection:
            effect(connection)
            raise ValueError("undone")

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "roll_back", roll_back_slowly)
        patched.setattr(Guard, "interrupt", interrupt_then)
        job = jobs.handler("late", max_attempts=1, timeout=0.01)(handler).enqueue()
        jobs.work(burst=True, concurrency=1)
    assert "timeout" in str(job.refresh().error)
    assert run(effect_alone).status == "succeeded"
    assert run.effects == ["done"]


def effect_alone() -> None:
    with current_job().transaction() as connection:
        effect(connection)
