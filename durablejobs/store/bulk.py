"""Many rows in one transaction, as fast as they can be made.

One thread checks and encodes the next chunk while another stores the last one: the database works without the
interpreter lock. So a chunk is one statement, which gives the lock away once; row by row each thread would wait for
the other at every row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

Row = TypeVar("Row")

CHUNK: Final = 500
"""Rows that are prepared and stored at once."""


def store_as_they_come(rows: Iterable[Row], store: Callable[[list[Row]], int]) -> int:
    """Store rows chunk by chunk, holding few back; return how many were stored."""
    remaining, stored = iter(rows), 0
    chunk = list(islice(remaining, CHUNK))
    if len(chunk) < CHUNK:
        return store(chunk) if chunk else 0
    under_way: deque[Future[int]] = deque()
    with ThreadPoolExecutor(1, "durablejobs-insert") as storing:
        while chunk:
            under_way.append(storing.submit(store, chunk))
            if len(under_way) > 1:  # one lies ready, so that the other thread need not wait for this one
                stored += under_way.popleft().result()
            chunk = list(islice(remaining, CHUNK))
        return stored + sum(future.result() for future in under_way)


def store_in_this_thread(rows: Iterable[Row], store: Callable[[list[Row]], int]) -> int:
    """Do the same on a connection of the user's own, which another thread may not use."""
    remaining, stored = iter(rows), 0
    while chunk := list(islice(remaining, CHUNK)):
        stored += store(chunk)
    return stored
