"""Watching jobs: a view that is drawn over on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from ..escaping import escaped
from .records import json_object, progress_share, progress_text, status_word
from .terminal import can_redraw, console, raise_if_unread, redrawn, show, show_json

if TYPE_CHECKING:
    from ..jobs import Job
    from ..reading import Reader

LONGEST_PAUSE: Final = 1.0
"""Seconds between two drawings at most, because durations grow."""
SHORTEST_PAUSE: Final = 0.1
"""Seconds between two looks at least, however many jobs change."""


def watch(
    reader: Reader,
    look: Callable[[], Sequence[Job]],
    draw: Callable[[Sequence[Job]], None],
    as_json: bool,
    until: Callable[[Sequence[Job]], bool] = lambda _jobs: False,
) -> None:
    """Show the jobs that `look` returns, again whenever they may have changed, until that is said or Ctrl-C.

    A terminal gets what `draw` shows; a pipe or a file gets a line for each job that is new or has changed.
    """
    changes = _Changes(as_json)
    on_screen = not as_json and can_redraw(sys.stdout)
    with reader.changes() as wait, redrawn() if on_screen else nullcontext() as redraw:
        while True:
            jobs = reader.shown(look())
            if redraw is not None:
                redraw(lambda: draw(jobs))  # noqa: B023 - drawn at once
            else:
                changes.show(jobs)
            if until(jobs):
                return
            time.sleep(SHORTEST_PAUSE)
            raise_if_unread(sys.stdout)
            wait(LONGEST_PAUSE - SHORTEST_PAUSE)


@contextmanager
def job_progress() -> Iterator[Callable[[Job], None] | None]:
    """Yield what shows how far a job is, as a bar on stderr that goes away; None where nobody could see it."""
    if not can_redraw(sys.stderr):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=None)

        def look(job: Job) -> None:
            share = progress_share(job.progress)
            words = escaped(" ".join(filter(None, (f"job {job.id}", status_word(job), progress_text(job.progress)))))
            bar.update(task, description=words, total=None if share is None else 1.0, completed=share or 0.0)

        yield look


class _Changes:
    """Shows the jobs that are new or have changed since the last look, oldest first."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._seen: dict[int, tuple[Any, ...]] = {}

    def show(self, jobs: Sequence[Job]) -> None:
        states = {job.id: (job.status, job.attempt, job.progress, job.error) for job in jobs}
        for job in sorted(jobs, key=lambda each: each.id):
            if self._seen.get(job.id) != states[job.id]:
                self._show_one(job)
        self._seen = states
        sys.stdout.flush()

    def _show_one(self, job: Job) -> None:
        if self._as_json:
            show_json(json_object(job))
            return
        words = [str(job.id), status_word(job), job.handler, progress_text(job.progress), job.error or ""]
        show("  ".join(filter(None, words)))
