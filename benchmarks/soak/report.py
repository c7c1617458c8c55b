"""What a soak came to: the criteria, the counts, and the series for the pictures."""

from __future__ import annotations

import re
import statistics
from typing import Any, Final

from ..results import percentile
from . import books
from .judgement import Criterion, at_least, at_most, growth, none_of, verdict, wait_criteria
from .run import Run
from .settings import MAX_CRASHES

LONGEST_WAIT: Final = 60.0
"""Seconds: a paused process that holds the write lock makes all wait, then its jobs wait for the lease."""
MOST_LOG_MB: Final = 64.0
GROWTH: Final = {
    "worker memory MB": (8.0, "MB"),
    "worker descriptors": (8.0, ""),
    "worker threads": (8.0, ""),
    "client memory MB": (8.0, "MB"),
    "client descriptors": (8.0, ""),
    "client threads": (8.0, ""),
    "log MB": (16.0, "MB"),
    "database MB": (16.0, "MB"),
    "connections": (8.0, ""),
}
"""By how much each may rise over the whole soak, by its slope, after the warm-up."""


def results_of(run: Run, described: dict[str, Any]) -> dict[str, Any]:
    """Judge a soak."""
    notes = books.read_notes(run.settings.notes)
    history = books.History.read(run.settings.history)
    ended = list(run.witness.ended.values())
    waits = books.waits(ended)
    takeovers = books.takeovers(notes, run.company.killed)
    criteria = [
        *_promises(run, notes, history),
        *wait_criteria(waits, LONGEST_WAIT),
        *_leases(run, takeovers),
        *_growths(run),
    ]
    return {
        "database": "sqlite" if run.settings.is_sqlite else "postgresql",
        "minutes": round(run.settings.seconds / 60, 2),
        "machine": described,
        "criteria": [each.as_record() for each in criteria],
        "done": dict(sorted(run.company.done.items())),
        "told": history.counts(),
        "ends": _ends(ended),
        "runs": sum(note.event == "began" for note in notes),
        "most": {what: round(value, 2) for what, value in sorted(run.samples.most.items())},
        "series": run.samples.as_record(),
        "waits": {handler: _quantiles(values) for handler, values in sorted(waits.items())},
        "margins": _quantiles([each.margin for each in run.witness.renewals]),
        "takeovers": _quantiles(takeovers),
        "lease": run.settings.lease,
    }


