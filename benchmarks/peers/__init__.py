"""The other queues, in the order in which they are shown."""

from __future__ import annotations

from .base import Peer
from .celery import CeleryOnRedis
from .dbos import DbosOnSqlite
from .dramatiq import DramatiqOnRedis
from .flexiq import FlexiqOnSqlite, FlexiqTuned
from .huey import HueyOnSqlite
from .litequeue import Litequeue
from .on_postgres import SENDERS, PeerOnPostgres
from .ours import Ours, OursOnPostgres
from .persist_queue import PersistQueue
from .pgqueuer import PgQueuer, PgQueuerTuned
from .procrastinate import Procrastinate, ProcrastinateTuned
from .rq import RqOnRedis, RqSimple

__all__ = ["ON_POSTGRES", "PEERS", "SENDERS", "Ours", "OursOnPostgres", "Peer", "PeerOnPostgres", "peer_named"]

PEERS: list[type[Peer]] = [
    HueyOnSqlite,
    PersistQueue,
    Litequeue,
    FlexiqOnSqlite,
    FlexiqTuned,
    DbosOnSqlite,
    DramatiqOnRedis,
    CeleryOnRedis,
    RqOnRedis,
    RqSimple,
]

ON_POSTGRES: list[type[PeerOnPostgres]] = [
    OursOnPostgres,
    Procrastinate,
    ProcrastinateTuned,
    PgQueuer,
    PgQueuerTuned,
]
"""durablejobs and the others that keep their jobs there."""


def peer_named(name: str) -> type[Peer]:
    """Return the class of a peer, or of durablejobs."""
    return next(each for each in [Ours, *PEERS, *ON_POSTGRES] if each.name == name)
