"""What a handler says of its jobs: which exceptions are worth another attempt, which arguments are not shown."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durablejobs import ConfigurationError, DurableJobs, Fail, Job, RegistrationError, Retry, Status
from durablejobs.reading import Reader
from durablejobs.redaction import HIDDEN, Redaction

from .conftest import Sql

# Which exceptions are worth another attempt

RunOnce = Callable[..., Job]


@pytest.fixture
def run_once(jobs: DurableJobs) -> RunOnce:
    """Run a handler with these options that raises this; return its job."""

    def run(error: BaseException, **options: Any) -> Job:
        @jobs.handler("raises", **options)
        def raises() -> None:
            raise error

        job = raises.enqueue()
        jobs.work(burst=True, concurrency=1)
        return job.refresh()

    return run


@pytest.mark.parametrize(
    ("error", "options", "status"),
    [
        (OSError(), {}, "scheduled"),
        (OSError(), {"retry_on": OSError}, "scheduled"),
        (ConnectionError(), {"retry_on": (OSError, KeyError)}, "scheduled"),  # a subclass
        (ValueError(), {"retry_on": (OSError, KeyError)}, "failed"),
        (ValueError(), {"fail_on": ValueError}, "failed"),
        (OSError(), {"fail_on": (ValueError,)}, "scheduled"),
        (FileNotFoundError(), {"retry_on": OSError, "fail_on": FileNotFoundError}, "failed"),
        (SystemExit(), {"retry_on": OSError}, "failed"),
        (Retry(), {"retry_on": OSError}, "scheduled"),  # the handler's own word counts
        (Fail("no"), {"retry_on": Fail}, "failed"),
    ],
)
def test_an_exception_is_worth_another_attempt_or_not(
    run_once: RunOnce, error: BaseException, options: dict[str, Any], status: str
) -> None:
    assert run_once(error, **options).status == status


def test_a_failure_that_is_final_keeps_its_reason_and_traceback(run_once: RunOnce, sql: Sql) -> None:
    job = run_once(ValueError("no such order"), fail_on=ValueError, max_attempts=9)
    assert (job.status, job.attempt, job.error) == (Status.FAILED, 1, "ValueError: no such order")
    (error,) = sql("SELECT kind, traceback FROM job_errors")
    assert error["kind"] == "exception"
    assert "in raises" in error["traceback"]


@pytest.mark.parametrize("options", [{"retry_on": "OSError"}, {"fail_on": (OSError, 7)}, {"retry_on": [OSError]}])
def test_what_is_no_exception_class_is_refused(jobs: DurableJobs, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="must be an exception class or a tuple of them"):
        jobs.handler("wrong", **options)


# Which arguments are not shown


@pytest.fixture
def login(jobs: DurableJobs) -> Any:
    @jobs.handler("login", redact=["password", "card"], max_attempts=1)
    def login(user: str, password: str, *, card: Any = None) -> None:
        raise ValueError(f"wrong password {password!r} of {user}, card {card}")

    return login


def shown(jobs: DurableJobs, job: Job) -> Job:
    return Reader(jobs._store).shown([jobs.get(job.id)])[0]


def test_hidden_arguments_are_hidden_by_name_and_by_position(jobs: DurableJobs, login: Any) -> None:
    by_position = shown(jobs, login.enqueue("ann", "hunter22", card={"number": "4111"}))
    assert (by_position.args, by_position.kwargs) == (["ann", HIDDEN], {"card": HIDDEN})
    by_name = shown(jobs, login.enqueue(user="ann", password="hunter22"))
    assert by_name.kwargs == {"user": "ann", "password": HIDDEN}


def test_the_handler_and_the_application_see_the_arguments(jobs: DurableJobs, login: Any) -> None:
    job = login.enqueue("ann", "hunter22")
    assert jobs.get(job.id).args == ["ann", "hunter22"]
    jobs.work(burst=True)
    assert jobs.get(job.id).error.startswith("ValueError: wrong password")


def test_errors_are_kept_without_the_hidden_values(
    jobs: DurableJobs, login: Any, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        login.enqueue("ann", "hunter22", card={"number": "4111 1111"})
        jobs.work(burst=True)
    (error,) = sql("SELECT message, traceback FROM job_errors")
    kept = f"{error['message']} {error['traceback']} {jobs.get(1).error} {caplog.text}"
    assert "hunter22" not in kept
    assert "4111 1111" not in kept
    assert f"wrong password '{HIDDEN}' of ann, card {{'number': '{HIDDEN}'}}" in kept


def test_what_is_inserted_by_sql_is_hidden_as_soon_as_the_handler_is_known(
    jobs: DurableJobs, login: Any, sql: Sql
) -> None:
    jobs.open()
    sql("INSERT INTO jobs(handler, args) VALUES ('login', '[\"ann\", \"hunter22\"]')")
    jobs.work(burst=True)
    assert shown(jobs, jobs.get(1)).args == ["ann", HIDDEN]


@pytest.mark.parametrize("enqueue", ["enqueue", "enqueue_many", "connection"])
def test_the_arguments_are_hidden_from_the_first_moment(
    jobs: DurableJobs, login: Any, enqueue: str, database_path: Path
) -> None:
    jobs.open()
    if enqueue == "connection":
        with closing(sqlite3.connect(database_path)) as connection:
            login.using(connection=connection).enqueue("ann", "hunter22")
            connection.commit()
    elif enqueue == "enqueue_many":
        login.enqueue_many([("ann", "hunter22")])
    else:
        login.enqueue("ann", "hunter22")
    other = DurableJobs(database_path)  # a process that does not know the handler
    assert shown(other, other.get(1)).args == ["ann", HIDDEN]
    other.close()


def test_a_redaction_is_written_once_and_again_when_it_changes(jobs: DurableJobs, login: Any, sql: Sql) -> None:
    for _ in range(3):
        login.enqueue("ann", "hunter22")
    (row,) = sql("SELECT handler, redact FROM job_handlers")
    assert row == {"handler": "login", "redact": json.dumps({"names": ["card", "password"], "positions": [1]})}


def test_a_name_that_the_handler_does_not_take_is_refused(jobs: DurableJobs) -> None:
    with pytest.raises(RegistrationError, match="'login' is to redact pasword, but takes user, password"):

        @jobs.handler("login", redact=["pasword"])
        def login(user: str, password: str) -> None: ...

    with pytest.raises(ConfigurationError, match="redact: must be a list of names of arguments"):
        jobs.handler("other", redact="password")


def test_a_handler_that_takes_any_name_may_redact_any() -> None:
    jobs = DurableJobs("nowhere.db", create=False)

    @jobs.handler("any", redact=["token"])
    def takes_any(**values: str) -> None: ...

    assert jobs.registry.redactions["any"].applied([], {"token": "x", "n": 1}) == ([], {"token": HIDDEN, "n": 1})


def test_arguments_that_cannot_be_read_are_hidden_as_a_whole() -> None:
    redaction = Redaction(frozenset({"password"}), frozenset())
    assert redaction.applied('["broken', {"a": 1}) == (HIDDEN, {"a": 1})


def test_short_values_are_not_looked_for_in_texts() -> None:
    redaction = Redaction(frozenset(), frozenset({0}))
    assert redaction.in_text("a cat sat", ["a"], {}) == "a cat sat"
    assert redaction.in_text("code 1234", [[{"pin": 1234}]], {}) == f"code {HIDDEN}"