def _promises(run: Run, notes: list[books.Note], history: books.History) -> list[Criterion]:
    ended = list(run.witness.ended.values())
    stored = books.stored_keys(ended)
    broken_rules = [f"{rule['promise']}: {rule['text']}" for rule in run.verified if rule["broken"]]
    stopped = books.stopped_by_havoc(ended, notes)
    acknowledged = sum("ok" in told for told in history.told.values())
    return [
        at_least("load", "calls acknowledged", acknowledged, run.settings.least_calls, ""),
        none_of("I1", "acknowledged jobs that were lost", history.lost(stored)),
        none_of("I2", "jobs that nobody asked for, twins, parts of batches", history.phantoms(stored)),
        none_of("I2", "unique keys held by two jobs at once", books.overlapping(ended)),
        none_of("I3", "ends that changed", run.witness.changed),
        none_of("I3", "acknowledged cancels that came to nothing", history.not_cancelled(ended)),
        none_of(
            "I5", "successes whose run was not done", books.not_finished_runs(ended, notes, run.settings.clock_error)
        ),
        none_of(
            "I6", "effects not exactly once", books.wrong_effects(ended, run.witness.effects(), run.witness.orders())
        ),
        none_of("I7", "jobs that have not ended", run.left),
        none_of("I8", "jobs that ended as they should not", books.wrong_ends(ended, stopped)),
        at_most("I8", f"jobs stopped by havoc alone: {MAX_CRASHES} crashes", len(stopped), len(ended) // 1000 + 1, ""),
        none_of("I13", "jobs that began before they were due", books.too_early(ended, notes)),
        none_of("verify", f"rules of {len(run.verified)} that the rows break", broken_rules),
        none_of("I14", "processes that ended by themselves", run.company.unforeseen),
        none_of("I12", "tracebacks in the logs of workers and clients", _tracebacks(run)),
    ]


_ORPHAN_AT_BIRTH: Final = re.compile(r"Traceback \(most recent call last\):\n(?:  .*\n)*EOFError: Ran out of input\n")
"""What Python says in a child process whose worker is killed while it tells the child what to do."""


def _tracebacks(run: Run) -> list[str]:
    found = []
    for log in run.company.logs():
        text = _ORPHAN_AT_BIRTH.sub("", log.read_text(errors="replace"))
        if "Traceback (most recent call last)" in text:
            found.append(f"{log.stem}: {text.strip().splitlines()[-1][:200]}")
    return found


def _leases(run: Run, takeovers: list[float]) -> list[Criterion]:
    pauses = run.company.pauses
    # Who was paused in the middle of a heartbeat shows it with the next one, a quarter of a lease after he has gone on.
    afterwards = run.settings.lease / 2
    quiet = [
        renewal.margin
        for renewal in run.witness.renewals
        if not any(begin - 1 <= renewal.at <= end + afterwards for begin, end in pauses)
    ]
    if not quiet:
        return [none_of("leases", "no lease was renewed", ["nothing was measured"])]
    criteria = [
        at_least("leases", "left of a lease when it was renewed, least, nobody paused", min(quiet), 0.1, "s"),
        at_least("leases", "the same, 5th percentile", percentile(quiet, 5), round(run.settings.lease / 3, 2), "s"),
    ]
    if takeovers:
        middle = statistics.median(takeovers)
        criteria.append(at_most("I7", "from a worker's death until its job runs again, median", middle, 2.0, "s"))
    return criteria


def _growths(run: Run) -> list[Criterion]:
    warm_up = max(run.settings.seconds / 3, run.settings.retention * 1.2)
    if warm_up > run.settings.seconds * 0.8:
        warm_up = run.settings.seconds / 3
    criteria = []
    for name, (allowed, unit) in GROWTH.items():
        if name in run.samples.series:
            rise = growth(run.samples.series[name], warm_up)
            criteria.append(at_most("I11", f"growth: {name.removesuffix(' MB')}", rise, allowed, unit))
    if "log MB" in run.samples.series:
        longest = max(value for _, value in run.samples.series["log MB"])
        criteria.append(at_most("I11", "largest write-ahead log", longest, MOST_LOG_MB, "MB"))
    return criteria


def _ends(ended: list[Any]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for job in ended:
        of_handler = counts.setdefault(job.handler, {})
        of_handler[job.status] = of_handler.get(job.status, 0) + 1
    return dict(sorted(counts.items()))


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    shares = {f"p{share}": round(percentile(values, share), 4) for share in (1, 5, 25, 50, 75, 95, 99)}
    return {"count": len(values), "least": round(min(values), 4), **shares, "most": round(max(values), 4)}


def as_text(results: dict[str, Any]) -> str:
    """Return the verdict and the counts, for people."""
    criteria = [
        Criterion(
            each["promise"],
            each["what"],
            each["measured"],
            each["allowed"],
            each["unit"],
            each["at_least"],
            tuple(each["examples"]),
        )
        for each in results["criteria"]
    ]
    jobs = sum(number for of_handler in results["ends"].values() for number in of_handler.values())
    told = ", ".join(f"{number:,} {what}" for what, number in results["told"].items())
    done = ", ".join(f"{number:,} {what}" for what, number in results["done"].items())
    counts = f"{jobs:,} jobs, {results['runs']:,} runs; calls: {told}; {done}"
    machine = results["machine"]
    used = f"{machine['cores used']:g} cores used, {machine['soak seconds']:,.0f} s"
    return f"{verdict(criteria)}\n{counts}\n{used}"
