"""The door to the rows: each method is one transaction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from ..bridge import verb_threads
from ..clock import Clock, from_text, to_text
from ..config import DatabaseConfig
from ..errors import CommitUnknownError, DuplicateJobError, IllegalActError, JobNotFoundError, QueueMovedError
from ..jobs import (
    ClaimedJob,
    EnqueuedBatch,
    Job,
    JobError,
    JobFilter,
    LimitState,
    LogLine,
    NewJob,
    Notes,
    QueueState,
    QueueStatistics,
    UniqueRule,
    Wish,
    WorkerRecord,
)
from ..redaction import Redaction
from ..running_limits import NO_LIMITS, RunningLimit
from ..statuses import Status
from . import (
    acts,
    claims,
    endings,
    freezing,
    queries,
    queue_rules,
    rescues,
    running_limits,
    schema,
    unique,
    workers,
)
from .database import Watch, database_at
from .endings import Ending, Settlement
from .group_commit import GroupCommit
from .hot import run_on
from .notes import log_of, write_notes
from .presence import LockFile, Seat
from .redactions import publish, published
from .rescues import Rescued
from .workers import Registration, Vital

if TYPE_CHECKING:  # imported where they are used: a command that enqueues one job has no use for them
    from .effects import JobTransaction
    from .loop_commit import LoopCommit
    from .server_state import ServerState
    from .soundness import Checked


class ClaimRequest(NamedTuple):
    """What a worker asks for in one turn."""

    worker_id: int
    queues: tuple[str, ...]
    """In strict order; empty: all queues together, by priority, then id."""
    most: int
    lease: float
    """Seconds."""
    quotas: tuple[int, ...] = ()
    """How many from each queue at first; what one leaves over goes to the others, in order. Empty: strict order."""
    handlers: claims.HandlerFilter | None = None
    """None: the jobs of all handlers."""


class Turn(NamedTuple):
    """What one turn of a worker's loop brought."""

    settlement: Settlement
    claimed: list[ClaimedJob]


