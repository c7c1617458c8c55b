"""The jobs: who is left behind by a worker, and what waits for a worker that is not there."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Final

from ..errors import UnknownHandlerError
from ..queues import parse_queues
from ..records import QueueState, QueueStatistics, WorkerRecord
from ..statuses import Status
from .findings import Finding, advice, ok, wrong

ALL_QUEUES: Final = "all"
_WAITING: Final = (Status.PENDING, Status.SCHEDULED)


def check_workers(workers: list[WorkerRecord], states: dict[int, str]) -> Finding:
    """Say who is alive."""
    dead = [each for each in workers if states.get(each.id) == "dead"]
    orphans = sum(each.running for each in dead)
    alive = len(workers) - len(dead)
    if dead and not alive:
        return wrong(
            "workers",
            f"{len(dead)} dead and none alive; {orphans} jobs were claimed by the dead",
            "Their jobs go on as soon as any worker starts; until then nothing runs.",
            "Start a worker: `durablejobs worker`.",
        )
    if dead:
        return advice(
            "workers",
            f"{alive} alive, {len(dead)} dead and not yet cleaned up; {orphans} jobs were claimed by the dead",
            "A living worker looks twice a second and gives their jobs back.",
            "Look again in some seconds. If they are still there, the living ones hang: see their logs.",
        )
    return ok("workers", f"{alive} alive")


def check_orphans(strays: int) -> Finding:
    """Running jobs that belong to no registered worker."""
    if not strays:
        return ok("orphans", "no job is running without a registered worker")
    return advice(
        "orphans",
        f"{strays} jobs are running by the rows, but their worker is not registered",
        "So it is after a backup was restored. They go on when their lease has expired and a worker is there.",
        "Keep a worker running; look again after the length of a lease.",
    )


def check_queues(
    queues: list[QueueStatistics], workers: list[WorkerRecord], states: dict[int, str]
) -> Iterator[Finding]:
    """Find queues with waiting jobs that no living worker serves."""
    living = [each for each in workers if states.get(each.id) != "dead"]
    unserved = []
    for queue in queues:
        waiting = sum(queue.counts.get(status, 0) for status in _WAITING)
        if waiting and not any(_serves(worker, queue.queue) for worker in living):
            unserved.append(queue.queue)
            yield wrong(
                "queues",
                f"{waiting:,} jobs wait in the queue {queue.queue}, which no living worker serves",
                "They will wait for ever.",
                f"Start a worker for it, `durablejobs worker --queues {queue.queue}`, or one for all queues.",
            )
    if not unserved:
        yield ok("queues", "each queue with waiting jobs has a worker")


def check_paused(queues: list[QueueState]) -> Iterator[Finding]:
    """Name the queues that a person has paused, with the jobs that wait for it."""
    paused = [queue for queue in queues if queue.is_paused]
    for queue in paused:
        until = f"until {queue.paused_until:%Y-%m-%d %H:%M} UTC" if queue.paused_until else "until somebody resumes it"
        because = f" ({queue.reason})" if queue.reason else ""
        yield advice(
            "paused queues",
            f"the queue {queue.queue} is paused {until}{because}; {queue.pending:,} jobs wait in it",
            "No job of it begins meanwhile, whatever workers there are.",
            f"If that is over: `durablejobs resume {queue.queue}`.",
        )
    if not paused:
        yield ok("paused queues", "no queue is paused")


def _serves(worker: WorkerRecord, queue: str) -> bool:
    return worker.queues == ALL_QUEUES or queue in parse_queues(worker.queues).names


def check_handlers(waiting: dict[str, int], known: Set[str]) -> Iterator[Finding]:
    """Find waiting jobs whose handler the user's app does not have."""
    unknown = {name: number for name, number in waiting.items() if name not in known}
    for name, number in unknown.items():
        yield wrong(
            "handlers",
            f"{number:,} jobs wait for {str(UnknownHandlerError(name, known)).removeprefix('no ')}, not in this app",
            "They are tried, with backoff, until their attempts are spent, and then fail.",
            f"Register it, or end them: `durablejobs cancel --handler {name}`.",
        )
    if not unknown:
        yield ok("handlers", "the app has a handler for each waiting job")
