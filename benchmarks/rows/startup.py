"""How long the command takes to be there, against importing what it is made of."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from .. import histories
from ..processes import call
from ..results import Measurement, Run, in_turns, ratio, skipped


def measure(run: Run) -> list[Measurement]:
    """Whole processes, from start to exit."""
    path = f"{run.fresh()}/jobs.db"
    call(histories.create, path=path)
    command = str(Path(sys.executable).parent / "durablejobs")
    cases = {
        "startup_help": ([command, "--help"], "import click"),
        "startup_enqueue": ([command, "enqueue", "noop", "--db", path], "import sqlalchemy, click"),
    }
    rows = []
    for name, (ours, imports) in cases.items():
        bare = [sys.executable, "-c", imports]
        problem = _problem(ours)
        if problem:
            rows.append(skipped(name, f"the command does not work yet: {problem}"))
            continue
        seconds, base = in_turns(run.sizes.startups, lambda ours=ours: _time(ours), lambda bare=bare: _time(bare))
        rows.append(ratio(name, seconds, base))
    return rows


def _problem(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error.strerror)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start
