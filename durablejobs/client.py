"""The write verbs: enqueue, and what a person does to jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self, TypeVar

from .bridge import in_thread
from .clock import Clock, SystemClock
from .config import (
    JobDefaults,
    checked_integer,
    checked_moment,
    checked_name,
    checked_options,
    checked_reason,
    checked_text,
    parsed_job_id,
)
from .current import running_job
from .enqueue_options import EnqueueOptions
from .errors import ConfigurationError, DuplicateJobError, JobNotFoundError
from .events import EventName, Listeners
from .jobs import EnqueuedBatch, Job, JobSource, NewJob
from .records import Wish
from .registry import Registry
from .row_builder import RowBuilder
from .store import Store

T = TypeVar("T")


class Client:
    """Enqueues into one store, with the options given to `using`."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        defaults: JobDefaults,
        source: JobSource,
        listeners: Listeners,
        options: EnqueueOptions | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._defaults = defaults
        self._source = source
        self._listeners = listeners
        self._options = options or EnqueueOptions()
        self._rows = RowBuilder(registry, defaults, self._options)

    @property
    def clock(self) -> Clock:
        """Whose time its jobs get: this machine's, or the server's."""
        return self._store.clock

    def using(self, **options: Any) -> Self:
        """Return the same with these options; see `EnqueueOptions`."""
        return self.with_options(replace(self._options, **checked_options(EnqueueOptions, options)))

    def with_options(self, options: EnqueueOptions) -> Self:
        """Return the same with exactly these options."""
        return type(self)(self._store, self._registry, self._defaults, self._source, self._listeners, options)

    def enqueue(self, handler: str, /, *args: Any, **kwargs: Any) -> Job:
        """Store a job for the handler of this name; when it returns, the job is on disk.

        With `using(connection=…)` the job is part of that transaction instead. Raises `ArgumentsError`,
        `UnknownHandlerError`, `DuplicateJobError` where that was asked for, or a `DatabaseError`;
        then nothing was stored (`CommitUnknownError`: unknown).
        """
        row = self._rows.new_job(handler, args, kwargs, self._store.clock.now_text())
        if self._registry.redactions:
            self._publish_redaction(handler)
        rule = self._options.unique_rule(row.created_at) if self._rows.has_unique_rule else None
        new_jobs = self._store.new_jobs
        if self._options.connection is not None:
            job_id, stored = new_jobs.insert_in(self._options.connection, row, rule)
        else:
            job_id, stored = new_jobs.insert(row) if rule is None else new_jobs.insert_by_rule(row, rule)
        if not stored:
            return self._held_by(job_id, row)
        if self._options.connection is None and self._listeners.want("enqueued"):
            self._tell("enqueued", job_id=job_id, handler=row.handler, queue=row.queue)
        return Job.just_stored(job_id, row, is_duplicate=False, source=self._source)

    _enqueue_in_thread = in_thread(enqueue)

    async def aenqueue(self, handler: str, /, *args: Any, **kwargs: Any) -> Job:
        """`enqueue` for the event loop, which goes on meanwhile; the tasks of a loop share commits.

        A task that is cancelled while it waits may have stored its job or not.
        """
        if self._options.connection is not None:
            return await self._in_users_transaction(Client.enqueue, handler, *args, **kwargs)
        if not self._needs_nothing_but_a_row(handler):
            return await self._enqueue_in_thread(handler, *args, **kwargs)
        row = self._rows.new_job(handler, args, kwargs, self._store.clock.now_text())
        job_id, _ = await self._store.new_jobs.insert_for_loop(row)
        return Job.just_stored(job_id, row, is_duplicate=False, source=self._source)

    def _needs_nothing_but_a_row(self, handler: str) -> bool:
        """Whether storing the row is all that there is to do: no other question to the database, no code of a user's.

        Inside a job its own transaction is to be looked after: see `Gate.refuse_write_inside_write`.
        """
        return (
            self._options.unique_key is None
            and handler not in self._registry.redactions
            and not self._listeners.want("enqueued")
            and running_job() is None
            and self._store.is_open
        )

    async def _in_users_transaction(self, verb: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Do it on the user's own connection, which may belong to the running event loop."""
        given = self._options.connection
        if hasattr(given, "run_sync"):  # SQLAlchemy's AsyncConnection or AsyncSession
            await self._read_clock_in_thread()  # which may ask a server, and the loop must not wait for that
            result: T = await given.run_sync(lambda own: verb(self.using(connection=own), *args, **kwargs))
            return result
        client = self.using(connection=self._store.database.for_threads(given))
        return await in_thread(verb)(client, *args, **kwargs)

    def _read_clock(self) -> None:
        self._store.clock.now()

    _read_clock_in_thread = in_thread(_read_clock)

    def _publish_redaction(self, handler: str) -> None:
        """What must not be shown is known before the job can be seen."""
        redaction = self._registry.redactions.get(handler)
        if redaction is not None:
            self._store.handlers.publish_redactions({handler: redaction}, self._options.connection)

    def _held_by(self, job_id: int, row: NewJob) -> Job:
        """Return the job that holds the unique key, or raise what was asked for."""
        if self._options.on_conflict == "error":
            assert row.unique_key is not None
            raise DuplicateJobError(row.unique_key, job_id)
        # In the user's transaction another connection does not see it as it is.
        existing = self._store.reads.get(job_id) if self._options.connection is None else None
        if existing is not None:
            return replace(existing, is_duplicate=True, source=self._source)
        return Job.just_stored(job_id, row, is_duplicate=True, source=self._source)

    def enqueue_many(self, handler: str, items: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> EnqueuedBatch:
        """Store one job for each item, a list or tuple of args or a dict of kwargs, all in one transaction.

        Items are taken one by one and none is held back, so any number of them takes constant memory; the write
        lock is held meanwhile. A bad item is named by its index, and then nothing is stored.
        """
        if self._options.unique_key is not None or self._rows.has_unique_rule:
            raise ConfigurationError("unique_key", "all items of enqueue_many would have the same; enqueue singly")
        definition, blank = self._rows.blank(handler)
        now = self._store.clock.now_text()
        if self._registry.redactions:
            self._publish_redaction(handler)
        template = self._rows.dated(blank, now)
        if definition is not None and definition.options.running_key is not None:
            return self.insert_all(self._rows.rows(definition, template, items))
        arguments = self._rows.arguments(definition, items)
        if self._options.connection is not None:
            return self.insert_all(template.with_arguments(*each) for each in arguments)
        return self._told(self._store.new_jobs.insert_alike(template, arguments))

    def check(self, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise what an enqueue would raise before it asks the database anything."""
        self._rows.new_job(handler, args, kwargs, SystemClock().now_text())

    def new_job(self, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any], now: str) -> NewJob:
        """Return the checked row of a job that is enqueued at this time, without storing it.

        A row knows of its unique key, and not of another rule for it than the usual one.
        """
        if self._rows.has_unique_rule:
            raise ConfigurationError("unique_key", "of rows that are stored together knows no rule; enqueue singly")
        return self._rows.new_job(handler, args, kwargs, now)

    def insert_all(self, new_jobs: Iterable[NewJob]) -> EnqueuedBatch:
        """Store rows made by `new_job`, of any handlers and options, all in one transaction; none is held back."""
        if self._options.connection is not None:
            return self._store.new_jobs.insert_many_in(self._options.connection, new_jobs)
        return self._told(self._store.new_jobs.insert_many(new_jobs))

    def _told(self, batch: EnqueuedBatch) -> EnqueuedBatch:
        """Tell of a batch that is committed; return it."""
        if batch.count:
            self._tell("enqueued", count=batch.count)
        return batch

    def _tell(self, name: EventName, **facts: Any) -> None:
        self._listeners.tell(name, self._store.clock.now(), **facts)

    # A person's acts

    def cancel(self, job_id: int) -> Job:
        """Cancel a job that has not ended; one that runs is asked to stop. Return it as it is now.

        Raises `JobNotFoundError`, `IllegalActError`.
        """
        job = replace(self._store.acts.cancel(_existing(job_id)), source=self._source)
        if job.is_final:  # a worker tells of one that was running
            self._tell("cancelled", job_id=job.id, handler=job.handler, queue=job.queue, attempt=job.attempt)
        return job

    def retry(self, job_id: int) -> Job:
        """Make an ended or scheduled job pending again, with at least one more attempt. Return it as it is now.

        Raises `JobNotFoundError`, `IllegalActError`, `DuplicateJobError`.
        """
        return replace(self._store.acts.retry(_existing(job_id)), source=self._source)

    def delete(self, job_id: int) -> None:
        """Delete a job that does not run, and its errors. Raises `JobNotFoundError`, `IllegalActError`."""
        self._store.acts.delete(_existing(job_id))

    # A person's word about a queue

    def pause(self, queue: str, *, reason: str | None = None, until: datetime | None = None) -> None:
        """Let no job of this queue begin any more, until this moment or `resume`; those that run go on."""
        if until is not None:
            until = checked_moment(until, "until")
        if reason is not None:
            checked_reason(reason)
        self._store.acts.pause(checked_name(queue, "queue"), until, reason)

    def resume(self, queue: str) -> bool:
        """Let jobs of a paused queue begin again; return whether it was paused."""
        return self._store.acts.resume(checked_name(queue, "queue"))

    def limit(self, queue: str, max_running: int | None) -> None:
        """Let so many jobs of this queue run at once, all workers together; None lifts the limit."""
        if max_running is not None:
            checked_integer(max_running, "max_running", 1, 1_000_000)
        self._store.acts.limit(checked_name(queue, "queue"), max_running)

    def ask_worker(self, worker: str | int, wish: Wish | None) -> int:
        """Ask the workers of this name, or the one with this id, for something (None: to go on); how many are there?"""
        return self._store.workers.ask(checked_text(str(worker), "worker"), wish)

    # The same for an event loop

    _enqueue_many_in_thread = in_thread(enqueue_many)

    async def aenqueue_many(self, handler: str, items: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> EnqueuedBatch:
        """`enqueue_many` for the event loop, which goes on meanwhile."""
        if self._options.connection is not None:
            return await self._in_users_transaction(Client.enqueue_many, handler, items)
        return await self._enqueue_many_in_thread(handler, items)

    acancel = in_thread(cancel)
    aretry = in_thread(retry)
    adelete = in_thread(delete)
    apause = in_thread(pause)
    aresume = in_thread(resume)
    alimit = in_thread(limit)


def _existing(job_id: int) -> int:
    number = parsed_job_id(job_id)
    if number is None:
        raise JobNotFoundError(job_id)
    return number
