"""The journal of a worker: what its running jobs say about themselves, written seldom and guarded by their claims.

A handler may call `progress` a million times: the newest word stands in memory, and a thread writes what is new a few
times a second, all jobs in one transaction. What is left when a run has ended is written with its ending.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from .clock import Clock
from .errors import DatabaseError
from .failures import cut, storable
from .jobs import ClaimedJob, LogEntry, Notes
from .line_limit import LineLimit
from .shielding import Shield

log = logging.getLogger("durablejobs.worker")

WRITE_EVERY: Final = 0.25
"""Seconds between two writes, at least."""
LONGEST_MESSAGE: Final = 200
"""Characters of a progress message."""
LONGEST_LINE: Final = 4000
"""Characters of a log line."""
FIRST_LINES: Final = 500
LAST_LINES: Final = 500
"""Lines of an attempt that are kept; those between them are counted."""

_Claim = tuple[int, int]


class _Page:
    """What one run has said and nobody has written yet."""

    __slots__ = ("begun_lines", "job", "last_lines", "left_out", "lines", "progress", "written_progress")

    def __init__(self, job: ClaimedJob) -> None:
        self.job = job
        self.progress: str | tuple[Any, Any, Any] | None = None
        self.written_progress: object = None
        self.lines: list[LogEntry] = []
        self.begun_lines = 0
        """How many of the first lines there were, written or not."""
        self.last_lines: deque[LogEntry] = deque(maxlen=LAST_LINES)
        self.left_out = 0

    def add(self, entry: LogEntry) -> bool:
        """Take a line; return whether it can be written before the end."""
        if self.begun_lines < FIRST_LINES:
            self.begun_lines += 1
            self.lines.append(entry)
            return True
        if len(self.last_lines) == LAST_LINES:
            self.left_out += 1
        self.last_lines.append(entry)
        return False

    def notes(self, at_the_end: str | None = None) -> Notes | None:
        """Return what is to be written, if anything is; `at_the_end` of the run, at this time, all of it."""
        lines = list(self.lines)
        if at_the_end is not None:
            if self.left_out:
                lines.append(LogEntry(at_the_end, "warning", f"… {self.left_out:,} lines are left out here …"))
            lines += self.last_lines
        self.written_progress = self.progress
        if self.progress is None and not lines:
            return None
        progress = progress_text(*self.progress) if isinstance(self.progress, tuple) else self.progress
        return Notes(self.job, progress, lines)

    def forget(self, written: Notes) -> None:
        """What `notes` has returned last is written."""
        if self.progress is self.written_progress:
            self.progress = None
        del self.lines[: len(written.lines)]


class Journal:
    """Takes notes of running jobs, from any thread; `write` stores them, guarded by the claims."""

    def __init__(self, write: Callable[[Sequence[Notes]], None], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._pages: dict[_Claim, _Page] = {}
        self._changed: set[_Claim] = set()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._has_news = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._limit = LineLimit(_say_left_out, clock.monotonic)

    # From running jobs

    def progress(self, job: ClaimedJob, done: Any, total: Any, message: Any) -> None:
        """Note how far a job is; only the newest word counts."""
        with Shield(), self._lock:
            self._page(job).progress = (done, total, message)
            self._note_change(job)

    def log(self, job: ClaimedJob, level: str, message: Any) -> None:
        """Note a line of a job's log."""
        entry = LogEntry(self._clock.now_text(), level, cut(storable(message), LONGEST_LINE))
        with Shield(), self._lock:
            if self._page(job).add(entry):
                self._note_change(job)

    def accept(self, notes: Notes) -> None:
        """Take the notes of a job that runs in a child process, whose own journal has bounded them."""
        with self._lock:
            page = self._page(notes.job)
            page.progress = notes.progress or page.progress
            page.lines += notes.lines
            self._note_change(notes.job)

    def _page(self, job: ClaimedJob) -> _Page:
        page = self._pages.get((job.id, job.claim_token))
        if page is None:
            page = self._pages[job.id, job.claim_token] = _Page(job)
        return page

    def _note_change(self, job: ClaimedJob) -> None:
        self._changed.add((job.id, job.claim_token))
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="durablejobs-journal", daemon=True)
            self._thread.start()
        if not self._has_news.is_set():
            self._has_news.set()

    # At the end of runs

    def peek(self, job: ClaimedJob) -> list[Notes]:
        """Return what is to be written with the ending of this job's run; it stays here until it is taken.

        For a run that settles itself. It has the write lock, so this must not wait for what is being written.
        """
        with self._lock:
            page = self._pages.get((job.id, job.claim_token))
            notes = page.notes(self._clock.now_text()) if page is not None else None
        return [notes] if notes is not None else []

    def take(self, ended: Iterable[ClaimedJob]) -> list[Notes]:
        """Return, once, what is to be written with the endings of these jobs' runs."""
        if not self._pages:
            return []
        now = self._clock.now_text()
        with self._writing, self._lock:  # what is being written would be refused once the run is settled
            pages = [self._pages.pop((job.id, job.claim_token), None) for job in ended]
        found = [page.notes(now) for page in pages if page is not None]
        return [notes for notes in found if notes is not None]

    # In the journal's own thread

    def _serve(self) -> None:
        while self._has_news.wait() and not self._closed.is_set():
            self.flush()
            self._closed.wait(WRITE_EVERY)

    def flush(self) -> None:
        """Write what is new of the jobs that run."""
        with self._writing:
            with self._lock:
                self._has_news.clear()
                pages = [self._pages[claim] for claim in self._changed if claim in self._pages]
                self._changed.clear()
                notes = [(page, each) for page in pages if (each := page.notes()) is not None]
            try:
                if notes:
                    self._write([each for _, each in notes])
            except Exception as error:  # noqa: BLE001 - a journal that stops for ever would be missed
                self._try_again(notes, error)
            else:
                with self._lock:
                    for page, each in notes:
                        page.forget(each)

    def _try_again(self, notes: Sequence[tuple[_Page, Notes]], error: Exception) -> None:
        with self._lock:
            for page, _ in notes:
                self._note_change(page.job)
        if self._limit.allows():
            reason = error if isinstance(error, DatabaseError) else repr(error)
            log.warning("progress and logs wait: %s", reason)

    def close(self) -> None:
        """End; what was not taken is lost."""
        self._closed.set()
        self._has_news.set()
        if self._thread is not None:
            self._thread.join()


