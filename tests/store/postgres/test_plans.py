"""With a million jobs in PostgreSQL no hot statement reads the table from end to end, nor much more than it wants.

Each is run under EXPLAIN ANALYZE, in a transaction that is rolled back: by a plan for its values, and by the generic
plan that the server may keep for a prepared statement. Counted is what the nodes of the plan read, not what they
return.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from itertools import count
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Text, literal_column

from durablejobs import JobFilter
from durablejobs.statuses import Status
from durablejobs.store import (
    Store,
    claims,
    endings,
    held_jobs,
    idle_claims,
    peeking,
    pending_queues,
    queue_rules,
    rescues,
    running_limits,
    unique,
)
from durablejobs.store.hot import HotStatement

from ... import postgres
from ...clocks import START, ManualClock
from ..test_plans import recorded
from .a_million_jobs import NOW, QUEUES, database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first one fills the table

LATER = "2030-01-01 12:01:00.000000"
CLAIMING = {"worker": 1, "now": NOW, "lease": LATER}


class Hot(NamedTuple):
    """A statement, its values, and how many rows it may read."""

    statement: HotStatement
    values: Mapping[str, Any]
    most_read: int


def claim(most: int, *queues: str, handlers: tuple[str, ...] = (), excluded: bool = False, rooms: int = 0) -> Any:
    """The claim of these queues, the last of which have room for five jobs."""
    values: dict[str, Any] = CLAIMING | {"most": most}
    values |= {f"queue_{number}": queue for number, queue in enumerate(queues)}
    values |= {f"handler_{number}": handler for number, handler in enumerate(handlers)}
    values |= {f"room_{number}": 5 for number in range(len(queues) - rooms, len(queues))}
    return claims.claim_statement(len(queues), len(handlers), excluded, rooms), values


TOKENS = {"ids": list(range(990_001, 990_501)), "tokens": [0] * 500, "results": ["null"] * 500}

HOT: dict[str, Hot] = {
    "promote": Hot(claims.PROMOTE, {"now": NOW, "most": 2000}, 3 * 2000),
    "peek": Hot(peeking.PEEK, {"now": NOW}, 5),
    "peek and claim": Hot(idle_claims.PEEK_AND_CLAIM, CLAIMING | {"queues": [], "most": 500}, 10),
    "peek and claim of one queue": Hot(
        HotStatement(idle_claims.statement(literal_column("'q7'", Text))),
        CLAIMING | {"queues": [], "most": 500},
        3 * 500 + 10,
    ),
    "pending queues": Hot(pending_queues.PENDING_QUEUES, {}, 2 * len(QUEUES) + 10),
    "pending queues by their best": Hot(pending_queues.BY_THEIR_BEST, {}, 6 * len(QUEUES) + 10),
    "claim of one queue": Hot(*claim(500, "q7"), 3 * 500),
    "claim of a job of one queue": Hot(*claim(1, "q7"), 5),
    "claim of 50 queues": Hot(*claim(500, *QUEUES), 4 * 500),
    "claim of a job of 50 queues": Hot(*claim(1, *QUEUES), 60),
    "claim of two queues and two limited ones": Hot(*claim(100, "q1", "q2", "q3", "q4", rooms=2), 4 * 100),
    "claim of a handler's jobs": Hot(*claim(100, "q7", handlers=("mail",)), 4 * 100),
    "claim of all but a handler's jobs": Hot(*claim(100, "q7", "q8", handlers=("x", "y"), excluded=True), 4 * 100),
    "claim of a handler's jobs behind many others": Hot(
        *claim(100, "long", handlers=("rare",)), claims.LOOKED_AT_TOGETHER + 10
    ),
    "the same in a limited queue": Hot(*claim(100, "long", handlers=("rare",), rooms=1), claims.LOOKED_AT + 10),
    "waiting keys": Hot(running_limits.WAITING_KEYS, {"queue": "q7", "after": "", "most": 100}, 5),
    "best of a key": Hot(running_limits.BEST_OF_KEY, {"queue": "q7", "key": "x", "most": 10, "skipped": 0}, 5),
    "running jobs of each key": Hot(running_limits.RUNNING, {}, 5),
    "whether limited jobs wait": Hot(running_limits.ARE_WAITING, {}, 5),
    "what a claim with limits would claim": Hot(
        running_limits.without_key_statement(50, in_postgres=True),
        {"most": 500} | {f"queue_{number}": queue for number, queue in enumerate(QUEUES)},
        3 * 500,
    ),
    "claim of chosen jobs": Hot(
        running_limits.claim_chosen_statement(8),
        CLAIMING | {f"job_{number}": 700_000 + number for number in range(8)},
        20,
    ),
    "running jobs of a queue": Hot(queue_rules.RUNNING, {"queue": "q7"}, 10_100),
    "heartbeat": Hot(held_jobs.EXTEND, {"worker": 7, "lease": LATER}, 3 * 250),
    "claimed by": Hot(held_jobs.CLAIMED_BY, {"worker": 7}, 2 * 250),
    "asked to stop": Hot(held_jobs.ASKED_TO_STOP, {"worker": 7}, 2 * 250),
    "release": Hot(held_jobs.RELEASE, {"rows": json.dumps([(job, 0) for job in TOKENS["ids"]]), "now": NOW}, 3 * 500),
    "succeed": Hot(endings.SUCCEED_IN_POSTGRES, TOKENS | {"started": [NOW] * 500, "finished": [NOW] * 500}, 1100),
    "end otherwise": Hot(
        endings._END_OTHERWISE,
        {
            "job": 990_001,
            "token": 0,
            "status": "failed",
            "ended_at": NOW,
            "finished_at": NOW,
            "crashed": 0,
            "unspent": 0,
            "run_at": NOW,
            "error": "x",
            "started_at": NOW,
        },
        5,
    ),
    "rescue of a worker's jobs": Hot(rescues.ORPHANS_OF_WORKER, {"worker": 7, "most": 500}, 2 * 250),
    "look for jobs of nobody": Hot(rescues.HAS_ORPHANS_OF_NOBODY, {"now": NOW}, 10_100),
    "give back": Hot(
        rescues.GIVE_BACK,
        {"rows": json.dumps([(job, "pending", 0, 1, "crash") for job in TOKENS["ids"]]), "now": NOW},
        3 * 500,
    ),
    "rescue of jobs of nobody": Hot(rescues.ORPHANS_OF_NOBODY, {"now": NOW, "most": 500}, 10_100),
    "holder of a unique key": Hot(unique.HOLDER, {"unique_key": "key-700"}, 5),
    "release of a key": Hot(unique.RELEASE_EXPIRED, {"unique_key": "key-700", "now": NOW}, 5),
}

FINISHED = dict.fromkeys(
    (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED), START.replace(year=2029, month=12, day=31)
)


def listing(*statuses: Status, handler: str | None = None, queue: str | None = None) -> Callable[[Store], Any]:
    return lambda store: store.reads.list_jobs(JobFilter(statuses, handler, queue), 50, None)


def acting(act: str, wanted: JobFilter) -> Callable[[Store], Any]:
    return lambda store: next(store.acts.on_batches(act, wanted), 0)


class Cool(NamedTuple):
    """What people and workers ask for now and then."""

    act: Callable[[Store], Any]
    most_read: int


COOL: dict[str, Cool] = {
    "get": Cool(lambda store: store.reads.get(1), 5),
    "list newest": Cool(listing(), 60),
    "list newest of a queue": Cool(listing(queue="q7"), 20_000),
    "list succeeded": Cool(listing(Status.SUCCEEDED), 330_200),  # back past all that have not ended
    "list scheduled": Cool(listing(Status.SCHEDULED), 70_100),
    "list running": Cool(listing(Status.RUNNING), 10_100),
    "list failed": Cool(listing(Status.FAILED), 7_000),
    "list failed of a handler": Cool(listing(Status.FAILED, handler="mail"), 7_000),
    "prune": Cool(lambda store: store.upkeep.prune(FINISHED), 2_000),
    "statistics": Cool(lambda store: store.reads.statistics(5), 400_000),
    "retry": Cool(lambda store: store.acts.retry(150), 10),
    "cancel": Cool(lambda store: store.acts.cancel(700_000), 10),
    # Batch after batch along the ids: the table is read once, by all batches together.
    "cancel by queue": Cool(acting("cancel", JobFilter(queue="q7")), 700_000),
    "cancel what is scheduled": Cool(acting("cancel", JobFilter((Status.SCHEDULED,))), 925_000),
    "retry of failed jobs": Cool(acting("retry", JobFilter((Status.FAILED,))), 51_000),
    "delete of succeeded jobs": Cool(acting("delete", JobFilter((Status.SUCCEEDED,))), 2_000),
}


@pytest.fixture(scope="module")
def url(postgres_server: str, testrun_uid: str) -> Iterator[str]:
    """Of the database with a million jobs."""
    with database(postgres_server, testrun_uid) as found:
        yield found


@pytest.fixture(autouse=True)
def _alone(url: str) -> Iterator[None]:
    """No other process explains meanwhile: what it has locked would be read and skipped."""
    with postgres.admin(url) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        yield


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def faults(plan: dict[str, Any], most_read: int) -> list[str]:
    """What is wrong with a plan that was run: a table that is read from end to end, too much that is read."""
    nodes = list(_nodes(plan))
    found = [f"{each['Node Type']} on {each['Relation Name']}" for each in nodes if _reads_all_jobs(each)]
    reading = sum(map(_read_by, nodes))
    # The processes of a parallel plan each read ahead until one of them has heard that it is enough.
    processes = 1 + max(each.get("Workers Launched", 0) for each in nodes)
    allowed = most_read * processes
    if reading > allowed:
        found.append(f"{reading:,.0f} rows read, not {allowed:,}")
    # Each row with each: settling 500 jobs once took 72 ms so.
    compared = sum(each.get("Rows Removed by Join Filter", 0) * each["Actual Loops"] for each in nodes)
    if compared > allowed:
        found.append(f"{compared:,.0f} rows compared in vain")
    return found


def _reads_all_jobs(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs"


def _read_by(node: dict[str, Any]) -> float:
    if "Scan" not in node["Node Type"] or node.get("Relation Name") != "jobs":
        return 0
    thrown_away = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return float((node["Actual Rows"] + sum(node.get(each, 0) for each in thrown_away)) * node["Actual Loops"])


def explained(connection: psycopg.Connection[Any], statement: str) -> dict[str, Any]:
    """Run it and return its plan with what really happened; then undo it."""
    connection.execute("BEGIN")
    try:
        row = connection.execute(f"EXPLAIN (ANALYZE, TIMING off, SUMMARY off, FORMAT JSON) {statement}").fetchone()
        assert row is not None
        plan: dict[str, Any] = json.loads(row[0])[0]["Plan"]
        return plan
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_little_of_a_million_jobs(url: str, name: str) -> None:
    statement, values, most_read = HOT[name]
    compiled = statement.on_postgres("public")
    with postgres.admin(url) as connection:
        whole = psycopg.ClientCursor(connection).mogrify(compiled.sql, compiled.positional(values))
        plan = explained(connection, whole)
    assert faults(plan, most_read) == [], plan


@pytest.mark.parametrize("name", HOT)
def test_so_it_does_by_the_plan_that_serves_all_values(url: str, name: str) -> None:
    statement, values, most_read = HOT[name]
    compiled = statement.on_postgres("public")
    numbers = count(1)
    numbered = re.sub("%s", lambda _: f"${next(numbers)}", compiled.sql).replace("%%", "%")
    with postgres.admin(url) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE hot AS {numbered}")
        literals = sql.SQL(", ").join(map(sql.Literal, compiled.positional(values)))
        whole = sql.SQL("EXECUTE hot({})").format(literals) if compiled.names else sql.SQL("EXECUTE hot")
        plan = explained(connection, whole.as_string(connection))
    assert faults(plan, most_read) == [], plan


class _UndoneError(Exception):
    """Rolls a transaction back."""


@contextmanager
def undone(transaction: AbstractContextManager[Any]) -> Iterator[Any]:
    """Leave everything as it was."""
    with transaction as connection:
        yield connection
        raise _UndoneError


@pytest.mark.parametrize("name", COOL)
def test_what_people_ask_for_reads_little_too(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    act, most_read = COOL[name]
    with closing(Store(url, clock=ManualClock())) as store:
        store.open()
        write = store.database.write
        monkeypatch.setattr(store.database, "write", lambda: undone(write()))
        with recorded() as statements, suppress(_UndoneError):
            act(store)
    assert statements
    with postgres.admin(url) as connection:
        plans = [
            explained(connection, psycopg.ClientCursor(connection).mogrify(statement, parameters))
            for statement, parameters in statements
            if not statement.startswith(("SAVEPOINT", "RELEASE"))
        ]
    assert [fault for plan in plans for fault in faults(plan, most_read)] == [], plans
