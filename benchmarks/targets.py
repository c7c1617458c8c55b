"""What was promised: one line for each figure. The benchmarks print it beside what they find.

`family` is the file in `rows/` that measures it. A figure without a bound is shown, and nothing was promised.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Direction = Literal["at least", "at most"]


class Target(NamedTuple):
    """One figure: its name for `--only`, what it is, and its bound."""

    name: str
    family: str
    title: str
    direction: Direction | None
    bound: float | None
    unit: str

    @property
    def promise(self) -> str:
        """The bound in words."""
        if self.bound is None:
            return "–"
        return f"{'≥' if self.direction == 'at least' else '≤'} {self.bound:g} {self.unit}"


TARGETS: tuple[Target, ...] = (
    Target(
        "drain_1", "drain", "drain no-op jobs, 1 thread, against the raw loop in batches of 100", "at least", 0.5, "×"
    ),
    Target("drain_4", "drain", "the same, 4 threads", "at least", 0.5, "×"),
    Target("drain_peers", "peers", "drain, against the fastest peer that keeps its jobs", "at least", 10, "×"),
    Target(
        "enqueue_single", "enqueue", "enqueue, one commit each, 1 thread, against raw inserts", "at least", 0.8, "×"
    ),
    Target("enqueue_async", "enqueue", "aenqueue from 200 tasks of one loop, against raw inserts", "at least", 4, "×"),
    Target("enqueue_threads", "enqueue", "enqueue from 16 threads, against raw inserts", "at least", 4, "×"),
    Target("enqueue_list", "enqueue", "enqueue_many of a list, against the raw bulk insert", "at least", 0.4, "×"),
    Target(
        "enqueue_generator", "enqueue", "enqueue_many of a generator, against the raw bulk insert", "at least", 0.4, "×"
    ),
    Target("latency_p50", "latency", "enqueue to start in an idle worker, median", "at most", 3, "ms"),
    Target("latency_p99", "latency", "enqueue to start in an idle worker, 99th percentile", "at most", 15, "ms"),
    Target("idle_cpu", "idle", "CPU of an idle worker", "at most", 1, "% of a core"),
    Target("drain_backlog", "backlog", "drain with a large backlog, against an empty file", "at least", 0.8, "×"),
    Target("drain_backlog_queues", "backlog", "the same, against a small file of as many queues", None, None, "×"),
    Target("workers_2", "workers", "2 worker processes on no-op jobs, against 1", "at least", 0.8, "×"),
    Target("workers_4", "workers", "4 worker processes on no-op jobs, against 1", "at least", 0.8, "×"),
    Target("workers_8", "workers", "8 worker processes on no-op jobs, against 1", "at least", 0.8, "×"),
    Target("workers_burning", "workers", "2 worker processes on 2 ms of CPU a job, against 1", "at least", 1.8, "×"),
    Target("fairness_wait", "fairness", "6 processes enqueue: worst wait", "at most", 250, "ms"),
    Target("fairness_share", "fairness", "6 processes enqueue: most against least", "at most", 1.5, "×"),
    Target("fairness_slow_wait", "fairness", "6 processes, 3 ms transactions: worst wait", "at most", 250, "ms"),
    Target(
        "fairness_slow_share", "fairness", "6 processes, 3 ms transactions: most against least", "at most", 1.5, "×"
    ),
    Target("hoarding", "hoarding", "100 ms jobs on 2 workers, against the ideal time", "at most", 1.1, "×"),
    Target("hoarding_after_fast", "hoarding", "the same, right after 2,000 fast jobs", "at most", 1.1, "×"),
    Target("memory_end", "memory", "resident memory of a worker at the end", "at most", 80, "MB"),
    Target("memory_growth", "memory", "the same, against the one after a quarter of the jobs", "at most", 1.05, "×"),
    Target("startup_help", "startup", "durablejobs --help, against a bare import of click", "at most", 2, "×"),
    Target(
        "startup_enqueue", "startup", "durablejobs enqueue, against importing sqlalchemy, click", "at most", 1.5, "×"
    ),
    Target("history_drain", "history", "drain with the longest history, against an empty file", "at least", 0.8, "×"),
    Target("history_list", "history", "list the newest 50 jobs with the longest history", None, None, "ms"),
    Target(
        "history_list_failed", "history", "list the newest 50 failed jobs with the longest history", None, None, "ms"
    ),
    Target("history_stats", "history", "statistics with the longest history", None, None, "ms"),
)

ON_POSTGRES: tuple[Target, ...] = (
    Target("postgres_drain_procrastinate", "postgres_peers", "drain, against Procrastinate", "at least", 20, "×"),
    Target("postgres_drain_pgqueuer", "postgres_peers", "drain, against PgQueuer", "at least", 3, "×"),
    Target(
        "postgres_enqueue", "postgres_peers", "enqueue, one commit each, against the faster peer", "at least", 2, "×"
    ),
    Target("postgres_enqueue_16", "postgres_peers", "the same, from 16 threads or tasks", "at least", 2, "×"),
    Target("postgres_bulk", "postgres_peers", "enqueue_many, against the faster peer", "at least", 2, "×"),
    Target("postgres_latency_p50", "postgres_peers", "enqueue to start in an idle worker, median", "at most", 5, "ms"),
    Target(
        "postgres_latency_p99",
        "postgres_peers",
        "enqueue to start in an idle worker, 99th percentile",
        None,
        None,
        "ms",
    ),
    Target(
        "postgres_workers_4", "postgres_workers", "4 worker processes on no-op jobs, against 1", "at least", 1.5, "×"
    ),
    Target(
        "postgres_backlog",
        "postgres_backlog",
        "drain with a large backlog, against an empty database",
        "at least",
        0.8,
        "×",
    ),
)
"""On a PostgreSQL server, in a run of their own."""

ALL = TARGETS + ON_POSTGRES

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(target.family for target in ALL))


def target_named(name: str) -> Target:
    """Return the target of a row."""
    return next(target for target in ALL if target.name == name)