class ChildJournal(Journal):
    """The journal of a child process, which tells its notes to the worker; it runs one job at a time.

    What the worker was told it writes a moment later, and not any more once a run has settled itself. So a run that
    settles itself writes all its notes, but for the lines that the worker has written by then.
    """

    def __init__(self, send: Callable[[Notes], None], clock: Clock) -> None:
        super().__init__(self._tell, clock)
        self._send = send
        self._told_progress: str | None = None
        self._told_lines: list[LogEntry] = []

    def peek(self, job: ClaimedJob) -> list[Notes]:
        """Return all notes of this job's run, for it to settle itself."""
        with self._writing:  # the pipe: it waits for no write lock
            new = super().peek(job) or [Notes(job, None, [])]
            progress = new[0].progress or self._told_progress
            return [Notes(job, progress, self._told_lines + new[0].lines, may_be_written=True)]

    def end(self, job: ClaimedJob) -> None:
        """Tell what is left of this job's run, which has ended."""
        self._tell(self.take([job]))
        self._told_progress, self._told_lines = None, []

    def _tell(self, notes: Sequence[Notes]) -> None:
        for each in notes:
            self._told_progress = each.progress or self._told_progress
            self._told_lines += each.lines
            self._send(each)


def progress_text(done: Any, total: Any, message: Any) -> str:
    """Return a word about progress as JSON; what makes no sense in it is left out, not refused.

    A handler must not fail for it, perhaps at the last of a thousand steps.
    """
    total = _number(total)
    return json.dumps(
        {
            "done": _number(done),
            "total": total if total is not None and total > 0 else None,
            "message": "" if message is None else cut(storable(message), LONGEST_MESSAGE),
        },
        ensure_ascii=False,
    )


def _number(value: Any) -> int | float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _say_left_out(count: int) -> None:
    log.warning("… and %d more failures to write progress and logs", count)
