"""The job that every system runs when systems are compared: it notes when it began, and when it was sent.

A note is 16 bytes appended to a file, about a microsecond, so that it works in threads, forks and pools alike; the
clock is `time.monotonic_ns`, which all processes of a machine share on Linux.
"""

from __future__ import annotations

import os
import struct
import time
from functools import cache
from pathlib import Path

VARIABLE = "DURABLEJOBS_BENCHMARK_METER"
"""The environment variable with the path of the file."""

_NOTE = struct.Struct("=qq")


@cache
def _file(_process: int) -> int:
    return os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def tick(sent: int = 0) -> None:
    """Note the moment; `sent` is the moment of the enqueue, 0 where nobody asks."""
    os.write(_file(os.getpid()), _NOTE.pack(time.monotonic_ns(), sent))


class Meter:
    """Reads what the jobs have noted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def count(self) -> int:
        return self.path.stat().st_size // _NOTE.size if self.path.exists() else 0

    def _notes(self) -> list[tuple[int, int]]:
        return sorted(_NOTE.iter_unpack(self.path.read_bytes()))

    def rate(self) -> float:
        """Jobs per second between the first start and the last."""
        notes = self._notes()
        return (len(notes) - 1) / ((notes[-1][0] - notes[0][0]) / 1e9)

    def latencies(self) -> list[float]:
        """Milliseconds from the enqueue's call to the handler's start."""
        return [(began - sent) / 1e6 for began, sent in self._notes() if sent]
