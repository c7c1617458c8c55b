"""Handlers of which only so many jobs run at once: what of them a claim may take.

A job of such a handler carries a `running_key`, which says with whom it shares places; all others have none. So the
index of pending jobs holds the two apart: a claim of jobs without a key steps over none that have one, and the jobs of
a key stand together, so that those of a full one, ten thousand or a million, cost one jump. What runs is counted from
the rows, in the claiming transaction: no counter could leak a place when a worker dies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    Integer,
    Select,
    bindparam,
    func,
    literal_column,
    select,
    update,
)

from ..jobs import ClaimedJob
from ..running_limits import RunningLimit
from .claims import (
    CLAIMING,
    LOOKED_AT,
    HandlerFilter,
    best_first,
    claimed_jobs,
    of_queues,
    with_handlers,
)
from .conditions import IS_PENDING
from .hot import HotStatement, is_postgres, schema_of
from .pending_queues import foremost, most_at_once
from .tables import jobs

_MOST_ROUNDS: Final = 10
"""Looks of a claim for jobs that were put in without the key they need, each at `LOOKED_AT` jobs; and for a key that
has a place, each at `LOOKED_AT` keys."""
_NO_LIMIT: Final = 2**31

# Literals, as the condition of the partial index says it.
_HAS_PLACES: Final = jobs.c.running_key.is_not(None) & jobs.c.finished_at.is_(None)

A_WAITING_KEY: Final = select(func.min(jobs.c.running_key)).where(_HAS_PLACES, IS_PENDING).scalar_subquery()
ARE_WAITING: Final = HotStatement(select(A_WAITING_KEY.is_not(None)))  # not EXISTS: see `peeking.FIRST_QUEUE`
RUNNING: Final = HotStatement(
    select(jobs.c.running_key, func.count())
    .where(_HAS_PLACES, jobs.c.status == literal_column("'running'"))
    .group_by(jobs.c.running_key)
)


def _next_key(after: Any) -> Any:
    return select(func.min(jobs.c.running_key)).where(
        IS_PENDING, jobs.c.queue == bindparam("queue"), jobs.c.running_key > after
    )


_keys = _next_key(bindparam("after")).with_only_columns(func.min(jobs.c.running_key).label("key"))
_waiting = _keys.cte("waiting_keys", recursive=True)
_waiting = _waiting.union_all(
    select(_next_key(_waiting.c.key).correlate(_waiting).scalar_subquery()).where(_waiting.c.key.is_not(None))
)
# A jump along the index from key to key: costs the number of keys, not of jobs.
WAITING_KEYS: Final = HotStatement(select(_waiting.c.key).where(_waiting.c.key.is_not(None)).limit(bindparam("most")))
BEST_OF_KEY: Final = HotStatement(
    select(jobs.c.priority, jobs.c.id, jobs.c.handler)
    .where(IS_PENDING, jobs.c.queue == bindparam("queue"), jobs.c.running_key == bindparam("key"))
    .order_by(jobs.c.priority.desc(), jobs.c.id)
    .limit(bindparam("most"))
    .offset(bindparam("skipped"))
)
_ARGUMENTS: Final = HotStatement(
    select(jobs.c.handler, jobs.c.args, jobs.c.kwargs).where(jobs.c.id == bindparam("job"))
)
_SET_KEY: Final = HotStatement(
    update(jobs)
    .where(jobs.c.id == bindparam("job"), IS_PENDING, jobs.c.running_key.is_(None))
    .values(running_key=bindparam("key"))
)


KeyTurns = dict[tuple[HandlerFilter | None, str], str]
"""Where the next claim for these handlers goes on in a queue in which so many keys wait that they take turns."""


class _Candidate(NamedTuple):
    """A job that may be claimed; candidates are in the order in which they are claimed."""

    urgency: int
    """The lower the sooner."""
    id: int
    queue: str
    handler: str
    key: str | None = None


class Places:
    """The places that the limits leave, in one transaction."""

    def __init__(self, limits: Mapping[str, RunningLimit], running: Mapping[str, int]) -> None:
        self.limits = limits
        self._running = Counter(running)
        for key, number in running.items():
            handler = key.partition("/")[0]
            if handler != key and (limit := limits.get(handler)) is not None and limit.template is None:
                self._running[handler] += number  # from the time when each key had places of its own

    def left(self, key: str) -> int:
        """Return how many more jobs of this key may run."""
        limit = self.limits.get(key.partition("/")[0])
        return _NO_LIMIT if limit is None else max(0, limit.max_running - self._running[_shared(key, limit)])

    def take(self, key: str) -> None:
        """Count one more that runs."""
        limit = self.limits.get(key.partition("/")[0])
        if limit is not None:
            self._running[_shared(key, limit)] += 1


def _shared(key: str, limit: RunningLimit) -> str:
    return limit.handler if limit.template is None else key


def places(connection: Connection, limits: Mapping[str, RunningLimit]) -> Places | None:
    """Return the places; None where no job is limited, by this worker's handlers or by what its row says."""
    if not limits and not ARE_WAITING.run(connection, {}).fetchone()[0]:
        return None
    if is_postgres(connection):  # SQLite has one writer; two of PostgreSQL's would both find the last place
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"{schema_of(connection)}.places"))))
    return Places(limits, running(connection))


