"""The options and argument types that commands share; no database is opened here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from ..config import parsed_job_id
from ..errors import JobNotFoundError
from ..spelling import nearest
from ..statuses import FINAL, Status

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    ParameterType = click.ParamType[Any]
else:
    ParameterType = click.ParamType  # generic only in newer versions

DURATION_FORMS: Final = "90, 90s, 10m, 2h, 1d or 1h30m"
_NUMBER: Final = r"\d+(?:\.\d+)?"
_PLAIN_NUMBER: Final = re.compile(_NUMBER, re.ASCII)
_UNITS: Final = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_WITH_UNITS: Final = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS), re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `10m`, `1h30m`. Raises `ValueError`."""
    text = text.strip()
    if _PLAIN_NUMBER.fullmatch(text):
        return float(text)
    found = _WITH_UNITS.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"must be a duration such as {DURATION_FORMS}, not {text!r}")
    return sum(float(number) * unit for number, unit in zip(found.groups(), _UNITS.values(), strict=True) if number)


def parse_retention(text: str) -> float:
    """Return the seconds of a duration, or infinity for `never`. Raises `ValueError`."""
    if text == "never":
        return math.inf
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"must be 'never' or a duration such as 0, 12h or 7d, not {text!r}") from None


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 text with a time zone. Raises `ValueError` with the corrected form."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        example = "2026-01-31T12:00Z or 2026-01-31T12:00+01:00"
        raise ValueError(f"must be a time such as {example}, not {text!r}") from None
    if moment.tzinfo is None:
        forms = {moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z"): "for UTC"}
        with suppress(OverflowError, ValueError, OSError):  # no zone is known for such a year
            forms |= {moment.astimezone().isoformat(): "for the time here"}
        hints = " or ".join(f"{form} {meaning}" for form, meaning in forms.items())
        raise ValueError(f"{text!r} has no time zone; write {hints}")
    return moment


class Parsed(ParameterType):
    """An option type made of a function that raises `ValueError` with what is wrong."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse what was typed."""
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            return self.fail(str(error), param, ctx)


class StatusType(ParameterType):
    """The name of a status; a wrong one is answered with the nearest."""

    name = "status"

    def __init__(self, allowed: frozenset[Status] = frozenset(Status)) -> None:
        self._allowed = [status for status in Status if status in allowed]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Status:
        """Return the status of this name."""
        if value in self._allowed:
            return Status(value)
        known = ", ".join(self._allowed)
        if value in list(Status):
            self.fail(f"{value} jobs have not ended; here it is {known}", param, ctx)
        if value == "retrying":
            self.fail("'retrying' is how scheduled jobs with attempts behind them are shown; use scheduled", param, ctx)
        near = nearest(str(value), self._allowed)
        hint = f"did you mean '{near}'?" if near else f"it is one of {known}"
        return self.fail(f"{str(value)[:60]!r} is no status; {hint}", param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - the signature is click's
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete a status."""
        return [CompletionItem(status) for status in self._allowed if status.startswith(incomplete)]


DURATION: Final = Parsed("duration", parse_duration)
RETENTION: Final = Parsed("duration", parse_retention)
MOMENT: Final = Parsed("time", parse_moment)
STATUS: Final = StatusType()
FINAL_STATUS: Final = StatusType(FINAL)

IDS_CONTEXT: Final = {"ignore_unknown_options": True}
"""For commands that take ids, so that `-1` reaches `job_id`, which says that there is no such job."""


def job_id(text: str) -> int:
    """Return the id that a person typed. Raises `JobNotFoundError` for what no job can have as id."""
    if text.startswith("-") and not text[1:2].isdigit():
        ctx = click.get_current_context()
        options = [name for param in ctx.command.get_params(ctx) for name in param.opts]
        raise click.NoSuchOption(text, possibilities=options, ctx=ctx)
    number = parsed_job_id(text)
    if number is None:
        raise JobNotFoundError(text if len(text) <= 60 else f"{text[:60]}…")
    return number


def database_option(function: F) -> F:
    """Add `--db`."""
    return click.option(
        "--db", "database", metavar="PATH", envvar="DURABLEJOBS_DB", show_envvar=True, help="The database file."
    )(function)


def app_option(help_text: str) -> Callable[[F], F]:
    """Add `--app`."""
    return click.option("--app", metavar="MODULE[:NAME]", envvar="DURABLEJOBS_APP", show_envvar=True, help=help_text)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(function)


def filter_options(function: F) -> F:
    """Add `--status`, `--handler` and `--queue`."""
    for decorate in (
        click.option("--queue", metavar="NAME", help="Only jobs of this queue."),
        click.option("--handler", metavar="NAME", help="Only jobs of this handler."),
        click.option(
            "--status", "statuses", type=STATUS, multiple=True, help="Only jobs in this status; may be repeated."
        ),
    ):
        function = decorate(function)
    return function
