"""Events: what has happened to jobs and workers, told to whoever asked for it in this process."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from .errors import ConfigurationError
from .failures import safe_text
from .line_limit import LineLimit
from .outcomes import JobCancelled, JobTimeout
from .signals import are_signals_noted
from .spelling import nearest

log = logging.getLogger("durablejobs.events")

EventName = Literal[
    "enqueued",
    "started",
    "succeeded",
    "failed",
    "retrying",
    "snoozed",
    "cancelled",
    "rescued",
    "stuck",
    "worker_started",
    "worker_stopped",
]
NAMES: Final[tuple[str, ...]] = get_args(EventName)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened; what does not belong to it is None."""

    name: str
    at: datetime
    job_id: int | None = None
    handler: str | None = None
    queue: str | None = None
    attempt: int | None = None
    seconds: float | None = None
    """How long the run took."""
    error: str | None = None
    """Why the run did not succeed."""
    count: int = 1
    """Jobs stored by one `enqueue_many`, which tells no ids."""
    worker: str | None = None
    """The name of the worker that started or stopped."""


Listener = Callable[[Event], object]


class Listeners:
    """Who is to be told of which events. Without listeners nothing is made, let alone told."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[Listener, ...]] = {}
        self._limit = LineLimit(_say_left_out)

    def add(self, name: str, listener: Any) -> None:
        """Tell this function of each event of this name. Raises `ConfigurationError`."""
        if name not in NAMES:
            near = nearest(str(name), NAMES)
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(NAMES)}"
            raise ConfigurationError("event", f"there is no '{name}'; {hint}")
        if not callable(listener) or inspect.iscoroutinefunction(listener):
            raise ConfigurationError("event", f"a listener is a plain function of the event, not {listener!r}")
        self._by_name[name] = (*self._by_name.get(name, ()), listener)

    def want(self, name: EventName) -> bool:
        """Whether anybody listens to it."""
        return name in self._by_name

    def tell(self, name: EventName, at: datetime, **facts: Any) -> None:
        """Tell those who want it; what they raise is logged and goes no further."""
        listeners = self._by_name.get(name)
        if listeners is None:
            return
        event = Event(name, at, **facts)
        for listener in listeners:
            try:
                listener(event)
            except BaseException as error:
                if _is_for_the_thread(error):
                    raise
                if self._limit.allows():
                    log.exception("a listener to '%s' raised %s", name, safe_text(error))


def _is_for_the_thread(error: BaseException) -> bool:
    """Whether it has only arrived in the listener: what stops a handler that enqueues, or Ctrl-C in a program's own."""
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread() and not are_signals_noted()
    return isinstance(error, JobTimeout | JobCancelled)


def _say_left_out(count: int) -> None:
    log.error("… and %d more errors of listeners", count)
