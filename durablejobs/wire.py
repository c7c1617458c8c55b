"""What a worker and its child processes say to each other: JSON, one message at a time.

| the worker says       | the child says                                          |
|-----------------------|---------------------------------------------------------|
| `run`, the claimed job | `ready`: its modules are imported                      |
| `stop`, how           | `unfit`, why: they cannot be                            |
| `end`                 | `begun`: the job is not the worker's alone any more     |
|                       | `notes`, progress and log lines of the job              |
|                       | `ended`, the outcome                                    |
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from .jobs import ClaimedJob, LogEntry, Notes
from .outcomes import Errored, Failure, GaveUp, Outcome, Settled, Snoozed, Stopped, Succeeded

_OUTCOMES: Final = {cls.__name__: cls for cls in (Succeeded, Settled, Errored, GaveUp, Snoozed, Stopped)}


class Message(NamedTuple):
    """One message: what it is, and what belongs to it."""

    kind: str
    body: Any = None


class Link:
    """One end of the pipe between a worker and a child process; any thread may send."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe: Final = pipe
        self._sending = threading.Lock()

    def send(self, kind: str, body: Any = None) -> None:
        """Send a message. Raises `OSError` when nobody is there any more."""
        with self._sending:
            self.pipe.send_bytes(json.dumps([kind, body]).encode())

    def receive(self) -> Message:
        """Wait for the next message. Raises `EOFError` or `OSError` when the other end is gone."""
        return Message._make(json.loads(self.pipe.recv_bytes()))


def notes_to_json(notes: Notes) -> list[Any]:
    """Return what `notes_from_json` makes the same notes of."""
    return [notes.progress, notes.lines]


def notes_from_json(job: ClaimedJob, given: list[Any]) -> Notes:
    """Return the notes of the job that a child process runs."""
    progress, lines = given
    return Notes(job, progress, [LogEntry._make(line) for line in lines])


def outcome_to_json(outcome: Outcome) -> list[Any]:
    """Return what `outcome_from_json` makes the same outcome of."""
    fields = outcome._asdict() if isinstance(outcome, Succeeded | Settled) else asdict(outcome)
    return [type(outcome).__name__, fields]


def outcome_from_json(given: list[Any]) -> Outcome:
    """Return the outcome that a child process has sent."""
    name, fields = given
    if "failure" in fields:
        fields["failure"] = Failure(**fields["failure"])
    outcome: Outcome = _OUTCOMES[name](**fields)
    return outcome
