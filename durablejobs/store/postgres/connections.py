"""The connections of this process to one server: a pool of sessions, and how transactions begin in them.

Habits of PostgreSQL and its poolers that this file answers:

- A connection may be gone without a sign. One on which the server has hung up is seen when it leaves the pool; one on
  which BEGIN fails is replaced by a new one, once: nothing has happened on it yet.
- A session keeps what is set in it, and ours are set up once. Behind a pooler each transaction may get another
  session: there everything is set in each transaction. Whether there is one is not left to the settings alone, for
  who forgets them would lose durability without a sign: a pooler cannot tell its clients the server's process ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from ...config import DatabaseConfig
from ...errors import CommitUnknownError
from ..hot import driver_of
from .address import Address
from .connecting import DriverConnection, connect
from .driver_errors import first_line, postgres_error
from .transactions import RESET, beginnings, session

LONG_UNUSED: Final = 60.0
"""Seconds after which a connection has to answer before it is used: of a statement that commits itself nobody could
say what has become of it."""

_abandoned: list[object] = []
"""What a forked child inherited and must never close: it would say goodbye on the parent's socket."""


class Connections:
    """A pool; `learn` is told the server's time with each beginning, and when it was asked for."""

    def __init__(self, address: Address, config: DatabaseConfig, learn: Callable[[int, int], None]) -> None:
        self._address = address
        self._config = config
        self._learn = learn
        self._session = session(config.busy_timeout)
        self._beginnings = {is_own: beginnings(config.busy_timeout, is_own) for is_own in (True, False)}
        self.has_own_sessions = address.listens
        """Whether a connection keeps its session at the server; known when there has been one."""
        self._stale_until = 0.0
        self.engine = self._new_engine()

    def forget_after_fork(self) -> None:
        """In a forked child: start with no connection, and never close the parent's."""
        _abandoned.append(self.engine)
        self.engine = self._new_engine()

    def _new_engine(self) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            poolclass=QueuePool,
            pool_size=self._config.connections,
            max_overflow=0,
            pool_timeout=self._config.busy_timeout,
            pool_use_lifo=True,
            use_native_hstore=False,
        )
        event.listen(engine, "checkout", self._refuse_stale)
        return engine.execution_options(schema_translate_map={None: self._address.schema})

    def connect(self) -> DriverConnection:
        """Return a connection beside the pool, for who keeps it."""
        connection = connect(self._address.parameters, self._address.listens)
        if self._address.listens:
            row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
            connection.has_own_session = row == (connection.pgconn.backend_pid,)
            self.has_own_sessions = self.has_own_sessions and connection.has_own_session
        self.set_up(connection)
        return connection

    def set_up(self, driver: DriverConnection) -> None:
        """Make the session of a new connection ours."""
        if driver.has_own_session:
            driver.execute(self._session, prepare=False)

    def clean(self, driver: DriverConnection) -> None:
        """Make the session ours again after it was lent to somebody who may have set anything, himself included."""
        if driver.has_own_session:
            driver.execute(f"{RESET}; {self._session}", prepare=False)

    def _refuse_stale(self, driver: DriverConnection, *_: object) -> None:
        """Let the pool make a new connection in place of one that is dead, or no better than another that was."""
        now = time.monotonic()
        if driver.used_at is None:  # made for this use: whatever is wrong with it, another would be no better
            driver.used_at = now
            return
        if driver.made_at < self._stale_until or driver.was_hung_up:
            raise DisconnectionError
        if now - driver.used_at > LONG_UNUSED and not driver.answers():
            self._stale_until = now
            raise DisconnectionError
        driver.used_at = now

    def begin_reading(self) -> Connection:
        """Return a connection in a transaction that reads."""
        return self._begin("reading")

    def begin_writing(self) -> Connection:
        """Return a connection in a transaction that writes."""
        return self._begin("writing")

    def begin_hot(self) -> Connection:
        """Return a connection in a transaction that runs hot statements alone."""
        return self._begin("hot")

    def _begin(self, way: Literal["reading", "writing", "hot"]) -> Connection:
        try:
            return self._begun(self.engine.connect(), way)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith("57P"):
                raise
        # The server hung up while the connection lay in the pool; the others there are no better.
        self._stale_until = time.monotonic()
        return self._begun(self.engine.connect(), way)

    def _begun(self, connection: Connection, way: Literal["reading", "writing", "hot"]) -> Connection:
        asked_at = time.monotonic_ns()
        try:
            driver: DriverConnection = driver_of(connection)
            beginning: str = getattr(self._beginnings[driver.has_own_session], way)
            cursor = driver.execute(beginning, prepare=False)
            cursor.nextset()
            ((server_time, *_),) = cursor
            self._learn(server_time, asked_at)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def run_at_once(self, sql: str, values: Sequence[Any], writes: bool = True) -> list[Any]:
        """Run a hot statement that is a transaction of its own, in one round trip; return its rows.

        Raises `CommitUnknownError` when the connection is lost while it writes.
        """
        pooled = self.engine.raw_connection()
        driver: Any = pooled.driver_connection
        try:
            rows: list[Any] = driver.execute(sql, values).fetchall()
        except BaseException as error:
            cause, is_lost = postgres_error(error), driver.closed
            if cause is None or is_lost or driver.info.transaction_status is not TransactionStatus.IDLE:
                pooled.invalidate()
            if is_lost:
                self._stale_until = time.monotonic()  # the others in the pool are no better
            if writes and cause is not None and is_lost:
                raise CommitUnknownError(self._address.location, first_line(cause)) from error
            raise
        finally:
            pooled.close()
        return rows
