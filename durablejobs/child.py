"""The program of a child process: runs the jobs that its worker sends, one after another, in its main thread.

It ends when the worker does, whatever it is running: a thread waits for the end of the pipe, and on Linux the kernel
kills it when C code keeps the interpreter lock from that thread. Signals from outside are no concern of its: Ctrl-C
in a terminal, and a service manager that signals every process, reach the worker too, which lets the job finish.
"""

from __future__ import annotations

import _thread
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import FrameType
from typing import Final, NamedTuple

from .clock import SystemClock
from .errors import ResourceError
from .executor import Executor
from .failures import safe_text
from .handler_options import Mode
from .interrupts import Guard, Interruption
from .jobs import ClaimedJob, Notes
from .journal import ChildJournal, Journal
from .kept_log import kept_log
from .outcomes import JobCancelled, JobTimeout
from .resources import Resources
from .shielding import hold_back
from .wire import Link, notes_to_json, outcome_to_json

_SIGNAL_AT_PARENTS_DEATH: Final = 1
_ASK_AGAIN_AFTER: Final = 0.01


class ChildOrder(NamedTuple):
    """What a child process is told at its start."""

    modules: tuple[str, ...]
    """To import: first the one that made the app, then those that registered handlers for child processes. They come
    from the worker's registry, never from a row."""
    handlers: tuple[str, ...]
    """Which the app must know then."""
    database: str


def serve(pipe: Connection, last_words: Connection, make_executor: Callable[[Journal], Executor]) -> None:
    """Run jobs until the worker has no more; `make_executor` imports the handlers.

    If the interpreter itself crashes, `last_words` gets the traceback.
    """
    if hasattr(os, "set_blocking"):  # else the pipe has no descriptor
        faulthandler.enable(last_words.fileno(), all_threads=False)
    Child(Link(pipe)).serve(make_executor)


class MainThreadGuard(Guard):
    """Interrupts the main thread by a signal, which also wakes it from a sleep or a read, and is undone like it."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: Interruption | None = None

    def listen(self) -> None:
        """Take the signal for this; again before each call, because a handler may have taken it for itself."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # It was sent a moment before the shield, perhaps.
        if self._pending is not None and hold_back(self._thread, self._signal):
            return
        how, self._pending = self._pending, None
        if how is not None:
            raise how

    def _send(self, how: Interruption) -> None:
        self._pending = how
        self._signal()

    def _signal(self) -> None:
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(self._thread, signal.SIGTERM)
        else:
            _thread.interrupt_main(signal.SIGTERM)

    def _take_back(self) -> None:
        self._pending = None


class Child:
    """The child's side of the link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._guard = MainThreadGuard()
        self._inbox: SimpleQueue[ClaimedJob | None] = SimpleQueue()
        self._running: ClaimedJob | None = None
        self._executor: Executor | None = None
        self._journal = ChildJournal(self._send_notes, SystemClock())

    def serve(self, make_executor: Callable[[Journal], Executor]) -> None:
        """Run jobs until the worker has no more."""
        _die_with_parent()
        signal.signal(signal.SIGINT, lambda _number, _frame: None)  # not SIG_IGN, which a handler's programs inherit
        self._guard.listen()
        threading.Thread(target=self._listen, name="durablejobs-link", daemon=True).start()
        resources = Resources()
        try:
            self._executor = executor = make_executor(self._journal)
            executor.resources = resources.values
            resources.set_up(executor.resources_of(Mode.PROCESS))
        except BaseException as error:  # noqa: BLE001 - sys.exit in a module included: the worker is to say it
            self._link.send("unfit", str(error) if isinstance(error, ResourceError) else safe_text(error))
            resources.take_down()
            return
        self._link.send("ready")
        with kept_log(executor.keeps_logs):
            while (job := self._inbox.get()) is not None:
                self._run(executor, job)
        resources.take_down()

    def _run(self, executor: Executor, job: ClaimedJob) -> None:
        self._guard.listen()
        self._running = job
        self._link.send("begun")
        outcome = executor.run(job, partial(self._guard.call, job))
        self._running = None
        executor.cancellations.discard(job.id)
        self._journal.end(job)
        self._link.send("ended", outcome_to_json(outcome))

    def _send_notes(self, notes: Notes) -> None:
        self._link.send("notes", notes_to_json(notes))

    def _listen(self) -> None:
        while True:
            try:
                message = self._link.receive()
            except (EOFError, OSError):  # the worker is gone, and with it the right to go on
                os._exit(1)
            if message.kind == "run":
                self._inbox.put(ClaimedJob._make(message.body))
            elif message.kind == "stop":
                self._stop(message.body)
            else:
                self._inbox.put(None)

    def _stop(self, how: str) -> None:
        job, interruption = self._running, _INTERRUPTIONS[how]
        if job is None:
            return
        if interruption is JobCancelled and self._executor is not None:
            self._executor.cancellations.add(job.id)
        while self._running is job and not self._guard.interrupt(job, interruption):
            time.sleep(_ASK_AGAIN_AFTER)  # it has not quite begun


_INTERRUPTIONS: Final[dict[str, Interruption]] = {"timeout": JobTimeout, "cancel": JobCancelled}


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the worker dies: C code may keep our own thread from noticing."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    with suppress(OSError, AttributeError):  # a C library without prctl
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
