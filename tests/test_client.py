"""Enqueueing: by name, typed, with options, many at once, and in the user's own transaction."""

from __future__ import annotations

import asyncio
import math
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import IntEnum
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from durablejobs import (
    ArgumentsError,
    ConfigurationError,
    DatabaseNotFoundError,
    DurableJobs,
    EnqueueOptions,
    IllegalActError,
    JobCancelledError,
    JobFailedError,
    JobFilter,
    JobNotFoundError,
    Status,
    UnknownHandlerError,
    WaitTimeoutError,
)
from durablejobs.clock import to_text

from .clocks import START, ManualClock
from .conftest import Claim, RunPython, Settle, Sql

pytestmark = pytest.mark.conformance


@pytest.fixture
def mail(timed_jobs: DurableJobs) -> Any:
    @timed_jobs.handler("mail", queue="letters", priority=3, max_attempts=7)
    def send(to: str, subject: str = "", *, urgent: bool = False) -> str:
        return f"sent to {to}"

    return send


# One job


def test_a_job_enqueued_by_name_is_a_complete_row(timed_jobs: DurableJobs, sql: Sql) -> None:
    job = timed_jobs.enqueue("mail", "a@b.c", subject="hi")
    assert sql("SELECT * FROM jobs") == [
        {
            "id": job.id,
            "handler": "mail",
            "queue": "default",
            "args": '["a@b.c"]',
            "kwargs": '{"subject": "hi"}',
            "status": "pending",
            "priority": 0,
            "run_at": to_text(START),
            "attempt": 0,
            "max_attempts": 20,
            "crashes": 0,
            "claim_token": 0,
            "worker_id": None,
            "lease_expires_at": None,
            "cancel_requested_at": None,
            "unique_key": None,
            "unique_while": None,
            "unique_until": None,
            "debounce_until": None,
            "running_key": None,
            "timeout": None,
            "result": None,
            "error": None,
            "progress": None,
            "meta": "{}",
            "created_at": to_text(START),
            "started_at": None,
            "finished_at": None,
        }
    ]


def test_what_enqueue_returns_is_what_reading_the_job_returns(timed_jobs: DurableJobs) -> None:
    for job in (
        timed_jobs.enqueue("mail", "a@b.c", [1, (2, 3)], subject="hi"),
        timed_jobs.using(
            delay=60, priority=-1, meta={"tags": ("a", "b")}, unique_key="k", queue="q", max_attempts=2
        ).enqueue("mail"),
    ):
        assert job == timed_jobs.get(job.id)
        assert job == job.refresh()
        assert not job.is_duplicate


def test_what_enqueue_returns_compares_shows_and_copies_like_any_record(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.enqueue("mail", "a@b.c", tags=["x"])
    assert copy(job) == replace(job, queue="default") == timed_jobs.get(job.id)
    assert repr(job) == repr(timed_jobs.get(job.id))
    assert replace(job, queue="other") != job
    with pytest.raises(AttributeError, match="statsu"):
        job.statsu  # type: ignore[attr-defined]  # noqa: B018


def test_what_enqueue_returns_does_not_follow_the_lists_that_were_passed(timed_jobs: DurableJobs) -> None:
    tags = ["x"]
    job = timed_jobs.enqueue("mail", tags)
    tags.append("y")
    assert job.args == [["x"]]


def test_a_client_that_is_kept_learns_of_handlers_that_come_later(timed_jobs: DurableJobs) -> None:
    client = timed_jobs.using(priority=3)
    assert client.enqueue("later", 1).queue == "default"

    @timed_jobs.handler(queue="slow")
    def later(number: int) -> None:
        del number

    assert client.enqueue("later", 1).queue == "slow"
    with pytest.raises(ArgumentsError):
        client.enqueue("later")


def test_a_client_that_is_kept_writes_meta_as_it_is_at_each_enqueue(timed_jobs: DurableJobs, mail: Any) -> None:
    meta = {"trace": 1}
    client = timed_jobs.using(meta=meta)
    client.enqueue("mail", "a@b.c", "hi")
    meta["trace"] = 2
    assert client.enqueue("mail", "a@b.c", "hi").meta == {"trace": 2}


def test_a_typed_enqueue_takes_what_its_handler_chose(timed_jobs: DurableJobs, mail: Any) -> None:
    job = mail.enqueue("a@b.c", subject="hi")
    assert (job.handler, job.queue, job.priority, job.max_attempts) == ("mail", "letters", 3, 7)
    assert (job.args, job.kwargs) == (["a@b.c"], {"subject": "hi"})
    assert job == timed_jobs.get(job.id)


def test_enqueueing_by_name_takes_what_the_handler_chose_too(timed_jobs: DurableJobs, mail: Any) -> None:
    job = timed_jobs.enqueue("mail", "a@b.c")
    assert (job.queue, job.priority, job.max_attempts) == ("letters", 3, 7)


def test_options_of_the_call_come_before_the_handlers(mail: Any) -> None:
    job = mail.using(queue="bulk", priority=0, max_attempts=1).enqueue("a@b.c")
    assert (job.queue, job.priority, job.max_attempts) == ("bulk", 0, 1)


def test_options_add_up_and_leave_the_handler_as_it_was(mail: Any) -> None:
    chosen = mail.using(queue="bulk").using(priority=9)
    assert (chosen.enqueue("a").queue, chosen.enqueue("a").priority) == ("bulk", 9)
    assert (mail.enqueue("a").queue, mail.enqueue("a").priority) == ("letters", 3)


def test_a_plain_call_runs_the_function_and_stores_nothing(mail: Any, sql: Sql, timed_jobs: DurableJobs) -> None:
    timed_jobs.open()
    assert mail("a@b.c") == "sent to a@b.c"
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 0}]


