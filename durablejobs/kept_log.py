"""Keeping what handlers write with the standard `logging`, for those that ask for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .current import log_keeping_job


class KeptLog(logging.Handler):
    """Gives the records of some handlers' runs to their jobs; which there are is up to the levels of the loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, if a job that keeps its log runs in this thread or task."""
        job = log_keeping_job()
        if job is None:
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit the message, an object that cannot be shown
            text = f"a record that cannot be formatted: {record.msg!r}"
        job.log(text, level=record.levelname.lower())


class _Keeping:
    """The logging of this process, which all its workers share: set up by the first, left as it was by the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers = 0
        self._added: list[logging.Handler] = []
        self._level: int | None = None
        """What the root logger's was, if it is another one now."""

    def begin(self) -> None:
        with self._lock:
            self._workers += 1
            if self._workers == 1:
                self._set_up(logging.getLogger())

    def end(self) -> None:
        with self._lock:
            self._workers -= 1
            if not self._workers:
                self._undo(logging.getLogger())

    def _set_up(self, root: logging.Logger) -> None:
        self._added = [KeptLog()]
        if not root.handlers:  # nobody has set up logging: warnings are printed as before, and INFO is kept as well
            self._added += [logging.lastResort] if logging.lastResort is not None else []
            self._level = root.level
            root.setLevel(min(root.level, logging.INFO))
        for each in self._added:
            root.addHandler(each)

    def _undo(self, root: logging.Logger) -> None:
        for each in self._added:
            root.removeHandler(each)
        if self._level is not None:
            root.setLevel(self._level)
            self._level = None


_KEEPING = _Keeping()


@contextmanager
def kept_log(is_wanted: bool) -> Iterator[None]:
    """Keep the logs of the runs that ask for it meanwhile, if there are handlers whose runs do."""
    if not is_wanted:
        yield
        return
    _KEEPING.begin()
    try:
        yield
    finally:
        _KEEPING.end()
