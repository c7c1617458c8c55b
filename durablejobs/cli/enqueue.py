"""`durablejobs enqueue`: store a job, or many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from .commands import Command
from .json_text import json_argument, json_from
from .opening import open_and_say, opened_client_app
from .parameters import DURATION, DURATION_FORMS, MOMENT, app_option, database_option, json_option
from .terminal import counted, said_if_lost, say, show, show_json

if TYPE_CHECKING:
    from ..app import DurableJobs
    from ..client import Client
    from ..jobs import Job

_UNIQUE_RULE: Final = ("on_conflict", "unique_while", "unique_for", "debounce_limit")


@click.command(
    cls=Command,
    short_help="Store a job and print its id.",
    examples=[
        "durablejobs enqueue mail a@b.c subject=hi --db jobs.db",
        "durablejobs enqueue resize photo.jpg width:=640 keep:=true --queue images --in 10m",
        "durablejobs enqueue log ':=\"a=b\"'                  # the text a=b, not a keyword",
        "durablejobs enqueue log -- -5                       # after --, nothing is an option",
        "durablejobs enqueue report --kwargs @report.json --at 2026-01-31T06:00Z",
        "durablejobs enqueue report 7 --wait --timeout 1m    # prints the result",
        "durablejobs enqueue index 7 --unique-key index:7 --on-conflict debounce --in 10s --debounce-limit 1m",
        "durablejobs enqueue --batch jobs.jsonl              # one JSON object a line",
    ],
)
@click.argument("handler", required=False)
@click.argument("arguments", nargs=-1, metavar="[ARGUMENTS]...")
@click.option("--args", "args_json", metavar="JSON|-|@FILE", help="More positional arguments, a JSON array.")
@click.option("--kwargs", "kwargs_json", metavar="JSON|-|@FILE", help="More keyword arguments, a JSON object.")
@click.option("--queue", metavar="NAME", help="The queue; else the handler's, else 'default'.")
@click.option("--priority", type=int, help="Higher runs sooner; default 0.")
@click.option("--in", "delay", type=DURATION, help=f"Not before so long from now: {DURATION_FORMS}.")
@click.option("--at", "run_at", type=MOMENT, help="Not before this time, with its zone: 2026-01-31T12:00Z.")
@click.option("--unique-key", metavar="KEY", help="Store nothing while another job holds this key.")
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "error", "replace", "debounce"]),
    help="Then name that job, fail, give it what is new here, or put it off too.",
)
@click.option(
    "--unique-while", type=click.Choice(["live", "waiting"]), help="It holds the key until it ends, or until it runs."
)
@click.option("--unique-for", type=DURATION, help="And for so long from its enqueue in any case.")
@click.option("--debounce-limit", type=DURATION, help="Put off at most so long after its first enqueue.")
@click.option("--max-attempts", type=int, help="Runs in all, the first one included.")
@click.option("--run-timeout", type=DURATION, help="How long a run may take; else the handler's.")
@click.option("--batch", metavar="FILE|-", help="Store one job for each line of JSON, all or none.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result as JSON.")
@click.option("--timeout", type=DURATION, help="With --wait: how long to wait.")
@app_option("Check name and arguments against these handlers first.")
@database_option
@json_option
def enqueue(
    handler: str | None,
    arguments: tuple[str, ...],
    args_json: str | None,
    kwargs_json: str | None,
    batch: str | None,
    wait: bool,
    timeout: float | None,
    app: str | None,
    database: str | None,
    as_json: bool,
    **options: Any,
) -> int | None:
    """Store a job for HANDLER and print its id once it is on disk.

    \b
    Arguments:
      text            a positional argument, a text
      name=text       a keyword argument, a text
      name:=JSON      a keyword argument of any type: n:=3, tags:='["a", "b"]'
      :=JSON          a positional argument of any type

    The lines of --batch are objects with the keys handler, args, kwargs, queue, priority, run_at or delay,
    unique_key, max_attempts, timeout; HANDLER and the options stand in for what a line leaves out. delay and timeout
    are seconds, or texts such as "10m".
    """
    _check_combination(handler, bool(arguments or args_json or kwargs_json), batch, wait, timeout, options)
    given = {_OPTION_OF.get(key, key): value for key, value in options.items() if value is not None}
    if batch is not None:
        with opened_client_app(app, database) as jobs:
            _enqueue_batch(jobs, batch, handler, given, as_json)
        return None
    assert handler is not None
    args, kwargs = _collected(arguments, args_json, kwargs_json)
    with opened_client_app(app, database) as jobs:
        job = _enqueue_one(jobs, jobs.using(**given), handler, args, kwargs)
        if wait:
            say(f"job {job.id} is enqueued; waiting for its end")
            from .wait import wait_and_show

            return wait_and_show(jobs.reader, job.id, timeout, as_json)
        with said_if_lost(f"job {job.id} is stored; do not enqueue it again"):
            if as_json:
                show_json({"id": job.id, "duplicate": job.is_duplicate})
            else:
                show(str(job.id))
    return None


_OPTION_OF: Final = {"run_timeout": "timeout"}
"""What is called otherwise here than in `using(…)`: --timeout is how long to wait."""


def _check_combination(
    handler: str | None,
    has_arguments: bool,
    batch: str | None,
    wait: bool,
    timeout: float | None,
    options: dict[str, Any],
) -> None:
    """Refuse options that exclude each other."""
    problem = None
    if batch is None and handler is None:
        problem = "no HANDLER was given"
    elif batch is not None and has_arguments:
        problem = "with --batch the arguments stand in the lines"
    elif batch is not None and wait:
        problem = "--wait is for one job, not for --batch"
    elif batch is not None and options["unique_key"] is not None:
        problem = "with --batch each line has a unique_key of its own"
    elif batch is not None and any(options[name] is not None for name in _UNIQUE_RULE):
        problem = "--on-conflict, --unique-while, --unique-for and --debounce-limit are for one job, not for --batch"
    elif options["delay"] is not None and options["run_at"] is not None:
        problem = "--in and --at exclude each other"
    elif timeout is not None and not wait:
        problem = "--timeout needs --wait"
    if problem is not None:
        raise click.UsageError(problem, click.get_current_context())


def _collected(
    arguments: Sequence[str], args_json: str | None, kwargs_json: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return args and kwargs from the options and the arguments, in this order."""
    if args_json == kwargs_json == "-":
        raise click.UsageError("--args and --kwargs cannot both read standard input", click.get_current_context())
    args = json_from("--args", args_json) if args_json is not None else []
    kwargs = json_from("--kwargs", kwargs_json) if kwargs_json is not None else {}
    if not isinstance(args, list):
        raise click.UsageError("--args must be a JSON array, for example '[\"a\", 1]'", click.get_current_context())
    if not isinstance(kwargs, dict):
        raise click.UsageError("--kwargs must be a JSON object, for example '{\"n\": 1}'", click.get_current_context())
    for argument in arguments:
        _collect(argument, args, kwargs)
    return args, kwargs


