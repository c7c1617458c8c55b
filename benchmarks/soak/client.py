"""A client of the soak: enqueues in many ways at a bounded rate, and writes down what it asked and was told.

`python -m benchmarks.soak.client NAME RATE HISTORY` goes on until it is killed, or asked to end by SIGTERM. One line
for each step, by one system call: `invoked KEY`, then `ok KEY`, `failed KEY` or `unknown KEY`; neither where the
process died in between. `cancelled KEY` where a cancel was acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Final

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from durablejobs import CommitUnknownError, DurableJobsError, IllegalActError

from .handlers import PLANTED, jobs
from .settings import BATCH, DATABASE_VARIABLE

Note = Callable[[str], None]

_database = os.environ[DATABASE_VARIABLE]
_is_sqlite = "://" not in _database or _database.startswith("sqlite")
_engine = create_engine(
    _database if "://" in _database else f"sqlite:///{_database}", connect_args={"timeout": 60} if _is_sqlite else {}
)


def _simple(handler: str) -> Callable[[str, Note], None]:
    def act(key: str, _note: Note) -> None:
        jobs.enqueue(handler, key)

    return act


def _slow(key: str, _note: Note) -> None:
    jobs.enqueue("slow", key, random.choice((0.5, 1.0, 2.0, 9.0)))


def _async(key: str, _note: Note) -> None:
    jobs.enqueue("async", key, random.uniform(0.1, 3.0))


def _snoozed(key: str, _note: Note) -> None:
    jobs.enqueue("snoozed", key, time.time() + random.uniform(0.5, 3.0))


def _scheduled(key: str, _note: Note) -> None:
    due = time.time() + random.uniform(0.5, 20.0)
    jobs.using(run_at=datetime.fromtimestamp(due, UTC)).enqueue("scheduled", key, due)


def _batch(key: str, _note: Note) -> None:
    jobs.enqueue_many("batch", [(key,)] * BATCH)


def _unique(key: str, _note: Note) -> None:
    """Twice, as one does who does not know whether it was stored."""
    client = jobs.using(unique_key=key, delay=2)
    client.enqueue("unique", key)
    client.enqueue("unique", key)


def _order(key: str, _note: Note) -> None:
    with _engine.connect() as connection, connection.begin():
        connection.execute(text("INSERT INTO soak_orders(name) VALUES (:key)"), {"key": key})
        jobs.using(connection=connection).enqueue("order", key)


def _never(key: str, note: Note) -> None:
    job = jobs.using(delay=24 * 3600).enqueue("never", key)
    note("ok")
    jobs.cancel(job.id)
    note("cancelled")


def _stopped(key: str, note: Note) -> None:
    job = jobs.enqueue("slow", key, 5.0)
    note("ok")
    time.sleep(random.uniform(0.0, 1.0))
    try:
        jobs.cancel(job.id)
    except IllegalActError:  # it has ended
        return


WAYS: Final[dict[str, tuple[Callable[[str, Note], None], float]]] = {
    "fast": (_simple("fast"), 30),
    "slow": (_slow, 5),
    "async": (_async, 10),
    "flaky": (_simple("flaky"), 4),
    "broken": (_simple("broken"), 2),
    "snoozed": (_snoozed, 3),
    "scheduled": (_scheduled, 10),
    "never": (_never, 4),
    "stopped": (_stopped, 2),
    "process": (_simple("process"), 5),
    "poison": (_simple("poison"), 0.1),
    "crash": (_simple("crash"), 0.3),
    "effect": (_simple("effect"), 8),
    "async_effect": (_simple("async_effect"), 4),
    "batch": (_batch, 5),
    "unique": (_unique, 5),
    "order": (_order, 5),
}
"""What a client does, and how often."""


def main() -> None:
    name, rate, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    history = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asked_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked_to_end.append(number))
    kinds, weights = list(WAYS), [weight for _, weight in WAYS.values()]
    if "no-claim-token" in PLANTED:  # what a paused worker still runs when it wakes up
        weights[kinds.index("slow")] = 100
    for number in count():
        if asked_to_end:
            return
        kind = random.choices(kinds, weights)[0]
        key = f"{kind}-{name}-{number}"

        def note(what: str, key: str = key) -> None:
            os.write(history, f"{what} {key}\n".encode())

        _call(WAYS[kind][0], key, note)
        time.sleep(random.expovariate(rate))


def _call(way: Callable[[str, Note], None], key: str, note: Note) -> None:
    note("invoked")
    if "forgets" in PLANTED and random.random() < 0.1:
        note("ok")
        return
    try:
        way(key, note)
    except (CommitUnknownError, SQLAlchemyError):  # the latter from the client's own transaction
        note("unknown")
    except DurableJobsError as error:
        note("failed")
        print(f"{key}: {error}", file=sys.stderr, flush=True)
    else:
        note("ok")


if __name__ == "__main__":
    main()
