"""`docs/benchmarks/README.md`: the results as text, made from the JSON files and nothing else."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from .table import MARKS, figure, number, spread, verdicts

HEAD = """\
# Benchmarks: results

Made by `python -m benchmarks` from the JSON files beside it; do not edit. What the figures mean, and how to tune:
[performance.md](../performance.md).

Every ratio is the median of measurements taken in turns, with the lowest and the highest turn. Every measurement
runs in fresh processes on a fresh file or database, which waits for the disk at every commit. The raw loop is
`benchmarks/raw.py`: the standard library's `sqlite3` on a plain table, no queue around it.
"""

PEERS_HEAD = """\
One worker, one no-op job at a time, enqueued one by one beforehand; the rate counts from the first job's start to the
last one's. The systems do not do the same work: what each keeps and what it leaves out is in the last column.
"""
POSTGRES_HEAD = """\
All on one server of the benchmark's own, with fsync and synchronous_commit on, each turn in a new database. One worker
process, which drains what was enqueued one by one, from 16 threads or tasks, and in one transaction. A ratio is taken
against the faster setting of a peer; "tuned" are the best that we found.
"""
PEERS_COLUMNS = (
    (
        "| system | drained, jobs/s | enqueued, jobs/s | start in an idle worker, median (99 %) "
        "| a killed worker's job | durability and work |"
    ),
    "|---|---|---|---|---|---|",
)


BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
"""Between these marks of a page stands the short table."""


def write(directory: Path) -> None:
    """Write the summary of the results that are there, the fullest first."""
    parts = [HEAD]
    for results in _found(directory, sum(_PAGES.values(), ())):
        parts += _mode(results)
    (directory / "README.md").write_text("\n".join(parts))


_PAGES = {"performance.md": ("full", "quick", "smoke"), "postgresql.md": ("postgres",)}
"""Which modes' results may stand on which page."""


def refresh(pages: Path, directory: Path) -> None:
    """Write the newest results' figures between the marks of each page, if it has them."""
    for page, modes in _PAGES.items():
        found = _found(directory, modes)
        if found:
            _refresh(pages / page, max(found, key=lambda results: str(results["machine"]["date"])))


def _refresh(page: Path, results: dict[str, Any]) -> None:
    text = page.read_text() if page.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return
    machine = results["machine"]
    where = (
        f"`--{results['mode']}` on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['filesystem']}, {machine['python']}, {_database(results)}. {verdicts(results['rows'])}."
    )
    lines = [where, "", "| what | target | measured | lowest–highest | |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in results["rows"]]
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + after)


def _found(directory: Path, modes: tuple[str, ...]) -> list[dict[str, Any]]:
    paths = (directory / f"results-{mode}.json" for mode in modes)
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _database(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return f"PostgreSQL {machine['postgres']}" if results["mode"] == "postgres" else f"SQLite {machine['sqlite']}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    mark = "**missed**" if row["verdict"] == "missed" else MARKS[row["verdict"]]
    return tuple(cell.replace("|", "/") for cell in (row["title"], row["promise"], figure(row), spread(row), mark))


def _mode(results: dict[str, Any]) -> list[str]:
    machine = results["machine"]
    where = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB; {machine['kernel']}, "
        f"{machine['filesystem']}; {machine['python']}, SQLite {machine['sqlite']}, "
        f"PostgreSQL {machine.get('postgres', 'not measured')}, Redis {machine['redis']}; "
        f"durablejobs at commit {machine['commit']}. Took {results['seconds'] / 60:.1f} minutes; load average before "
        f"{machine['load_before']:.2f} (near 0: a quiet machine)."
    )
    parts = [f"## `--{results['mode']}`, {machine['date']}", "", where, "", f"**{verdicts(results['rows'])}.**", ""]
    parts += ["| what | target | measured | lowest–highest | | note |", "|---|---|---|---|---|---|"]
    parts += [f"| {' | '.join((*_cells(row), row['note'].replace('|', '/')))} |" for row in results["rows"]]
    parts.append("")
    if "peers" in results["series"]:
        parts += _peers("Systems, and where they differ", PEERS_HEAD, results["series"]["peers"])
    if "postgres_peers" in results["series"]:
        parts += _peers("Systems on PostgreSQL", POSTGRES_HEAD, results["series"]["postgres_peers"])
    parts += [f"![{name}]({name}.svg)\n" for name in results["pictures"]]
    return parts


def _peers(title: str, head: str, records: list[dict[str, Any]]) -> list[str]:
    lines = [f"### {title}", "", head, *PEERS_COLUMNS]
    lines += [f"| {' | '.join(_peer(record))} |" for record in records]
    raw = records[0]["raw"]
    if raw:
        lines.append(f"| raw loop, batches of 100 | {number(statistics.median(raw))} | | | | no queue |")
    return [*lines, ""]


def _peer(record: dict[str, Any]) -> list[str]:
    name = f"{record['name']}<br>{record['version']}"
    if record["problem"] and not record["drain"]:
        return [name, "–", "–", "–", "–", f"not measured: {' '.join(record['problem'].split())[:300]}"]
    latency = ""
    if record["latencies"]:
        latency = f"{number(record['latency_p50'])} ms ({number(record['latency_p99'])} ms)"
    return [
        name,
        number(statistics.median(record["drain"])),
        number(statistics.median(record["enqueue"])),
        latency,
        "stays" if record["keeps_jobs"] else "**lost**",
        record["durability"],
    ]