def _collect(argument: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Add one argument: only `name=` and `name:=` with a name that Python takes make a keyword argument."""
    name, separator, text = argument.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if separator and is_json and not name:
        args.append(json_argument(f"argument {argument}", text))
    elif separator and name.isidentifier():
        if name in kwargs:
            raise click.UsageError(f"{name} is given twice", click.get_current_context())
        kwargs[name] = json_argument(name, text) if is_json else text
    else:
        args.append(argument)


def _enqueue_one(jobs: DurableJobs, client: Client, handler: str, args: list[Any], kwargs: dict[str, Any]) -> Job:
    client.check(handler, args, kwargs)  # a mistake must not even create the file
    open_and_say(jobs)
    job = client.enqueue(handler, *args, **kwargs)
    if job.is_duplicate:
        say(f"no new job: job {job.id} ({job.status}) holds the unique key '{job.unique_key}'")
    return job


def _enqueue_batch(jobs: DurableJobs, source: str, handler: str | None, given: dict[str, Any], as_json: bool) -> None:
    from .batch import checked_batch, store_batch

    client = jobs.using(**given)
    with checked_batch(source, client, handler) as batch:
        open_and_say(jobs)
        stored = store_batch(batch, client)
    left_out = f"; {stored.duplicates:,} left out, other jobs hold their unique keys" if stored.duplicates else ""
    say(f"{counted(stored.count, 'job')} enqueued{left_out}")
    if as_json:
        show_json({"count": stored.count, "duplicates": stored.duplicates})
