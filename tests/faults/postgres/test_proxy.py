"""The proxy does what the tests of faults rely on, to plain connections of psycopg."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from ...worker.harness import wait_until
from .proxy import CONNECT, Effect, Moment, Proxy

Connect = Callable[[], psycopg.Connection[Any]]


@pytest.fixture
def connect(proxied_url: str) -> Iterator[Connect]:
    """Connect by way of the proxy; each statement commits by itself."""
    opened: list[psycopg.Connection[Any]] = []

    def open_one() -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(proxied_url.replace("+psycopg", ""), autocommit=True))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def rows(postgres_url: str) -> Iterator[Callable[[], int]]:
    """Make a table; say how many rows it has, asked past the proxy."""
    with closing(psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True)) as direct:
        direct.execute("CREATE TABLE IF NOT EXISTS proxied (number integer)")

        def count() -> int:
            found = direct.execute("SELECT count(*) FROM proxied").fetchone()
            return int(found[0]) if found else 0

        yield count
        direct.execute("DROP TABLE proxied")


def add_row(connection: psycopg.Connection[Any]) -> None:
    connection.execute("BEGIN")
    connection.execute("INSERT INTO proxied VALUES (%s)", (1,))
    connection.execute("COMMIT")


def test_everything_passes_and_each_request_is_noted(connect: Connect, proxy: Proxy, rows: Callable[[], int]) -> None:
    connection = connect()
    add_row(connection)
    large = "x" * 3_000_000
    assert connection.execute("SELECT %s", (large,)).fetchone() == (large,)
    for number in range(8):  # prepared by the driver after some runs: then only the name goes over the wire
        assert connection.execute("SELECT %s::int + 1", (number,)).fetchone() == (number + 1,)
    with connection.cursor().copy("COPY proxied FROM STDIN") as copy:
        copy.write("1\n2\n")
    assert rows() == 3
    assert proxy.requests[:4] == [CONNECT, "BEGIN", "INSERT INTO proxied VALUES ($1)", "COMMIT"]
    assert proxy.requests.count("SELECT $1::int + 1") >= 8


@pytest.mark.parametrize(("moment", "stored"), [(Moment.BEFORE, 0), (Moment.AFTER, 1)])
def test_a_commit_is_cut_off_before_or_after_the_server_has_done_it(
    connect: Connect, proxy: Proxy, rows: Callable[[], int], moment: Moment, stored: int
) -> None:
    connection = connect()
    trap = proxy.trap("COMMIT", moment)
    with pytest.raises(psycopg.OperationalError):
        add_row(connection)
    trap.wait()
    assert connection.closed
    assert rows() == stored
    add_row(connect())  # once is enough
    assert rows() == stored + 1


def test_the_first_matches_can_be_let_through(connect: Connect, proxy: Proxy, rows: Callable[[], int]) -> None:
    connection = connect()
    proxy.trap("INSERT", Moment.BEFORE, skip=2)
    add_row(connection)
    add_row(connection)
    with pytest.raises(psycopg.OperationalError):
        add_row(connection)
    assert rows() == 2


@pytest.mark.parametrize("moment", Moment)
def test_a_new_connection_can_be_cut_off(connect: Connect, proxy: Proxy, moment: Moment) -> None:
    proxy.trap(CONNECT, moment)
    with pytest.raises(psycopg.OperationalError):
        connect()
    connect().execute("SELECT 1")


@pytest.mark.parametrize("moment", Moment)
def test_silence_keeps_what_was_sent_until_it_ends(
    connect: Connect, proxy: Proxy, rows: Callable[[], int], moment: Moment
) -> None:
    connection = connect()
    trap = proxy.trap("COMMIT", moment, Effect.SILENCE)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add_row, connection)
        trap.wait()
        assert rows() == (1 if moment is Moment.AFTER else 0)
        assert not adding.done()
        assert connect().execute("SELECT 1").fetchone() == (1,)  # it is about that connection alone
        proxy.silence()
        proxy.speak()
        adding.result(20)
    assert rows() == 1


def test_in_general_silence_new_connections_get_no_answer(connect: Connect, proxy: Proxy) -> None:
    proxy.silence()
    with ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(connect)
        wait_until(lambda: proxy.connections == 1, "the client has come")
        assert not connecting.done()
        proxy.speak()
        connecting.result(20)


def test_all_connections_are_reset(connect: Connect, proxy: Proxy) -> None:
    connections = [connect(), connect()]
    proxy.reset()
    assert proxy.connections == 0
    for connection in connections:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_new_connections_are_refused_for_a_while(connect: Connect, proxy: Proxy) -> None:
    old = connect()
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        connect()
    old.execute("SELECT 1")
    proxy.refuse(False)
    connect().execute("SELECT 1")


def test_answers_are_delayed(connect: Connect, proxy: Proxy) -> None:
    connection = connect()
    proxy.delay(0.2)
    began = time.monotonic()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert time.monotonic() - began >= 0.2


def test_a_client_that_leaves_is_forgotten(connect: Connect, proxy: Proxy) -> None:
    connect().close()
    wait_until(lambda: proxy.connections == 0, "the proxy has seen it")
    threads = [thread.name for thread in threading.enumerate()]
    proxy.close()
    assert threads.count("proxy") == 1