def claim(
    connection: Connection,
    queues: Sequence[str],
    most: int,
    worker_id: int,
    now: str,
    lease: str,
    handlers: HandlerFilter | None,
    rooms: Mapping[str, int],
    places: Places,
    turns: KeyTurns,
) -> list[ClaimedJob]:
    """Claim as `claims.claim` does, but of each key no more than it has places, and take those.

    Where very many keys wait it looks at some of them, and further until it finds a job. `turns` are kept from claim to
    claim.
    """
    queues = [queue for queue in queues if rooms.get(queue, 1)]
    most = most_at_once(queues, most)
    sources = [_without_key(connection, queues, most, handlers, rooms, places.limits)]
    looks = {queue: _looks_at_keys(connection, (handlers, queue), turns) for queue in queues}
    chosen: list[int] = []
    for _ in range(_MOST_ROUNDS):
        keys = [(queue, key) for queue in queues for key in next(looks[queue], ())]
        sources += [
            _of_key(connection, queue, key, min(most, left), handlers)
            for queue, key in keys
            if (left := places.left(key))
        ]
        chosen = _choose(merge(*sources), most, rooms, places)
        if chosen or not keys:
            break
        sources = []
    return _claim_chosen(connection, chosen, worker_id, now, lease)


def _choose(candidates: Iterable[_Candidate], most: int, rooms: Mapping[str, int], places: Places) -> list[int]:
    """Return the ids of the first for whom there is room in their queue and a place of their key; take those."""
    room = dict(rooms)
    chosen: list[int] = []
    for job in candidates:
        if len(chosen) == most:
            break
        if not room.get(job.queue, 1) or (job.key is not None and not places.left(job.key)):
            continue
        if job.queue in room:
            room[job.queue] -= 1
        if job.key is not None:
            places.take(job.key)
        chosen.append(job.id)
    return chosen


def _claim_chosen(
    connection: Connection, chosen: Sequence[int], worker_id: int, now: str, lease: str
) -> list[ClaimedJob]:
    if not chosen:
        return []
    size = 1 << (len(chosen) - 1).bit_length()
    padded = [*chosen, *[chosen[-1]] * (size - len(chosen))]
    values = {f"job_{number}": job_id for number, job_id in enumerate(padded)}
    statement = claim_chosen_statement(size)
    marks = {"worker": worker_id, "now": now, "lease": lease}
    return claimed_jobs(statement.run(connection, values | marks).fetchall())


@lru_cache(maxsize=16)
def claim_chosen_statement(count: int) -> HotStatement:
    """Return the claim of so many jobs by their ids."""
    ids: list[BindParameter[int]] = [bindparam(f"job_{number}") for number in range(count)]
    return HotStatement(CLAIMING.where(jobs.c.id.in_(ids), IS_PENDING))


def running(connection: Connection) -> dict[str, int]:
    """Return how many jobs of each key run."""
    return dict(RUNNING.run(connection, {}).fetchall())


# What waits


