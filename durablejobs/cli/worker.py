"""`durablejobs worker`: run jobs until stopped."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from ..config import DAY, Retention, WorkerConfig, checked_integer
from ..escaping import escaped
from ..queues import parse_queues
from ..supervisor import Supervisor, leave_signals_to_the_supervisor, obey
from .commands import Command
from .errors import ExitCode, Refusal
from .opening import open_and_say, opened_worker_app
from .parameters import DURATION, RETENTION, app_option, database_option
from .reload import CodeWatch, reloading
from .settings import read_settings
from .terminal import brief, counted, say

if TYPE_CHECKING:
    from ..app import DurableJobs
    from ..events import Event
    from ..report import WorkerReport

log: Final = logging.getLogger("durablejobs.worker")

_DEFAULTS: Final[dict[str, Any]] = {each.name: each.default for each in fields(WorkerConfig)}
_KEPT: Final = Retention()
_NO_FIELDS: Final = ("db", "app", "processes")
_STATUSES_KEPT: Final = [each.name for each in fields(Retention)]


def _seconds(name: str) -> str:
    return f"default {_DEFAULTS[name]:g} s"


def _days(seconds: float) -> str:
    return f"default {seconds / DAY:g}d"


@click.command(
    cls=Command,
    short_help="Run jobs until stopped.",
    examples=[
        "durablejobs worker --db jobs.db                       # the handlers of ./handlers.py",
        "durablejobs worker --app shop.background:jobs --concurrency 8",
        "durablejobs worker --queues mail=3,default=1          # of four turns, mail comes first in three",
        "durablejobs worker --queues urgent,default            # default only while urgent is empty",
        "durablejobs worker --processes 4 --concurrency 2      # four workers, kept running",
        "durablejobs worker --burst --quiet                    # run what is there, then end",
    ],
)
@app_option("Where the handlers are; else ./handlers.py.")
@database_option
@click.option("--queues", metavar="LIST", help="a,b: a first; a=3,b=1: by weight; default: all queues.")
@click.option("--concurrency", type=int, metavar="N", help="Jobs at once in threads; default: the processors.")
@click.option("--async-concurrency", type=int, metavar="N", help="Async jobs at once; default 100.")
@click.option("--process-concurrency", type=int, metavar="N", help="Child processes; default: the processors.")
@click.option("--interval", type=DURATION, help=f"How often to look when nothing else reports; {_seconds('interval')}.")
@click.option("--burst", is_flag=True, help="End when nothing is left to run.")
@click.option("--max-jobs", type=int, metavar="N", help="End after so many runs.")
@click.option("--grace", type=DURATION, help=f"After a signal: time for running jobs; {_seconds('grace')}.")
@click.option("--lease", type=DURATION, help=f"After this, a hung worker's jobs go on; {_seconds('lease')}.")
@click.option(
    "--max-crashes",
    type=int,
    metavar="N",
    help=f"A job that killed its worker so often fails; default {_DEFAULTS['max_crashes']}.",
)
@click.option("--keep-succeeded", type=RETENTION, help=f"0, 12h, 7d, never …; {_days(_KEPT.succeeded)}.")
@click.option("--keep-cancelled", type=RETENTION, help=f"The same for cancelled jobs; {_days(_KEPT.cancelled)}.")
@click.option("--keep-failed", type=RETENTION, help=f"The same for failed jobs; {_days(_KEPT.failed)}.")
@click.option("--processes", type=int, metavar="N", help="Worker processes, kept running by this one; default 1.")
@click.option("--reload", is_flag=True, help="For development: start again when the code has changed.")
@click.option("--supervised", is_flag=True, hidden=True)
@click.option("--name", help="The worker's name in logs and lists; default: host and pid.")
@click.option("--verbose", "-v", is_flag=True, help="Log each job.")
@click.option("--quiet", "-q", is_flag=True, help="Log only warnings and errors.")
def worker(app: str | None, database: str | None, verbose: bool, quiet: bool, **options: Any) -> int:
    """Run jobs until stopped.

    The first SIGTERM or Ctrl-C lets running jobs finish within the grace period, the second gives them back to run
    again. A missing database is created. Exits with 0 after a clean end, with 130 when running jobs were given back.
    With --processes, a worker that falls is started again, and the worst exit code counts. With --reload, running jobs
    finish first, within the grace period.
    """
    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet exclude each other", click.get_current_context())
    supervised, reload = options.pop("supervised"), options.pop("reload")
    if supervised:
        leave_signals_to_the_supervisor()
    processes = _processes(options.pop("processes"))
    config = _config(options)
    if reload and processes > 1:
        raise click.UsageError("--reload is for one worker, not for --processes", click.get_current_context())
    if processes > 1 and not supervised:
        with _logging(verbose, quiet):
            return _supervise(processes, config, database)
    if reload:
        return reloading(lambda watch: _work(app, database, config, verbose, quiet, supervised, watch))
    return _work(app, database, config, verbose, quiet, supervised)


def _work(
    app: str | None,
    database: str | None,
    config: WorkerConfig,
    verbose: bool,
    quiet: bool,
    supervised: bool,
    watch: CodeWatch | None = None,
) -> int:
    """Run one worker to its end; a watch ends it when the code has changed."""
    with opened_worker_app(app, database) as jobs, _logging(verbose, quiet, jobs.registry.keeps_logs):
        _check_handlers(jobs)
        open_and_say(jobs)
        if verbose:
            jobs.on("succeeded", _log_success)
        chosen = jobs.worker(config)
        if supervised:
            obey(chosen.drain, chosen.hurry)
        if watch is not None:
            watch.drain_on_change(chosen)
        report = chosen.run(is_supervised=supervised)
        if watch is not None and chosen.stop_requests > 1:  # somebody will not wait for the new code
            watch.has_changed = False
        if (config.burst or config.max_jobs is not None) and not quiet:
            say(_summary(report))
        if report.given_back and not (watch is not None and watch.has_changed):
            _exit_now(ExitCode.INTERRUPTED)
    return ExitCode.OK


def _processes(given: int | None) -> int:
    """Return how many workers are wanted. Raises `ConfigurationError`."""
    return checked_integer(read_settings().get("processes", 1) if given is None else given, "processes", 1, 1000)


def _supervise(processes: int, config: WorkerConfig, database: str | None) -> int:
    """Start this command so many times, and look after it."""
    if not hasattr(os, "fork"):
        raise Refusal("--processes needs a POSIX system; start several workers instead", ExitCode.USAGE)

    arguments = sys.argv[1:]
    if database is not None and "://" in database:  # a URL may hold a password, and everybody reads argument lists
        os.environ["DURABLEJOBS_DB"] = database
        arguments = _without_database(arguments)

    def command(number: int) -> list[str]:
        name = [] if config.name is None else ["--name", f"{config.name}:{number}"]
        return [sys.executable, "-m", "durablejobs", *arguments, *name, "--supervised"]

    return Supervisor(command, processes, config.max_jobs is not None and not config.burst).run()


def _without_database(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--db":
            next(remaining, None)
        elif not argument.startswith("--db="):
            kept.append(argument)
    return kept


def _config(options: dict[str, Any]) -> WorkerConfig:
    """Return the worker's settings: options, then pyproject.toml, then defaults. Raises `ConfigurationError`."""
    settings = {key.replace("-", "_"): value for key, value in read_settings().items() if key not in _NO_FIELDS}
    chosen: dict[str, Any] = settings | {name: value for name, value in options.items() if value is not None}
    kept = {name: chosen.pop(f"keep_{name}") for name in _STATUSES_KEPT if f"keep_{name}" in chosen}
    if "lease" in chosen:  # the heartbeat follows a short lease
        chosen["heartbeat"] = min(_DEFAULTS["heartbeat"], chosen["lease"] / 4)
    parse_queues(chosen.get("queues"))
    return WorkerConfig(retention=Retention(**kept), **chosen)


