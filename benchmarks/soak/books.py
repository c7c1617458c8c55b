"""What clients and handlers wrote down during a soak."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from .settings import BATCH, MAX_CRASHES
from .witness import EndedJob


class Note(NamedTuple):
    """A handler `began`, was `done`, or has `raised`."""

    event: str
    job: int
    attempt: int
    pid: int
    at: float
    handler: str
    queue: str
    key: str


def _whole_lines(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open() as file:
            yield from (line for line in file if line.endswith("\n"))


def read_notes(path: Path) -> list[Note]:
    """Return the handlers' notes in the order in which they were written."""
    notes = []
    for line in _whole_lines(path):
        event, job, attempt, pid, at, handler, queue, key = line.split()
        notes.append(Note(event, int(job), int(attempt), int(pid), float(at), handler, queue, key))
    return notes


@dataclass
class History:
    """What the clients asked, and what they were told."""

    told: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> History:
        history = cls()
        for line in _whole_lines(path):
            what, key = line.split()
            history.told.setdefault(key, set()).add(what)
        return history

    def counts(self) -> dict[str, int]:
        """Return how many calls were made, and what was told of them."""
        counts = Counter(what for told in self.told.values() for what in told)
        return {**counts, "killed in the call": sum(told == {"invoked"} for told in self.told.values())}

    def lost(self, stored: Counter[str]) -> list[str]:
        """Return the acknowledged calls whose jobs were never there as a whole (I1)."""
        return [
            f"{key}: {stored[key]} of {_whole(key)} jobs"
            for key, told in self.told.items()
            if "ok" in told and stored[key] < _whole(key)
        ]

    def phantoms(self, stored: Counter[str]) -> list[str]:
        """Return the jobs that nobody has asked for, or more of them, or a part, or after a refusal (I2)."""
        problems = [f"{key}: nobody has asked for it" for key in stored if key not in self.told]
        for key, told in self.told.items():
            kind, whole = kind_of(key), _whole(key)
            if kind != "unique" and stored[key] not in (0, whole):
                problems.append(f"{key}: {stored[key]} jobs for {whole}")
            if kind != "unique" and "failed" in told and "ok" not in told and stored[key]:
                problems.append(f"{key}: was refused, and is there")
        return problems

    def not_cancelled(self, ended: Iterable[EndedJob]) -> list[str]:
        """Return the jobs whose cancel was acknowledged, and that ended otherwise."""
        return [
            f"job {job.id} ({job.key}) is {job.status}"
            for job in ended
            if "cancelled" in self.told.get(job.key, ()) and job.status != "cancelled"
        ]


def _whole(key: str) -> int:
    return BATCH if kind_of(key) == "batch" else 1


def kind_of(key: str) -> str:
    return key.partition("-")[0]


def stored_keys(ended: Iterable[EndedJob]) -> Counter[str]:
    """Return how many jobs of each key were there; the successors of effects are not their clients' jobs."""
    return Counter(job.key for job in ended if job.handler != "receipt")


def not_finished_runs(ended: Iterable[EndedJob], notes: Iterable[Note], clock_error: float = 0.005) -> list[str]:
    """Return the jobs that succeeded without that this attempt had been done by then (I5).

    The moments of the rows may be too early by the error of the clock.
    """
    done: dict[tuple[int, int], float] = {}
    for note in notes:
        if note.event == "done":
            done.setdefault((note.job, note.attempt), note.at)
    problems = []
    for job in ended:
        at = done.get((job.id, job.attempt))
        if job.status == "succeeded" and (at is None or at > job.finished_at + clock_error):
            when = "not done" if at is None else f"done {at - job.finished_at:.3f} s after its end"
            problems.append(f"job {job.id} ({job.key}) attempt {job.attempt}: {when}")
    return problems


