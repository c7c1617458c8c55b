"""What a database server says of itself, for who looks whether all is well."""

from __future__ import annotations

from typing import NamedTuple


class ServerState(NamedTuple):
    """Settings as a session of this user has them, and how the server fares; times are seconds."""

    version: str
    is_supported: bool
    is_standby: bool
    is_read_only: bool
    """Whether transactions of this user may write nothing unless they ask for it."""
    synchronous_commit: str
    fsync: bool
    full_page_writes: bool
    autovacuum: bool
    """Of the server, and of the table `jobs`."""
    statement_timeout: float
    """0: none."""
    idle_in_transaction_timeout: float
    connections: int
    most_connections: int
    """Without those that are reserved for administrators."""
    oldest_transaction: float
    """How long the oldest one of this database has been open, as far as this user may see."""
    time: float
    """Since 1970."""
