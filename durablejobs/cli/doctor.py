"""`durablejobs doctor` and `durablejobs verify`: what is wrong, why it matters, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from .commands import Command
from .errors import ExitCode
from .opening import opened_client_app, opened_store
from .parameters import app_option, database_option, json_option
from .terminal import counted, say, show, show_json

if TYPE_CHECKING:
    from ..doctor.findings import Finding
    from ..store.soundness import Checked

_STYLES: Final = {"ok": "green", "advice": "yellow", "wrong": "red"}
_CHECK_WIDTH: Final = 16


@click.command(
    cls=Command,
    short_help="Look for what is wrong, say why it matters and what to do.",
    examples=[
        "durablejobs doctor --db jobs.db",
        "durablejobs doctor --db jobs.db --deep        # reads the whole file",
        "durablejobs doctor --app handlers --json      # looks also for jobs whose handler the app does not have",
    ],
)
@click.option("--deep", is_flag=True, help="Read every page and every row too; takes long for a large file.")
@app_option("Your app: are its settings safe, does it have a handler for each waiting job?")
@database_option
@json_option
def doctor(deep: bool, app: str | None, database: str | None, as_json: bool) -> int:
    """Look for what is wrong with a database and around it. Changes nothing.

    Each finding is ok, advice or wrong, and says what was found, why it matters, and what to do. The exit code is 4
    when something is wrong.
    """
    with opened_client_app(app, database) as jobs:
        findings = jobs.examine(deep=deep)
    for finding in findings:
        if as_json:
            show_json(asdict(finding))
        else:
            _show(finding)
    wrong = sum(finding.level.value == "wrong" for finding in findings)
    if not as_json:
        say(f"{counted(wrong, 'thing')} wrong" if wrong else "nothing is wrong")
    return ExitCode.FAILED if wrong else ExitCode.OK


def _show(finding: Finding) -> None:
    level = finding.level.value
    show(f"{level:<7} {finding.check:<{_CHECK_WIDTH}} {finding.what}", _STYLES[level])
    indent = " " * (_CHECK_WIDTH + 9)
    if finding.why:
        show(f"{indent}why: {finding.why}")
    if finding.remedy:
        show(f"{indent}do:  {finding.remedy}")


@click.command(
    cls=Command,
    short_help="Check that the rows keep every promise.",
    examples=[
        "durablejobs verify --db jobs.db",
        "durablejobs verify --db backup.db --json",
    ],
)
@database_option
@json_option
def verify(database: str | None, as_json: bool) -> int:
    """Read all of the database, as of one moment and while workers go on, and check that the rows keep every promise.

    Statuses and ends, claim tokens, attempts, crashes, unique keys, counts, and SQLite's own check of pages, indexes
    and references. The exit code is 4 when a promise is broken. The names I1 to I15 are explained in the guarantees.
    """
    with opened_store(database) as store:
        rows = store.checks.count_rows()
        checked = [*store.checks.rules()]
        problems = store.checks.integrity_problems()
    if problems is not None:
        checked.append(_integrity(problems))
    broken = sum(each.broken > 0 for each in checked)
    for each in checked:
        if as_json:
            show_json(each._asdict())
        else:
            _show_checked(each)
    if not as_json:
        looked_at = f"{counted(rows['jobs'], 'job')} and {counted(rows['job_errors'], 'error')} were read"
        say(f"{looked_at}: {counted(broken, 'promise')} broken" if broken else f"{looked_at}: all promises are kept")
        if problems is None:
            say("the server's own pages and indexes were not checked; pg_amcheck does that")
    return ExitCode.FAILED if broken else ExitCode.OK


def _integrity(problems: list[str]) -> Checked:
    from ..store.soundness import Checked

    text = "SQLite's own check finds nothing"
    return Checked("I10", text, len(problems), problems[:10])


def _show_checked(each: Checked) -> None:
    if each.broken:
        examples = ", ".join(each.examples)
        show(f"broken  {each.promise:<4} {each.text}: {counted(each.broken, 'time')}, among them {examples}", "red")
    else:
        show(f"kept    {each.promise:<4} {each.text}", "green")
