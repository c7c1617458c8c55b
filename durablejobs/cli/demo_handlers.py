"""The handlers of the demonstration."""

from __future__ import annotations

import time

from ..app import DurableJobs
from ..backoff import Backoff
from ..config import JobDefaults

jobs = DurableJobs("demo.db", defaults=JobDefaults(max_attempts=2, backoff=Backoff(base=0.5, jitter=0)))


@jobs.handler("mail")
def send_mail(to: str, subject: str) -> str:
    """Take a moment, as a mail server does."""
    time.sleep(0.3)
    return f"sent {subject!r} to {to}"


@jobs.handler("log")
def write_log(line: str) -> None:
    """Do next to nothing."""


@jobs.handler("exception")
def always_raises() -> None:
    """Fail each time."""
    raise ValueError("this handler always raises")


@jobs.handler("slow")
def work_slowly(seconds: float) -> str:
    """Run long enough to be killed in the middle."""
    time.sleep(seconds)
    return "done"
