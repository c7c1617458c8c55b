"""`durablejobs demo`: the story this project grew from, played with real processes on a temporary database."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .commands import Command
from .terminal import show

if TYPE_CHECKING:
    from ..app import DurableJobs

_PATIENCE: Final = 20.0
"""Seconds that a step may take before the demonstration gives up."""
_QUERY: Final = "SELECT id, handler, status, attempt, crashes, substr(error, 1, 50) AS error FROM jobs"


@click.command(
    cls=Command,
    short_help="Play a short story that shows what durable means.",
    examples=["durablejobs demo", "durablejobs demo --parallel"],
)
@click.option("--parallel", is_flag=True, help="Run four jobs at once instead of one after another.")
def demo(parallel: bool) -> None:
    """Play a short story that shows what durable means.

    A worker polls a temporary database, a client enqueues, an unknown handler and an exception go by; then the worker
    is killed in the middle of a job, and another one finishes it. Nothing of yours is touched.
    """
    from ..app import DurableJobs

    with tempfile.TemporaryDirectory(prefix="durablejobs-demo-") as scratch:
        database = Path(scratch, "demo.db")
        with closing(DurableJobs(database)) as client:
            client.open()
            show(f"The queue is one file: {database}", "bold")
            with _worker(database, parallel) as worker:
                _enqueue_and_watch(client, parallel)
                killed_job = _kill_in_the_middle(client, worker)
            _run_again(client, database, parallel, killed_job)
            _show_rows(client, database)


@contextmanager
def _worker(database: Path, parallel: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a worker in a process of its own, as `durablejobs worker` starts it."""
    command = [sys.executable, "-m", "durablejobs", "worker", "--db", str(database), "--app"]
    command += ["durablejobs.cli.demo_handlers:jobs", "--concurrency", "4" if parallel else "1", "--verbose"]
    with subprocess.Popen(command) as worker:  # noqa: S603 - our own command
        try:
            yield worker
        finally:
            worker.terminate()


def _enqueue_and_watch(client: DurableJobs, parallel: bool) -> None:
    order = "up to four at once" if parallel else "one after another"
    _step(f"1. A worker polls it. It knows mail, log, exception and slow, and runs jobs {order}.")
    time.sleep(1)
    _step("2. A client enqueues mail, a handler that nobody knows, log, and one that raises.")
    twice = client.using(max_attempts=2)
    mail = twice.enqueue("mail", "ann@example.com", "welcome")
    twice.enqueue("test_notfound", 1, 2)
    twice.enqueue("log", "hello")
    failing = twice.enqueue("exception")
    client.get(mail.id).wait(_PATIENCE)
    _until(lambda: client.get(failing.id).is_final)
    _step("3. The unknown one is reported, the exception is caught, polling goes on: another mail.")
    client.get(client.enqueue("mail", "bob@example.com", "still here").id).wait(_PATIENCE)


def _kill_in_the_middle(client: DurableJobs, worker: subprocess.Popen[bytes]) -> int:
    _step("4. A slow job starts, and its worker is killed with SIGKILL in the middle of it.")
    job = client.enqueue("slow", 1.5)
    _until(lambda: client.get(job.id).status == "running")
    time.sleep(0.5)
    worker.kill()
    worker.wait()
    show(f"   job {job.id} is {client.get(job.id).status}, and nobody runs it")
    return job.id


def _run_again(client: DurableJobs, database: Path, parallel: bool, job_id: int) -> None:
    _step("5. Another worker starts.")
    began = time.monotonic()
    with _worker(database, parallel):
        _until(lambda: client.get(job_id).attempt == 2)
        show(f"   job {job_id} runs again {1000 * (time.monotonic() - began):.0f} ms after the start of the process")
        client.get(job_id).wait(_PATIENCE)


def _show_rows(client: DurableJobs, database: Path) -> None:
    _step("6. What the file says: jobs are rows.")
    shell = shutil.which("sqlite3")
    show(f'   sqlite3 demo.db "{_QUERY}"')
    if shell is not None:
        command = [shell, "-readonly", "-header", "-column", str(database), _QUERY]
        subprocess.run(command, check=False)  # noqa: S603 - no word of strangers
        return
    for job in reversed(client.list_jobs()):
        show(f"{job.id}  {job.handler:13}  {job.status:9}  {job.attempt}  {job.crashes}  {(job.error or '')[:50]}")


def _step(text: str) -> None:
    show()
    show(text, "bold")


def _until(is_reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not is_reached():
        if time.monotonic() > give_up:
            raise click.ClickException("the demonstration got stuck; is the machine very busy?")
        time.sleep(0.02)
