"""`python -m benchmarks`: make the environment, measure, print the table, write JSON, pictures and the summary."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import environment
from .processes import ROOT
from .sizes import FULL, POSTGRES, QUICK, SMOKE, Sizes
from .targets import ALL, FAMILIES, ON_POSTGRES, TARGETS

if TYPE_CHECKING:
    from .results import Measurement, Run
    from .targets import Target

PUBLISHED = ROOT / "docs" / "benchmarks"


def main() -> None:
    """Run what the command line asks for. Exits with 0 whatever the figures are: the table shows what was missed."""
    options = _options()
    if not options.here:
        environment.enter("benchmarks")
    sizes = {"smoke": SMOKE, "quick": QUICK, "full": FULL, "postgres": POSTGRES}[options.mode]
    names = _chosen(options.only, ON_POSTGRES if options.mode == "postgres" else TARGETS)
    is_published = not options.only and options.mode != "smoke"
    output = options.output or (PUBLISHED if is_published else environment.CACHE / "results")
    output.mkdir(parents=True, exist_ok=True)
    options.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.dir, ignore_cleanup_errors=True) as scratch:
        results = _measure(sizes, names, Path(scratch))
    _write(results, output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=main.__doc__,
        epilog=f"rows: {', '.join(each.name for each in ALL)}",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--quick", dest="mode", action="store_const", const="quick", help="some three minutes (the default)"
    )
    mode.add_argument("--full", dest="mode", action="store_const", const="full", help="some twenty minutes")
    mode.add_argument(
        "--postgres",
        dest="mode",
        action="store_const",
        const="postgres",
        help="on a PostgreSQL server, beside Procrastinate and PgQueuer; some five minutes",
    )
    mode.add_argument(
        "--smoke", dest="mode", action="store_const", const="smoke", help="seconds; the figures mean nothing"
    )
    parser.set_defaults(mode="quick")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"rows, or families: {', '.join(FAMILIES)}")
    parser.add_argument(
        "--output", type=Path, help="where results go (default: docs/benchmarks; with --only, the cache)"
    )
    parser.add_argument(
        "--dir", type=Path, default=environment.CACHE / "scratch", help="measure on this directory's disk"
    )
    parser.add_argument("--here", action="store_true", help="use this interpreter as it is, make no environment")
    return parser.parse_args()


def _chosen(only: list[str] | None, usual: tuple[Target, ...]) -> list[str]:
    if only is None:
        return [each.name for each in usual]
    known = {each.name for each in ALL} | set(FAMILIES)
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return [each.name for each in ALL if each.name in only or each.family in only]


def _measure(sizes: Sizes, names: list[str], scratch: Path) -> dict[str, Any]:
    from . import machine
    from .results import Run

    described = machine.describe(scratch)
    if described["filesystem"] in ("tmpfs", "ramfs"):
        print("WARNING: the files are in memory, syncs cost nothing there; name a disk by --dir", flush=True)
    begin = time.monotonic()
    run = Run(sizes, scratch, lambda text: print(text, flush=True))
    rows: list[Measurement] = []
    for family in FAMILIES:
        wanted = [each.name for each in ALL if each.family == family and each.name in names]
        if wanted:
            run.say(f"[{time.monotonic() - begin:4.0f} s] {family}")
            rows += _family(run, family, wanted)
    return {
        "mode": sizes.name,
        "seconds": round(time.monotonic() - begin, 1),
        "machine": described,
        "rows": [row.as_record() for row in rows],
        "series": run.series,
    }


def _family(run: Run, family: str, wanted: list[str]) -> list[Measurement]:
    """Measure a family; what fails is reported in its rows, and the others go on."""
    from .processes import ChildError
    from .results import skipped

    try:
        found = import_module(f".rows.{family}", __package__).measure(run)
    except (ChildError, AssertionError) as error:
        run.say(f"  failed: {error}")
        return [skipped(name, f"failed: {str(error).strip().splitlines()[-1]}") for name in wanted]
    finally:
        run.clean_up()
    return [row for row in found if row.name in wanted]


def _write(results: dict[str, Any], output: Path) -> None:
    from . import pictures, summary
    from .table import table, verdicts

    results["pictures"] = pictures.draw(results, output)
    path = output / f"results-{results['mode']}.json"
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    summary.write(output)
    if output.resolve() == PUBLISHED:
        summary.refresh(PUBLISHED.parent, output)
    print(f"\n{table(results['rows'])}\n\n{verdicts(results['rows'])}.\n{results['seconds']:.0f} s; written to {path}")


if __name__ == "__main__":
    main()
