"""Stopping a handler from outside: an exception raised in the one call that is meant, and never in what comes after.

The race is closed by a lock: whoever interrupts checks under it that the call still runs, and a call that ends takes
back, under the same lock, an exception that is on its way. One that arrives while that is done is absorbed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .jobs import ClaimedJob
from .outcomes import JobCancelled, JobTimeout
from .shielding import begin_to_interrupt, end_to_interrupt, forget, send

Interruption = type[JobTimeout] | type[JobCancelled]

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Guard:
    """Lets others interrupt the call that runs in this thread; one call after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: ClaimedJob | None = None
        self._thread = 0
        self._is_interrupted = False

    def call(
        self, job: ClaimedJob, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call the function for this job. Raises what it raises, and `JobTimeout` or `JobCancelled`."""
        try:
            try:
                self._begin(job)
                return function(*args, **kwargs)
            finally:
                self._end()
        except BaseException:
            self._end()  # again: the interruption may have come in the midst of the first
            raise

    def interrupt(self, job: ClaimedJob, how: Interruption) -> bool:
        """Raise this in the call of this job, once; return whether it runs and was not interrupted before.

        While the call is in code of ours that is shielded, it is raised when it comes out.
        """
        with self._lock:
            if self._job is not job or self._is_interrupted:
                return False
            self._is_interrupted = True
            send(self._thread, partial(self._send, how))
            return True

    def _begin(self, job: ClaimedJob) -> None:
        with self._lock:
            self._job, self._thread, self._is_interrupted = job, threading.get_ident(), False
            begin_to_interrupt(self._thread)

    def _end(self) -> None:
        with self._lock:
            self._job = None
            end_to_interrupt(self._thread)
            if self._is_interrupted:
                forget(self._thread)
                self._take_back()

    def _send(self, how: Interruption) -> None:
        """Raise it in the thread, at its next step in Python: a call into C goes on to its end."""
        _raise_in_thread(self._thread, how)

    def _take_back(self) -> None:
        _raise_in_thread(self._thread, ctypes.py_object())
