"""`python -m benchmarks.soak`: a mixed load with kills for as long as asked, and a verdict."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .. import environment
from ..processes import ROOT
from .settings import PLANTED, Settings

PUBLISHED: Final = ROOT / "docs" / "benchmarks"


def main() -> None:
    """Run real workers and clients with a mixed load, kill and pause them, watch what they hold, and judge it.

    Exits with 1 when a criterion is broken.
    """
    options = _options()
    if not options.here:
        environment.enter("benchmarks.soak")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # leaves no process behind
    options.dir.mkdir(parents=True, exist_ok=True)
    options.output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir=options.dir, ignore_cleanup_errors=True) as place,
        _database(options, Path(place)) as database,
    ):
        settings = Settings(
            database=database,
            directory=Path(place),
            seconds=options.minutes * 60,
            rate=options.rate,
            lease=options.lease,
            planted=tuple(options.plant),
        )
        results = _soak(settings)
    _write(results, options.output)
    sys.exit(0 if all(each["holds"] for each in results["criteria"]) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--db", metavar="URL", help="an empty database (default: a new SQLite file)")
    where.add_argument("--postgres", action="store_true", help="a PostgreSQL server of its own, from pip")
    parser.add_argument("--rate", type=float, default=15, help="calls of the clients in a second (default: 15)")
    parser.add_argument("--lease", type=float, default=6, help="seconds (default: 6)")
    parser.add_argument("--plant", nargs="+", default=[], choices=PLANTED, help="bugs that the verdict must find")
    parser.add_argument("--output", type=Path, default=PUBLISHED, help="where results go (default: docs/benchmarks)")
    parser.add_argument(
        "--dir", type=Path, default=environment.CACHE / "scratch", help="where the files are (default: in the checkout)"
    )
    parser.add_argument("--here", action="store_true", help="use this interpreter as it is, make no environment")
    return parser.parse_args()


@contextmanager
def _database(options: argparse.Namespace, place: Path) -> Iterator[str]:
    """Yield the path or URL of an empty database."""
    if not options.postgres:
        yield options.db or str(place / "jobs.db")
        return
    from .. import postgres_server

    with postgres_server.running() as server:
        yield server.create_database().replace("postgresql://", "postgresql+psycopg://")


def _soak(settings: Settings) -> dict[str, Any]:
    from .. import machine
    from .report import results_of
    from .run import Run

    began, cpu = time.monotonic(), _cpu_seconds()
    run = Run(settings, lambda text: print(text, flush=True))
    try:
        run.go_on_for(settings.seconds)
        run.come_to_an_end()
    finally:
        run.close()
    took = time.monotonic() - began
    described = machine.describe(settings.directory) | {
        "soak seconds": round(took, 1),
        "cores used": round((_cpu_seconds() - cpu) / took, 2),
    }
    return results_of(run, described)


def _cpu_seconds() -> float:
    """Processor time of this process and of all that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _write(results: dict[str, Any], output: Path) -> None:
    from . import pictures
    from .report import as_text

    name = f"soak-{results['database']}"
    results["pictures"] = pictures.draw(results, output, name)
    (output / f"{name}.json").write_text(json.dumps(results, ensure_ascii=False) + "\n")
    print(f"\n{as_text(results)}\n\nwritten to {output / name}.json")


if __name__ == "__main__":
    main()