def test_keyword_arguments_may_be_called_like_our_own_parameters(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.enqueue("mail", handler="a", self="b", queue="c", name="d")
    assert job.kwargs == {"handler": "a", "self": "b", "queue": "c", "name": "d"}
    assert job.queue == "default"


# Later


def test_a_delay_makes_the_job_scheduled(timed_jobs: DurableJobs) -> None:
    for delay in (60, 60.0, timedelta(minutes=1)):
        job = timed_jobs.using(delay=delay).enqueue("mail")
        assert (job.status, job.run_at) == (Status.SCHEDULED, START + timedelta(seconds=60))
        assert job == timed_jobs.get(job.id)


def test_no_delay_is_pending_at_once(timed_jobs: DurableJobs) -> None:
    assert timed_jobs.using(delay=0).enqueue("mail").status is Status.PENDING


def test_run_at_is_kept_in_utc(timed_jobs: DurableJobs, sql: Sql) -> None:
    cet = timezone(timedelta(hours=1))
    job = timed_jobs.using(run_at=datetime(2030, 6, 1, 9, 30, tzinfo=cet)).enqueue("mail")
    assert job.run_at == datetime(2030, 6, 1, 8, 30, tzinfo=UTC)
    assert job.status is Status.SCHEDULED
    assert sql("SELECT run_at FROM jobs") == [{"run_at": "2030-06-01 08:30:00.000000"}]


def test_a_run_at_in_the_past_is_pending_at_once(timed_jobs: DurableJobs, sql: Sql) -> None:
    job = timed_jobs.using(run_at=datetime(1999, 1, 1, tzinfo=UTC)).enqueue("mail")
    assert job.status is Status.PENDING
    assert sql("SELECT status FROM jobs") == [{"status": "pending"}]


def test_the_last_moment_of_the_calendar_is_a_run_at(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.using(run_at=datetime.max.replace(tzinfo=UTC)).enqueue("mail")
    assert timed_jobs.get(job.id).run_at == datetime.max.replace(tzinfo=UTC)


class Lazy(tzinfo):
    """A time zone that does not know its offset: such a datetime is naive all the same."""

    def utcoffset(self, _moment: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("run_at", datetime(2030, 1, 1), r"2030-01-01 00:00:00 has no time zone; write for example datetime"),  # noqa: DTZ001
        ("run_at", datetime(2030, 1, 1, tzinfo=Lazy()), "has no time zone"),
        ("run_at", "tomorrow", "must be a datetime, not 'tomorrow'"),
        ("run_at", 1893456000, "must be a datetime"),
        ("run_at", datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "is outside of the years 1 to 9999"),
        ("run_at", datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "is outside of the years 1 to 9999"),
        ("delay", -1, "must be a number from 0 to"),
        ("delay", math.nan, "must be a number"),
        ("delay", math.inf, "must be a number"),
        ("delay", 1e300, "must be a number"),
        ("delay", "60", "must be a number"),
        ("delay", True, "must be a number"),
        ("delay", timedelta(days=-1), "must be a number"),
        ("delay", timedelta.max, "must be a number"),
        ("queue", "two words", "must be 1-200 of"),
        ("priority", "high", "must be a whole number"),
        ("priority", 2**31, "must be a whole number"),
        ("max_attempts", 0, "must be a whole number from 1 to 1000000"),
        ("max_attempts", 10**9, "must be a whole number from 1 to 1000000"),
        ("unique_key", "", "must be 1-500 printable characters"),
        ("unique_key", "a\0b", "must be 1-500 printable characters"),
        ("meta", 7, "must be a dict, not int"),
        ("meta", [("a", 1)], "must be a dict, not list"),
    ],
)
def test_an_option_out_of_bounds_is_refused_before_anything_is_stored(
    timed_jobs: DurableJobs, database_path: Path, option: str, value: Any, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        timed_jobs.using(**{option: value}).enqueue("mail")
    assert caught.value.setting == option
    assert problem in caught.value.problem
    assert not database_path.exists()


def test_delay_and_run_at_exclude_each_other(timed_jobs: DurableJobs) -> None:
    with pytest.raises(ConfigurationError, match="delay: and run_at exclude each other"):
        timed_jobs.using(delay=1, run_at=START)
    with pytest.raises(ConfigurationError, match="exclude each other"):
        timed_jobs.using(delay=1).using(run_at=START)


def test_an_unknown_option_is_named_with_the_nearest(timed_jobs: DurableJobs) -> None:
    with pytest.raises(ConfigurationError, match=r"^dealy: is not a known option; did you mean delay\?$"):
        timed_jobs.using(dealy=5)


def test_meta_travels_with_the_job(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.using(meta={"trace": "abc", "tags": ["x"]}).enqueue("mail")
    assert timed_jobs.get(job.id).meta == {"trace": "abc", "tags": ["x"]}


def test_meta_that_is_not_json_is_refused_with_its_path(timed_jobs: DurableJobs) -> None:
    with pytest.raises(ArgumentsError, match=r"^meta\.tags: set is not JSON"):
        timed_jobs.using(meta={"tags": {"x"}}).enqueue("mail")


# What is refused


def test_a_name_that_is_none_is_refused(timed_jobs: DurableJobs) -> None:
    with pytest.raises(ConfigurationError, match="handler: must be 1-200 of"):
        timed_jobs.enqueue("two words")


def test_an_unknown_handler_is_refused_where_handlers_are_known(timed_jobs: DurableJobs, mail: Any) -> None:
    with pytest.raises(UnknownHandlerError, match=r"no handler 'emial'; did you mean 'mail'\?"):
        timed_jobs.enqueue("emial", "a@b.c")
    assert timed_jobs.list_jobs() == []


def test_an_unknown_handler_can_be_enqueued_without_the_check(timed_jobs: DurableJobs, mail: Any) -> None:
    assert timed_jobs.using(check=False).enqueue("other", 1, 2, 3).handler == "other"


def test_a_process_that_knows_no_handlers_can_enqueue_any(timed_jobs: DurableJobs) -> None:
    assert timed_jobs.enqueue("anything").handler == "anything"


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "handler 'mail' takes mail(to: 'str', subject: 'str' = '', *, urgent: 'bool' = False)"),
        (("a", "b", "c"), {}, "too many positional arguments"),
        (("a",), {"subjct": "x"}, "got an unexpected keyword argument 'subjct'"),
        (("a",), {"subject": datetime(2026, 1, 1, tzinfo=UTC)}, "kwargs.subject: datetime is not JSON"),
        ((b"a",), {}, "args[0]: bytes is not JSON"),
        (("x" * 1024 * 1024,), {}, "args: 1,048,580 bytes of JSON are over the limit of 1,048,576"),
    ],
)
def test_arguments_that_cannot_work_are_refused_and_nothing_is_stored(
    timed_jobs: DurableJobs, mail: Any, args: Any, kwargs: Any, problem: str
) -> None:
    with pytest.raises(ArgumentsError) as caught:
        mail.enqueue(*args, **kwargs)
    assert problem in str(caught.value)
    assert timed_jobs.list_jobs() == []


