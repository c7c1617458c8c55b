"""Keeping what handlers write with the standard `logging`, for those that ask for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Set
from contextlib import contextmanager

from .current import running_job


class KeptLog(logging.Handler):
    """Gives the records of some handlers' runs to their jobs; which there are is up to the levels of the loggers."""

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
    root = logging.getLogger()
    level = root.level
    added: list[logging.Handler] = [KeptLog(handlers)]
    if not root.handlers:  # nobody has set up logging: warnings are printed as before, and INFO is kept as well
        added += [logging.lastResort] if logging.lastResort is not None else []
        root.setLevel(min(level, logging.INFO))
    for each in added:
        root.addHandler(each)
    try:
        yield
    finally:
        for each in added:
            root.removeHandler(each)
        root.setLevel(level)
