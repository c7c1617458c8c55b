"""Each rule finds the row that breaks it, and nothing else does."""

from __future__ import annotations

import pytest

from durablejobs.outcomes import Errored, Failure, Snoozed, Succeeded
from durablejobs.store import Store
from durablejobs.store.soundness import RULES, SHOWN

from ..conftest import Claim, Enqueue, Settle, Sql


def broken(store: Store) -> dict[str, list[str]]:
    return {f"{each.promise} {each.text}": each.examples for each in store.checks.rules() if each.broken}


@pytest.fixture
def lived(store: Store, enqueue: Enqueue, claim: Claim, settle: Settle) -> list[int]:
    """A database with a history: one of each ending, one running, one waiting, one delayed."""
    ids = [enqueue() for _ in range(6)]
    first, second, third, _running = claim(4)
    settle(first, Succeeded("1"))
    settle(second, Errored(Failure("exception", "no"), 5.0))
    settle(third, Snoozed(5.0))
    store.acts.cancel(ids[4])
    enqueue(delay=60, unique_key="k")
    return ids


def test_a_database_with_a_history_keeps_every_promise(store: Store, lived: list[int]) -> None:
    assert broken(store) == {}
    assert store.checks.count_rows() == {"jobs": 7, "job_errors": 1}


BREAKS = {
    "I9 every status is a known one": "UPDATE jobs SET status = 'lost' WHERE id = 6",
    "I3 a job has the moment of its end if and only if its status is final": (
        "UPDATE jobs SET finished_at = NULL WHERE id = 1"
    ),
    "I3 a job that does not run belongs to no worker": "UPDATE jobs SET worker_id = 1 WHERE id = 6",
    "I4 a running job has a worker, a lease and a claim token": "UPDATE jobs SET worker_id = NULL WHERE id = 4",
    "I5 a job that succeeded has been claimed and has run": "UPDATE jobs SET started_at = NULL WHERE id = 1",
    "I8 every attempt was claimed": "UPDATE jobs SET attempt = 2 WHERE id = 4",
    "I8 no job has spent more attempts than it may": "UPDATE jobs SET max_attempts = 0 WHERE id = 4",
    "I8 every crash is recorded": "UPDATE jobs SET crashes = 1 WHERE id = 4",
    "I13 no job has started before its time (or the clock was set back)": (
        "UPDATE jobs SET run_at = '2040-01-01 00:00:00.000000' WHERE id = 4"
    ),
    "I2 no unique key is held by two jobs": "UPDATE jobs SET unique_key = 'k' WHERE id IN (5, 6)",
    "I10 the kept counts of ended jobs equal the rows": "UPDATE job_counts SET number = 7 WHERE status = 'succeeded'",
    "I10 every recorded error belongs to a job": (
        "INSERT INTO job_errors(job_id, attempt, ended_at, kind, message) "
        "VALUES (99, 1, '2030-01-01 00:00:00', 'exception', 'no')"
    ),
}


@pytest.mark.sqlite("checks cannot be switched off in PostgreSQL")
@pytest.mark.parametrize("rule", [f"{rule.promise} {rule.text}" for rule in RULES])
def test_a_row_that_breaks_a_rule_is_found(store: Store, lived: list[int], sql: Sql, rule: str) -> None:
    sql("PRAGMA ignore_check_constraints = ON")
    sql("PRAGMA foreign_keys = OFF")
    if "unique key" in rule:
        sql("DROP INDEX ix_jobs_unique_key")
    sql(BREAKS[rule])
    found = broken(store)
    assert rule in found
    assert found[rule] != []


@pytest.mark.sqlite("checks cannot be switched off in PostgreSQL")
def test_few_of_many_offenders_are_named(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    for _ in range(SHOWN + 5):
        enqueue()
    sql("PRAGMA ignore_check_constraints = ON")
    sql("UPDATE jobs SET worker_id = 1")
    [checked] = [each for each in store.checks.rules() if each.broken]
    assert (checked.broken, len(checked.examples)) == (SHOWN + 5, SHOWN)


@pytest.mark.sqlite("its own check of the file")
def test_sqlite_finds_what_was_forced_past_its_checks(store: Store, enqueue: Enqueue, sql: Sql) -> None:
    enqueue()
    assert store.checks.integrity_problems() == []
    sql("PRAGMA ignore_check_constraints = ON")
    sql("UPDATE jobs SET args = 'no json'")
    sql("PRAGMA foreign_keys = OFF")
    sql(BREAKS["I10 every recorded error belongs to a job"])
    problems = store.checks.integrity_problems() or []
    assert any("CHECK constraint failed" in each for each in problems)
    assert any("job_errors refers to a row of jobs that is not there" in each for each in problems)


def test_a_start_long_before_its_time_is_found(store: Store, lived: list[int], sql: Sql) -> None:
    sql(BREAKS["I13 no job has started before its time (or the clock was set back)"])
    assert broken(store).keys() == {"I13 no job has started before its time (or the clock was set back)"}


def test_on_postgresql_processes_may_differ_by_a_moment(store: Store, lived: list[int], sql: Sql, dialect: str) -> None:
    sql("UPDATE jobs SET run_at = '2030-01-01 12:00:00.500000' WHERE id = 4")  # which started at 12:00
    assert bool(broken(store)) == (dialect == "sqlite")
