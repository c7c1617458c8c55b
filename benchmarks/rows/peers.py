"""The same work on other queues: one no-op job at a time, durability levelled where that is possible."""

from __future__ import annotations

import statistics
from typing import Any

from .. import compare, environment, machine, postgres_server, raw, redis_server
from ..peers import PEERS, Ours, Peer
from ..postgres_server import PostgresServer
from ..processes import ChildError, call
from ..results import Measurement, Run, percentile, ratio, skipped


def measure(run: Run) -> list[Measurement]:
    """Each round takes every system once; a system that fails is reported with its error and left out."""
    records = [record_of(peer) for peer in [Ours, *PEERS]]
    for _ in range(run.sizes.peer_rounds):
        records[0]["raw"].append(call(raw.claim_finish, path=f"{run.fresh()}/raw.db", count=run.sizes.drain_jobs))
        for peer, record in zip([Ours, *PEERS], records, strict=True):
            _drain(run, peer, record)
    for peer, record in zip([Ours, *PEERS], records, strict=True):
        time_single_jobs(run, peer, record, run.sizes.peer_latencies)
    run.series["peers"] = records
    return [_compare(records)]


def record_of(peer: type[Peer]) -> dict[str, Any]:
    """Return what is known of a system before it is measured, `problem` if it cannot be."""
    return {
        "name": peer.name,
        "version": ", ".join(f"{name} {machine.version(name)}" for name in peer.distributions),
        "keeps_jobs": peer.keeps_jobs,
        "dispatches": peer.dispatches,
        "durability": peer.durability,
        "drain": [],
        "enqueue": [],
        "latencies": [],
        "raw": [],
        "problem": _obstacle(peer),
    }


def _obstacle(peer: type[Peer]) -> str:
    for package, problem in environment.missing().items():
        if package.partition("[")[0] in peer.distributions:
            return f"not installed: {problem}"
    if machine.version(peer.distributions[0]) == "not installed":
        return "not installed"
    if peer.server == "redis" and not redis_server.is_available():
        return f"no redis-server here, and {redis_server.PACKAGE} is not installed"
    if peer.server == "postgres" and not postgres_server.is_available():
        return f"{postgres_server.PACKAGE} is not installed"
    return ""


def _drain(run: Run, peer: type[Peer], record: dict[str, Any]) -> None:
    if record["problem"]:
        return
    run.say(f"  {peer.name}")
    try:
        enqueued, drained = compare.rates(peer, run.scratch, max(10, int(run.sizes.peer_jobs * peer.share)))
    except ChildError as error:
        record["problem"] = str(error).strip()[-500:]
        return
    record["enqueue"].append(enqueued)
    record["drain"].append(drained)


def time_single_jobs(
    run: Run, peer: type[Peer], record: dict[str, Any], count: int, server: PostgresServer | None = None
) -> None:
    """Only where there is a worker whose wake-up can be timed."""
    if not count or not peer.dispatches or record["problem"]:
        return
    run.say(f"  {peer.name}: single jobs")
    try:
        found = compare.latencies(peer, run.scratch, count, run.sizes.longest_gap, server)
    except ChildError as error:
        record["problem"] = str(error).strip()[-500:]
        return
    record["latencies"] = found
    record["latency_p50"], record["latency_p99"] = percentile(found, 50), percentile(found, 99)


def _compare(records: list[dict[str, Any]]) -> Measurement:
    ours, *others = records
    if ours["problem"]:
        return skipped("drain_peers", ours["problem"])
    measured = [record for record in others if record["drain"]]
    keeping = [record for record in measured if record["keeps_jobs"]]
    if not keeping:
        return skipped("drain_peers", "no peer could be measured")
    fastest = max(keeping, key=lambda record: statistics.median(record["drain"]))
    of_all = max(measured, key=lambda record: statistics.median(record["drain"]))
    turns = min(len(ours["drain"]), len(fastest["drain"]))
    note = f"against {fastest['name']}"
    if of_all is not fastest:
        times = statistics.median(ours["drain"]) / statistics.median(of_all["drain"])
        note += f"; {times:.1f} × {of_all['name']}, which loses the job of a killed worker"
    return ratio("drain_peers", ours["drain"][:turns], fastest["drain"][:turns], note)
