"""The worker's alarm: the write-ahead log grows, because somebody keeps an old state open."""

from __future__ import annotations

import logging
from typing import Final

from ..clock import Clock
from . import files
from .findings import Level

log = logging.getLogger("durablejobs.worker")

LOOK_EVERY: Final = 30.0
"""Seconds between two looks at the length of the log, each of which is one `stat`."""
_LOUDER_BY: Final = 2
"""Said again when the log is so many times as long as when it was said last."""


class LogAlarm:
    """Warns of a log that is long, with who keeps it, and again each time that it has doubled."""

    def __init__(self, location: str, clock: Clock) -> None:
        self._files = files.Files.of(location)
        self._clock = clock
        self._next_look = clock.monotonic()
        self._warned_at = 0

    def look(self) -> None:
        """Look if it is time."""
        if self._clock.monotonic() < self._next_look:
            return
        self._next_look = self._clock.monotonic() + LOOK_EVERY
        length = self._files.log_bytes
        if length < files.LOG_IS_LONG:
            self._warned_at = 0
        elif length >= _LOUDER_BY * self._warned_at:
            self._warned_at = length
            finding = files.check_log(self._files)
            if finding.level is not Level.OK:
                log.warning("the write-ahead log grows: %s. %s", finding.what, finding.remedy)
