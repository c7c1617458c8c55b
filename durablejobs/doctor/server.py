"""A PostgreSQL server: may it be trusted with jobs, does it let us work, do its clock and ours agree?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from ..store import Store
from ..store.server_state import ServerState
from .findings import Finding, advice, ok, wrong

SKEW: Final = 5.0
"""Seconds that two clocks may differ."""
SHORT: Final = 10.0
"""Seconds; a statement of ours takes less, but on a busy server not always much less."""
OLD: Final = 3600.0
"""Seconds after which a transaction that is still open does harm."""
_FEW_LEFT: Final = 0.9
"""The share of connections in use from which on a crowd of workers may find none."""


def check_server(store: Store) -> Iterator[Finding]:
    """Ask the server once, and look at everything that it says."""
    asked = time.time()
    state = store.checks.server_state()
    answered = time.time()
    if state is not None:
        yield from findings(state, state.time - (asked + answered) / 2, (answered - asked) / 2)


def findings(state: ServerState, skew: float = 0.0, uncertainty: float = 0.0) -> Iterator[Finding]:
    """Say what is to be said of a server, whose clock differs from ours by `skew` seconds, more or less."""
    yield _version(state)
    yield _writable(state)
    yield _durable(state)
    yield _timeouts(state)
    yield _connections(state)
    yield _vacuum(state)
    yield _clock(skew, SKEW + uncertainty)


def _version(state: ServerState) -> Finding:
    if state.is_supported:
        return ok("server", f"PostgreSQL {state.version}")
    return wrong(
        "server",
        f"PostgreSQL {state.version}",
        "It is older than what durablejobs is made for: workers refuse to start.",
        "Upgrade to PostgreSQL 14 or newer.",
    )


def _writable(state: ServerState) -> Finding:
    if state.is_standby:
        return wrong(
            "writable",
            "this server is a standby: it takes no writes",
            "No job can be enqueued or run through it. So it is too when the URL still names the old primary after a "
            "failover.",
            "Name the primary, or all servers with ?target_session_attrs=read-write in the URL.",
        )
    if state.is_read_only:
        return advice(
            "writable",
            "default_transaction_read_only is on for this user",
            "durablejobs asks for transactions that write, and gets them; programs that enqueue by SQL are refused.",
            "ALTER ROLE … SET default_transaction_read_only = off, unless it is meant so.",
        )
    return ok("writable", "a primary that takes writes")


def _durable(state: ServerState) -> Finding:
    if not state.fsync or not state.full_page_writes:
        off = " and ".join(
            name for name, is_on in (("fsync", state.fsync), ("full_page_writes", state.full_page_writes)) if not is_on
        )
        return wrong(
            "durability",
            f"{off} off",
            "A crash of the machine can damage the whole database, not only lose the last commits.",
            "Switch it on in postgresql.conf; it is off on servers for tests only.",
        )
    if state.synchronous_commit == "off":
        return advice(
            "durability",
            "synchronous_commit is off by default here",
            "durablejobs asks for it in its own transactions. Jobs that other programs insert by SQL, or that you "
            "enqueue in transactions of your own, may be lost by a crash although their commit had returned.",
            "ALTER ROLE … SET synchronous_commit = on for those who enqueue so.",
        )
    return ok("durability", f"fsync on, synchronous_commit {state.synchronous_commit}")


def _timeouts(state: ServerState) -> Finding:
    if 0 < state.statement_timeout < SHORT:
        return advice(
            "timeouts",
            f"statement_timeout is {state.statement_timeout:g} s for this user",
            "Workers set their own, 60 s, in transactions that write; listings, counts and checks of many jobs are "
            "ended by it, and so is what you enqueue in transactions of your own.",
            f"ALTER ROLE … SET statement_timeout to {SHORT:g} s or more for workers and operators.",
        )
    idle = state.idle_in_transaction_timeout
    if not idle:
        return ok("timeouts", "statements have time; idle_in_transaction_session_timeout is not set, workers set it")
    return ok("timeouts", f"statements have time; idle transactions of others end after {idle:g} s")


def _connections(state: ServerState) -> Finding:
    used = f"{state.connections} of {state.most_connections} connections are in use"
    if state.connections < _FEW_LEFT * state.most_connections:
        return ok("connections", used)
    return advice(
        "connections",
        used,
        "A worker takes up to DatabaseConfig(connections=10) and one for LISTEN, a program that enqueues up to 10. Who "
        "finds none tries again, and jobs wait meanwhile.",
        "Raise max_connections, lower connections=…, or put a pooler (PgBouncer, with ?listen=no) before the server.",
    )


def _vacuum(state: ServerState) -> Finding:
    if not state.autovacuum:
        return wrong(
            "autovacuum",
            "autovacuum is off, for the server or for the table jobs",
            "Each job leaves dead rows behind: claims get slower and the table grows without end.",
            "Switch it on: ALTER TABLE jobs RESET (autovacuum_enabled), autovacuum = on in postgresql.conf.",
        )
    if state.oldest_transaction > OLD:
        return advice(
            "autovacuum",
            f"a transaction in this database has been open for {state.oldest_transaction:,.0f} s",
            "While it is open no dead row is removed, and claims step over more and more of them.",
            "SELECT pid, usename, xact_start, query FROM pg_stat_activity ORDER BY xact_start; end it, and set "
            "idle_in_transaction_session_timeout for who forgot it.",
        )
    return ok("autovacuum", "on, and no transaction is so old that it would be in its way")


def _clock(skew: float, tolerance: float) -> Finding:
    if abs(skew) <= tolerance:
        return ok("clock", "this machine's clock and the server's agree")
    return advice(
        "clock",
        f"this machine's clock is {abs(skew):,.0f} s {'behind' if skew > 0 else 'ahead of'} the server's",
        "Jobs come due and leases end by the server's clock, so workers are right; a run_at that a program computes "
        "from this machine's clock comes due too late or too soon by that.",
        "Let both machines keep their time (chrony, systemd-timesyncd).",
    )
