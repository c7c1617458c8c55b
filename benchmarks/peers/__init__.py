"""The other queues, in the order in which they are shown."""

from __future__ import annotations

from .base import Peer
from .celery import CeleryOnRedis
from .dbos import DbosOnSqlite
from .dramatiq import DramatiqOnRedis
from .flexiq import FlexiqOnSqlite, FlexiqTuned
from .huey import HueyOnSqlite
from .litequeue import Litequeue
from .ours import Ours
from .persist_queue import PersistQueue
from .rq import RqOnRedis, RqSimple

__all__ = ["PEERS", "Ours", "Peer", "peer_named"]

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


def peer_named(name: str) -> type[Peer]:
    """Return the class of a peer, or of durablejobs."""
    return next(each for each in [Ours, *PEERS] if each.name == name)
