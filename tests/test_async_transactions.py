"""Enqueueing in the user's own transaction on an event loop: with SQLAlchemy's asyncio extension, and with psycopg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from durablejobs import ConfigurationError, DurableJobs

from .conftest import Sql

ORDER: Final = "INSERT INTO orders VALUES (7)"
STORED: Final = "SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM jobs) AS jobs"

Execute = Callable[[str], Any]
Opened = Callable[[str], AbstractAsyncContextManager[tuple[Any, Execute]]]


@asynccontextmanager
async def by_sqlalchemy(url: str) -> AsyncIterator[tuple[Any, Execute]]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        yield connection, lambda statement: connection.execute(text(statement))
    await engine.dispose()


@asynccontextmanager
async def by_session(url: str) -> AsyncIterator[tuple[Any, Execute]]:
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session:
        yield session, lambda statement: session.execute(text(statement))
    await engine.dispose()


@asynccontextmanager
async def by_psycopg(url: str) -> AsyncIterator[tuple[Any, Execute]]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(plain) as connection:
        yield connection, lambda statement: connection.execute(statement)


def with_asyncpg(url: str) -> AbstractAsyncContextManager[tuple[Any, Execute]]:
    pytest.importorskip("asyncpg")
    parts = make_url(url)
    return by_sqlalchemy(parts.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False))


@pytest.fixture
def url(postgres_url: str, sql: Sql) -> str:
    sql("DROP TABLE IF EXISTS orders")
    sql("CREATE TABLE orders(id INTEGER)")
    return postgres_url


ON_AN_EVENT_LOOP: Final = [by_sqlalchemy, by_session, by_psycopg]


@pytest.fixture(params=["postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


pytestmark = pytest.mark.conformance


@pytest.fixture(autouse=True)
def _greenlet() -> None:
    pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio extension needs it")


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("opened", ON_AN_EVENT_LOOP)
def test_the_job_has_the_fate_of_the_order(jobs: DurableJobs, url: str, sql: Sql, opened: Opened, ends: str) -> None:
    async def order() -> None:
        async with opened(url) as (connection, execute):
            await execute(ORDER)
            job = await jobs.using(connection=connection, delay=60).aenqueue("mail", "a@b.c")
            batch = await jobs.using(connection=connection).aenqueue_many("mail", [["x"], ["y"]])
            assert (job.id, batch.count) == (1, 2)
            assert sql(STORED) == [{"orders": 0, "jobs": 0}]
            await getattr(connection, ends)()

    asyncio.run(order())
    is_kept = ends == "commit"
    assert sql(STORED) == [{"orders": int(is_kept), "jobs": 3 * is_kept}]
    if is_kept:
        assert jobs.get(1).run_at > jobs.get(2).run_at


@pytest.mark.parametrize("opened", ON_AN_EVENT_LOOP)
def test_a_unique_key_holds_there_too(jobs: DurableJobs, url: str, opened: Opened) -> None:
    first = jobs.using(unique_key="k").enqueue("mail")

    async def again() -> None:
        async with opened(url) as (connection, _):
            client = jobs.using(connection=connection, unique_key="k")
            job = await client.aenqueue("mail")
            assert (job.id, job.is_duplicate) == (first.id, True)
            replaced = await client.using(on_conflict="replace").aenqueue("mail", "other")
            assert replaced.id == first.id
            await connection.commit()

    asyncio.run(again())
    assert jobs.get(first.id).args == ["other"]


@pytest.mark.parametrize("opened", ON_AN_EVENT_LOOP)
def test_the_loop_goes_on_while_a_lock_is_waited_for(jobs: DurableJobs, url: str, sql: Sql, opened: Opened) -> None:
    async def wait_in_vain() -> None:
        async with opened(url) as (connection, execute):
            await execute("SET LOCAL lock_timeout = '10s'")
            with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string()) as locking:
                locking.execute("LOCK TABLE jobs")
                enqueueing = asyncio.ensure_future(jobs.using(connection=connection).aenqueue("mail"))
                while not sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.01)
                assert not enqueueing.done()
            await enqueueing
            await connection.commit()

    asyncio.run(wait_in_vain())
    assert sql(STORED) == [{"orders": 0, "jobs": 1}]


@pytest.mark.parametrize("opened", [by_sqlalchemy, by_psycopg])
def test_the_plain_verb_names_the_one_for_the_loop(jobs: DurableJobs, url: str, opened: Opened) -> None:
    async def enqueue() -> None:
        async with opened(url) as (connection, _):
            with pytest.raises(ConfigurationError, match=r"not AsyncConnection; it takes `await ….aenqueue\(…\)`"):
                jobs.using(connection=connection).enqueue("mail")

    asyncio.run(enqueue())


def test_asyncpg_is_refused_with_the_driver_that_works(jobs: DurableJobs, url: str) -> None:
    async def enqueue() -> None:
        async with with_asyncpg(url) as (connection, _):
            with pytest.raises(ConfigurationError, match=r"driver asyncpg.*postgresql\+psycopg"):
                await jobs.using(connection=connection).aenqueue("mail")

    asyncio.run(enqueue())
