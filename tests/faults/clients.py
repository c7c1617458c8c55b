"""Programs that enqueue without pause until they are killed, and write down what they were told.

One line for each step, appended by one system call, so that it outlives the process: `invoked KEY`, then `ok KEY`,
`failed KEY`, or `unknown KEY`; neither where the process died in between.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from durablejobs import CommitUnknownError, DurableJobs, DurableJobsError

BATCH = 5


def be_a_client(name: str, database: str, hasty: bool) -> None:
    """Enqueue in one of four ways, again and again. `hasty` is a planted bug: says ok before it is stored."""
    history = os.open("history", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    jobs = DurableJobs(database)
    ways = [_single, _batch, _with_unique_key, _in_own_transaction]
    for number in count():
        way = random.choice(ways)
        key = f"{way.__name__[1:]}-{name}-{number}"

        def note(what: str, key: str = key) -> None:
            os.write(history, f"{what} {key}\n".encode())

        note("invoked")
        if hasty:
            note("ok")
        try:
            way(jobs, database, key)
        except CommitUnknownError:
            note("unknown")
        except DurableJobsError:
            note("failed")
        else:
            note("ok")


def _single(jobs: DurableJobs, _database: str, key: str) -> None:
    jobs.enqueue("write_effect", "", key)


def _batch(jobs: DurableJobs, _database: str, key: str) -> None:
    jobs.enqueue_many("write_effect", [("", key)] * BATCH)


def _with_unique_key(jobs: DurableJobs, _database: str, key: str) -> None:
    """Twice, as one does who does not know whether it was stored; nobody works on this queue meanwhile."""
    client = jobs.using(unique_key=key, queue="unique")
    client.enqueue("write_effect", "", key)
    client.enqueue("write_effect", "", key)


def _in_own_transaction(jobs: DurableJobs, database: str, key: str) -> None:
    mark = "?" if database == "jobs.db" else "%s"
    with closing(_connected(database)) as connection, connection:
        connection.execute(f"INSERT INTO orders VALUES ({mark})", (key,))
        jobs.using(connection=connection).enqueue("write_effect", "", key)


def _connected(database: str) -> Any:
    if database == "jobs.db":
        return sqlite3.connect(database, timeout=30)
    return psycopg.connect(database.replace("+psycopg", ""))


class History:
    """What the clients were told, against what is there."""

    def __init__(self, directory: Path) -> None:
        self.events: dict[str, set[str]] = {}
        for line in (directory / "history").read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                what, key = line.split()
                self.events.setdefault(key, set()).add(what)

    def broken_by(self, keys: Counter[str], orders: Counter[str]) -> list[str]:
        """Return what the rows owe to the clients; `keys` counts the jobs, `orders` the clients' own rows."""
        problems = [f"I2: {key} is there, and nobody has asked for it" for key in keys if key not in self.events]
        for key, told in self.events.items():
            whole = BATCH if key.startswith("batch") else 1
            if "ok" in told and keys[key] != whole:
                problems.append(f"I1: {key} was acknowledged, and {keys[key]} of {whole} are there")
            if told == {"invoked", "failed"} and keys[key]:
                problems.append(f"I2: {key} failed, and {keys[key]} are there")
            if keys[key] not in (0, whole):
                problems.append(f"I2: {keys[key]} of {whole} of {key} are there")
            if key.startswith("in_own") and keys[key] != orders[key]:
                problems.append(f"I6: {key} has {keys[key]} jobs and {orders[key]} orders")
        return problems

    def counts(self) -> dict[str, int]:
        """Return how many calls were made, and what was told of them."""
        counts = Counter(what for told in self.events.values() for what in told)
        silent = sum(told == {"invoked"} for told in self.events.values())
        return dict(counts) | {"killed in the call": silent}
