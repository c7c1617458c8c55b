"""What a measurement is: the median of several turns, with the lowest and the highest, against its target."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .sizes import Sizes
from .targets import target_named

NOISY = 1.3
"""Where what we compare with varies by more than this factor, the row says so."""


@dataclass(frozen=True)
class Measurement:
    """One figure of the table."""

    name: str
    value: float | None
    """The median; None: it could not be measured, the note says why."""
    low: float | None = None
    high: float | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    """What it was computed from."""

    @property
    def verdict(self) -> str:
        """met, missed, shown (nothing was promised), or skipped."""
        target = target_named(self.name)
        if self.value is None:
            return "skipped"
        if target.bound is None:
            return "shown"
        met = self.value >= target.bound if target.direction == "at least" else self.value <= target.bound
        return "met" if met else "missed"

    def as_record(self) -> dict[str, Any]:
        """Return what the JSON file keeps."""
        target = target_named(self.name)
        return {
            **asdict(self),
            "title": target.title,
            "unit": target.unit,
            "promise": target.promise,
            "verdict": self.verdict,
        }


def skipped(name: str, why: str) -> Measurement:
    """Return a row that could not be measured."""
    return Measurement(name, None, note=why)


def spread(name: str, values: Sequence[float], note: str = "", **details: Any) -> Measurement:
    """Return the median of the values with their extremes."""
    return Measurement(name, statistics.median(values), min(values), max(values), note, details)


def ratio(name: str, ours: Sequence[float], base: Sequence[float], note: str = "", **details: Any) -> Measurement:
    """Return the median of the ratios of measurements that were taken in turns."""
    ratios = [mine / other for mine, other in zip(ours, base, strict=True)]
    noise = max(base) / min(base)
    if noise > NOISY:
        note = f"{note}; " if note else ""
        note += f"a noisy machine: the other side alone varied by {noise:.1f} × between turns"
    return spread(name, ratios, note, ours=list(ours), base=list(base), **details)


def in_turns(rounds: int, *measure: Callable[[], float]) -> list[list[float]]:
    """Call the functions one after another, so many times round; return the values of each."""
    values: list[list[float]] = [[] for _ in measure]
    for _ in range(rounds):
        for function, found in zip(measure, values, strict=True):
            found.append(function())
    return values


def percentile(values: Sequence[float], per_cent: float) -> float:
    """Return the value below which so many per cent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]


@dataclass
class Run:
    """What the measurements are given, and where they leave series for the pictures."""

    sizes: Sizes
    scratch: Path
    say: Callable[[str], None]
    series: dict[str, Any] = field(default_factory=dict)

    def fresh(self) -> str:
        """Return the path of a directory that nobody has used."""
        return tempfile.mkdtemp(dir=self.scratch)

    def clean_up(self) -> None:
        """Remove the files of a family, so that their writing back does not disturb the next."""
        for place in self.scratch.iterdir():
            shutil.rmtree(place, ignore_errors=True)
        os.sync()