def wrong_effects(ended: Iterable[EndedJob], effects: Counter[int], orders: Counter[str]) -> list[str]:
    """Return the effects in transactions that are not there exactly once for a success, and never else (I6)."""
    jobs = list(ended)
    receipts = Counter(job.key for job in jobs if job.handler == "receipt")
    stored = Counter(job.key for job in jobs if job.handler == "order")
    problems = []
    for job in jobs:
        if job.handler in ("effect", "async_effect"):
            due = 1 if job.status == "succeeded" else 0
            if effects[job.id] != due or receipts[job.key] != due:
                found = f"{effects[job.id]} effects, {receipts[job.key]} successors"
                problems.append(f"job {job.id} ({job.key}) {job.status}: {found}")
    problems += [
        f"{key}: {orders[key]} orders and {stored[key]} jobs"
        for key in orders.keys() | stored.keys()
        if orders[key] != stored[key]
    ]
    return problems


def overlapping(ended: Iterable[EndedJob]) -> list[str]:
    """Return the unique keys that two jobs held at once (I2)."""
    by_key: dict[str, list[EndedJob]] = defaultdict(list)
    for job in ended:
        if job.handler == "unique":
            by_key[job.key].append(job)
    problems = []
    for key, jobs in by_key.items():
        jobs.sort(key=lambda job: job.created_at)
        for former, later in pairwise(jobs):
            if later.created_at < former.finished_at:
                problems.append(f"{key}: jobs {former.id} and {later.id}")
    return problems


_EXPECTED_TO_FAIL: Final = ("broken", "poison")
_EXPECTED: Final = {
    "broken": {"failed"},
    "poison": {"failed"},
    "never": {"cancelled"},
    "slow": {"succeeded", "cancelled"},
}


def stopped_by_havoc(ended: Iterable[EndedJob], notes: Sequence[Note]) -> set[int]:
    """Return the jobs that were stopped as poison, and rightly: so many of their runs have really come to no end.

    Nobody can tell a job that kills its workers from one whose workers are killed each time.
    """
    open_runs = Counter(note.job for note in notes if note.event == "began")
    open_runs.subtract(note.job for note in notes if note.event != "began")
    return {
        job.id
        for job in ended
        if job.handler not in _EXPECTED_TO_FAIL
        and job.status == "failed"
        and job.crashes == MAX_CRASHES
        and open_runs[job.id] >= MAX_CRASHES
    }


def wrong_ends(ended: Iterable[EndedJob], stopped: Set[int] = frozenset()) -> list[str]:
    """Return the jobs that ended as they should not, or after another number of attempts (I7 I8)."""
    problems = []
    for job in ended:
        if job.id in stopped:
            continue
        if job.status not in _EXPECTED.get(job.handler, {"succeeded"}):
            problems.append(f"job {job.id} ({job.key}) is {job.status}")
        if job.handler == "broken" and job.attempt - job.crashes != job.max_attempts:
            problems.append(f"job {job.id} ({job.key}) failed after {job.attempt} attempts, {job.crashes} crashes")
    return problems


def too_early(ended: Iterable[EndedJob], notes: Iterable[Note]) -> list[str]:
    """Return the jobs that began before they were due (I13)."""
    due = {job.id: job.run_at for job in ended if job.handler == "scheduled" and job.attempt == 1}
    return [
        f"job {note.job} ({note.key}) began {due[note.job] - note.at:.3f} s early"
        for note in notes
        if note.event == "began" and note.job in due and note.at < due[note.job] - 0.001
    ]


def waits(ended: Iterable[EndedJob]) -> dict[str, list[float]]:
    """Return by handler how long jobs that succeeded at once had waited since they were due."""
    found: dict[str, list[float]] = defaultdict(list)
    for job in ended:
        if job.attempt == 1 and job.crashes == 0 and job.status == "succeeded" and job.started_at is not None:
            found[job.handler].append(job.started_at - job.run_at)
    return found


def takeovers(notes: Iterable[Note], killed: Iterable[tuple[int, float]]) -> list[float]:
    """Return after how long each job that ran in a killed worker began again."""
    deaths = dict(killed)
    lasts: dict[int, Note] = {}
    found = []
    for note in notes:
        before = lasts.get(note.job)
        if note.event != "began":
            if before is not None and before.pid == note.pid:
                del lasts[note.job]
            continue
        if before is not None and note.at >= deaths.get(before.pid, math.inf):  # else taken over before, from a pause
            found.append(note.at - deaths[before.pid])
        lasts[note.job] = note
    return found