def test_a_database_that_may_not_be_created_is_not(tmp_path: Path) -> None:
    jobs = DurableJobs(tmp_path / "missing.db", create=False)
    with pytest.raises(DatabaseNotFoundError, match=r"missing\.db: no such database; `durablejobs migrate --db "):
        jobs.enqueue("mail")
    with pytest.raises(DatabaseNotFoundError):
        jobs.list_jobs()
    assert list(tmp_path.iterdir()) == []


# Unique keys


def test_a_second_enqueue_with_a_live_unique_key_returns_the_first_job(timed_jobs: DurableJobs) -> None:
    first = timed_jobs.using(unique_key="welcome:7").enqueue("mail", "first")
    second = timed_jobs.using(unique_key="welcome:7", queue="other").enqueue("mail", "second")
    assert (second.id, second.args, second.queue) == (first.id, ["first"], "default")
    assert (first.is_duplicate, second.is_duplicate) == (False, True)
    assert second.refresh() == first
    assert len(timed_jobs.list_jobs()) == 1


def test_a_unique_key_is_free_again_once_its_job_has_ended(timed_jobs: DurableJobs) -> None:
    first = timed_jobs.using(unique_key="k").enqueue("mail")
    timed_jobs.cancel(first.id)
    second = timed_jobs.using(unique_key="k").enqueue("mail")
    assert (second.is_duplicate, second.id) == (False, first.id + 1)