def _looks_at_keys(
    connection: Connection, who_and_where: tuple[HandlerFilter | None, str], turns: KeyTurns
) -> Iterator[list[str]]:
    """Yield the keys of which jobs wait in a queue, `LOOKED_AT` at a look, once around from where the last claim ended.

    Who claims for some handlers has turns of its own: its looks would else be at the others' keys again and again.
    """
    _, queue = who_and_where
    start = after = turns.pop(who_and_where, "")
    is_around = not start
    while True:
        keys = _keys_after(connection, queue, after, LOOKED_AT)
        if start and is_around:
            keys = [key for key in keys if key <= start]
        elif start and len(keys) < LOOKED_AT:
            is_around = True
            keys += [key for key in _keys_after(connection, queue, "", LOOKED_AT - len(keys)) if key <= start]
        if len(keys) < LOOKED_AT:
            turns.pop(who_and_where, None)
            yield keys
            return
        turns[who_and_where] = after = keys[-1]
        yield keys


def _keys_after(connection: Connection, queue: str, after: str, most: int) -> list[str]:
    return [row[0] for row in WAITING_KEYS.run(connection, {"queue": queue, "after": after, "most": most})]


def _of_key(
    connection: Connection, queue: str, key: str, most: int, handlers: HandlerFilter | None
) -> Iterator[_Candidate]:
    """Yield the best jobs of a key; more than the first is read only when that is taken."""
    for skipped, wanted in ((0, 1), (1, most - 1)):
        values = {"queue": queue, "key": key, "most": wanted, "skipped": skipped}
        for priority, job_id, handler in BEST_OF_KEY.run(connection, values).fetchall() if wanted else ():
            if handlers is None or handlers.wants(handler):
                yield _Candidate(-priority, job_id, queue, handler, key)


# Jobs without a key


@lru_cache(maxsize=128)
def without_key_statement(
    queue_count: int,
    handler_count: int = 0,
    are_excluded: bool = False,
    limited_count: int = 0,
    in_postgres: bool = False,
) -> HotStatement:
    """Return the select of what a claim of the same shape would claim."""
    found: Select[Any] = select(jobs.c.priority, jobs.c.id, jobs.c.queue, jobs.c.handler)
    best = best_first(queue_count, handler_count, are_excluded, limited_count, in_postgres)
    if in_postgres:
        best = select(best.subquery("best").c.id).limit(bindparam("most", type_=Integer))
    return HotStatement(found.where(jobs.c.id.in_(best)))


def _without_key(
    connection: Connection,
    queues: Sequence[str],
    most: int,
    handlers: HandlerFilter | None,
    rooms: Mapping[str, int],
    limits: Mapping[str, RunningLimit],
) -> Iterator[_Candidate]:
    """Return the best jobs that no limit concerns.

    Those that one does concern, because they were put in by SQL or by somebody who does not know the handler, get
    their key first.
    """
    found: list[_Candidate] = []
    for _ in range(_MOST_ROUNDS):
        found = _best_without_key(connection, queues, most, handlers, rooms)
        lacking = {job.id for job in found if job.handler in limits}
        if not lacking:
            return iter(found)
        ahead = _best_without_key(connection, queues, LOOKED_AT, None, {})
        for job_id in sorted(lacking | {job.id for job in ahead if job.handler in limits}):
            _give_key(connection, job_id, limits)
    return iter([job for job in found if job.handler not in limits])


def _best_without_key(
    connection: Connection,
    queues: Sequence[str],
    most: int,
    handlers: HandlerFilter | None,
    rooms: Mapping[str, int],
) -> list[_Candidate]:
    if not queues:
        return []
    most, queues = most_at_once(queues, most), foremost(connection, queues)
    queues, limited_count, values = of_queues(queues, rooms)
    shape, names = with_handlers(handlers)
    statement = without_key_statement(len(queues), *shape, limited_count, is_postgres(connection))
    rows = statement.run(connection, values | names | {"most": most})
    return sorted(_Candidate(-priority, job_id, queue, handler) for priority, job_id, queue, handler in rows)


def _give_key(connection: Connection, job_id: int, limits: Mapping[str, RunningLimit]) -> None:
    row = _ARGUMENTS.run(connection, {"job": job_id}).fetchone()
    if row is None or row[0] not in limits:  # somebody has deleted or replaced it since it was looked at
        return
    handler, args, kwargs = row
    _SET_KEY.run(connection, {"job": job_id, "key": limits[handler].key_of_json(args, kwargs)})
