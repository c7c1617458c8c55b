"""Concurrent writers share a commit.

The price of a durable commit is the sync, whatever it holds. So while one thread commits, the others that come put
their rows in a line; the next in line stores all of them in one transaction, and each returns only after that commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from ..errors import DatabaseError

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGEST_GROUP: Final = 500
"""Items in one transaction, so that it stays short."""


class _Entry(Generic[Item, Result]):
    """An item in the line, and what became of it."""

    __slots__ = ("error", "item", "leads", "result", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.leads = False
        """Woken to store the next group, its own item among them."""
        self.turn = threading.Lock()
        """Held until there is something to do or to return."""


class GroupCommit(Generic[Item, Result]):
    """Stores items of many threads in few transactions.

    `store_all` stores a group in one transaction, or nothing of it and raises; it returns a result, not None, for
    each item. `unknown` builds the error for those whose leader was interrupted: whether they are stored, nobody can
    tell.
    """

    def __init__(
        self, store_all: Callable[[Sequence[Item]], Sequence[Result]], unknown: Callable[[str], Exception]
    ) -> None:
        self._store_all = store_all
        self._unknown = unknown
        self._lock = threading.Lock()
        self._line: list[_Entry[Item, Result]] = []
        self._is_busy = False

    def store(self, item: Item) -> Result:
        """Return the item's result once it is committed; raises what storing it raised."""
        entry: _Entry[Item, Result] = _Entry(item)
        with self._lock:
            if self._is_busy:
                entry.turn.acquire()
                self._line.append(entry)
            else:
                self._is_busy = entry.leads = True
        if not entry.leads:
            try:
                entry.turn.acquire()  # until a leader has stored it, or it leads itself
            except BaseException:  # Control-C, say
                self._leave_line(entry)
                raise
        if entry.leads:
            self._lead(entry)
        if entry.error is not None:
            raise entry.error
        return entry.result  # type: ignore[return-value]

    def _lead(self, own: _Entry[Item, Result]) -> None:
        """Store the own item with those that wait, then hand the lead to the next in line."""
        with self._lock:
            group = [own, *self._line[: LARGEST_GROUP - 1]]
            del self._line[: LARGEST_GROUP - 1]
        try:
            self._store_group(group)
        except BaseException:
            for entry in group[1:]:
                if entry.result is None and entry.error is None:
                    entry.error = self._unknown("the thread that stored it was interrupted")
            raise
        finally:
            self._hand_over()
            for entry in group[1:]:
                entry.turn.release()

    def _store_group(self, group: list[_Entry[Item, Result]]) -> None:
        try:
            results = self._store_all([entry.item for entry in group])
        except DatabaseError as error:  # concerns all alike; trying again might store twins
            for entry in group:
                entry.error = error
        except Exception as error:  # noqa: BLE001 - raised again in the thread that it concerns
            if len(group) == 1:
                group[0].error = error
            else:  # one item spoilt the group, and nothing is stored: each has its own answer
                for entry in group:
                    self._store_group([entry])
        else:
            for entry, result in zip(group, results, strict=True):
                entry.result = result

    def _leave_line(self, entry: _Entry[Item, Result]) -> None:
        """Wait no longer: an item that no leader has taken yet is not stored, and a lead just received is passed on."""
        with self._lock:
            if entry in self._line:
                self._line.remove(entry)
                return
        if entry.leads:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            if self._line:
                next_leader = self._line.pop(0)
                next_leader.leads = True
                next_leader.turn.release()
            else:
                self._is_busy = False
