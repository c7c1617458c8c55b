"""The app of the soak: handlers of every kind, each of which writes down when it begins and when it is done."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import create_engine, text

from durablejobs import Backoff, CurrentJob, DurableJobs, JobDefaults, Snooze, current_job

from .settings import DATABASE_VARIABLE, NOTES_VARIABLE, PLANTED_VARIABLE, RISKY

PLANTED: Final = frozenset(os.environ.get(PLANTED_VARIABLE, "").split(","))

jobs = DurableJobs(
    os.environ[DATABASE_VARIABLE], defaults=JobDefaults(backoff=Backoff(base=0.2, cap=2.0), max_attempts=5)
)

_leaked: list[Any] = []


def note(event: str, job: CurrentJob) -> None:
    """Write a line by one system call, so that it outlives the process and is never torn."""
    key = job.args[0] if job.args else "-"
    line = f"{event} {job.id} {job.attempt} {os.getpid()} {time.time():.6f} {job.handler} {job.queue} {key}\n"
    descriptor = os.open(os.environ[NOTES_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@jobs.middleware
def noted(job: CurrentJob) -> Iterator[None]:
    note("began", job)
    if "leaks" in PLANTED:
        # In every run, and so much that a few show: a busy machine gives the watched worker no more in a short soak.
        _leaked.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(8))
        _leaked.append(bytearray(os.urandom(1024) * 1024))
    try:
        yield
    except BaseException:
        note("raised", job)
        raise
    note("done", job)


@jobs.handler
def fast(key: str) -> str:
    return key


@jobs.handler(queue="bulk")
def batch(key: str) -> None:
    """One of several that are enqueued at once."""


@jobs.handler(queue="slow")
def slow(key: str, seconds: float) -> None:
    """Some take longer than the lease."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        current_job().check_cancelled()


@jobs.handler("async", queue="mail")
async def patient(key: str, seconds: float) -> None:
    await asyncio.sleep(seconds)


@jobs.handler
def flaky(key: str) -> None:
    """Fails twice, then succeeds."""
    if current_job().attempt - current_job().crashes <= 2:
        raise ConnectionError("not yet")


@jobs.handler(max_attempts=2)
def broken(key: str) -> None:
    raise ValueError("never")


@jobs.handler
def snoozed(key: str, until: float) -> None:
    if time.time() < until:
        raise Snooze(0.5)


@jobs.handler
def scheduled(key: str, due: float) -> None:
    """Must not begin before it is due."""


@jobs.handler
def never(key: str) -> None:
    """Is cancelled long before it is due."""


@jobs.handler(mode="process")
def process(key: str) -> int:
    return sum(range(10_000))


@jobs.handler(mode="process")
def poison(key: str) -> None:
    """Kills each process that it gets."""
    os._exit(3)


@jobs.handler(queue=RISKY)
def crash(key: str) -> None:
    """Kills its worker, once."""
    if current_job().crashes == 0:
        os.kill(os.getpid(), signal.SIGKILL)


@jobs.handler(queue="mail")
def effect(key: str) -> None:
    """Has an effect and a successor in the job's own transaction."""
    if "effects-alone" in PLANTED:
        _effect_by_itself(key)
        if current_job().attempt == 1:
            raise ConnectionError("after the effect")
        return
    with current_job().transaction() as connection:
        connection.execute(text("INSERT INTO soak_effects(name, job) VALUES (:key, :job)"), _own(key))
        receipt.using(connection=connection).enqueue(key)


@jobs.handler(queue="mail")
async def async_effect(key: str) -> None:
    async with current_job().transaction() as connection:
        connection.execute(text("INSERT INTO soak_effects(name, job) VALUES (:key, :job)"), _own(key))
        receipt.using(connection=connection).enqueue(key)


@jobs.handler(queue="bulk")
def receipt(key: str) -> None:
    """One for each effect."""


@jobs.handler
def unique(key: str) -> None:
    """Is enqueued twice with one unique key."""


@jobs.handler(queue="bulk")
def order(key: str) -> None:
    """Was enqueued in its client's own transaction."""


def _own(key: str) -> dict[str, Any]:
    return {"key": key, "job": current_job().id}


def _effect_by_itself(key: str) -> None:
    database = os.environ[DATABASE_VARIABLE]
    engine = create_engine(database if "://" in database else f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO soak_effects(name, job) VALUES (:key, :job)"), _own(key))
        connection.execute(text("SELECT 1"))
    engine.dispose()


def _forget_the_claim_token() -> None:
    """Take the token out of the statement that ends runs as succeeded, on SQLite and on PostgreSQL."""
    from durablejobs.store import endings

    correct, in_postgres = endings.succeed_statement, endings.SUCCEED_IN_POSTGRES.on_postgres("public")
    guards = ("AND jobs.claim_token = ended.column2", "AND public.jobs.claim_token = ended.token")
    assert guards[0] in correct(1)
    assert guards[1] in in_postgres.sql
    endings.succeed_statement = lambda count: correct(count).replace(guards[0], "")  # type: ignore[assignment]
    in_postgres.sql = in_postgres.sql.replace(guards[1], "")  # type: ignore[misc]


if "no-claim-token" in PLANTED:
    _forget_the_claim_token()