class Store:
    """The jobs in one database. Opened at the first use, and checked then; safe to use from many threads.

    `create` says whether a missing file may be created; otherwise it raises `DatabaseNotFoundError`.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        config: DatabaseConfig | None = None,
        clock: Clock | None = None,
        create: bool = True,
    ) -> None:
        self.config = config or DatabaseConfig()
        self.database = database_at(target, self.config)
        self.clock = clock or self.database.clock
        self._create = create
        self._is_open = False
        self._published: dict[str, Redaction] = {}
        self._turn_of: dict[str, str] = {}
        self._inserts = GroupCommit(
            self.database.insert_group,
            partial(CommitUnknownError, self.location),
            self.database.refuse_write_inside_write,
        )
        self._loop_inserts: WeakKeyDictionary[Any, LoopCommit[NewJob, tuple[int, bool]]] = WeakKeyDictionary()

    @property
    def is_open(self) -> bool:
        """Whether the database was opened and found to be sound."""
        return self._is_open

    @property
    def location(self) -> str:
        return self.database.location

    def open(self) -> bool:
        """Open the database and check its schema; return whether it was created now."""
        if self._is_open:
            return False
        self.database.ensure_reachable(self._create)
        created = schema.ensure_schema(self.database, self._create)
        self._is_open = True
        return created

    def close(self) -> None:
        """Close every connection."""
        self.database.close()
        self._is_open = False

    def migrate(self) -> bool:
        """Create or upgrade the schema, also in another application's file; return whether there was work to do."""
        self.database.ensure_reachable(create=True)
        return schema.upgrade(self.database)

    def migration_script(self) -> str:
        """Return the migrations as SQL text for this kind of database; it is not opened."""
        return schema.upgrade_script(self.database)

    def schema_report(self) -> schema.SchemaReport:
        """Return the state of the schema, changing nothing."""
        self.database.ensure_reachable(create=False)
        with self.database.read() as connection:
            return schema.inspect_schema(connection)

    def watch_work(self) -> Watch:
        """Return a watch that tells whether others have committed pending jobs."""
        self.open()
        return self.database.watch_work()

    def watch_endings(self) -> Watch:
        """Return a watch that tells whether others may have committed ends of jobs."""
        self.open()
        return self.database.watch_endings()

    def check_identity(self) -> None:
        """Raise `DatabaseReplacedError` when the file under us was deleted or replaced."""
        self.database.check_identity()

    def _read(self) -> Any:
        self.open()
        return self.database.read()

    def _write(self) -> Any:
        self.open()
        return self.database.write()

    # Enqueue

    def insert(self, job: NewJob) -> tuple[int, bool]:
        """Store one job; return its id and True, or the id of the job that holds its unique key and False."""
        self.open()
        return self._inserts.store(job)

    async def insert_for_loop(self, job: NewJob) -> tuple[int, bool]:
        """Do the same for a task of the running event loop, when the database `is_open`; its tasks share commits."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        line = self._loop_inserts.get(loop)
        if line is None:
            from .loop_commit import LoopCommit

            line = self._loop_inserts[loop] = LoopCommit(self._inserts.store_together, verb_threads)
        return await line.store(job)

    def publish_redactions(self, redactions: Mapping[str, Redaction], given: Any = None) -> None:
        """Note what of handlers' arguments is hidden; in the user's transaction, where one is given."""
        if given is not None:
            with self.database.translated_errors():
                for name, redaction in redactions.items():
                    publish(self.database.run_in(given), name, redaction)
            return
        news = {name: each for name, each in redactions.items() if self._published.get(name) != each}
        if news:
            with self._write() as connection:
                for name, redaction in news.items():
                    publish(run_on(connection), name, redaction)
            self._published |= news

    def publish_limits(self, limits: Mapping[str, RunningLimit], handlers: Sequence[str]) -> None:
        """Note which of these handlers are limited, for those who show jobs; the others of them are not."""
        with self._read() as connection:
            known = running_limits.published(connection)
        wanted: dict[str, running_limits.PublishedLimit] = {
            name: (limit.max_running, limit.template) for name, limit in limits.items()
        }
        wanted |= {name: (None, None) for name in handlers if name in known and name not in wanted}
        news = {name: each for name, each in wanted.items() if known.get(name, (None, None)) != each}
        if news:
            with self._write() as connection:
                running_limits.publish(connection, news)

    def redactions(self) -> dict[str, Redaction]:
        """Return what of which handlers' arguments is hidden."""
        with self._read() as connection:
            return published(connection)

    def insert_by_rule(self, job: NewJob, rule: UniqueRule) -> tuple[int, bool]:
        """Store a job with a unique key by a rule of its own; returns the same."""
        with self._write() as connection:
            return unique.insert_job(run_on(connection), job, rule)

    def insert_many(self, new_jobs: Iterable[NewJob]) -> EnqueuedBatch:
        """Store all jobs or, if the iterable raises, none."""
        counted = _Counted(new_jobs)
        with self._write() as connection:
            stored = self.database.insert_jobs(connection, counted)
        return EnqueuedBatch(stored, counted.count - stored)

    def insert_alike(self, template: NewJob, arguments: Iterable[tuple[str, str]]) -> EnqueuedBatch:
        """Store jobs that differ in args and kwargs alone: all of them or, if the iterable raises, none."""
        with self._write() as connection:
            return EnqueuedBatch(self.database.insert_alike(connection, template, arguments))

    def insert_in(self, given: Any, job: NewJob, rule: UniqueRule | None = None) -> tuple[int, bool]:
        """Store one job in the transaction of the user's own connection; it commits."""
        with self.database.translated_errors():
            return unique.insert_job(self.database.run_in(given), job, rule)

    def insert_many_in(self, given: Any, new_jobs: Iterable[NewJob]) -> EnqueuedBatch:
        """Store jobs in the transaction of the user's own connection; it commits, or rolls back if this raises."""
        counted = _Counted(new_jobs)
        stored = self.database.insert_jobs_in(given, counted)
        return EnqueuedBatch(stored, counted.count - stored)

    # The worker's turn

    def turn(
        self,
        finished: Sequence[Ending],
        *requests: ClaimRequest,
        notes: Sequence[Notes] = (),
        limits: Mapping[str, RunningLimit] = NO_LIMITS,
    ) -> Turn:
        """Settle what has finished, promote what is due, claim what is wanted: one transaction, one sync.

        There is a request for each lane of the worker, at least one. `notes` are of the runs that have finished,
        `limits` those of the worker's handlers.
        """
        with self._write() as connection:
            write_notes(connection, notes)
            now = self.clock.now()
            settlement = endings.settle(connection, requests[0].worker_id, finished)
            claims.promote(connection, to_text(now))
            rooms = queue_rules.rooms(connection, to_text(now))
            places = running_limits.places(connection, limits)
            claimed = [job for request in requests for job in self._claim(connection, request, now, rooms, places)]
        return Turn(settlement, claimed)

    def peek(self) -> tuple[bool, datetime | None]:
        """Return whether a job is pending or due, and when the next scheduled one is due; takes no lock."""
        with self._read() as connection:
            has_work, next_due = claims.peek(connection, self.clock.now_text())
        return has_work, _readable(next_due)

    def _claim(
        self,
        connection: Connection,
        request: ClaimRequest,
        now: datetime,
        rooms: dict[str, int],
        places: running_limits.Places | None,
    ) -> list[ClaimedJob]:
        """Claim what is requested, and take it from the rooms of the queues and from the places of the limits."""
        now_text, lease = to_text(now), to_text(now + timedelta(seconds=request.lease))

        def take(queues: Sequence[str], most: int) -> list[ClaimedJob]:
            wanted = (connection, queues, most, request.worker_id, now_text, lease, request.handlers, rooms)
            if places is None:
                taken = claims.claim(*wanted)
            else:
                taken = running_limits.claim(*wanted, places, self._turn_of)
            for job in taken if rooms else ():
                if job.queue in rooms:
                    rooms[job.queue] -= 1
            return taken

        if not request.queues:
            return take(claims.pending_queues(connection), request.most) if request.most else []
        claimed: list[ClaimedJob] = []
        shares = [
            *zip(request.queues, request.quotas, strict=False),
            *((name, request.most) for name in request.queues),
        ]
        for queue, quota in shares:
            wanted = min(quota, request.most - len(claimed))
            if wanted > 0:
                claimed += take([queue], wanted)
        return claimed

    def write_notes(self, notes: Sequence[Notes]) -> None:
        """Write what running jobs have said; what is said of jobs that are not this worker's any more is dropped."""
        with self._write() as connection:
            write_notes(connection, notes)

    def transaction(self, job: ClaimedJob, last_notes: Callable[[ClaimedJob], Sequence[Notes]]) -> JobTransaction:
        """Return a transaction for the handler of this job; it commits with the job's ending and its last notes."""
        from .effects import JobTransaction

        self.open()
        return JobTransaction(self.database, job, self.clock, last_notes)

    def settle(self, worker_id: int, finished: Sequence[Ending], notes: Sequence[Notes] = ()) -> Settlement:
        """Write endings only."""
        with self._write() as connection:
            write_notes(connection, notes)
            return endings.settle(connection, worker_id, finished)

    def release(self, claimed: Sequence[ClaimedJob], notes: Sequence[Notes] = ()) -> int:
        """Give claimed jobs back, their attempt unspent."""
        with self._write() as connection:
            write_notes(connection, notes)
            return claims.release(connection, claimed)

    def release_unknown(self, worker_id: int, known: Set[int]) -> int:
        """Give back what the rows say this worker has claimed and it does not know of."""
        with self._write() as connection:
            claimed = claims.claimed_by(connection, worker_id)
            return claims.release(connection, [job for job in claimed if job.id not in known])

    def asked_to_stop(self, worker_id: int) -> set[int]:
        """Return the ids of the jobs that this worker has claimed and that are to be cancelled."""
        with self._read() as connection:
            return claims.asked_to_stop(connection, worker_id)

    # Who is alive

    def presence(self) -> AbstractContextManager[LockFile | None]:
        """Lend the seats of the workers on this machine for the block; None where nobody keeps them."""
        return self.database.presence()

    def register(self, describe: Callable[[int | None, str], Registration]) -> tuple[int, Seat | None]:
        """Register a worker and take a seat; `describe` gets the seat's number and the time.

        The seat is taken before the row is visible, so that nobody sees a registered worker without one. Raises
        `QueueMovedError` where it would never be given a job.
        """
        seat = None
        try:
            with self.presence() as presence, self._write() as connection:
                self._refuse_if_moved(connection)
                if presence is not None:
                    taken = [vital.seat for vital in workers.vitals(connection) if vital.seat is not None]
                    seat = presence.take_seat(taken)
                number = seat.number if seat is not None else None
                worker_id = workers.register(connection, describe(number, self.clock.now_text()))
                if seat is not None:
                    seat.sign(worker_id)
        except BaseException:
            if seat is not None:
                seat.leave()
            raise
        return worker_id, seat

    def _refuse_if_moved(self, connection: Connection) -> None:
        move = freezing.latest_move(connection)
        if move is not None and freezing.is_frozen(move):
            raise QueueMovedError(self.location, freezing.explanation(move))

    def register_again(self, worker_id: int, registration: Registration) -> None:
        """Register a worker under its old id, after others had taken it for dead."""
        with self._write() as connection:
            workers.register_again(connection, worker_id, registration)

    def heartbeat(self, worker_id: int, lease: float, stuck: Sequence[int] = ()) -> bool:
        """Extend the lease of all the worker's jobs, note which are stuck; return whether it is still registered."""
        with self._write() as connection:
            now = self.clock.now()
            claims.extend_leases(connection, worker_id, to_text(now + timedelta(seconds=lease)))
            return workers.heartbeat(connection, worker_id, to_text(now), stuck)

    def ask_worker(self, worker: str, wish: Wish | None) -> int:
        """Ask the workers of this name, or the one with this id, for something (None: to forget it); how many?"""
        with self._write() as connection:
            return workers.ask(connection, worker, wish)

    def asked_to(self, worker_id: int, so_far: Wish | None = None) -> Wish | None:
        """Return what a person has asked this worker to do; what it was so far, if it is not registered just now."""
        with self._read() as connection:
            return workers.asked_to(connection, worker_id, so_far)

    def unregister(self, worker_id: int) -> None:
        """Remove a worker that has given everything back."""
        with self._write() as connection:
            workers.unregister(connection, worker_id)

    def vitals(self) -> list[Vital]:
        """Return what there is to judge which workers are alive."""
        with self._read() as connection:
            return workers.vitals(connection)

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        with self._read() as connection:
            return workers.worker_records(connection)

    def rescue_worker(
        self, worker: Vital, is_dead: bool, started: Set[int] | None, max_crashes: int, cause: str
    ) -> list[Rescued]:
        """Give back a batch of a dead or hung worker's jobs; a dead one is removed after the last batch.

        The next batch is due as long as something comes back.
        """
        with self._write() as connection:
            orphans = rescues.orphans_of_worker(connection, worker.id)
            # In PostgreSQL another may be rescuing some at this moment: their worker stays registered till they are.
            if not orphans and is_dead and not claims.claimed_by(connection, worker.id):
                workers.unregister(connection, worker.id)
            now = self.clock.now_text()
            return rescues.rescue(connection, orphans, started, max_crashes, now, cause)

    def rescue_strays(self, max_crashes: int, cause: str) -> list[Rescued]:
        """Give back a batch of running jobs whose lease has expired and whose worker is not even registered."""
        now = self.clock.now_text()
        with self._read() as connection:
            if not rescues.has_orphans_of_nobody(connection, now):
                return []
        with self._write() as connection:
            orphans = rescues.orphans_of_nobody(connection, now)
            return rescues.rescue(connection, orphans, None, max_crashes, now, cause)

    # A person's acts

    def cancel(self, job_id: int) -> Job:
        """Cancel a live job, or ask for it where it runs. Raises `JobNotFoundError`, `IllegalActError`."""
        with self._write() as connection:
            done = acts.cancel(connection, [job_id], self.clock.now())
            return self._acted(connection, "cancel", job_id, bool(done))

    def retry(self, job_id: int) -> Job:
        """Make an ended or scheduled job pending. Raises `JobNotFoundError`, `IllegalActError`, `DuplicateJobError`."""
        with self._write() as connection:
            done = acts.retry(connection, [job_id], self.clock.now())
            return self._acted(connection, "retry", job_id, bool(done))

    def delete(self, job_id: int) -> None:
        """Delete a job that is not running. Raises `JobNotFoundError`, `IllegalActError`."""
        with self._write() as connection:
            if not acts.delete_jobs(connection, [job_id]):
                self._acted(connection, "delete", job_id, False)

    def _acted(self, connection: Connection, act: str, job_id: int, done: bool) -> Job:
        job = queries.job_by_id(connection, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        if not done:
            self._refuse_if_moved(connection)
            if act == "retry" and job.status in acts.RETRYABLE and job.unique_key is not None:
                raise DuplicateJobError(job.unique_key)
            raise IllegalActError(act, job_id, job.status)
        return job

    def pause(self, queue: str, until: datetime | None, reason: str | None) -> None:
        """Let no job of this queue begin, until it is resumed or this moment has come."""
        with self._write() as connection:
            self._refuse_if_moved(connection)
            queue_rules.pause(connection, queue, self.clock.now(), until, reason)

    def resume(self, queue: str) -> bool:
        """Let jobs of this queue begin again; return whether it was paused."""
        with self._write() as connection:
            self._refuse_if_moved(connection)
            return queue_rules.resume(connection, queue, self.clock.now())

    def limit(self, queue: str, max_running: int | None) -> None:
        """Let so many jobs of this queue run at once, all workers together; None: no limit."""
        with self._write() as connection:
            self._refuse_if_moved(connection)
            queue_rules.limit(connection, queue, max_running)

    def count(self, act: str, wanted: JobFilter) -> int:
        """Return how many jobs `cancel`, `retry` or `delete` of this filter would concern."""
        with self._read() as connection:
            return queries.count_jobs(connection, wanted, _ELIGIBLE[act])

    def act_on_batch(self, act: str, wanted: JobFilter, after: int) -> tuple[int, int | None]:
        """Cancel, retry or delete the next batch of matching jobs with ids above `after`.

        Returns how many were changed, and the id to go on after; None at the end.
        """
        with self._write() as connection:
            ids = acts.ids_after(connection, wanted, _ELIGIBLE[act], after)
            if act == "cancel":
                done = acts.cancel(connection, ids, self.clock.now())
            elif act == "retry":
                done = acts.retry(connection, ids, self.clock.now())
            else:
                done = acts.delete_jobs(connection, ids)
            if ids and not done:
                self._refuse_if_moved(connection)
        return len(done), ids[-1] if len(ids) == acts.BATCH else None

    def prune(self, finished_before: dict[Status, datetime]) -> int:
        """Delete a batch of jobs that ended before their status's moment; return how many, 0 at the end."""
        if not finished_before:
            return 0
        with self._read() as connection:  # mostly nothing is old enough: then no writer has to wait
            if not acts.has_prunable(connection, finished_before):
                return 0
        with self._write() as connection:
            return acts.prune(connection, finished_before)

    def fold_counts(self) -> None:
        """Add up the parts of the counts of ended jobs, where they are kept in parts."""
        self.open()
        self.database.fold_counts()

    def count_prunable(self, finished_before: dict[Status, datetime]) -> int:
        """Return how many jobs `prune` would delete in all."""
        with self._read() as connection:
            return acts.count_prunable(connection, finished_before)

    # Reading

    def get(self, job_id: int) -> Job | None:
        """Return one job."""
        with self._read() as connection:
            return queries.job_by_id(connection, job_id)

    def get_with_errors(self, job_id: int) -> tuple[Job | None, list[JobError]]:
        """Return one job and its attempts that did not succeed, as of one moment."""
        with self._read() as connection:
            return queries.job_by_id(connection, job_id), queries.errors_of(connection, job_id)

    def log_of(self, job_id: int) -> list[LogLine]:
        """Return the kept log of a job, oldest line first."""
        with self._read() as connection:
            return log_of(connection, job_id)

    def list_jobs(self, wanted: JobFilter, limit: int, before: int | None = None) -> list[Job]:
        """Return jobs that match, newest first."""
        with self._read() as connection:
            return queries.list_jobs(connection, wanted, limit, before)

    def queues(self) -> list[QueueState]:
        """Return the queues that have a rule or jobs that have not ended."""
        with self._read() as connection:
            return queue_rules.states(connection, self.clock.now())

    def limit_state(self, job: Job) -> LimitState | None:
        """Return the places of `max_running` that a job shares with others."""
        with self._read() as connection:
            return running_limits.state(connection, job)

    def statistics(self, minutes: float) -> list[QueueStatistics]:
        """Return counts and rates of each queue."""
        with self._read() as connection:
            return queries.statistics(connection, self.clock.now() - timedelta(minutes=minutes), minutes)

    def back_up(
        self, target: str | os.PathLike[str], replace: bool, advance: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Make a sound copy while others go on. Raises `BackupError`."""
        self.open()
        self.database.back_up(Path(target).absolute(), replace, advance)

    # Checking

    def server_state(self) -> ServerState | None:
        """Return what the server says of itself; None where there is none."""
        return self.database.server_state()

    def journal_mode(self) -> str:
        """Return how the database keeps its journal; looking changes nothing."""
        return self.database.journal_mode()

    def integrity_problems(self) -> list[str]:
        """Return what the database's own check of itself finds; empty: nothing."""
        return self.database.integrity_problems()

    def check_rules(self) -> Iterator[Checked]:
        """Look at all rows, as of one moment, for each promise that can be read from them."""
        from . import soundness

        with self._read() as connection:
            yield from soundness.check_rules(connection)

    def count_rows(self) -> dict[str, int]:
        """Return the number of rows of the tables of jobs and of errors."""
        from . import soundness

        with self._read() as connection:
            return soundness.count_rows(connection)

    def newest_job(self) -> datetime | None:
        """Return when the newest job was created."""
        with self._read() as connection:
            return queries.newest_job(connection)

    def count_strays(self) -> int:
        """Return how many jobs are running by the rows without a registered worker."""
        with self._read() as connection:
            return rescues.count_strays(connection)

    def waiting_handlers(self) -> dict[str, int]:
        """Return the handlers of the waiting jobs, each with the number of its jobs."""
        with self._read() as connection:
            return queries.waiting_handlers(connection)


def _readable(moment: str | None) -> datetime | None:
    """Return the moment; None for one that only SQLite understands, such as the 30th of February: the poll finds it."""
    try:
        return from_text(moment) if moment else None
    except ValueError:
        return None


class _Counted:
    """An iterable that counts what was taken from it."""

    def __init__(self, items: Iterable[NewJob]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[NewJob]:
        for item in self._items:
            self.count += 1
            yield item


_ELIGIBLE = {"cancel": acts.CANCELLABLE, "retry": acts.RETRYABLE, "delete": acts.DELETABLE}

__all__ = ["ClaimRequest", "Ending", "Store", "Turn"]
