"""Queues on PostgreSQL: the same server for all of them, a new database for each turn of each."""

from __future__ import annotations

import statistics
from typing import Any

from .. import compare, postgres_server
from ..peers import ON_POSTGRES, OursOnPostgres, PeerOnPostgres, Procrastinate
from ..postgres_server import PostgresServer
from ..processes import ChildError
from ..results import Measurement, Run, ratio, skipped, spread
from .peers import record_of, time_single_jobs


def measure(run: Run) -> list[Measurement]:
    """Each round takes every system once; a system that fails is reported with its error and left out."""
    ways = ("drain", "enqueue", "enqueue_together", "enqueue_many")
    records = {peer: record_of(peer) | {way: [] for way in ways} for peer in ON_POSTGRES}
    if not postgres_server.is_available():
        problem = records[OursOnPostgres]["problem"]
        return [skipped(f"postgres_{row}", problem) for row in (*_RIVALS, "latency_p50", "latency_p99")]
    with postgres_server.running(run.scratch, **postgres_server.MEASURED) as server:
        for _ in range(run.sizes.postgres_rounds):
            for peer, record in records.items():
                _rates(run, server, peer, record)
        for peer, record in records.items():
            count = run.sizes.latencies if peer is OursOnPostgres else run.sizes.peer_latencies
            time_single_jobs(run, peer, record, count, server)
    run.series["postgres_peers"] = list(records.values())
    ours = records[OursOnPostgres]
    return [*(_against(records, row) for row in _RIVALS), *_latencies(ours)]


def _rates(run: Run, server: PostgresServer, peer: type[PeerOnPostgres], record: dict[str, Any]) -> None:
    if record["problem"]:
        return
    run.say(f"  {peer.name}")
    bulk = max(16, int(run.sizes.postgres_jobs * peer.share))
    try:
        found = compare.postgres_rates(peer, run.scratch, server, run.sizes.postgres_singles, bulk)
    except ChildError as error:
        record["problem"] = str(error).strip()[-500:]
        return
    for way, rate in found.items():
        record[way].append(rate)


def _is_procrastinate(peer: type[PeerOnPostgres]) -> bool:
    return issubclass(peer, Procrastinate)


# Row, way, whom it is compared with: of them the fastest.
_RIVALS = {
    "drain_procrastinate": ("drain", _is_procrastinate),
    "drain_pgqueuer": ("drain", lambda peer: not _is_procrastinate(peer)),
    "enqueue": ("enqueue", lambda _peer: True),
    "enqueue_16": ("enqueue_together", lambda _peer: True),
    "bulk": ("enqueue_many", lambda _peer: True),
}


def _against(records: dict[type[PeerOnPostgres], dict[str, Any]], row: str) -> Measurement:
    way, is_rival = _RIVALS[row]
    ours = records[OursOnPostgres]
    rivals = [each for peer, each in records.items() if peer is not OursOnPostgres and is_rival(peer) and each[way]]
    if not ours[way] or not rivals:
        return skipped(f"postgres_{row}", ours["problem"] or "nothing to compare with")
    fastest = max(rivals, key=lambda record: statistics.median(record[way]))
    turns = min(len(ours[way]), len(fastest[way]))
    rates = f"{statistics.median(ours[way]):,.0f}/s against {statistics.median(fastest[way]):,.0f}/s"
    return ratio(f"postgres_{row}", ours[way][:turns], fastest[way][:turns], f"{rates} of {fastest['name']}")


def _latencies(ours: dict[str, Any]) -> list[Measurement]:
    found = ours["latencies"]
    if not found:
        return [skipped(f"postgres_latency_p{per_cent}", ours["problem"]) for per_cent in (50, 99)]
    note = f"{len(found)} jobs, slowest {max(found):.1f} ms; the enqueue's own commit is included"
    return [spread(f"postgres_latency_p{each}", [ours[f"latency_p{each}"]], note) for each in (50, 99)]
