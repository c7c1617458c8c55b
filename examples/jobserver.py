"""The job server in one program: register handlers, enqueue, poll, survive what goes wrong.

Run it with `python examples/jobserver.py`; add `--parallel` for four jobs at once.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

from durablejobs import Backoff, DurableJobs, JobDefaults

scratch = tempfile.TemporaryDirectory()
jobs = DurableJobs(Path(scratch.name, "jobs.db"), defaults=JobDefaults(max_attempts=2, backoff=Backoff(base=0.5)))


@jobs.handler("mail")
def send_mail(to: str, subject: str) -> str:
    print(f"  mail: sending {subject!r} to {to}")
    time.sleep(0.2)
    return f"sent to {to}"


@jobs.handler("log")
def write_log(line: str) -> None:
    print(f"  log: {line}")


@jobs.handler("exception")
def always_raises() -> None:
    raise ValueError("this handler always raises")


def client(stop) -> None:
    """What another program would do: enqueue by name, look how it went."""
    by_name = jobs.using(check=False)  # the name need not be registered here
    time.sleep(0.5)
    ids = [by_name.enqueue("mail", "ann@example.com", "welcome").id]
    ids.append(by_name.enqueue("test_notfound", 1, 2).id)
    ids.append(by_name.enqueue("log", "the unknown handler above was reported, polling goes on").id)
    ids.append(by_name.enqueue("exception").id)
    time.sleep(1.5)
    ids.append(by_name.enqueue("mail", "bob@example.com", "the worker is still alive").id)
    jobs.get(ids[-1]).wait(timeout=5)
    for job in map(jobs.get, ids):
        tries = f"{job.spent_attempts}/{job.max_attempts}"
        print(f"job {job.id} {job.handler:14} {job.status:10} {tries} {job.error or ''}")
    stop()


if __name__ == "__main__":
    worker = jobs.worker(concurrency=4 if "--parallel" in sys.argv else 1)
    threading.Thread(target=client, args=[worker.stop]).start()
    worker.run()
    jobs.close()