def _check_handlers(jobs: DurableJobs) -> None:
    """Refuse to work without handlers: every job would fail its attempt."""
    if not jobs.handler_names:
        raise Refusal("the app has no handlers; import the modules that register them where the app is defined")


def _summary(report: WorkerReport) -> str:
    parts = [f"{report.succeeded:,} succeeded"]
    parts += [f"{report.not_succeeded:,} did not"] if report.not_succeeded else []
    parts += [f"{report.lost:,} lost to another worker"] if report.lost else []
    return f"{counted(report.runs, 'run')}: {', '.join(parts)}"


def _log_success(event: Event) -> None:
    """Log a job that succeeded; what did not is logged by the worker anyway."""
    took = brief(event.seconds or 0.0)
    log.info("job %d (%s) attempt %d succeeded in %s", event.job_id, event.handler, event.attempt, took)


def _exit_now(code: int) -> None:
    """End the process although a handler still runs in a thread."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


class _LineFormatter(logging.Formatter):
    """One line a record, in UTC like the rows, with control characters escaped; a traceback keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        lines = [f"{moment}Z {level}{escaped(record.getMessage())}"]
        if record.exc_info:
            lines += map(escaped, self.formatException(record.exc_info).splitlines())
        return "\n".join(lines)


@contextmanager
def _logging(verbose: bool, quiet: bool, keeps_logs: bool = False) -> Iterator[None]:
    """Log to stderr, unless the user's app has set up logging of its own: then to where that says."""
    root, own = logging.getLogger(), logging.getLogger("durablejobs")
    undo: list[Callable[[], None]] = []
    if own.level == logging.NOTSET:
        own.setLevel(logging.WARNING if quiet else logging.INFO)
        undo.append(lambda: own.setLevel(logging.NOTSET))
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_LineFormatter())
        root.addHandler(handler)
        undo.append(lambda: root.removeHandler(handler))
        if verbose or keeps_logs:  # what is kept may be more than what is printed
            level = root.level
            root.setLevel(logging.INFO)
            undo.append(lambda: root.setLevel(level))
        if not verbose:
            handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("durablejobs"))
    try:
        yield
    finally:
        for act in undo:
            act()
