"""The write verbs: enqueue, and what a person does to jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Self, TypeVar

from .arguments import encode_json
from .backoff import LONGEST_DELAY
from .bridge import in_thread
from .clock import from_text, to_text
from .config import (
    JobDefaults,
    checked_integer,
    checked_max_attempts,
    checked_name,
    checked_number,
    checked_options,
    checked_priority,
    checked_timeout,
    checked_unique_key,
    parsed_job_id,
)
from .current import running_job
from .errors import ArgumentsError, ConfigurationError, DuplicateJobError, JobNotFoundError
from .events import EventName, Listeners
from .jobs import EnqueuedBatch, Job, JobSource, NewJob, UniqueRule, Wish
from .registry import HandlerDefinition, HandlerOptions, Registry
from .statuses import Status
from .store import Store

T = TypeVar("T")

_NO_OPTIONS = HandlerOptions()
_PENDING: Final = Status.PENDING.value
_SCHEDULED: Final = Status.SCHEDULED.value


@dataclass(frozen=True, slots=True)
class EnqueueOptions:
    """What `using(…)` takes. None: the handler's, else the app's default."""

    queue: str | None = None
    priority: int | None = None
    """Higher runs sooner."""
    max_attempts: int | None = None
    timeout: float | None = None
    """How long a run may take, in seconds. None: what the handler says when it runs."""
    delay: float | timedelta | None = None
    """Not before so many seconds from now."""
    run_at: datetime | None = None
    """Not before this moment; aware."""
    unique_key: str | None = None
    """At most one job holds it."""
    on_conflict: str = "skip"
    """What happens when another job holds the unique key. `skip`: that one is returned. `error`: `DuplicateJobError`.
    `replace`: if it waits to be run, it gets what is new here: args, time, priority and so on. `debounce`: the same,
    and its time is put off no further than `debounce_limit`."""
    unique_while: str = "live"
    """How long a job holds its key. `live`: until it has ended. `waiting`: until it is first run."""
    unique_for: float | timedelta | None = None
    """It holds its key for so many seconds from its enqueue in any case, also when it has ended."""
    debounce_limit: float | timedelta | None = None
    """How many seconds after its first enqueue a debounced job is due at the latest."""
    meta: Mapping[str, Any] | None = None
    """A JSON object that travels with the job."""
    connection: Any = None
    """Enqueue in your own transaction: a SQLAlchemy Connection or Session, or a `sqlite3.Connection`."""
    check: bool = True
    """Whether the handler must be known here, when this process knows handlers at all."""

    def __post_init__(self) -> None:
        if self.queue is not None:
            checked_name(self.queue, "queue")
        if self.priority is not None:
            checked_priority(self.priority)
        if self.max_attempts is not None:
            checked_max_attempts(self.max_attempts)
        if self.timeout is not None:
            checked_timeout(self.timeout)
        if self.unique_key is not None:
            checked_unique_key(self.unique_key)
        _check_choice(self.on_conflict, "on_conflict", ("skip", "error", "replace", "debounce"))
        _check_choice(self.unique_while, "unique_while", ("live", "waiting"))
        for name in ("unique_for", "debounce_limit"):
            if getattr(self, name) is not None:
                checked_number(_seconds(getattr(self, name)), name, 0, LONGEST_DELAY)
        if self.delay is not None and self.run_at is not None:
            raise ConfigurationError("delay", "and run_at exclude each other; give one of them")
        if self.run_at is not None:
            _check_moment("run_at", self.run_at)
        if self.delay is not None:
            checked_number(_seconds(self.delay), "delay", 0, LONGEST_DELAY)
        if self.meta is not None and not isinstance(self.meta, Mapping):
            raise ConfigurationError("meta", f"must be a dict, not {type(self.meta).__name__}")

    @property
    def is_due_at_once(self) -> bool:
        """Whether the job may run as soon as it is stored."""
        return self.delay is None and self.run_at is None

    def due(self, now: datetime) -> datetime:
        """Return the moment before which the job does not run."""
        if self.run_at is not None:
            return self.run_at.astimezone(UTC)
        if self.delay is None:
            return now
        return now + timedelta(seconds=_seconds(self.delay))

    @property
    def has_unique_rule(self) -> bool:
        """Whether the unique key means something else than usual."""
        rule = (self.on_conflict, self.unique_while, self.unique_for, self.debounce_limit)
        return rule != ("skip", "live", None, None)

    def unique_rule(self, now: str) -> UniqueRule:
        """Return what the unique key means for a job that is enqueued now."""
        if self.unique_key is None:
            raise ConfigurationError("unique_key", "is needed by on_conflict, unique_while and unique_for; give one")
        if self.on_conflict == "debounce" and self.is_due_at_once:
            raise ConfigurationError("on_conflict", "'debounce' puts a job off: give a delay or run_at")
        if self.debounce_limit is not None and self.on_conflict != "debounce":
            raise ConfigurationError("debounce_limit", "is for on_conflict='debounce'")
        return UniqueRule(
            self.on_conflict,
            None if self.unique_while == "live" else self.unique_while,
            _later(now, self.unique_for),
            _later(now, self.debounce_limit),
        )


def _seconds(length: float | timedelta) -> float:
    return length.total_seconds() if isinstance(length, timedelta) else length


def _later(now: str, length: float | timedelta | None) -> str | None:
    return None if length is None else to_text(from_text(now) + timedelta(seconds=_seconds(length)))


def _check_choice(value: object, what: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigurationError(what, f"must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")


def _check_moment(what: str, moment: object) -> None:
    if not isinstance(moment, datetime):
        raise ConfigurationError(what, f"must be a datetime, not {moment!r}")
    if moment.utcoffset() is None:
        raise ConfigurationError(what, f"{moment} has no time zone; write for example {moment.replace(tzinfo=UTC)!r}")
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(what, f"{moment} is outside of the years 1 to 9999 in UTC") from None


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
        self._has_unique_rule = self._options.has_unique_rule
        self._blanks: dict[str, tuple[HandlerDefinition, NewJob]] = {}

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
        row = self.new_job(handler, args, kwargs, self._store.clock.now_text())
        if self._registry.redactions:
            self._publish_redaction(handler)
        rule = self._options.unique_rule(row.created_at) if self._has_unique_rule else None
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
        row = self.new_job(handler, args, kwargs, self._store.clock.now_text())
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
        if self._options.unique_key is not None or self._has_unique_rule:
            raise ConfigurationError("unique_key", "all items of enqueue_many would have the same; enqueue singly")
        definition, blank = self._blank(handler)
        now = self._store.clock.now_text()
        if self._registry.redactions:
            self._publish_redaction(handler)
        template = blank.at(*self._due(now), now)
        if definition is not None and definition.options.running_key is not None:
            return self.insert_all(_each(items, partial(self._row, definition, template)))
        arguments = _each(items, partial(self._encoded, definition))
        if self._options.connection is not None:
            return self.insert_all(template.with_arguments(*each) for each in arguments)
        return self._told(self._store.new_jobs.insert_alike(template, arguments))

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

    def new_job(self, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any], now: str) -> NewJob:
        """Return the checked row of a job that is enqueued at this time, without storing it."""
        if self._has_unique_rule:
            self._options.unique_rule(now)  # raises what is wrong with it
        definition, blank = self._blank(handler)
        if definition is not None and definition.options.running_key is not None:
            return self._row(definition, blank.at(*self._due(now), now), args, kwargs)
        return blank.filled(*self._encoded(definition, args, kwargs), *self._due(now), now)

    def _row(
        self, definition: HandlerDefinition, template: NewJob, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> NewJob:
        """Return the template with these arguments and the key that they make."""
        row = template.with_arguments(*self._encoded(definition, args, kwargs))
        limit = definition.running_limit
        return row if limit is None else row._replace(running_key=limit.key_of(args, kwargs))

    def _blank(self, handler: str) -> tuple[HandlerDefinition | None, NewJob]:
        """Return the handler, and the row of its jobs but for arguments and times; made once where it cannot change."""
        known = self._blanks.get(handler)
        if known is not None:
            return known
        definition = self._definition(handler)
        blank = self._new_blank(handler, definition)
        if definition is not None and self._options.meta is None:
            self._blanks[handler] = definition, blank
        return definition, blank

    def _definition(self, handler: str) -> HandlerDefinition | None:
        checked_name(handler, "handler")
        if self._options.check and len(self._registry):
            return self._registry.get(handler)
        return self._registry.find(handler)

    def _new_blank(self, handler: str, definition: HandlerDefinition | None) -> NewJob:
        chosen, defaults = self._options, self._defaults
        own = definition.options if definition is not None else _NO_OPTIONS
        return NewJob(
            handler=handler,
            queue=chosen.queue or own.queue or defaults.queue,
            args="",
            kwargs="",
            status="",
            priority=_first(chosen.priority, own.priority, defaults.priority),
            run_at="",
            max_attempts=_first(chosen.max_attempts, own.max_attempts, defaults.max_attempts),
            unique_key=chosen.unique_key,
            running_key=handler if own.max_running is not None else None,
            timeout=None if chosen.timeout is None else float(chosen.timeout),
            meta="{}" if chosen.meta is None else encode_json(dict(chosen.meta), "meta", defaults.args_limit),
            created_at="",
        )

    def _due(self, now: str) -> tuple[str, str]:
        """Return the status of a job that is enqueued at this time, and its `run_at`."""
        if self._options.is_due_at_once:
            return _PENDING, now
        run_at = to_text(self._options.due(from_text(now)))
        return _PENDING if run_at <= now else _SCHEDULED, run_at

    def _encoded(
        self, definition: HandlerDefinition | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, str]:
        if definition is not None:
            definition.check_arguments(args, kwargs)
        limit = self._defaults.args_limit
        return encode_json(args, "args", limit), encode_json(kwargs, "kwargs", limit) if kwargs else "{}"

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
            _check_moment("until", until)
            until = until.astimezone(UTC)
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
        return self._store.workers.ask(str(worker), wish)

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


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _each(items: Iterable[Any], make: Callable[[Sequence[Any], Mapping[str, Any]], T]) -> Iterator[T]:
    """Yield what is made of each item; an error says which one it was."""
    for index, item in enumerate(items):
        try:
            yield make(*_split(item))
        except ArgumentsError as error:
            raise ArgumentsError(f"item {index}", str(error)) from None


def _split(item: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(item, Mapping):
        for key in item:
            if not isinstance(key, str):
                raise ArgumentsError("", f"the key {key!r} is {type(key).__name__}, names of kwargs are strings")
        return (), item
    if isinstance(item, list | tuple):
        return item, {}
    raise ArgumentsError("", f"must be a list or tuple of args or a dict of kwargs, not {type(item).__name__}")
