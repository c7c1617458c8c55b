"""Memory, descriptors, threads of processes, and the size of the database, sample by sample."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from .company import Company, Member
from .settings import Settings
from .witness import Witness

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MB: Final = 1024 * 1024


@dataclass
class Samples:
    """Series of measured values by name; each value stands beside the second of its measurement."""

    settings: Settings
    began: float = field(default_factory=time.monotonic)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    most: dict[str, float] = field(default_factory=dict)
    """The highest value of all processes of a kind, whatever was done to them."""

    def take(self, company: Company, witness: Witness) -> None:
        """Measure everything once. The first worker and the first client are those that are left alone."""
        for kind, members in (("worker", company.workers), ("client", company.clients)):
            for number, member in enumerate(members):
                found = measured(member)
                for what, value in found.items():
                    self.most[f"{kind} {what}"] = max(value, self.most.get(f"{kind} {what}", 0.0))
                    if number == 0:
                        self._add(f"{kind} {what}", value)
        for what, value in self._database_sizes(witness).items():
            self._add(what, value)

    def _add(self, name: str, value: float) -> None:
        self.series[name].append((round(time.monotonic() - self.began, 2), round(value, 3)))

    def _database_sizes(self, witness: Witness) -> dict[str, float]:
        with witness.engine.connect() as connection:
            states = connection.execute(text("SELECT status, count(*) FROM jobs GROUP BY status")).all()
            sizes = {f"jobs {status}": float(number) for status, number in states}
            if not self.settings.is_sqlite:
                size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
                backends = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                sizes["connections"] = float(connection.execute(backends).scalar_one())
                return sizes | {"database MB": size / _MB}
        path = self.settings.path
        sizes["database MB"] = path.stat().st_size / _MB
        log = Path(f"{path}-wal")
        return sizes | {"log MB": log.stat().st_size / _MB if log.exists() else 0.0}

    def as_record(self) -> dict[str, Any]:
        return {name: [list(point) for point in points] for name, points in sorted(self.series.items())}


def measured(member: Member) -> dict[str, float]:
    """Return what a process holds; nothing where it is gone."""
    place = Path("/proc") / str(member.pid)
    with suppress(OSError, IndexError, StopIteration):
        status = (place / "status").read_text().splitlines()
        threads = next(line for line in status if line.startswith("Threads:"))
        return {
            "memory MB": int((place / "statm").read_text().split()[1]) * _PAGE / _MB,
            "descriptors": float(len(os.listdir(place / "fd"))),
            "threads": float(threads.split()[1]),
        }
    return {}
