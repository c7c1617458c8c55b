"""A transaction that writes, as far as it is the same on both databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any

from sqlalchemy import Connection


class Transaction(ABC):
    """A context manager: leaving it commits, an exception rolls back.

    A class and not a generator, because it is on the way of every single enqueue.
    """

    __slots__ = ("_connection", "_driver")

    _connection: Connection
    _driver: Any
    """The driver's connection beneath."""

    @abstractmethod
    def __enter__(self) -> Connection: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.commit()
        else:
            self.roll_back()
            self._raise_translated(error)

    def commit(self) -> None:
        """Commit, and let the next one in."""
        try:
            self._commit()
        finally:
            self._release()

    def roll_back(self) -> None:
        """Undo everything, and let the next one in."""
        try:
            self._roll_back()
        finally:
            self._release()

    @abstractmethod
    def _commit(self) -> None: ...

    @abstractmethod
    def _roll_back(self) -> None:
        """Leave nothing open; a connection that cannot even roll back is thrown away."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the transaction held: a connection, a place in the queue of writers."""

    @abstractmethod
    def _raise_translated(self, error: BaseException) -> None:
        """Raise our error for one of the driver's; return where it is another's."""
