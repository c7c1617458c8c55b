"""What a queue must offer to be compared: put a job in, and work until it is stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal


class Peer(ABC):
    """One queue, in a directory of its own; made anew in each process that uses it.

    The job is `benchmarks.meter.tick` with one whole number. `enqueue` returns when the system says that the job is
    stored; `work` runs jobs, one at a time, until the process is stopped.
    """

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]] = ()
    """What pip installs; the first one's version is shown."""
    server: ClassVar[Literal["redis", "postgres"] | None] = None
    """What must run for it; `address` is its socket's path, or the URL of a database of its own."""
    keeps_jobs: ClassVar[bool] = True
    """Whether a job is still there after its worker was killed in the middle of it (back by itself or by hand)."""
    dispatches: ClassVar[bool] = True
    """Whether it has a worker that finds and calls handlers; otherwise a bare loop stands in for one."""
    share: ClassVar[float] = 1.0
    """Jobs given to it, against the others: slow systems get fewer, the rate is what counts."""
    durability: ClassVar[str]
    """How it was set to keep jobs through a power cut, and what it does not keep."""

    def __init__(self, place: Path, address: str) -> None:
        self.place = place
        self.address = address

    @abstractmethod
    def enqueue(self, sent: int) -> None:
        """Store one job."""

    @abstractmethod
    def work(self) -> None:
        """Run jobs for ever."""
