"""Concurrent writers share a commit.

The price of a durable commit is the sync, whatever it holds. So while one thread commits, the others that come put
their rows in a line; the next in line stores all of them in one transaction, and each returns only after that commit.

Threads that enqueue in a loop all come back right after their common commit, one after another, and the first of them
would go alone: every second commit would hold a single row. So it lingers for as many as shared the last commit, until
that is a millisecond ago. One thread alone never waits: it shared its last commit with nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, Generic, TypeVar

from ..errors import DatabaseError
from ..shielding import Shield

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGEST_GROUP: Final = 500
"""Items in one transaction, so that it stays short."""
LINGER: Final = 0.001
"""Seconds after a commit within which those who shared it are waited for."""


class _Entry(Generic[Item, Result]):
    """An item in the line, and what became of it."""

    __slots__ = ("error", "following", "has_left", "is_woken", "item", "leads", "result", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.leads = False
        """Woken to store the next group, its own item among them."""
        self.turn = threading.Lock()
        """Held until there is something to do or to return."""
        self.is_woken = False
        self.has_left = False
        self.following: _Entry[Item, Result] | None = None
        """Woken next: see `_wake`."""


class GroupCommit(Generic[Item, Result]):
    """Stores items of many threads in few transactions.

    `store_all` stores a group in one transaction, or nothing of it and raises; it returns a result, not None, for
    each item. `unknown` builds the error for those whose leader was interrupted: whether they are stored, nobody can
    tell. `refuse_to_wait` raises in a thread that the leader may be waiting for.
    """

    def __init__(
        self,
        store_all: Callable[[Sequence[Item]], Sequence[Result]],
        unknown: Callable[[str], Exception],
        refuse_to_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._store_all = store_all
        self._unknown = unknown
        self._refuse_to_wait = refuse_to_wait
        self._lock = threading.Lock()
        self._line: list[_Entry[Item, Result]] = []
        self._is_busy = False
        self._last_size = 1
        self._last_end = 0.0
        self._awaited: tuple[int, threading.Lock] | None = None
        """How long the line has to become for the leader who lingers, and what to release then."""

    def store(self, item: Item) -> Result:
        """Return the item's result once it is committed; raises what storing it raised.

        No timeout of a handler interrupts it: the others would wait for ever for who leads.
        """
        with Shield():
            return self._store(item)

    def _store(self, item: Item) -> Result:
        entry: _Entry[Item, Result] = _Entry(item)
        with self._lock:
            if self._is_busy:
                self._refuse_to_wait()
                entry.turn.acquire()
                self._line.append(entry)
                if self._awaited is not None and len(self._line) == self._awaited[0]:
                    (_, complete), self._awaited = self._awaited, None
                    complete.release()
            else:
                self._is_busy = entry.leads = True
        if not entry.leads:
            try:
                entry.turn.acquire()  # until a leader has stored it, or it leads itself
                self._wake(entry.following)
            except BaseException:  # Control-C, say
                self._leave_line(entry)
                raise
        if entry.leads:
            self._lead(entry)
        if entry.error is not None:
            raise entry.error
        return entry.result  # type: ignore[return-value]

    def store_together(self, items: Sequence[Item]) -> list[Result | Exception]:
        """Store items that have come together already, in a transaction of their own; return what became of each."""
        group: list[_Entry[Item, Result]] = [_Entry(item) for item in items]
        self._store_group(group)
        return [entry.result if entry.error is None else entry.error for entry in group]  # type: ignore[misc]

    def _lead(self, own: _Entry[Item, Result]) -> None:
        """Store the own item with those that wait, then hand the lead to the next in line."""
        group = [own]
        try:
            if self._last_size > 1:
                self._linger()
            with self._lock:
                group += self._line[: LARGEST_GROUP - 1]
                del self._line[: LARGEST_GROUP - 1]
            self._store_group(group)
        except BaseException:
            for entry in group[1:]:
                if entry.result is None and entry.error is None:
                    entry.error = self._unknown("the thread that stored it was interrupted")
            raise
        finally:
            self._last_size, self._last_end = len(group), time.monotonic()
            self._hand_over()
            for entry, following in pairwise(group):
                entry.following = following
            self._wake(own.following)

    def _linger(self) -> None:
        """Wait until as many are in the line as shared the last commit, if that was just now."""
        patience = self._last_end + LINGER - time.monotonic()
        complete = threading.Lock()
        complete.acquire()
        with self._lock:
            others = self._last_size - 1
            if patience <= 0 or len(self._line) >= others:
                return
            self._awaited = others, complete
        try:
            complete.acquire(timeout=patience)
        finally:
            self._awaited = None

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
        """Wait no longer: an item that no leader has taken yet is not stored, and what was just received is passed on.

        That is the lead, or the duty to wake the next.
        """
        with self._lock:
            entry.has_left = True
            if entry in self._line:
                self._line.remove(entry)
        if entry.leads:
            self._hand_over()
        elif entry.is_woken:
            self._wake(entry.following)

    def _wake(self, entry: _Entry[Item, Result] | None) -> None:
        """Wake the first of these that still waits, and he wakes the next.

        One after another: all at once would only wait for the interpreter lock, and a fifth fewer are stored then.
        """
        if entry is None:
            return
        with self._lock:
            while entry is not None and entry.has_left:
                entry = entry.following
            if entry is not None and not entry.is_woken:
                entry.is_woken = True
                entry.turn.release()

    def _hand_over(self) -> None:
        with self._lock:
            if self._line:
                next_leader = self._line.pop(0)
                next_leader.leads = next_leader.is_woken = True
                next_leader.turn.release()
            else:
                self._is_busy = False
