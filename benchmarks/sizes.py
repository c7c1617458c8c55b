"""How much is measured: `--smoke` proves that the benchmarks run, `--quick` takes some minutes, `--full` twenty."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """The numbers of one mode."""

    name: str
    rounds: int
    """Turns of most comparisons."""
    drain_jobs: int
    peer_rounds: int
    peer_jobs: int
    """Times a peer's `share`."""
    peer_latencies: int
    """Single jobs sent to each peer; 0: not measured."""
    single_enqueues: int
    threaded_enqueues: int
    """In all threads together."""
    bulk_jobs: int
    latencies: int
    longest_gap: float
    """Seconds between two single jobs, at most."""
    idle_seconds: float
    backlog_finished: int
    backlog_pending: int
    backlog_future: int
    backlog_drained: int
    scaling_rounds: int
    scaling_jobs: int
    burning_jobs: int
    fairness_seconds: float
    slow_jobs: int
    memory_jobs: int
    startups: int
    history: tuple[int, ...]
    """Finished rows in the file, in rising order."""
    history_drained: int
    postgres_rounds: int
    postgres_singles: int
    postgres_jobs: int
    """Enqueued together, then drained; times a peer's `share`."""


SMOKE = Sizes(
    name="smoke",
    rounds=1,
    drain_jobs=500,
    peer_rounds=1,
    peer_jobs=100,
    peer_latencies=0,
    single_enqueues=50,
    threaded_enqueues=160,
    bulk_jobs=500,
    latencies=8,
    longest_gap=0.03,
    idle_seconds=0.3,
    backlog_finished=500,
    backlog_pending=500,
    backlog_future=100,
    backlog_drained=200,
    scaling_rounds=1,
    scaling_jobs=400,
    burning_jobs=20,
    fairness_seconds=0.3,
    slow_jobs=6,
    memory_jobs=1000,
    startups=1,
    history=(0, 1000),
    history_drained=200,
    postgres_rounds=1,
    postgres_singles=32,
    postgres_jobs=500,
)

QUICK = Sizes(
    name="quick",
    rounds=3,
    drain_jobs=40_000,
    peer_rounds=1,
    peer_jobs=1_500,
    peer_latencies=0,
    single_enqueues=2_000,
    threaded_enqueues=8_000,
    bulk_jobs=100_000,
    latencies=150,
    longest_gap=0.08,
    idle_seconds=6,
    backlog_finished=100_000,
    backlog_pending=100_000,
    backlog_future=20_000,
    backlog_drained=15_000,
    scaling_rounds=2,
    scaling_jobs=40_000,
    burning_jobs=600,
    fairness_seconds=2,
    slow_jobs=100,
    memory_jobs=200_000,
    startups=7,
    history=(0, 20_000, 200_000),
    history_drained=15_000,
    postgres_rounds=3,
    postgres_singles=800,
    postgres_jobs=30_000,
)

FULL = Sizes(
    name="full",
    rounds=7,
    drain_jobs=100_000,
    peer_rounds=3,
    peer_jobs=5_000,
    peer_latencies=60,
    single_enqueues=5_000,
    threaded_enqueues=20_000,
    bulk_jobs=100_000,
    latencies=600,
    longest_gap=0.3,
    idle_seconds=30,
    backlog_finished=1_000_000,
    backlog_pending=1_000_000,
    backlog_future=200_000,
    backlog_drained=50_000,
    scaling_rounds=5,
    scaling_jobs=100_000,
    burning_jobs=3_000,
    fairness_seconds=10,
    slow_jobs=100,
    memory_jobs=1_000_000,
    startups=25,
    history=(0, 100_000, 1_000_000, 3_000_000, 10_000_000),
    history_drained=40_000,
    postgres_rounds=3,
    postgres_singles=800,
    postgres_jobs=30_000,
)

POSTGRES = replace(
    QUICK,
    name="postgres",
    latencies=200,
    peer_latencies=30,
    backlog_finished=1_000_000,
    backlog_pending=1_000_000,
    backlog_future=100_000,
)
"""What is measured on a PostgreSQL server."""