def test_sixteen_threads_with_one_unique_key_store_one_job(timed_jobs: DurableJobs) -> None:
    barrier = threading.Barrier(16)
    found: list[tuple[int, bool]] = []

    def enqueue() -> None:
        barrier.wait()
        job = timed_jobs.using(unique_key="k").enqueue("mail")
        found.append((job.id, job.is_duplicate))

    threads = [threading.Thread(target=enqueue) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(1, False)] + [(1, True)] * 15
    assert len(timed_jobs.list_jobs()) == 1


# Many jobs


def test_enqueue_many_takes_args_and_kwargs(timed_jobs: DurableJobs, mail: Any) -> None:
    batch = mail.enqueue_many([("a@b.c", "hi"), ["b@c.d"], {"to": "c@d.e", "urgent": True}])
    assert (batch.count, batch.duplicates) == (3, 0)
    stored = [(job.args, job.kwargs, job.queue, job.priority) for job in reversed(timed_jobs.list_jobs())]
    assert stored == [
        (["a@b.c", "hi"], {}, "letters", 3),
        (["b@c.d"], {}, "letters", 3),
        ([], {"to": "c@d.e", "urgent": True}, "letters", 3),
    ]


def test_enqueue_many_of_nothing_stores_nothing(timed_jobs: DurableJobs) -> None:
    assert timed_jobs.enqueue_many("mail", []).count == 0


@pytest.mark.parametrize("number", [1, 99, 100, 101, 499, 500, 501, 1000, 1234])
def test_enqueue_many_stores_each_item_once_and_in_order(timed_jobs: DurableJobs, sql: Sql, number: int) -> None:
    assert timed_jobs.enqueue_many("mail", ((item,) for item in range(number))).count == number
    assert [row["args"] for row in sql("SELECT args FROM jobs ORDER BY id")] == [f"[{item}]" for item in range(number)]


def test_enqueue_many_with_a_delay_schedules_all(timed_jobs: DurableJobs) -> None:
    timed_jobs.using(delay=5, queue="bulk").enqueue_many("mail", [(1,), (2,)])
    assert {(job.status, job.queue) for job in timed_jobs.list_jobs()} == {(Status.SCHEDULED, "bulk")}


def test_enqueue_many_with_one_unique_key_is_refused(timed_jobs: DurableJobs) -> None:
    with pytest.raises(ConfigurationError, match="all items of enqueue_many would have the same"):
        timed_jobs.using(unique_key="k").enqueue_many("mail", [(1,), (2,)])


