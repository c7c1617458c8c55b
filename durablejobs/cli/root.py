"""The command `durablejobs` and the table of its commands."""

from __future__ import annotations

from typing import Final

import click

from ..version import __version__
from .commands import LazyCommand, LazyGroup
from .errors import EXPLAINED

_RUN: Final = "Run jobs"
_LOOK: Final = "Look"
_CHANGE: Final = "Change jobs and queues"
_SET_UP: Final = "Set up"

COMMANDS: Final = {
    "enqueue": LazyCommand("enqueue:enqueue", "Store a job and print its id.", _RUN),
    "worker": LazyCommand("worker:worker", "Run jobs until stopped.", _RUN),
    "wait": LazyCommand("wait:wait", "Wait for a job's end and print its result.", _RUN),
    "list": LazyCommand("jobs:list_jobs", "List jobs, newest first.", _LOOK),
    "show": LazyCommand("jobs:show_job", "Show all about one job.", _LOOK),
    "stats": LazyCommand("statistics:stats", "Count the jobs of each queue.", _LOOK),
    "workers": LazyCommand("workers:workers", "List the workers, or ask one to begin nothing more, or to stop.", _LOOK),
    "queues": LazyCommand("queues:queues", "List the queues: paused, limited, and what waits in them.", _LOOK),
    "doctor": LazyCommand("doctor:doctor", "Look for what is wrong, say why it matters and what to do.", _LOOK),
    "verify": LazyCommand("doctor:verify", "Check that the rows keep every promise.", _LOOK),
    "retry": LazyCommand("acts:retry", "Make jobs run again.", _CHANGE),
    "cancel": LazyCommand("acts:cancel", "Cancel jobs that have not ended.", _CHANGE),
    "delete": LazyCommand("acts:delete", "Delete jobs that do not run.", _CHANGE),
    "prune": LazyCommand("prune:prune", "Delete old jobs that have ended.", _CHANGE),
    "pause": LazyCommand("queues:pause", "Let no job of a queue begin.", _CHANGE),
    "resume": LazyCommand("queues:resume", "Let jobs of a paused queue begin again.", _CHANGE),
    "limit": LazyCommand("queues:limit", "Limit how many jobs of a queue run at once.", _CHANGE),
    "backup": LazyCommand("backup:backup", "Copy the database while workers go on.", _SET_UP),
    "copy": LazyCommand("copy:copy", "Move all jobs to another database.", _SET_UP),
    "migrate": LazyCommand("migrate:migrate", "Create or upgrade the tables.", _SET_UP),
    "completion": LazyCommand("completion:completion", "Print the script for completion in a shell.", _SET_UP),
    "demo": LazyCommand("demo:demo", "Play a short story that shows what durable means.", _SET_UP),
}

root = LazyGroup(
    "durablejobs",
    lazy=COMMANDS,
    help="Background jobs in one SQLite file.",
    epilog=f"""
    Settings: --db and --app also come from DURABLEJOBS_DB and DURABLEJOBS_APP, and with the worker's options from
    [tool.durablejobs] in pyproject.toml of the working directory.

    Exit codes: {EXPLAINED}
    """,
)
click.version_option(__version__, message="durablejobs %(version)s")(root)
