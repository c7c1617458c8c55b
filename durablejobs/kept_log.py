"""Keeping what handlers write with the standard `logging`, for those that ask for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Set
from contextlib import contextmanager

from .current import running_job


class KeptLog(logging.Handler):
    """Gives the records of some handlers' runs to their jobs; levels and filters are the application's."""

    def __init__(self, handlers: Set[str]) -> None:
        super().__init__()
        self._handlers = handlers

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, if a job that keeps its log runs in this thread or task."""
        job = running_job()
        if job is None or job.handler not in self._handlers:
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit the message, an object that cannot be shown
            text = f"a record that cannot be formatted: {record.msg!r}"
        job.log(text, level=record.levelname.lower())


@contextmanager
def kept_log(handlers: Set[str]) -> Iterator[None]:
    """Keep the logs of these handlers' runs meanwhile."""
    if not handlers:
        yield
        return
    keeper, root = KeptLog(handlers), logging.getLogger()
    root.addHandler(keeper)
    try:
        yield
    finally:
        root.removeHandler(keeper)