@pytest.mark.parametrize("bad_index", [0, 7, 498, 499, 500, 501, 999])
def test_one_bad_item_of_a_thousand_is_named_and_nothing_is_stored(timed_jobs: DurableJobs, bad_index: int) -> None:
    items: list[Any] = [(index,) for index in range(1000)]
    items[bad_index] = ({1, 2},)
    with pytest.raises(ArgumentsError, match=rf"^item {bad_index}: args\[0\]: set is not JSON: pass a list$"):
        timed_jobs.enqueue_many("mail", items)
    assert timed_jobs.list_jobs() == []
    assert timed_jobs.enqueue_many("mail", [(1,)]).count == 1


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("a@b.c", "must be a list or tuple of args or a dict of kwargs, not str"),
        (7, "must be a list or tuple of args or a dict of kwargs, not int"),
        (None, "must be a list or tuple"),
        ({3: "x"}, "the key 3 is int, names of kwargs are strings"),
        ((), "takes mail(to: 'str'"),
        ({"from": "x"}, "got an unexpected keyword argument 'from'|missing a required argument: 'to'"),
    ],
)
def test_an_item_of_another_kind_is_refused(timed_jobs: DurableJobs, mail: Any, item: Any, problem: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        mail.enqueue_many([("fine",), item])
    assert str(caught.value).startswith("item 1: ")
    assert any(each in str(caught.value) for each in problem.split("|"))
    assert timed_jobs.list_jobs() == []


def test_an_iterable_that_raises_half_way_leaves_nothing_stored(timed_jobs: DurableJobs) -> None:
    def items() -> Iterator[tuple[int]]:
        for number in range(1500):
            yield (number,)
        raise KeyError("the source broke")

    with pytest.raises(KeyError, match="the source broke"):
        timed_jobs.enqueue_many("mail", items())
    assert timed_jobs.list_jobs() == []


MANY = """
import resource, sys
from durablejobs import DurableJobs

jobs = DurableJobs(sys.argv[1])

def enqueue(count):
    assert jobs.enqueue_many("mail", ((number, "x" * 100) for number in range(count))).count == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = enqueue(20_000)  # caches are full
print(enqueue(300_000) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is the platform's own")
def test_a_generator_of_300_000_items_takes_constant_memory(
    run_python: RunPython, database_path: Path, sql: Sql
) -> None:
    """All items held back would take some 150 MB."""
    ended = run_python(MANY, database_path)
    assert ended.stderr == ""
    assert int(ended.stdout) < 15_000  # KB
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 320_000}]


# In the user's own transaction


@pytest.fixture
def orders(dialect: str, timed_jobs: DurableJobs, sql: Sql) -> None:
    """The application's own table, in the same database as the queue."""
    timed_jobs.open()
    sql("DROP TABLE IF EXISTS orders")
    sql(f"CREATE TABLE orders(id {'INTEGER' if dialect == 'sqlite' else 'SERIAL'} PRIMARY KEY)")


class OwnTransaction:
    """A user's transaction of some kind, and how it ends."""

    def __init__(self, kind: str, database: str) -> None:
        is_file = "://" not in database
        self.engine = create_engine(f"sqlite:///{database}" if is_file else database)
        self.given: Any
        if kind == "Connection":
            self.given = self.engine.connect()
            self.execute = self.given.exec_driver_sql
        elif kind == "Session":
            self.given = Session(self.engine)
            self.execute = self.given.connection().exec_driver_sql
        elif is_file:
            self.given = sqlite3.connect(database)
            self.execute = self.given.execute
            self.given.row_factory = lambda cursor, row: "the user's rows are no tuples"
        else:
            url = make_url(database).set(drivername="postgresql")
            self.given = psycopg.connect(url.render_as_string(hide_password=False), row_factory=dict_row)
            self.execute = self.given.execute

    def close(self) -> None:
        self.given.close()
        self.engine.dispose()


@pytest.fixture(params=["Connection", "Session", "the driver's own"])
def own(request: pytest.FixtureRequest, database: str, orders: None) -> Iterator[OwnTransaction]:
    transaction = OwnTransaction(request.param, database)
    yield transaction
    transaction.close()


STORED = "SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM jobs) AS jobs"


@pytest.mark.parametrize("user_first", [True, False])
@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.conformance
def test_the_job_exists_if_and_only_if_the_users_rows_do(
    timed_jobs: DurableJobs, own: OwnTransaction, sql: Sql, user_first: bool, commits: bool, many: bool
) -> None:
    def enqueue() -> None:
        client = timed_jobs.using(connection=own.given)
        if many:
            assert client.enqueue_many("mail", [(number,) for number in range(600)]).count == 600
        else:
            assert client.enqueue("mail", 1).id == 1

    if not user_first:
        enqueue()
    own.execute("INSERT INTO orders DEFAULT VALUES")
    if user_first:
        enqueue()
    assert sql(STORED) == [{"orders": 0, "jobs": 0}]
    if commits:
        own.given.commit()
    else:
        own.given.rollback()
    expected = {"orders": 1, "jobs": 600 if many else 1} if commits else {"orders": 0, "jobs": 0}
    assert sql(STORED) == [expected]


@pytest.mark.conformance
def test_enqueueing_alone_in_the_users_transaction_waits_for_his_commit(
    timed_jobs: DurableJobs, own: OwnTransaction, sql: Sql
) -> None:
    timed_jobs.using(connection=own.given).enqueue_many("mail", [(1,), (2,)])
    assert sql(STORED) == [{"orders": 0, "jobs": 0}]
    own.given.commit()
    assert sql(STORED) == [{"orders": 0, "jobs": 2}]


@pytest.mark.conformance
def test_a_rule_of_a_unique_key_holds_in_the_users_transaction(
    timed_jobs: DurableJobs, own: OwnTransaction, sql: Sql
) -> None:
    client = timed_jobs.using(connection=own.given, unique_key="k", on_conflict="replace", unique_for=3600)
    assert client.enqueue("mail", "first").id == client.enqueue("mail", "second").id == 1
    own.given.commit()
    assert sql("SELECT args FROM jobs") == [{"args": '["second"]'}]


@pytest.mark.conformance
def test_a_duplicate_in_the_users_transaction_is_reported_as_one(
    timed_jobs: DurableJobs, own: OwnTransaction, sql: Sql
) -> None:
    client = timed_jobs.using(connection=own.given, unique_key="k")
    first, second = client.enqueue("mail", "first"), client.enqueue("mail", "second")
    assert (first.id, first.is_duplicate) == (1, False)
    assert (second.id, second.is_duplicate) == (1, True)
    own.given.commit()
    assert sql("SELECT args FROM jobs") == [{"args": '["first"]'}]


@pytest.mark.conformance
def test_a_handler_takes_the_users_connection_too(mail: Any, own: OwnTransaction, sql: Sql) -> None:
    mail.using(connection=own.given).enqueue("a@b.c", "receipt")
    own.given.rollback()
    assert sql(STORED) == [{"orders": 0, "jobs": 0}]


def test_something_else_is_no_connection(timed_jobs: DurableJobs, database_path: Path) -> None:
    engine = create_engine(f"sqlite:///{database_path}")
    for given in ("jobs.db", 7, engine):
        with pytest.raises(
            ConfigurationError, match=r"^connection: must be a SQLAlchemy Connection or Session, or a sq"
        ):
            timed_jobs.using(connection=given).enqueue("mail")
    engine.dispose()


# Acts, reading, waiting


def test_cancel_retry_and_delete_return_the_job_as_it_is_now(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.enqueue("mail")
    assert timed_jobs.cancel(job.id).status is Status.CANCELLED
    retried = timed_jobs.retry(job.id)
    assert retried.status is Status.PENDING
    assert retried.refresh() == retried
    assert timed_jobs.delete(job.id) is None
    with pytest.raises(JobNotFoundError, match=f"^no job {job.id}$"):
        job.refresh()


@pytest.mark.parametrize("job_id", [0, -1, 10**30, "1 OR 1=1", "", None, 1.5, True, 999])
@pytest.mark.parametrize("act", ["get", "cancel", "retry", "delete"])
def test_an_id_that_no_job_has_is_answered_as_such(timed_jobs: DurableJobs, act: str, job_id: Any) -> None:
    timed_jobs.enqueue("mail")
    with pytest.raises(JobNotFoundError) as caught:
        getattr(timed_jobs, act)(job_id)
    assert caught.value.job_id == job_id
    assert len(timed_jobs.list_jobs()) == 1


def test_an_act_that_the_status_does_not_allow_says_why(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.enqueue("mail")
    timed_jobs.cancel(job.id)
    with pytest.raises(IllegalActError, match=r"^cannot cancel job 1: it is cancelled$"):
        timed_jobs.cancel(job.id)


def test_waiting_returns_the_result_or_raises_what_happened(
    timed_jobs: DurableJobs, store: Any, claim: Claim, settle: Settle
) -> None:
    from durablejobs.outcomes import Failure, GaveUp, Stopped, Succeeded

    waiting = [timed_jobs.enqueue("mail") for _ in range(4)]
    for job, outcome in zip(
        claim(4),
        (
            Succeeded('{"n": 1}'),
            Succeeded(None),
            GaveUp(Failure("fail", "no such user")),
            Stopped(Failure("cancel", "not needed")),
        ),
        strict=True,
    ):
        settle(job, outcome)
    assert waiting[0].wait(timeout=60) == {"n": 1}
    assert waiting[1].wait(timeout=60) is None
    with pytest.raises(JobFailedError, match=r"^job 3 failed: no such user$"):
        waiting[2].wait(timeout=60)
    with pytest.raises(JobCancelledError, match=r"^job 4 was cancelled: not needed$"):
        waiting[3].wait()


def test_waiting_gives_up_in_time_and_says_how_the_job_stands(timed_jobs: DurableJobs) -> None:
    job = timed_jobs.enqueue("mail")
    with pytest.raises(WaitTimeoutError, match=r"^job 1 is still pending after 0\.05 s$"):
        job.wait(timeout=0.05)
    with pytest.raises(WaitTimeoutError):
        job.wait(timeout=0)


@pytest.mark.parametrize("timeout", [float("nan"), "1", True, [1]])
def test_a_wait_is_refused_a_timeout_that_is_no_number(jobs: DurableJobs, timeout: Any) -> None:
    job = jobs.using(check=False).enqueue("mail")
    with pytest.raises(ConfigurationError, match=r"^timeout: must be a number of seconds, or None to wait for ever"):
        job.wait(timeout=timeout)
    with pytest.raises(ConfigurationError, match=r"^timeout: must be a number of seconds"):
        asyncio.run(job.await_result(timeout=timeout))


@pytest.mark.parametrize("timeout", [0, -1, -math.inf])
def test_a_wait_that_has_no_time_left_looks_once(jobs: DurableJobs, timeout: float) -> None:
    job = jobs.using(check=False).enqueue("mail")
    with pytest.raises(WaitTimeoutError):
        job.wait(timeout=timeout)


@pytest.mark.parametrize("timeout", [math.inf, 10**400, 1e300], ids=["infinite", "no float", "long"])
def test_a_wait_may_be_longer_than_anybody_lives(jobs: DurableJobs, timeout: float) -> None:
    job = jobs.handler("mail")(lambda: 7).enqueue()
    jobs.work(burst=True, concurrency=1)
    assert job.wait(timeout=timeout) == 7


def test_a_waiting_reader_notices_the_end_and_a_deletion(timed_jobs: DurableJobs, database_path: Path) -> None:
    other = DurableJobs(database_path)
    ended, deleted = timed_jobs.enqueue("mail"), timed_jobs.enqueue("mail")
    acts = [threading.Timer(0.05, other.cancel, [ended.id]), threading.Timer(0.05, other.delete, [deleted.id])]
    for act in acts:
        act.start()
    with pytest.raises(JobCancelledError):
        ended.wait(timeout=10)
    with pytest.raises(JobNotFoundError):
        deleted.wait(timeout=10)
    for act in acts:
        act.join()
    other.close()


@pytest.mark.parametrize("limit", [0, -1, 100_001, 1.5, "10", None])
def test_a_limit_out_of_bounds_is_refused(timed_jobs: DurableJobs, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^limit: must be a whole number from 1 to 100000"):
        timed_jobs.list_jobs(limit=limit)


@pytest.mark.parametrize("before", [10**30, "1", 1.5])
def test_a_page_beyond_all_ids_is_refused(timed_jobs: DurableJobs, before: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^before: must be a whole number"):
        timed_jobs.list_jobs(before=before)


def test_pages_go_back_from_the_newest(timed_jobs: DurableJobs) -> None:
    timed_jobs.enqueue_many("mail", [(number,) for number in range(7)])
    first = timed_jobs.list_jobs(limit=3)
    second = timed_jobs.list_jobs(limit=3, before=first[-1].id)
    assert [job.id for job in first + second] == [7, 6, 5, 4, 3, 2]


def test_a_job_that_was_not_read_from_a_database_cannot_be_read_again(timed_jobs: DurableJobs) -> None:
    from dataclasses import replace

    with pytest.raises(RuntimeError, match="was not read from a database"):
        replace(timed_jobs.enqueue("mail"), source=None).refresh()


# The object itself


def test_moving_to_another_database_keeps_the_handlers(timed_jobs: DurableJobs, mail: Any, tmp_path: Path) -> None:
    mail.enqueue("a@b.c")
    timed_jobs.move_to(tmp_path / "other.db")
    assert timed_jobs.list_jobs() == []
    assert mail.enqueue("b@c.d").id == 1
    assert timed_jobs.location == str(tmp_path / "other.db")


def test_after_closing_the_next_use_opens_again(timed_jobs: DurableJobs) -> None:
    timed_jobs.enqueue("mail")
    timed_jobs.close()
    assert len(timed_jobs.list_jobs()) == 1
    assert timed_jobs.enqueue("mail").id == 2


def test_opening_tells_whether_the_queue_is_new(timed_jobs: DurableJobs, database_path: Path) -> None:
    assert timed_jobs.open() is True
    assert timed_jobs.open() is False
    with closing(sqlite3.connect(database_path)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


def test_the_object_shows_where_it_works(timed_jobs: DurableJobs, mail: Any, database_path: Path) -> None:
    assert repr(timed_jobs) == f"<DurableJobs {database_path} with 1 handlers>"


def test_options_can_be_made_beforehand(timed_jobs: DurableJobs, clock: ManualClock) -> None:
    options = EnqueueOptions(queue="bulk", delay=5)
    assert timed_jobs.client(options).enqueue("mail").queue == "bulk"
    assert options.due(clock.now()) == START + timedelta(seconds=5)


class Urgency(IntEnum):
    HIGH = 5


def test_a_number_of_an_enum_is_a_number(timed_jobs: DurableJobs, clock: ManualClock) -> None:
    urgent = timed_jobs.using(priority=Urgency.HIGH, max_attempts=Urgency.HIGH)
    assert urgent.insert_all([urgent.new_job("mail", [], {}, clock.now_text()) for _ in range(3)]).count == 3
    assert {(job.priority, job.max_attempts) for job in timed_jobs.list_jobs()} == {(5, 5)}


@pytest.mark.sqlite
def test_a_connection_to_another_file_is_refused(timed_jobs: DurableJobs, tmp_path: Path) -> None:
    """The job would be in another queue, or nowhere."""
    timed_jobs.open()
    with closing(DurableJobs(tmp_path / "other.db")) as other:
        other.open()
    for name, where in ((str(tmp_path / "other.db"), "other.db"), (":memory:", "a database in memory")):
        with closing(sqlite3.connect(name)) as connection:
            for enqueue in (
                lambda given: timed_jobs.using(connection=given).enqueue("mail"),
                lambda given: timed_jobs.using(connection=given).enqueue_many("mail", [(1,)]),
            ):
                with pytest.raises(ConfigurationError, match=rf"^connection: is to .*{where}, not to .*jobs\.db"):
                    enqueue(connection)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "jobs.db")
    with closing(sqlite3.connect(link)) as connection, connection:
        timed_jobs.using(connection=connection).enqueue("mail")
    assert len(timed_jobs.list_jobs()) == 1


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda jobs: jobs.list_jobs(JobFilter(("nope",))), "statuses: must be some of scheduled, pending"),
        (lambda jobs: jobs.list_jobs(JobFilter(queue=5)), "queue: must be a name, not 5"),
        (lambda jobs: jobs.list_jobs(JobFilter(handler="a\0b")), "handler: must be a name, not"),
        (lambda jobs: jobs.statistics(math.nan), "minutes: must be a number from 0.1 to 100000, not nan"),
        (lambda jobs: jobs.statistics(-1), "minutes: must be a number"),
        (lambda jobs: jobs.pause("mail", reason="a\0b"), "reason: must be a text without NUL"),
        (lambda jobs: jobs.pause("mail", reason="\ud800"), "reason: must be a text without NUL"),
        (lambda jobs: jobs.quiet_worker("a\0b"), "worker: must be a text without NUL"),
    ],
)
def test_odd_questions_get_one_sentence(timed_jobs: DurableJobs, ask: Any, answer: str) -> None:
    timed_jobs.migrate()
    with pytest.raises(ConfigurationError, match=f"^{re.escape(answer)}"):
        ask(timed_jobs)


def test_a_filter_takes_statuses_by_name_and_each_once(timed_jobs: DurableJobs) -> None:
    timed_jobs.migrate()
    for _ in range(3):
        timed_jobs.enqueue("mail")
    for statuses in (("pending",), [Status.PENDING, "pending"]):
        assert len(timed_jobs.list_jobs(JobFilter(statuses), limit=2)) == 2
