"""What people see: stdout is data, stderr is messages; rich is imported only for a terminal.

Text from rows, arguments and errors is foreign: `escaped` escapes what could move a cursor or turn the reading
direction, and rich never reads it as markup.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

import click

from ..escaping import escaped

if TYPE_CHECKING:
    from rich.console import Console

_NARROWEST: Final = 40
_SHOW_PROGRESS_AFTER: Final = 0.3
"""Seconds; what takes less needs no bar."""

# C0, DEL, C1, what turns the reading direction, line separators, and surrogates, which no terminal can show.
_RISKY: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def cut(text: str, most: int) -> str:
    """Return the text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


# Messages and data


def say(message: str) -> None:
    """Write a message for a person to stderr; a line break in it stays one."""
    with suppress(OSError, ValueError):  # nobody listens: nothing more can be said
        click.echo("\n".join(escaped(line) for line in message.split("\n")), err=True)


def show(line: str = "", style: str = "") -> None:
    """Write a line of foreign text to stdout."""
    text = escaped(line)
    if _held is not None:
        from rich.text import Text

        _held.append(Text(text, style))
        return
    if style and uses_colour(sys.stdout):
        text = click.style(text, **_click_style(style))
    click.echo(text)


@contextmanager
def said_if_lost(message: str) -> Iterator[None]:
    """Say this when stdout cannot be written to: what is done already must not be done again."""
    try:
        yield
    except OSError:
        say(message)
        raise


def show_json(value: Any) -> None:
    """Write one JSON value as a line to stdout."""
    click.echo(json_line(value))


def json_line(value: Any) -> str:
    """Return JSON in one line that no terminal can misread: the risky characters as JSON escapes."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not is_unicode)
    return _RISKY.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person looks at this stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def raise_if_unread(stream: TextIO) -> None:
    """Raise `BrokenPipeError`, as the next write would, when nobody reads this pipe any more: `… | head -1`."""
    if not hasattr(select, "poll"):
        return
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        events = poll.poll(0)
    except (OSError, ValueError):  # no real file
        return
    if any(event & select.POLLERR for _, event in events):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def can_redraw(stream: TextIO | None) -> bool:
    """Return whether a drawing can be drawn over: on a terminal with a cursor to move."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def uses_colour(stream: TextIO | None) -> bool:
    """Return whether to write colours: on a terminal that has them, unless NO_COLOR is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _click_style(style: str) -> dict[str, Any]:
    words = style.split()
    chosen: dict[str, Any] = {word: True for word in words if word in ("bold", "dim")}
    colours = [word for word in words if word not in chosen]
    return chosen | ({"fg": colours[0]} if colours else {})


def _width() -> int:
    return max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST)


# Tables


class Column(NamedTuple):
    """A table's column; a flexible one is cut on a narrow terminal."""

    heading: str
    is_number: bool = False
    is_flexible: bool = False


class Cell(NamedTuple):
    """A cell with a style of its own, in words that rich and click share: `red`, `bold`, `dim`."""

    text: str
    style: str = ""


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]]) -> None:
    """Write a table to stdout: fitted to a terminal, else aligned and uncut for other programs."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    cells = [[Cell(escaped(cell.text), cell.style) for cell in row] for row in cells]
    if is_terminal(sys.stdout):
        _show_rich_table(columns, cells)
    else:
        _show_plain_table(columns, cells)


def _show_plain_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    lines = [[column.heading for column in columns], *([cell.text for cell in row] for row in rows)]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        aligned = [
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo("  ".join(aligned).rstrip())


def _show_rich_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.heading),
            justify="right" if column.is_number else "left",
            no_wrap=not column.is_flexible,
        )
    for row in rows:
        table.add_row(*(Text(cell.text, cell.style, no_wrap=True, overflow="ellipsis") for cell in row))
    if _held is not None:
        _held.append(table)
    else:
        console(sys.stdout).print(table)


def console(stream: TextIO) -> Console:
    """Return rich's console on this stream."""
    from rich.console import Console

    colours = uses_colour(stream)
    return Console(
        file=stream,
        width=_width(),
        force_terminal=can_redraw(stream),
        color_system="auto" if colours else None,
        highlight=False,
    )


# A view that is drawn over and over

_held: list[Any] | None = None
"""What `show` and `show_table` were given while a view is put together; None: it goes out at once."""


@contextmanager
def redrawn() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yield what calls a function and shows what that shows, in the place of what it showed before.

    The last drawing stays.
    """
    from rich.console import Group
    from rich.live import Live

    with Live(console=console(sys.stdout), auto_refresh=False, vertical_overflow="crop") as live:

        def redraw(draw: Callable[[], None]) -> None:
            global _held
            _held = []
            try:
                draw()
                live.update(Group(*_held), refresh=True)
            finally:
                _held = None

        yield redraw


# Progress and questions

Advance = Callable[[int], None]
"""Tells a progress bar how many more are done."""


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Advance]:
    """Yield what advances a progress bar on stderr; there is none without a terminal, nor for what is quick."""
    if not is_terminal(sys.stderr):
        yield lambda _count: None
        return
    bar = _Bar(what, total)
    try:
        yield bar.advance
    finally:
        bar.close()


class _Bar:
    """A rich progress bar that appears, and imports rich, only when the work turns out to be long."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._since = time.monotonic()
        self._shown: Any = None

    def advance(self, count: int) -> None:
        self._done += count
        if self._shown is not None:
            self._shown.update(self._task, completed=self._done)
        elif time.monotonic() - self._since > _SHOW_PROGRESS_AFTER:
            self._show()

    def _show(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._shown = Progress(*columns, console=console(sys.stderr), transient=True)
        self._task = self._shown.add_task(self._what, total=self._total, completed=self._done)
        self._shown.start()

    def close(self) -> None:
        if self._shown is not None:
            self._shown.stop()


def can_ask() -> bool:
    """Return whether there is a person to answer a question."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def ask(question: str) -> bool:
    """Ask a person yes or no; no is the default."""
    return click.confirm(escaped(question), default=False, err=True)


# Words for numbers and times


def counted(number: int, noun: str) -> str:
    """Return `1 job`, `12,000 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def brief(seconds: float) -> str:
    """Return a length of time as people say it: `12 ms`, `3.4 s`, `5 min`, `3 h`, `4 d`."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, length, until in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if seconds < until:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
