"""Jobs are put in: one by one, many at once, or in a user's own transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...bridge import verb_threads
from ...errors import CommitUnknownError
from ...jobs import EnqueuedBatch, NewJob, UniqueRule
from .. import unique
from ..access import Access
from ..group_commit import GroupCommit
from ..hot import run_on
from .door import Door

if TYPE_CHECKING:  # imported where it is used: a command that enqueues one job has no use for it
    from ..loop_commit import LoopCommit


class NewJobs(Door):
    """What a client asks for."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._inserts = GroupCommit(
            self._database.insert_group,
            partial(CommitUnknownError, self._database.location),
            self._database.refuse_write_inside_write,
        )
        self._loop_inserts: WeakKeyDictionary[Any, LoopCommit[NewJob, tuple[int, bool]]] = WeakKeyDictionary()

    def insert(self, job: NewJob) -> tuple[int, bool]:
        """Store one job; return its id and True, or the id of the job that holds its unique key and False."""
        self._open()
        return self._inserts.store(job)

    async def insert_for_loop(self, job: NewJob) -> tuple[int, bool]:
        """Do the same for a task of the running event loop, when the database `is_open`; its tasks share commits."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        line = self._loop_inserts.get(loop)
        if line is None:
            from ..loop_commit import LoopCommit

            line = self._loop_inserts[loop] = LoopCommit(self._inserts.store_together, verb_threads)
        return await line.store(job)

    def insert_by_rule(self, job: NewJob, rule: UniqueRule) -> tuple[int, bool]:
        """Store a job with a unique key by a rule of its own; returns the same."""
        with self._write() as connection:
            return unique.insert_job(run_on(connection), job, rule)

    def insert_many(self, new_jobs: Iterable[NewJob]) -> EnqueuedBatch:
        """Store all jobs or, if the iterable raises, none."""
        counted = _Counted(new_jobs)
        with self._write() as connection:
            stored = self._database.insert_jobs(connection, counted)
        return EnqueuedBatch(stored, counted.count - stored)

    def insert_alike(self, template: NewJob, arguments: Iterable[tuple[str, str]]) -> EnqueuedBatch:
        """Store jobs that differ in args and kwargs alone: all of them or, if the iterable raises, none."""
        with self._write() as connection:
            return EnqueuedBatch(self._database.insert_alike(connection, template, arguments))

    def insert_in(self, given: Any, job: NewJob, rule: UniqueRule | None = None) -> tuple[int, bool]:
        """Store one job in the transaction of the user's own connection; it commits."""
        with self._database.translated_errors():
            return unique.insert_job(self._database.run_in(given), job, rule)

    def insert_many_in(self, given: Any, new_jobs: Iterable[NewJob]) -> EnqueuedBatch:
        """Store jobs in the transaction of the user's own connection; it commits, or rolls back if this raises."""
        counted = _Counted(new_jobs)
        stored = self._database.insert_jobs_in(given, counted)
        return EnqueuedBatch(stored, counted.count - stored)


class _Counted:
    """An iterable that counts what was taken from it."""

    def __init__(self, items: Iterable[NewJob]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[NewJob]:
        for item in self._items:
            self.count += 1
            yield item
