"""Noticing a server that has fallen silent although the network between still acknowledges what is sent.

Keepalives and `tcp_user_timeout` notice a network that is gone. Where a proxy or a firewall keeps a connection alive
whose other half is dead, the kernel is content, and a statement would wait for ever. So whoever has waited for an
answer for some seconds asks on a second connection whether the server is still at it. If it does not answer, or has
long done what was asked, the silent connection is closed, and what waited gets an error as if it had been reset. A
statement that is at work, or waits for a lock, is left alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from typing import Any, Final

import psycopg
from psycopg.pq import ConnStatus
from psycopg.rows import TupleRow

log = logging.getLogger("durablejobs.store")

SILENCE: Final = 5.0
"""Seconds without a byte, after which somebody looks."""
LOOK: Final = 5.0
"""Seconds for each step of the look: connecting, and the answer."""

# Still at work, or so shortly at rest that its answer may be under way; NULL where nobody has such a session. One that
# waits for its client although it was sent all there is has not got all of it. What is at rest with our locks is ended.
_IS_AT_WORK: Final = (
    "SELECT (state NOT LIKE 'idle%%' AND wait_event_type IS DISTINCT FROM 'Client') "
    "OR state_change > clock_timestamp() - interval '1 second' FROM pg_stat_activity WHERE pid = %s"
)
_END: Final = "SELECT pg_terminate_backend(%s)"

Waiting = Generator[Any, Any, Any]
"""How psycopg waits: yields what it waits for, gets what has come of it, nothing after each interval."""


class WatchedConnection(psycopg.Connection[TupleRow]):
    """A connection that notices when its server has fallen silent."""

    parameters: dict[str, Any] | None = None
    """Where to look; None: at nothing."""
    has_own_session: bool = True
    """Whether the server knows this connection by its process id; not behind a pooler."""
    made_at = 0.0
    used_at: float | None = None
    """By the monotonic clock; None: never yet."""

    def __del__(self, *_warn: Any) -> None:
        """Close without psycopg's warning: who lets a `DurableJobs` go may leave it open, as with a file."""
        if hasattr(self, "pgconn"):
            self.pgconn.finish()

    @property
    def was_hung_up(self) -> bool:
        """Whether the server has ended this connection, at rest, and said so; one that just vanished looks alive."""
        try:
            self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return self.pgconn.status != ConnStatus.OK

    def answers(self) -> bool:
        """Return whether the server says anything."""
        try:
            self.execute("SELECT", prepare=False)
        except psycopg.OperationalError:
            return False
        return True

    def wait(self, gen: Waiting, *args: Any, **options: Any) -> Any:
        """Wait as psycopg does, with an eye on the silence."""
        return super().wait(gen if self.parameters is None else self._watched(gen), *args, **options)

    def _watched(self, gen: Waiting) -> Waiting:
        try:
            wanted = next(gen)
            heard_at = time.monotonic()
            while True:
                ready = yield wanted
                if ready:
                    wanted = gen.send(ready)
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > SILENCE:
                    self._look()
                    heard_at = time.monotonic()
        except StopIteration as end:
            return end.value

    def _look(self) -> None:
        assert self.parameters is not None
        session = self.pgconn.backend_pid if self.has_own_session else None
        began = time.monotonic()
        if _is_at_work(self.parameters, session):
            return
        self.pgconn.finish()
        silent = SILENCE + time.monotonic() - began
        log.warning("the server has been silent for %.0f s: the connection is closed", silent)
        raise psycopg.OperationalError(f"the server has been silent for {silent:.0f} s")


class _ImpatientConnection(psycopg.Connection[TupleRow]):
    """A connection on which no answer may take long."""

    def wait(self, gen: Waiting, *args: Any, **options: Any) -> Any:
        return super().wait(_limited(gen, time.monotonic() + LOOK), *args, **options)


def _limited(gen: Waiting, give_up: float) -> Waiting:
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                wanted = gen.send(ready)
            elif time.monotonic() > give_up:
                raise psycopg.OperationalError("no answer in time")
    except StopIteration as end:
        return end.value


def _is_at_work(parameters: dict[str, Any], session: int | None) -> bool:
    """Ask the server whether it lives, and whether it is at work on this session's statement."""
    try:
        with _ImpatientConnection.connect(
            **parameters | {"connect_timeout": max(2, int(LOOK))}, autocommit=True, prepare_threshold=None
        ) as connection:
            if session is None:
                connection.execute("SELECT 1")
                return True
            row = connection.execute(_IS_AT_WORK, (session,)).fetchone()
            if row is not None and row[0] is False:
                connection.execute(_END, (session,))  # its locks would be in everybody's way
            return row is not None and row[0] is not False
    except psycopg.Error as error:
        # A server that refuses, having too many connections for example, is alive: its other answers may come yet.
        return "FATAL" in str(error)
