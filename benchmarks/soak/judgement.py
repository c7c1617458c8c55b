"""The verdict: each criterion with what was measured and what is allowed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

from ..results import percentile

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Criterion:
    """One line of the verdict."""

    promise: str
    what: str
    measured: float
    allowed: float
    unit: str = ""
    at_least: bool = False
    """Whether `allowed` is the least instead of the most."""
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.measured >= self.allowed if self.at_least else self.measured <= self.allowed

    @property
    def bound(self) -> str:
        """What is allowed, in words."""
        return f"{'≥' if self.at_least else '≤'} {self.allowed:,g} {self.unit}".rstrip()

    def as_record(self) -> dict[str, Any]:
        return {**asdict(self), "examples": list(self.examples), "holds": self.holds, "bound": self.bound}


SHOWN: Final = 5


def none_of(promise: str, what: str, problems: Sequence[str]) -> Criterion:
    """Return a criterion that allows nothing."""
    return Criterion(promise, what, len(problems), 0, examples=tuple(problems[:SHOWN]))


def at_most(promise: str, what: str, measured: float, allowed: float, unit: str) -> Criterion:
    return Criterion(promise, what, round(measured, 3), allowed, unit)


def at_least(promise: str, what: str, measured: float, allowed: float, unit: str) -> Criterion:
    return Criterion(promise, what, round(measured, 3), allowed, unit, at_least=True)


def settled_part(points: Points, warm_up: float) -> list[tuple[float, float]]:
    """Return what was measured after the warm-up."""
    return [(moment, value) for moment, value in points if moment >= warm_up]


def slope(points: Points) -> float:
    """Return by how much the values rise in a second: the median of the slopes of all pairs, which no spike moves."""
    thinned = points[:: max(1, len(points) // 200)]
    rises = [
        (later - former) / (end - begin) for (begin, former), (end, later) in combinations(thinned, 2) if end > begin
    ]
    return statistics.median(rises) if rises else 0.0


def growth(points: Points, warm_up: float) -> float:
    """Return by how much the values have grown since the warm-up, by their slope."""
    settled = settled_part(points, warm_up)
    return slope(settled) * (settled[-1][0] - settled[0][0]) if len(settled) > 1 else 0.0


def wait_criteria(waits: dict[str, list[float]], longest: float) -> list[Criterion]:
    """Return what is asked of the waits: short in the middle, bounded at the end, and fair between handlers."""
    everything = [wait for each in waits.values() for wait in each]
    if not everything:
        return [none_of("I7", "no job has run", ["nothing was measured"])]
    medians = {handler: statistics.median(each) for handler, each in waits.items() if len(each) >= 5}
    worst = max(medians, key=lambda handler: medians[handler], default="")
    return [
        at_most("latency", "wait until a due job begins, median", statistics.median(everything), 0.25, "s"),
        at_most("latency", "the same, 99th percentile", percentile(everything, 99), longest / 2, "s"),
        at_most("I7", "the same, longest", max(everything), longest, "s"),
        at_most("fairness", f"median wait of the worst handler ({worst})", medians.get(worst, 0.0), 1.0, "s"),
    ]


def verdict(criteria: Sequence[Criterion]) -> str:
    """Return the table for people, and the last word."""
    rows = [
        (
            "ok" if each.holds else "BROKEN",
            each.promise,
            each.what,
            f"{each.measured:,g} {each.unit}".strip(),
            each.bound,
        )
        for each in criteria
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row, each in zip(rows, criteria, strict=True):
        lines.append("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        lines += [f"        {example}" for example in each.examples if not each.holds]
    broken = sum(not each.holds for each in criteria)
    return "\n".join([*lines, "", f"BROKEN: {broken} of {len(rows)}" if broken else f"all {len(rows)} hold"])
