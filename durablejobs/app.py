"""The public object: wires the rest together."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload
from weakref import WeakSet

from .backoff import BackoffRule
from .bridge import in_thread
from .client import Client
from .clock import Clock
from .config import DatabaseConfig, JobDefaults, WorkerConfig, checked_options
from .current import Workplace
from .enqueue_options import EnqueueOptions
from .errors import ChildStartError, ConfigurationError, RegistrationError
from .events import EventName, Listener, Listeners
from .handler import Handler
from .handler_options import ExceptionTypes, HandlerOptions, Mode
from .jobs import EnqueuedBatch, Job
from .middleware import Middleware
from .reading import Reader
from .records import JobFilter, LogLine, QueueState, QueueStatistics, WorkerRecord
from .registry import Registry, is_imported_by_a_child, module_name
from .store import Store

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from .child import ChildOrder
    from .doctor.findings import Finding
    from .executor import Executor
    from .journal import Journal
    from .report import EndingListener, WorkerReport
    from .worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L", bound=Listener)
M = TypeVar("M", bound=Middleware)
F = TypeVar("F", bound=Callable[[], Any])


class DurableJobs:
    """Background jobs in one SQLite file: the handlers of this process, and the queue they work on.

    `database` is a path, or a SQLAlchemy URL of SQLite. It is opened at the first use; a missing or empty file
    becomes a queue then, unless `create` is False. Safe to use from many threads.
    """

    def __init__(
        self,
        database: str | os.PathLike[str],
        *,
        defaults: JobDefaults | None = None,
        database_config: DatabaseConfig | None = None,
        clock: Clock | None = None,
        create: bool = True,
    ) -> None:
        self._defaults = defaults or JobDefaults()
        self._database_config = database_config
        self._clock = clock
        self._registry = Registry()
        self._module = module_name(sys._getframe(1))
        _apps.add(self)
        self._listeners = Listeners()
        self._connect(Store(database, database_config, clock, create))

    def _connect(self, store: Store, client_class: type[Client] = Client) -> None:
        self._store = store
        self._reader = Reader(store)
        self._client = client_class(store, self._registry, self._defaults, self._reader, self._listeners)

    def move_to(self, database: str | os.PathLike[str], *, create: bool = True) -> None:
        """Work on another database from now on; the handlers stay. `durablejobs worker --db` does this."""
        self._store.close()
        self._connect(Store(database, self._database_config, self._clock, create))

    @contextmanager
    def lent_to(self, store: Store, client_class: type[Client] = Client) -> Iterator[None]:
        """Work on another store within the block, with write verbs of this class: `durablejobs.testing` does this."""
        before = self._store, self._reader, self._client
        self._connect(store, client_class)
        try:
            yield
        finally:
            self._store, self._reader, self._client = before

    # Handlers

    @overload
    def handler(self, name: Callable[P, R], /) -> Handler[P, R]: ...

    @overload
    def handler(
        self,
        name: str | None = None,
        /,
        *,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        backoff: BackoffRule | None = None,
        timeout: float | None = None,
        mode: Literal["thread", "process"] | None = None,
        keep_log: bool = False,
        fresh: bool = False,
        retry_on: ExceptionTypes | None = None,
        fail_on: ExceptionTypes = (),
        redact: Sequence[str] = (),
        max_running: int | None = None,
        running_key: str | None = None,
    ) -> Callable[[Callable[P, R]], Handler[P, R]]: ...

    def handler(self, name: Any = None, /, **options: Any) -> Any:
        """Register a function as the handler of its jobs; without a name, under its own.

        Options are what its jobs get unless their enqueue says otherwise: queue, priority, max_attempts, backoff
        (a `Backoff`, or a function of the attempt that returns seconds), timeout. `mode="process"` runs them in child
        processes, `fresh=True` each in a new one. `keep_log=True` keeps what they write with the standard `logging`.
        `retry_on` and `fail_on` are exceptions, `redact` names of arguments that are not shown. `max_running` is how
        many of its jobs run at once, all workers together; with `running_key="{kwargs[tenant]}"` so many for each
        tenant. Raises `RegistrationError`.
        """
        module = module_name(sys._getframe(1))
        if callable(name):
            return Handler(self.client, self._registry.register(None, name, HandlerOptions(), module))
        chosen = HandlerOptions(**checked_options(HandlerOptions, options))

        def decorate(function: Callable[P, R]) -> Handler[P, R]:
            return Handler(self.client, self._registry.register(name, function, chosen, module))

        return decorate

    @property
    def handler_names(self) -> list[str]:
        """The names of the registered handlers, sorted."""
        return self._registry.names

    @property
    def registry(self) -> Registry:
        """The handlers, with their functions and options."""
        return self._registry

    def middleware(self, function: M, /) -> M:
        """Register a generator function of the job that is around every run: see `docs/middleware.md`.

        Raises `RegistrationError`.
        """
        self._registry.add_middleware(function)
        return function

    def resource(self, function: F, /) -> F:
        """Register a generator function whose yielded value a worker keeps and gives to the handlers that want it.

        It says in its annotation what it yields, `-> Iterator[Pool]`, and handlers annotate a parameter with that
        type. Raises `RegistrationError`.
        """
        self._registry.add_resource(function)
        return function

    @overload
    def on(self, name: EventName, listener: L, /) -> L: ...

    @overload
    def on(self, name: EventName, /) -> Callable[[L], L]: ...

    def on(self, name: EventName, listener: Any = None, /) -> Any:
        """Call a function with each `Event` of this name in this process: `jobs.on("failed", tell)`, or a decorator.

        An error in it is logged and harms nothing. Raises `ConfigurationError`.
        """
        if listener is None:
            return partial(self.on, name)
        self._listeners.add(name, listener)
        return listener

    # Writing

    def enqueue(self, handler: str, /, *args: Any, **kwargs: Any) -> Job:
        """Store a job by the handler's name; when it returns, the job is on disk. See `Client.enqueue`."""
        return self._client.enqueue(handler, *args, **kwargs)

    def enqueue_many(self, handler: str, items: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> EnqueuedBatch:
        """Store one job for each item, a list or tuple of args or a dict of kwargs, in one transaction."""
        return self._client.enqueue_many(handler, items)

    def client(self, options: EnqueueOptions | None = None) -> Client:
        """Return the write verbs with these options."""
        return self._client if options is None else self._client.with_options(options)

    def using(self, **options: Any) -> Client:
        """Return the write verbs with call-time options: see `EnqueueOptions`."""
        return self._client.using(**options)

    def cancel(self, job_id: int) -> Job:
        """Cancel a job that has not ended; one that runs is asked to stop."""
        return self._client.cancel(job_id)

    def retry(self, job_id: int) -> Job:
        """Make an ended or scheduled job pending again, with at least one more attempt."""
        return self._client.retry(job_id)

    def delete(self, job_id: int) -> None:
        """Delete a job that does not run, and its errors."""
        self._client.delete(job_id)

    def pause(self, queue: str, *, reason: str | None = None, until: datetime | None = None) -> None:
        """Let no job of this queue begin any more, until this moment or `resume`; those that run go on."""
        self._client.pause(queue, reason=reason, until=until)

    def resume(self, queue: str) -> bool:
        """Let jobs of a paused queue begin again; return whether it was paused."""
        return self._client.resume(queue)

    def limit(self, queue: str, max_running: int | None) -> None:
        """Let so many jobs of this queue run at once, all workers together; None lifts the limit."""
        self._client.limit(queue, max_running)

    def quiet_worker(self, worker: str | int) -> int:
        """Ask the workers of this name, or the one with this id, to begin nothing more; return how many were asked."""
        return self._client.ask_worker(worker, "quiet")

    def resume_worker(self, worker: str | int) -> int:
        """Ask quiet workers to go on; return how many were asked."""
        return self._client.ask_worker(worker, None)

    def stop_worker(self, worker: str | int) -> int:
        """Ask workers to end as after SIGTERM; return how many were asked."""
        return self._client.ask_worker(worker, "stop")

    # Reading

    @property
    def reader(self) -> Reader:
        """The read verbs, some more of them than here."""
        return self._reader

    def get(self, job_id: int) -> Job:
        """Return one job. Raises `JobNotFoundError`."""
        return self._reader.get(job_id)

    def list_jobs(self, wanted: JobFilter | None = None, limit: int = 50, before: int | None = None) -> list[Job]:
        """Return jobs that match, newest first."""
        return self._reader.list_jobs(wanted, limit, before)

    def log_of(self, job_id: int) -> list[LogLine]:
        """Return what is kept of a job's log, oldest line first. Raises `JobNotFoundError`."""
        return self._reader.log_of(job_id)

    def queues(self) -> list[QueueState]:
        """Return each queue that is paused or limited or has jobs that have not ended."""
        return self._reader.queues()

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        return self._reader.workers()

    def statistics(self, minutes: float = 5.0) -> list[QueueStatistics]:
        """Return counts by queue and status, and endings per minute over the last minutes."""
        return self._reader.statistics(minutes)

    # The same for an event loop

    async def aenqueue(self, handler: str, /, *args: Any, **kwargs: Any) -> Job:
        """Store a job from an event loop, which goes on meanwhile. See `Client.aenqueue`."""
        return await self._client.aenqueue(handler, *args, **kwargs)

    aenqueue_many = in_thread(enqueue_many)
    acancel = in_thread(cancel)
    aretry = in_thread(retry)
    adelete = in_thread(delete)
    aget = in_thread(get)
    alist_jobs = in_thread(list_jobs)
    astatistics = in_thread(statistics)
    apause = in_thread(pause)
    aresume = in_thread(resume)
    alimit = in_thread(limit)
    aqueues = in_thread(queues)

    # Working

    def worker(
        self, config: WorkerConfig | None = None, *, on_ending: EndingListener | None = None, **options: Any
    ) -> Worker:
        """Return a worker for this database and these handlers; options are the fields of `WorkerConfig`.

        `on_ending` is told of each run with its outcome, for tests; programs have `on`.
        """
        if config is not None and options:
            raise ConfigurationError(next(iter(options)), "cannot stand beside a WorkerConfig; put it in there")
        chosen = config or WorkerConfig(**checked_options(WorkerConfig, options))
        # Imported here, so that a program that only enqueues does not pay for them.
        from .children import ChildProgram
        from .journal import Journal
        from .worker import Worker

        if is_imported_by_a_child():
            raise ChildStartError("the script calls work() on import; put that under if __name__ == '__main__':")
        program = ChildProgram(_be_child, self._child_order())
        journal = Journal(self._store.claims.write_notes, self._store.clock)
        executor = self._executor(journal, self._listeners)
        return Worker(self._store, executor, chosen, program, journal, self._listeners, on_ending)

    def work(self, config: WorkerConfig | None = None, **options: Any) -> WorkerReport:
        """Run a worker in this process until it is stopped by a signal, or done (`burst`, `max_jobs`)."""
        return self.worker(config, **options).run()

    def _executor(self, journal: Journal, listeners: Listeners | None = None) -> Executor:
        from .executor import Executor

        workplace = Workplace(
            partial(self._store.claims.transaction, last_notes=journal.peek), journal, self._store.clock.monotonic
        )
        return Executor(self._registry, self._defaults, workplace, listeners)

    def _child_order(self) -> ChildOrder:
        from .child import ChildOrder

        definitions = self._registry.of_mode(Mode.PROCESS)
        modules = [self._module, *(definition.module for definition in definitions)]
        names = [definition.name for definition in definitions]
        return ChildOrder(tuple(dict.fromkeys(modules)), tuple(names), self.location)

    # The database

    def back_up(self, target: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Make a sound copy of the database while everybody goes on; `replace` allows that the copy is there already.

        Raises `BackupError`; then there is no half copy.
        """
        self._store.back_up(target, replace)

    def examine(self, *, deep: bool = False) -> list[Finding]:
        """Look for what is wrong with the database and around it, as `durablejobs doctor` does; `deep` reads all of it.

        Raises `DatabaseNotFoundError`.
        """
        from .doctor.examination import examine  # nobody who enqueues should pay for it

        handlers = frozenset(self._registry.names) if self._registry.names else None
        return list(examine(self._store, handlers, deep))

    def open(self) -> bool:
        """Open the database now instead of at the first use; return whether the queue in it was created by this."""
        return self._store.open()

    def migrate(self) -> bool:
        """Create or upgrade the tables, also in your application's own file; return whether there was work to do."""
        return self._store.migrate()

    def close(self) -> None:
        """Close every connection; the next use opens the database again."""
        self._store.close()

    @property
    def location(self) -> str:
        """The absolute path of the database."""
        return self._store.location

    def __repr__(self) -> str:
        return f"<DurableJobs {self.location} with {len(self._registry)} handlers>"


_apps: WeakSet[DurableJobs] = WeakSet()
"""The apps of this process."""


def _be_child(pipe: Connection, last_words: Connection, order: ChildOrder) -> None:
    """The main function of a child process."""
    from .child import serve

    serve(pipe, last_words, partial(_executor_in_child, order))


def _executor_in_child(order: ChildOrder, journal: Journal) -> Executor:
    """Return the executor of the app that the worker's handlers belong to, moved to the worker's database."""
    for module in order.modules:
        importlib.import_module(module)
    missing = set(order.handlers)
    for app in _apps:
        if app._module == order.modules[0]:
            lacks = set(order.handlers).difference(app.handler_names)
            if not lacks:
                app.move_to(order.database, create=False)
                return app._executor(journal)  # events are told by the worker
            missing = min(missing, lacks, key=len)
    raise RegistrationError(
        f"importing {' and '.join(order.modules)} in a child process does not register {', '.join(sorted(missing))}; "
        f"do that at the top level of a module"
    )
